// plumb circuit search: ACDC, edges taken out one after another.
#include <memory>

#include "circuit.h"
#include "output.h"
#include "plumb/edge_search.h"
#include "plumb/error.h"
#include "plumb/report_circuit.h"
#include "usage.h"

namespace plumb::app {
namespace {

struct SearchFlags {
  Common common = {};
  ModelFlags model = {};
  CircuitFlags reading = {};
  CircuitTarget target = {};
  std::string start = {};
  std::string pairs = {};
  std::optional<Bos> bos = {};
  std::string metric = "kl";
  std::string outside = {};
  SearchOptions options = {};
};

int run_search(const SearchFlags& flags) {
  if (flags.pairs.empty())
    throw Error(ErrorKind::bad_argument,
                "plumb circuit search needs --pairs FILE; see plumb circuit search --help");
  EdgeRunOptions options{.metric = parse_metric(flags.metric, vector_from)};
  if (!flags.outside.empty() && flags.outside != "patching")
    options.outside = parse_replacement(flags.outside, flags.common.seed);
  std::optional<EdgeCircuit> start;
  if (!flags.start.empty()) start = open_circuit(flags.start, flags.reading);
  if (start && count_edges(*start) == 0)
    throw Error(ErrorKind::bad_argument,
                "no edge of " + flags.start +
                    " is in: a search takes edges out; choose edges first, by plumb circuit prune");
  const Chosen chosen = open_model(flags.model, flags.common);
  const Pairs pairs = make_pairs(
      read_pairs(flags.pairs, chosen.tokens(),
                 bos_id(flags.bos.value_or(Bos{.kind = Bos::Kind::native}), chosen.tokens())));
  if (!start) {
    start = full_circuit(EdgeSpace(chosen.model.config()));
    start->d_model = chosen.model.config().d_model;
    start->title = "search";
  }
  CircuitSearch found;
  {
    const Progress progress = show_progress(flags.common.quiet);
    found = search_circuit(chosen.model, *start, pairs, options, flags.options, progress);
  }
  write(found.circuit, flags.target);
  const double threshold = flags.options.threshold;
  print(flags.common.json ? search_json(found, options.metric, threshold, flags.target.file)
                          : search_text(found, options.metric, threshold, flags.target.file));
  return 0;
}

}  // namespace

Command circuit_search_command() {
  return {
      "circuit search", "Take out edges one after another while the loss allows it (ACDC)",
      [](CLI::App& app, const std::string&) {
        const auto flags = std::make_shared<SearchFlags>();
        offer_model(app, flags->model);
        offer(app, "--pairs", "FILE", "Pairs, as of plumb patch",
              [flags](const std::string& text) { flags->pairs = text; });
        offer(app, "--threshold", "X", "An edge goes if the loss rises by less than this (0.01)",
              [flags](const std::string& text) {
                flags->options.threshold = number("--threshold", text, 0.0, 1e300);
              });
        offer(
            app, "--metric", "NAME",
            "What the loss is: kl, reverse_kl or js from the model's output, or how far any other "
            "metric's mean is from the model's, as of plumb circuit evaluate (kl)",
            [flags](const std::string& text) { flags->metric = text; });
        app.add_flag("--absolute", flags->options.absolute,
                     "An edge goes if the loss moves by less than the threshold, up or down");
        offer(app, "--start", "FILE",
              "A circuit to begin with, like the first thousand edges of an estimate (all edges)",
              [flags](const std::string& text) { flags->start = text; });
        offer(app, "--outside", "EDIT", "What edges outside carry, as of plumb circuit evaluate",
              [flags](const std::string& text) { flags->outside = text; });
        offer_target(app, flags->target);
        offer_reading(app, flags->reading);
        offer(app, "--bos", "none|native|ID", "Token before every text (native)",
              [flags](const std::string& text) { flags->bos = parse_bos(text); });
        offer_device(app, flags->common);
        offer_dtype(app, flags->common);
        offer_threads(app, flags->common);
        offer_seed(app, flags->common, "Of planted models and resampling");
        offer_json(app, flags->common);
        offer_quiet(app, flags->common);
        return [flags] { return run_search(*flags); };
      }};
}

}  // namespace plumb::app
