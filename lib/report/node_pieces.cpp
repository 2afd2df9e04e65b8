#include "report/node_pieces.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "report/patch_pieces.h"

namespace plumb::report {

std::vector<std::pair<std::string, std::string>> node_conventions(const NodeReport& report) {
  const bool integrates =
      report.options.method == NodeMethod::ig || report.options.method == NodeMethod::ig_inputs;
  const char* doubt =
      report.options.method == NodeMethod::atp ? "0: there is one estimate"
      : integrates ? "mean over pairs of the largest less the smallest of the steps' estimates"
                   : "mean over pairs of the largest less the smallest of a node's estimates: with "
                     "and without the softmax of q and k computed anew, and without each block";
  return {{"score", report.convention},
          {"metric", metric_words(report.metric)},
          {"direction", report.options.direction == Direction::noising
                            ? "noising: the clean run, changed towards corrupt values"
                            : "denoising: the corrupt run, changed towards clean values"},
          {"doubt", doubt},
          {"nodes",
           "sites as in docs/sites.md, at all positions where none is named; keys and "
           "values by key head; layers and heads counted from 0"},
          {"divisor", "the number of pairs; scores do not depend on how pairs are batched"}};
}

const char* name_of(CheckedAs as) noexcept {
  switch (as) {
    case CheckedAs::strongest: return "strongest";
    case CheckedAs::doubtful: return "doubtful";
    case CheckedAs::sampled: return "sampled";
  }
  return "";
}

NodeTotal total_of(const NodeReport& report) {
  NodeTotal total;
  for (const NodeSweep& sweep : report.sweeps) {
    total.nodes += sweep.scores.isnan().logical_not().sum().item<std::int64_t>();
    total.sizes += sweep.scores.abs().nan_to_num().sum().item<double>();
  }
  return total;
}

std::string set_bound_words(const NodeCheckOptions& options) {
  return fmt::format(
      "{} random sets, each node in one with chance {}; a bound on every node's mean effect "
      "averaged over sets of the others, at {} % confidence if the sets' effects are about normal; "
      "a bound on its effect alone where effects add up",
      options.sets, options.share, 100.0 * options.confidence);
}

}  // namespace plumb::report
