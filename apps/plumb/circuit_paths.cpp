// plumb circuit paths: strongest paths, bottlenecks and cuts; and paths run on a model.
#include <memory>

#include "circuit.h"
#include "output.h"
#include "plumb/edge_paths.h"
#include "plumb/error.h"
#include "plumb/path_effects.h"
#include "plumb/report_circuit.h"
#include "usage.h"

namespace plumb::app {
namespace {

struct PathsFlags {
  Common common = {};
  CircuitFlags reading = {};
  std::string file = {};
  std::int64_t paths = 10;
  bool confirm = false;
  ModelFlags model = {};
  std::string pairs = {};
  std::optional<Bos> bos = {};
  std::string metric = {};
};

void need(bool given, const std::string& what) {
  if (!given) throw Error(ErrorKind::bad_argument, what);
}

/// The paths that are listed, run on a model.
PathEffects confirm(const EdgeCircuit& circuit, const PathsFlags& flags) {
  const Metric metric = flags.metric.empty() ? Metric{} : parse_metric(flags.metric, vector_from);
  const Chosen chosen = open_model(flags.model, flags.common);
  const Pairs pairs = make_pairs(
      read_pairs(flags.pairs, chosen.tokens(),
                 bos_id(flags.bos.value_or(Bos{.kind = Bos::Kind::native}), chosen.tokens())));
  const Progress progress = show_progress(flags.common.quiet);
  return path_effects(chosen.model, circuit.space, strongest_paths(pruned(circuit), flags.paths),
                      pairs, metric, progress);
}

int run_paths(const PathsFlags& flags) {
  need(!flags.file.empty(), "plumb circuit paths needs the file of one circuit");
  need(!flags.confirm || !flags.pairs.empty(),
       "plumb circuit paths --confirm runs the paths on a model: it needs --pairs FILE");
  need(flags.confirm || flags.pairs.empty(), "--pairs goes with --confirm");
  const EdgeCircuit circuit = open_circuit(flags.file, flags.reading);
  std::optional<PathEffects> effects;
  if (flags.confirm && count_edges(pruned(circuit)) > 0) effects = confirm(circuit, flags);
  const PathEffects* const found = effects ? &*effects : nullptr;
  print(flags.common.json ? paths_json(circuit, flags.paths, found)
                          : paths_text(circuit, flags.paths, found));
  return 0;
}

}  // namespace

Command circuit_paths_command() {
  return {"circuit paths", "Strongest paths of a circuit, and what all of them pass",
          [](CLI::App& app, const std::string&) {
            const auto flags = std::make_shared<PathsFlags>();
            app.add_option("FILE", flags->file, "A circuit")->type_name("");
            offer(app, "--count", "K", "Paths to list (10)", [flags](const std::string& text) {
              flags->paths = whole("--count", text, 1, 10'000);
            });
            app.add_flag(
                "--confirm", flags->confirm,
                "Run each listed path on the model: what it does by itself, all else as in "
                "the clean run");
            offer(app, "--model", "MODEL", "Of --confirm, as of plumb circuit evaluate",
                  [flags](const std::string& text) { flags->model.model = text; });
            offer(app, "--pairs", "FILE", "Of --confirm: pairs, as of plumb patch",
                  [flags](const std::string& text) { flags->pairs = text; });
            offer(app, "--metric", "NAME", "Of --confirm: a metric of the logits (logit_diff)",
                  [flags](const std::string& text) { flags->metric = text; });
            offer(app, "--bos", "none|native|ID", "Of --confirm: token before every text (native)",
                  [flags](const std::string& text) { flags->bos = parse_bos(text); });
            offer_device(app, flags->common);
            offer_dtype(app, flags->common);
            offer_threads(app, flags->common);
            offer_seed(app, flags->common, "Of planted models");
            offer_reading(app, flags->reading);
            offer_json(app, flags->common);
            offer_quiet(app, flags->common);
            return [flags] { return run_paths(*flags); };
          }};
}

}  // namespace plumb::app
