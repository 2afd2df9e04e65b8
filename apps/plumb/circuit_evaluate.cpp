// plumb circuit evaluate: how much of the model's behaviour circuits carry.
#include <filesystem>
#include <memory>

#include "circuit.h"
#include "output.h"
#include "plumb/error.h"
#include "plumb/report_circuit.h"
#include "usage.h"

namespace plumb::app {
namespace {

struct EvaluateFlags {
  Common common = {};
  ModelFlags model = {};
  CircuitFlags reading = {};
  std::vector<std::string> circuits = {};
  std::string pairs = {};
  std::optional<Bos> bos = {};
  std::string metric = {};
  std::string outside = {};
  bool curve = false;
  bool keep = false;
  std::int64_t needs = 0;
  CurveOptions options = {};
};

void check(const EvaluateFlags& flags) {
  const auto need = [](bool given, const char* what) {
    if (!given)
      throw Error(ErrorKind::bad_argument, std::string("plumb circuit evaluate needs ") + what +
                                               "; see plumb circuit evaluate --help");
  };
  need(!flags.pairs.empty(), "--pairs FILE");
  need(!flags.circuits.empty(), "at least one --circuit FILE");
  need(!flags.curve || flags.circuits.size() == 1, "one --circuit FILE of scores for --curve");
  need(flags.curve || flags.options.baselines == 0, "--curve for --baselines");
}

std::vector<double> parse_fractions(const std::string& text) {
  std::vector<double> found;
  for (const std::string& part : comma_list(text))
    found.push_back(number("--fractions", part, 0.0, 1.0));
  return found;
}

int run_evaluate(EvaluateFlags flags, const std::string& command_line) {
  check(flags);
  EvaluationOptions& options = flags.options.evaluation;
  options.prune = !flags.keep;
  if (!flags.metric.empty()) options.run.metric = parse_metric(flags.metric, vector_from);
  if (!flags.outside.empty() && flags.outside != "patching")
    options.run.outside = parse_replacement(flags.outside, flags.common.seed);
  flags.options.seed = flags.common.seed;
  std::vector<EdgeCircuit> circuits;
  for (const std::string& file : flags.circuits) {
    circuits.push_back(open_circuit(file, flags.reading));
    circuits.back().title = std::filesystem::path(file).stem().string();
  }
  if (!flags.common.out.empty()) prepare_directory(flags.common.out);
  const Chosen chosen = open_model(flags.model, flags.common);
  RunInfo run = start_run(chosen.model, "circuit evaluate", command_line, flags.common.seed);
  const Pairs pairs = make_pairs(
      read_pairs(flags.pairs, chosen.tokens(),
                 bos_id(flags.bos.value_or(Bos{.kind = Bos::Kind::native}), chosen.tokens())));
  CircuitReport report{.space = circuits.front().space};
  {
    const Progress progress = show_progress(flags.common.quiet);
    if (flags.curve) {
      report.curve = evaluate_curve(chosen.model, circuits.front(), pairs, flags.options, progress);
    } else {
      report.evaluation = evaluate(chosen.model, circuits, pairs, options, progress);
    }
    if (flags.needs > 0) {
      report.needs = minimality(chosen.model, circuits.front(), pairs, flags.needs, options,
                                flags.common.seed, progress);
    }
  }
  end_run(run, chosen.model);
  const std::filesystem::path directory = flags.common.out;
  if (!flags.common.out.empty()) {
    run.files = {{"json", (directory / "circuit.json").string()},
                 {"text", (directory / "circuit.txt").string()}};
  }
  const std::string json = circuit_json(run, pairs, report);
  const std::string text = circuit_text(run, pairs, report);
  deliver(
      [&] {
        if (flags.common.out.empty()) return;
        write_file(run.files.at("json"), json);
        write_file(run.files.at("text"), text);
      },
      flags.common.json ? json : text);
  say_cost(run, flags.common.quiet);
  return 0;
}

}  // namespace

Command circuit_evaluate_command() {
  return {
      "circuit evaluate", "Run a model with only a circuit's edges: faithfulness, MIB's curves",
      [](CLI::App& app, const std::string& command_line) {
        const auto flags = std::make_shared<EvaluateFlags>();
        offer_model(app, flags->model);
        app.add_option("--circuit", flags->circuits,
                       "A circuit, in any format that is read; may be given several times")
            ->type_name("FILE")
            ->allow_extra_args(false);
        offer(app, "--pairs", "FILE", "Pairs, as of plumb patch",
              [flags](const std::string& text) { flags->pairs = text; });
        offer(app, "--outside", "EDIT",
              "What edges outside carry: patching (the corrupt run's values), zero, mean, "
              "mean-batch, mean-position or resample (patching)",
              [flags](const std::string& text) { flags->outside = text; });
        offer(
            app, "--metric", "NAME",
            "logit_diff, log_prob, prob, prob_diff, rank, kl, reverse_kl, js, loss or "
            "loss@POSITIONS; sink:LAYER[.HEAD], attention:SITE; norm:SITE or projection:SITE:FILE "
            "of the stream (logit_diff)",
            [flags](const std::string& text) { flags->metric = text; });
        app.add_flag("--curve", flags->curve,
                     "The circuit's scores in both orders: faithfulness by fraction of edges, CPR "
                     "and CMD");
        offer(
            app, "--fractions", "F,F,...",
            "Of --curve (0.001,0.002,0.005,0.01,0.02,0.05,0.1,0.2,0.5,1)",
            [flags](const std::string& text) { flags->options.fractions = parse_fractions(text); });
        app.add_flag("--greedy", flags->options.greedy, "Of --curve: edges from the logits back");
        offer(app, "--baselines", "N",
              "Of --curve: N curves of random edges, N matched by layers and N by scores",
              [flags](const std::string& text) {
                flags->options.baselines = static_cast<int>(whole("--baselines", text, 0, 1000));
              });
        app.add_flag("--completeness", flags->options.evaluation.complements,
                     "Also what the model does without each circuit");
        offer(app, "--minimality", "N",
              "Also what N edges of the first circuit add, each by itself",
              [flags](const std::string& text) {
                flags->needs = whole("--minimality", text, 1, 100'000'000);
              });
        app.add_flag("--keep-dead-ends", flags->keep, "Run circuits without pruning them");
        offer_reading(app, flags->reading);
        offer(app, "--bos", "none|native|ID", "Token before every text (native)",
              [flags](const std::string& text) { flags->bos = parse_bos(text); });
        offer_device(app, flags->common);
        offer_dtype(app, flags->common);
        offer_threads(app, flags->common);
        offer_seed(app, flags->common, "Of planted models, samples and baselines");
        offer_out(app, flags->common, "Also write circuit.json and circuit.txt there");
        offer_json(app, flags->common);
        offer_quiet(app, flags->common);
        return [flags, command_line] { return run_evaluate(*flags, command_line); };
      }};
}

}  // namespace plumb::app
