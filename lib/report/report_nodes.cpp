// The report of `plumb attribute` for nodes.
#include "plumb/report_nodes.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "plumb/report.h"
#include "report/node_pieces.h"
#include "report/text_pieces.h"

namespace plumb {
namespace {

using namespace report;

std::string check_part(const NodeReport& found) {
  const NodeCheck& check = *found.check;
  std::string text = heading("VERIFIED BY PATCHING");
  std::vector<std::vector<std::string>> rows;
  std::int64_t sampled = 0;
  for (const CheckedNode& node : check.nodes) {
    rows.push_back({node_name(found, node.node), name_of(node.as), format_number(node.score),
                    format_number(node.exact)});
    sampled += node.as == CheckedAs::sampled ? 1 : 0;
  }
  text += columns({"<node", "<chosen as", "score", "exact"}, rows);
  text +=
      wrap(fmt::format("Over these {}: Spearman {} of sizes, Pearson {}; over the sampled ones "
                       "alone, Spearman {}.",
                       check.nodes.size(), show_value(check.spearman), show_value(check.pearson),
                       show_value(check.spearman_sampled)));
  if (check.missed)
    text +=
        wrap(fmt::format("Largest effect seen that the estimate did not put among its strongest: "
                         "{}, {} (score {}), number {} of those verified.",
                         node_name(found, check.missed->node), format_number(check.missed->exact),
                         format_number(check.missed->score), check.missed_rank));
  if (sampled > 0)
    text += wrap(
        fmt::format("Not verified: {} nodes. At {} % confidence, at most {} of the {} from "
                    "which the sample was drawn have an effect larger than {}, the largest "
                    "sampled; no assumption but the random draw.",
                    show_count(check.rest - sampled),
                    format_number(100.0 * check.options.confidence), show_count(check.may_exceed),
                    show_count(check.rest), format_number(check.largest_sampled)));
  if (check.sets.empty()) return text;
  rows.clear();
  for (const SetBound& bound : check.sets)
    rows.push_back({to_string(found.sweeps[bound.sweep].spec), show_count(bound.nodes),
                    format_number(bound.deviation), format_number(bound.bound)});
  text += "\n" + columns({"<nodes", "in sets", "deviation of sets", "bound on one node"}, rows);
  return text + wrap("Bounds: " + set_bound_words(check.options) + ".");
}

}  // namespace

std::string nodes_text(const RunInfo& run, const Pairs& pairs, const NodeReport& found,
                       std::int64_t top) {
  std::string text = show_run(run, nullptr);
  text += wrap(fmt::format("{} pairs of {} tokens. Metric {}: clean {}, corrupt {}.", pairs.count(),
                           pairs.length(), to_string(found.metric), show_estimate(found.clean_mean),
                           show_estimate(found.corrupt_mean)),
               0, 0);
  text += wrap(fmt::format("Scores ({}): {}.", to_string(found.options.method), found.convention),
               0, 0);
  const NodeTotal total = total_of(found);
  text += heading(fmt::format("{} nodes", show_count(total.nodes)));
  const double range = found.clean_mean.mean - found.corrupt_mean.mean;
  const bool doubted = found.options.method != NodeMethod::atp;
  std::vector<std::string> titles = {"<node", "score", "of clean - corrupt"};
  if (doubted) titles.emplace_back("doubt");
  std::vector<std::vector<std::string>> rows;
  for (const NodeRef& node : strongest_nodes(found, top)) {
    const double score = node_score(found, node);
    rows.push_back({node_name(found, node), format_number(score),
                    range != 0.0 ? format_number(score / range) : "-"});
    if (doubted)
      rows.back().push_back(format_number(
          found.sweeps[node.sweep].doubts.contiguous().view({-1})[node.index].item<double>()));
  }
  text += columns(titles, rows);
  for (const NodeSweep& sweep : found.sweeps) {
    if (sweep.absent.empty()) continue;
    std::vector<std::string> layers;
    for (const int layer : sweep.absent) layers.push_back(std::to_string(layer));
    text +=
        wrap(fmt::format("Layers without {}: {}.", to_string(sweep.spec.part), list_of(layers)));
  }
  if (found.check) text += check_part(found);
  const std::int64_t forwards = found.evaluations + (found.check ? found.check->evaluations : 0);
  text += fmt::format("\n  {} token-layer evaluations forwards, {} backwards\n",
                      show_count(forwards), show_count(found.backwards));
  return text + show_end(run, forwards);
}

}  // namespace plumb
