// plumb attribute: what each edge between two components, or each node, is worth to a metric.
#include "plumb/attribute.h"

#include <memory>
#include <numeric>

#include "attribute_nodes.h"
#include "long_run.h"
#include "output.h"
#include "plumb/edge_names.h"
#include "plumb/error.h"
#include "plumb/evaluate.h"
#include "plumb/report_archive.h"
#include "plumb/report_json.h"
#include "plumb/report_text.h"
#include "shared.h"
#include "usage.h"

namespace plumb::app {
namespace {

constexpr std::int64_t most_listed = std::int64_t{1} << 40;
constexpr std::int64_t listed_in_text = 20;

struct AttributeFlags {
  Common common = {};
  ModelFlags model = {};
  std::string pairs = {};
  std::optional<Bos> bos = {};
  std::string metric = {};
  std::string method = {};
  EdgeOptions options = {};
  std::string edges = {};
  std::int64_t sample = 0;
  std::int64_t top = 0;
  std::int64_t check = 0;
  NodeFlags nodes = {};
  std::int64_t stability = 0;
  bool resume = false;
};

/// The flags of nodes, with those that edges have too. Throws bad_argument where one is of edges
/// alone.
NodeFlags node_flags(const AttributeFlags& flags) {
  if (!flags.edges.empty())
    throw Error(ErrorKind::bad_argument, "--edges is for edges: --method direct or exact");
  if (flags.options.by_position)
    throw Error(ErrorKind::bad_argument,
                "nodes by position are asked for like --nodes z:layer,position,head");
  NodeFlags nodes = flags.nodes;
  nodes.common = flags.common;
  nodes.model = flags.model;
  nodes.pairs = flags.pairs;
  nodes.bos = flags.bos;
  nodes.metric = flags.metric;
  nodes.method = flags.method;
  nodes.points = flags.options.points;
  nodes.each = flags.options.each;
  nodes.top = flags.top;
  nodes.check = flags.check;
  return nodes;
}

EdgeMethod edge_method(const std::string& text) {
  try {
    return parse_edge_method(text);
  } catch (const Error& error) {
    throw Error(error.kind(),
                std::string(error.what()) + "; or for nodes atp, atp-qk, atp*, ig, ig-inputs");
  }
}

void check(const AttributeFlags& flags) {
  const auto need = [](bool given, const char* what) {
    if (!given)
      throw Error(ErrorKind::bad_argument,
                  std::string("plumb attribute needs ") + what + "; see plumb attribute --help");
  };
  need(!flags.pairs.empty(), "--pairs FILE");
  need(!flags.method.empty(), "--method NAME");
  need(!flags.resume || !flags.common.out.empty(), "--out DIR to resume from");
  const bool nodes = is_node_method(flags.method);
  if (nodes && flags.stability > 0)
    throw Error(ErrorKind::bad_argument,
                "--stability is for edges; of nodes, --each keeps each pair's scores");
  if (!nodes && !is_estimate(edge_method(flags.method))) return;
  if (flags.resume || flags.sample > 0 || flags.common.memory > 0)
    throw Error(
        ErrorKind::bad_argument,
        "--resume, --sample and --memory go with direct and exact: estimates are made of all "
        "edges or nodes in one go");
}

/// The edges that direct and exact are to evaluate: those named, or so many of those that eap-ig
/// finds strongest, or all; of these so many at random.
void choose_edges(AttributeFlags& flags, const Model& model, const Pairs& pairs,
                  const Metric& metric, const Progress& progress) {
  const EdgeSpace space(model.config());
  std::vector<std::int64_t>& only = flags.options.only;
  if (!flags.edges.empty()) {
    only = edges_named(space, flags.edges);
  } else if (flags.top > 0 && flags.sample == 0 && !is_estimate(flags.options.method)) {
    const EdgeOptions by_gradients{.method = EdgeMethod::eap_ig, .steps = flags.options.steps};
    only =
        strongest_edges(attribute_edges(model, pairs, metric, by_gradients, progress), flags.top);
  }
  if (flags.sample == 0) return;
  if (only.empty()) {
    only.resize(static_cast<std::size_t>(space.edges()));
    std::iota(only.begin(), only.end(), 0);
  }
  only = sample_of(std::move(only), flags.sample, flags.common.seed);
}

/// The part of one of several processes: rank 0 keeps tiles and gives out what was found.
int run_rank(AttributeFlags flags, const std::string& command_line, Ranks& ranks) {
  const bool first = ranks.rank() == 0;
  Common& common = flags.common;
  check(flags);
  const bool nodes = is_node_method(flags.method);
  if (!nodes) flags.options.method = edge_method(flags.method);
  if (ranks.size() > 1 && (nodes || is_estimate(flags.options.method)))
    throw Error(ErrorKind::bad_argument,
                "estimates are made in one go; only direct and exact share their work among "
                "processes");
  if (nodes) return run_attribute_nodes(node_flags(flags), command_line);
  refuse_node_flags(flags.nodes);
  const Metric metric = flags.metric.empty() ? Metric{} : parse_metric(flags.metric, vector_from);
  if (first && !common.out.empty()) prepare_directory(common.out);
  if (common.threads == 0) common.threads = ranks.threads();
  const Chosen chosen = open_model(flags.model, common);
  RunInfo run = start_run(chosen.model, "attribute", command_line, common.seed);
  run.ranks = ranks.size();
  const Pairs pairs = make_pairs(
      read_pairs(flags.pairs, chosen.tokens(),
                 bos_id(flags.bos.value_or(Bos{.kind = Bos::Kind::native}), chosen.tokens())));
  const bool long_run = !is_estimate(flags.options.method);
  const std::unique_ptr<TileFile> tiles =
      first && long_run ? tile_file(common.out, "attribute", flags.resume) : nullptr;
  EdgeReport report;
  try {
    const Progress progress = show_progress(common.quiet || !first);
    choose_edges(flags, chosen.model, pairs, metric, progress);
    EdgeOptions options = flags.options;
    options.each = options.each || flags.stability > 0;
    report = edge_report(chosen.model, pairs, metric, options, progress,
                         {.store = tiles.get(), .ranks = &ranks});
    if (flags.stability > 0)
      report.stability = edge_stability(report, flags.stability, common.seed);
    if (!flags.options.each) report.each = at::Tensor();
    report.options.each = flags.options.each;
    if (flags.check > 0) check_edges(report, chosen.model, pairs, flags.check, progress);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::interrupted || !tiles || tiles->count() == 0) throw;
    const int code = tell_interrupted(*tiles);
    ranks.abort(code);
    return code;
  }
  end_run(run, chosen.model);
  if (!first) return 0;
  name_files(run, common.out, "attribute");
  const std::string json = edges_json(run, pairs, report, flags.top);
  const std::string text =
      edges_text(run, pairs, report, flags.top > 0 ? flags.top : listed_in_text);
  deliver(
      run, [&](const auto& path) { write_archive(path, run, pairs, report); }, json, text,
      common.json ? json : text);
  if (tiles) tiles->remove();
  say_cost(run, common.quiet);
  return 0;
}

int run_attribute(const AttributeFlags& flags, const std::string& command_line) {
  return run_ranks([&](Ranks& ranks) { return run_rank(flags, command_line, ranks); });
}

}  // namespace

Command attribute_command() {
  return {
      "attribute", "Score edges or nodes for a metric, by gradients or exactly",
      [](CLI::App& app, const std::string& command_line) {
        const auto flags = std::make_shared<AttributeFlags>();
        offer_model(app, flags->model);
        offer(app, "--pairs", "FILE",
              "Pairs: JSON lines {\"clean\": TEXT or [ids], \"corrupt\": ..., \"answers\": [right, "
              "wrong]}, or a .csv of clean, corrupted, correct_idx, incorrect_idx",
              [flags](const std::string& text) { flags->pairs = text; });
        offer(
            app, "--method", "NAME",
            "eap, eap-ig (gradients along the embeddings from corrupt to clean), "
            "eap-ig-activations (along each component's write) or clean-corrupted; without "
            "gradients direct (straight to the logits, all else frozen) or exact (all behind the "
            "receiver follows). Of nodes: atp (attribution patching), atp-qk (with the softmax of "
            "q and k computed anew), atp* (and GradDrop), ig (integrated along each site) or "
            "ig-inputs (along the embeddings)",
            [flags](const std::string& text) { flags->method = text; });
        offer_nodes(app, flags->nodes);
        offer(app, "--steps", "M", "Steps of integration (5; of nodes 10)",
              [flags](const std::string& text) {
                flags->options.steps = static_cast<int>(whole("--steps", text, 1, 1000));
                flags->nodes.steps = flags->options.steps;
              });
        offer(
            app, "--points", "NAME",
            "Where the steps lie: left (k/m from corrupt to clean, k = 0 to m - 1; that of "
            "eap-ig), right (k = 1 to m; that of eap-ig-activations), midpoint (that of nodes) or "
            "trapezoid",
            [flags](const std::string& text) { flags->options.points = parse_ig_points(text); });
        offer(app, "--rules", "NAME",
              "What is pulled back: gradient, or relp, relevance patching's rules for norms, "
              "activations and gated products, or relp-ah, which holds attention patterns too "
              "(gradient)",
              [flags](const std::string& text) { flags->options.rules = parse_edge_rules(text); });
        offer(app, "--metric", "NAME",
              "logit_diff, log_prob, prob, prob_diff, kl, reverse_kl or js, at the last position; "
              "loss or loss@POSITIONS; sink:LAYER[.HEAD], attention:SITE, norm:SITE or "
              "projection:SITE:FILE (logit_diff)",
              [flags](const std::string& text) { flags->metric = text; });
        offer(app, "--top", "N",
              "List so many edges or nodes, of the largest absolute scores (all in the JSON, 20 in "
              "the text); direct and exact evaluate only the N strongest of eap-ig",
              [flags](const std::string& text) {
                flags->top = whole("--top", text, 1, most_listed);
              });
        offer(app, "--edges", "NAMES",
              "The edges that direct or exact evaluates, * standing for any characters: "
              "\"input->*,*->a9.h6<q>\" (all)",
              [flags](const std::string& text) { flags->edges = text; });
        offer(app, "--sample", "N", "Of these, N drawn at random",
              [flags](const std::string& text) {
                flags->sample = whole("--sample", text, 1, most_listed);
              });
        offer(app, "--stability", "N",
              "How far the N strongest edges depend on the pairs: their overlap with those of "
              "bootstrap samples",
              [flags](const std::string& text) {
                flags->stability = whole("--stability", text, 1, most_listed);
              });
        offer(app, "--check", "N",
              "Hold an estimate against the exact effects of N edges or nodes, half of them its "
              "strongest; of nodes a quarter is chosen by doubt and a quarter by chance",
              [flags](const std::string& text) {
                flags->check = whole("--check", text, 1, most_listed);
              });
        app.add_flag("--by-position", flags->options.by_position,
                     "Also a score for each position, in the archive");
        app.add_flag("--each", flags->options.each, "Also each pair's scores, in the archive");
        offer(app, "--bos", "none|native|ID", "Token before every text (native)",
              [flags](const std::string& text) { flags->bos = parse_bos(text); });
        offer_device(app, flags->common);
        offer_dtype(app, flags->common);
        offer_threads(app, flags->common);
        offer_memory(app, flags->common);
        offer_seed(app, flags->common,
                   "Of planted models, --sample, --stability and what --check draws");
        offer_out(
            app, flags->common,
            "Also write attribute.h5, attribute.json and attribute.txt; while direct or exact "
            "lasts, attribute.tiles.h5 keeps what is finished");
        app.add_flag(
            "--resume", flags->resume,
            "Go on with the tiles that an interrupted run of direct or exact left in --out");
        offer_json(app, flags->common);
        offer_quiet(app, flags->common);
        return [flags, command_line] { return run_attribute(*flags, command_line); };
      }};
}

}  // namespace plumb::app
