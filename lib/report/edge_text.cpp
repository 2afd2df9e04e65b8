// The report of `plumb attribute`.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "plumb/attribute.h"
#include "plumb/report.h"
#include "plumb/report_text.h"
#include "report/edge_pieces.h"
#include "report/text_pieces.h"

namespace plumb {

using namespace report;

std::string edges_text(const RunInfo& run, const Pairs& pairs, const EdgeReport& found,
                       std::int64_t top) {
  std::string text = show_run(run, nullptr);
  text += wrap(fmt::format("{} pairs of {} tokens. Metric {}: clean {}, corrupt {}.", pairs.count(),
                           pairs.length(), to_string(found.metric), show_estimate(found.clean_mean),
                           show_estimate(found.corrupt_mean)),
               0, 0);
  text += wrap(fmt::format("Scores ({}): {}.", found.scores.method, found.scores.convention), 0, 0);
  const at::Tensor whole = whole_scores(found.scores).abs();
  const double all = whole.nan_to_num().sum().item<double>();
  text += heading(fmt::format("{} edges", show_count(whole.isfinite().sum().item<std::int64_t>())));
  double sum = 0.0;
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, score] : leading_edges(found.scores, top)) {
    sum += std::abs(score);
    rows.push_back({name, format_number(score), show_share(all > 0.0 ? sum / all : 0.0)});
  }
  text += columns({"<edge", "score", "share of all, so far"}, rows);
  text += fmt::format("\n  Absolute scores of all edges sum to {}\n", format_number(all));
  if (found.agreement) {
    text +=
        wrap(fmt::format("Against exact effects of {} edges, half of them the strongest: Pearson "
                         "{}, Spearman {}, {} "
                         "of the strongest {} in common.",
                         found.agreement->edges, show_value(found.agreement->pearson),
                         show_value(found.agreement->spearman),
                         show_share(found.agreement->overlap), found.agreement->top));
  }
  if (found.stability) {
    text += wrap(fmt::format(
        "Strongest {} edges of {} bootstrap samples of the pairs: Jaccard index "
        "{} with those of all pairs.",
        found.stability->top, found.stability->draws, show_estimate(found.stability->overlap)));
  }
  text += fmt::format("  {} token-layer evaluations forwards, {} backwards\n",
                      show_count(found.evaluations), show_count(found.backwards));
  return text + show_end(run, found.evaluations);
}

}  // namespace plumb
