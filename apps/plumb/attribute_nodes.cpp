#include "attribute_nodes.h"

#include "output.h"
#include "plumb/error.h"
#include "plumb/report_nodes.h"
#include "usage.h"

namespace plumb::app {
namespace {

constexpr std::int64_t most_sets = 10'000;
constexpr std::int64_t listed_in_text = 20;

std::vector<SweepSpec> nodes_of(const NodeFlags& flags, const ModelConfig& config) {
  if (flags.nodes.empty()) return usual_nodes(config);
  std::vector<SweepSpec> nodes;
  for (const std::string& text : flags.nodes) {
    for (SweepSpec& spec : parse_sweeps(text)) nodes.push_back(std::move(spec));
  }
  return nodes;
}

// Half of them the strongest; of the others half by doubt, half by chance.
NodeCheckOptions check_of(const NodeFlags& flags) {
  NodeCheckOptions options{.sets = flags.sets, .seed = flags.common.seed};
  options.strongest = (flags.check + 1) / 2;
  options.doubtful = (flags.check - options.strongest + 1) / 2;
  options.sampled = flags.check - options.strongest - options.doubtful;
  return options;
}

}  // namespace

void offer_nodes(CLI::App& app, NodeFlags& flags) {
  app.add_option(
         "--nodes", flags.nodes,
         "The nodes, like z:layer,head or mlp_post:layer,neuron or resid_pre:layer,position; "
         "or a bundle, every or every-head; may be given several times (z, q, k, v by head, "
         "attn_out, mlp_out, resid_pre and experts, each by layer)")
      ->type_name("SITE:AXES")
      ->allow_extra_args(false);
  offer(app, "--direction", "denoising|noising",
        "Of nodes: noising estimates what corrupt values do to the clean run, denoising what clean "
        "values do to the corrupt run (noising)",
        [&flags](const std::string& text) { flags.direction = parse_direction(text); });
  offer(app, "--sets", "M",
        "Of nodes, with --check: also patch M random sets of those not verified, for a bound on "
        "each one's effect",
        [&flags](const std::string& text) { flags.sets = whole("--sets", text, 4, most_sets); });
}

void refuse_node_flags(const NodeFlags& flags) {
  const auto refuse = [](const char* flag) {
    throw Error(ErrorKind::bad_argument,
                std::string(flag) + " is for nodes: --method atp, atp-qk, atp*, ig or ig-inputs");
  };
  if (!flags.nodes.empty()) refuse("--nodes");
  if (flags.direction) refuse("--direction");
  if (flags.sets > 0) refuse("--sets");
}

int run_attribute_nodes(const NodeFlags& flags, const std::string& command_line) {
  const Common& common = flags.common;
  NodeOptions options{.method = parse_node_method(flags.method), .each = flags.each};
  options.direction = flags.direction.value_or(options.direction);
  options.steps = flags.steps.value_or(options.steps);
  options.points = flags.points.value_or(options.points);
  if (flags.sets > 0 && flags.check == 0)
    throw Error(ErrorKind::bad_argument,
                "--sets are of the nodes that --check N does not verify; give both");
  for (const std::string& text : flags.nodes) parse_sweeps(text);  // before a model is opened
  const Metric metric = flags.metric.empty() ? Metric{} : parse_metric(flags.metric, vector_from);
  if (!common.out.empty()) prepare_directory(common.out);
  const Chosen chosen = open_model(flags.model, common);
  RunInfo run = start_run(chosen.model, "attribute", command_line, common.seed);
  const Pairs pairs = make_pairs(
      read_pairs(flags.pairs, chosen.tokens(),
                 bos_id(flags.bos.value_or(Bos{.kind = Bos::Kind::native}), chosen.tokens())));
  NodeReport report;
  {
    const Progress progress = show_progress(common.quiet);
    report = node_report(chosen.model, pairs, nodes_of(flags, chosen.model.config()), metric,
                         options, progress);
    if (flags.check > 0) check_nodes(report, chosen.model, pairs, check_of(flags), progress);
  }
  end_run(run, chosen.model);
  name_files(run, common.out, "attribute");
  const std::string json = nodes_json(run, pairs, report, flags.top);
  const std::string text =
      nodes_text(run, pairs, report, flags.top > 0 ? flags.top : listed_in_text);
  deliver(
      run, [&](const auto& path) { write_archive(path, run, pairs, report); }, json, text,
      common.json ? json : text);
  say_cost(run, common.quiet);
  return 0;
}

}  // namespace plumb::app
