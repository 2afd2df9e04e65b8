// plumb inspect: what a checkpoint holds, and what an experiment on it would cost.
#include "output.h"
#include "p0_flags.h"
#include "patch_flags.h"
#include "plumb/error.h"
#include "plumb/p0_cost.h"
#include "plumb/planned_attribution.h"
#include "plumb/planned_p0.h"
#include "plumb/planned_patch.h"
#include "plumb/report_json.h"
#include "plumb/report_text.h"
#include "shared.h"
#include "usage.h"

namespace plumb::app {
namespace {

struct InspectFlags {
  Common common = {};
  ModelFlags model = {};
  std::string plan = {};
  InputFlags inputs = {};
  SiteFlags sites = {};
  ExperimentFlags experiment = {};
  std::string method = {};
  EdgeOptions attribution = {};
  P0Options p0 = {};
  std::vector<Wave> waves = {};
  bool no_random = false;
};

/// "3-9,12-29".
std::vector<Wave> waves_from(const std::string& text) {
  std::vector<Wave> waves;
  for (const std::string& range : comma_list(text)) {
    const std::size_t dash = range.find('-');
    if (dash == std::string::npos)
      throw Error(ErrorKind::bad_argument, "--waves expects FIRST-LAST, not '" + range + "'");
    waves.push_back(
        {.onset = static_cast<int>(whole("--waves", range.substr(0, dash), 0, 100'000)),
         .last = static_cast<int>(whole("--waves", range.substr(dash + 1), 0, 100'000))});
  }
  return waves;
}

PlannedWork planned_patch(const InspectFlags& flags, const Chosen& chosen) {
  const PatchAsked asked =
      read_experiment(flags.experiment, chosen.model.config().layers, flags.common.seed);
  const Pairs pairs = read_pairs_of(flags.experiment, flags.inputs.bos, chosen);
  return plan_patch(chosen.model, pairs, asked.sweeps, asked.paths, asked.options);
}

PlannedWork planned_attribution(const InspectFlags& flags, const Chosen& chosen) {
  EdgeOptions options = flags.attribution;
  options.method = parse_edge_method(flags.method);
  const std::string& metric = flags.experiment.metric;
  return plan_attribution(chosen.model, read_pairs_of(flags.experiment, flags.inputs.bos, chosen),
                          metric.empty() ? Metric{} : parse_metric(metric, vector_from), options);
}

/// What the planned command would do with the same flags.
std::optional<PlannedWork> planned_work(const InspectFlags& flags, const Chosen& chosen) {
  if (flags.plan.empty()) {
    if (flags.sites.sites.empty()) return std::nullopt;
    throw Error(ErrorKind::bad_argument, "--sites belongs to --plan record");
  }
  if (flags.plan == "patch") return planned_patch(flags, chosen);
  if (flags.plan == "attribute") return planned_attribution(flags, chosen);
  if (flags.plan == "record") {
    if (flags.sites.sites.empty()) {
      throw Error(ErrorKind::bad_argument, "--plan record needs --sites, as plumb record does");
    }
    const Inputs inputs = read_inputs(flags.inputs, chosen, flags.common.seed);
    return plan_record(chosen.model, inputs, {.sites = read_sites(flags.sites, chosen.model)});
  }
  if (flags.plan == "p0") {
    return plan_p0(chosen.model,
                   make_p0_inputs(flags.inputs, !flags.no_random, chosen, flags.common.seed),
                   flags.p0, flags.waves.empty() ? expected_waves(chosen.model) : flags.waves);
  }
  const Content content = read_content(flags.inputs, chosen, flags.common.seed);
  const std::vector<SinkCondition> conditions = sink_conditions(flags.inputs, content.kind, chosen);
  const Inputs longest = with_bos(content, conditions.front().bos, chosen.model);
  return plan_sink(chosen.model, longest.tokens.batch(), longest.length(),
                   static_cast<int>(conditions.size()));
}

int run_inspect(const InspectFlags& flags, const std::string& command_line) {
  const Common& common = flags.common;
  if (flags.plan == "patch") check(flags.experiment, "plumb inspect --plan patch");
  const bool attribution = flags.plan == "attribute";
  if (attribution && (flags.experiment.pairs.empty() || flags.method.empty()))
    throw Error(ErrorKind::bad_argument,
                "plumb inspect --plan attribute needs --pairs FILE and --method NAME");
  if (!attribution && !flags.method.empty())
    throw Error(ErrorKind::bad_argument, "--method belongs to --plan attribute");
  if (flags.plan != "patch" && !attribution && !flags.experiment.pairs.empty())
    throw Error(ErrorKind::bad_argument, "--pairs belongs to --plan patch and --plan attribute");
  if (flags.plan != "p0" && (!flags.waves.empty() || flags.no_random))
    throw Error(ErrorKind::bad_argument, "--waves and --no-random belong to --plan p0");
  const Chosen chosen = open_model(flags.model, common);
  RunInfo run = start_run(chosen.model, "inspect", command_line, common.seed);
  const std::optional<PlannedWork> work = planned_work(flags, chosen);
  end_run(run, chosen.model);
  const PlannedWork* plan = work ? &*work : nullptr;
  print(common.json ? inspect_json(run, chosen.checkpoint, chosen.tokens(), plan)
                    : inspect_text(run, chosen.checkpoint, chosen.tokens(), plan));
  say_cost(run, common.quiet);
  return 0;
}

}  // namespace

Command inspect_command() {
  return {
      "inspect", "Show a model's architecture, sizes, tokenizer and sites",
      [](CLI::App& app, const std::string& command_line) {
        const auto flags = std::make_shared<InspectFlags>();
        offer_model(app, flags->model);
        offer(
            app, "--plan", "record|sink|p0|patch|attribute",
            "Also say what that command would cost with the flags below, before any of it is "
            "done",
            [flags](const std::string& text) {
              flags->plan = one_of("--plan", text, {"record", "sink", "p0", "patch", "attribute"});
            });
        offer_sites(app, flags->sites);
        offer_experiment(app, flags->experiment);
        offer(app, "--method", "NAME", "Of --plan attribute: eap, eap-ig, ...",
              [flags](const std::string& text) { flags->method = text; });
        offer(app, "--steps", "M", "Of --plan attribute: steps of integration (5)",
              [flags](const std::string& text) {
                flags->attribution.steps = static_cast<int>(whole("--steps", text, 1, 1000));
              });
        offer(app, "--points", "NAME", "Of --plan attribute: where the steps lie",
              [flags](const std::string& text) {
                flags->attribution.points = parse_ig_points(text);
              });
        app.add_flag("--by-position", flags->attribution.by_position,
                     "Of --plan attribute: a score for each position");
        app.add_flag("--each", flags->attribution.each, "Of --plan attribute: each pair's scores");
        offer(app, "--waves", "FIRST-LAST,...",
              "Of --plan p0: layers of the sinks to be expected (one from layer 2 to the last)",
              [flags](const std::string& text) { flags->waves = waves_from(text); });
        app.add_flag("--no-random", flags->no_random,
                     "Of --plan p0: no comparison with random ids");
        offer_causal(app, flags->p0);
        offer_inputs(app, flags->inputs, "Token before every sequence (as the command has it)");
        offer_dtype(app, flags->common);
        offer_threads(app, flags->common);
        offer_layers(app, flags->common);
        offer_memory(app, flags->common);
        offer_seed(app, flags->common, "Of random ids and planted models");
        offer_json(app, flags->common);
        offer_quiet(app, flags->common);
        return [flags, command_line] { return run_inspect(*flags, command_line); };
      }};
}

}  // namespace plumb::app
