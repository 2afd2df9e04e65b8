// Circuits as text for a person.
#include <fmt/format.h>

#include <algorithm>

#include "plumb/report.h"
#include "plumb/report_circuit.h"
#include "report/circuit_pieces.h"
#include "report/patch_pieces.h"
#include "report/text_pieces.h"

namespace plumb {
namespace {

using namespace report;

constexpr std::size_t kListedNeeds = 20;

bool reads_divergence(const Metric& metric) {
  return metric.kind == MetricKind::kl || metric.kind == MetricKind::reverse_kl ||
         metric.kind == MetricKind::js;
}

std::string size_words(std::int64_t edges, std::int64_t nodes) {
  return fmt::format("{} edge{}, {} component{}", show_count(edges), edges == 1 ? "" : "s",
                     show_count(nodes), nodes == 1 ? "" : "s");
}

std::string curve_part(const Curve& curve) {
  std::vector<std::vector<std::string>> rows;
  for (const CurvePoint& point : curve.points) {
    rows.push_back({fmt::format("{:g}", point.fraction), show_count(point.chosen),
                    show_count(point.value.edges), show_count(point.value.nodes),
                    show_estimate(point.value.metric), show_estimate(point.value.faithfulness)});
  }
  return heading(curve.name) +
         columns({"fraction", "chosen", "edges", "components", "metric", "faithfulness"}, rows) +
         fmt::format("  CPR {}, CMD {}\n", show_estimate(curve.cpr), show_estimate(curve.cmd));
}

}  // namespace

std::string circuit_text(const RunInfo& run, const Pairs& pairs, const CircuitReport& report) {
  const Evaluation& plain = report.evaluation ? *report.evaluation : report.curve->plain;
  std::string text = show_run(run, nullptr);
  text += wrap(fmt::format("{} {} of {} tokens. Metric {}: clean {}, corrupt {}, no edge {}.",
                           pairs.count(), pairs.paired ? "pairs" : "prompts", pairs.length(),
                           to_string(plain.options.run.metric), show_estimate(plain.clean_mean),
                           show_estimate(plain.corrupt_mean), show_estimate(plain.empty_mean)),
               0, 0);
  for (const auto& [name, words] : evaluation_words(plain.options))
    text += wrap(fmt::format("{}: {}.", name, words), 0, 0);
  if (report.evaluation) {
    std::vector<std::vector<std::string>> rows;
    std::vector<std::string> titles = {"<circuit", "edges", "components", "metric", "faithfulness"};
    if (plain.options.complements) titles.emplace_back("of the rest");
    for (const CircuitValue& value : report.evaluation->circuits) {
      rows.push_back({value.name, show_count(value.edges), show_count(value.nodes),
                      show_estimate(value.metric), show_estimate(value.faithfulness)});
      if (plain.options.complements) rows.back().push_back(show_estimate(value.completeness));
    }
    text += heading("circuits") + columns(titles, rows);
  }
  if (report.curve) {
    for (const Curve& curve : report.curve->curves) text += curve_part(curve);
  }
  if (!report.needs.empty()) {
    std::vector<std::vector<std::string>> rows;
    for (std::size_t i = 0; i < std::min(kListedNeeds, report.needs.size()); ++i) {
      rows.push_back(
          {report.space.edge_name(report.needs[i].edge), show_estimate(report.needs[i].loss)});
    }
    text += heading("what single edges add") +
            fmt::format("  Largest of {} edges of the first circuit:\n", report.needs.size()) +
            columns({"<edge", "faithfulness lost without it"}, rows);
  }
  const double forward = static_cast<double>(pairs.count() * pairs.length() * run.config.layers);
  text +=
      wrap(fmt::format("{} circuits took {:.1f} forward passes of all prompts, the plain runs "
                       "counted; one for each beside a clean and a corrupt one are {}, EAP-IG's "
                       "package makes {}.",
                       plain.runs, static_cast<double>(plain.evaluations) / forward, plain.runs + 2,
                       2 * plain.runs + 2),
           0, 0);
  return text + show_end(run, plain.evaluations);
}

std::string comparison_text(const std::vector<NamedCircuit>& circuits) {
  std::vector<std::vector<std::string>> rows;
  for (std::size_t i = 0; i < circuits.size(); ++i) {
    for (std::size_t j = i + 1; j < circuits.size(); ++j) {
      const Overlap found = compare(circuits[i].circuit, circuits[j].circuit);
      rows.push_back({circuits[i].name, circuits[j].name, show_count(found.a), show_count(found.b),
                      show_count(found.both), show_value(found.jaccard),
                      show_value(found.nodes_jaccard), show_value(found.pearson),
                      show_value(found.spearman)});
    }
  }
  return columns({"<first", "<second", "edges", "edges", "both", "Jaccard", "of nodes", "Pearson",
                  "Spearman"},
                 rows) +
         "  Pearson and Spearman: of the scores of all edges.\n";
}

std::string paths_text(const EdgeCircuit& circuit, std::int64_t k, const PathEffects* effects) {
  const EdgeCircuit whole = pruned(circuit);
  std::string text = summary_text(whole, "");
  if (count_edges(whole) == 0) return text + "  Nothing leads from the input to the logits.\n";
  const auto passed = bottlenecks(whole);
  text += wrap(passed.empty() ? "No component lies on every path."
                              : fmt::format("On every path: {}.", list_of(passed)));
  if (const auto cut = smallest_cut(whole)) {
    text += wrap(fmt::format("A smallest set without which nothing arrives ({}): {}.", cut->size(),
                             list_of(*cut)));
  } else {
    text += wrap("The input feeds the logits directly: no set of components cuts it off.");
  }
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> titles = {"<path", "share", "sign", "weakest"};
  if (effects != nullptr) titles.insert(titles.end(), {"effect, run", "of the total"});
  double listed = 0.0;
  for (const EdgePath& path : strongest_paths(whole, k)) {
    listed += path.share;
    rows.push_back({path_name(whole.space, path), fmt::format("{:.2f} %", 100.0 * path.share),
                    path.sign < 0 ? "-" : "+", fmt::format("{:.3g}", path.weakest)});
    if (effects == nullptr) continue;
    const PathEffect& run = effects->paths.at(rows.size() - 1);
    rows.back().push_back(show_estimate(run.effect));
    rows.back().push_back(fmt::format("{:.2f} %", 100.0 * run.share.mean));
  }
  text += heading("strongest paths") + columns(titles, rows);
  if (effects != nullptr) {
    text +=
        wrap(fmt::format("Run: {} of the clean prompts less that of runs in which the path alone "
                         "carries what the corrupt prompt makes of it; all paths together: {}.",
                         to_string(effects->metric), show_estimate(effects->total)));
  }
  return text +
         wrap(fmt::format("{} of {:.4g} paths: {:.1f} % of all. A path's share is the product, "
                          "over its edges, of the part that the edge's score has, by size, in the "
                          "sum of those into the same component.",
                          rows.size(), count_paths(whole), 100.0 * listed));
}

std::string search_text(const CircuitSearch& found, const Metric& metric, double threshold,
                        const std::string& file) {
  return summary_text(found.circuit, file) +
         wrap(fmt::format("Loss ({}{}): {:.4g}, from {:.4g} at the start; an edge stays out if the "
                          "loss rises by less than {:g}. {} sets of edges were run, with {} "
                          "token-layer evaluations where a forward pass for each would take {}.",
                          reads_divergence(metric) ? "" : "distance from the model's ",
                          to_string(metric), found.loss, found.start_loss, threshold,
                          show_count(found.tried), show_count(found.evaluations),
                          show_count(found.naive_evaluations)),
              0, 0);
}

std::string summary_text(const EdgeCircuit& circuit, const std::string& file) {
  const EdgeSpace& space = circuit.space;
  return wrap(
      fmt::format("{}{} of {} ({} layers, {} heads, {} key heads).{}",
                  circuit.title.empty() ? "" : circuit.title + ": ",
                  size_words(count_edges(circuit), count_nodes(circuit)), show_count(space.edges()),
                  space.layers(), space.heads(), space.kv_heads(),
                  file.empty() ? "" : fmt::format(" Written to {}.", file)),
      0, 0);
}

}  // namespace plumb
