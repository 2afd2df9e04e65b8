#include "plumb/attribute_tapped.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <functional>
#include <utility>
#include <vector>

#include "core/precision.h"
#include "experiment/attribute_report.h"
#include "experiment/edge_sums.h"
#include "experiment/tapped_graph.h"
#include "experiment/tapped_writes.h"
#include "model/tiling.h"
#include "plumb/error.h"

namespace plumb {

// N: positions of the tile, S: senders, R: receivers of a block.

namespace {

// What metrics of the logits read them from: the logits themselves.
Readout of_logits() {
  return {.logits = [](const at::Tensor& rows) { return rows; },
          .logits_of = [](const at::Tensor& rows,
                          const at::Tensor& ids) { return rows.gather(1, ids); }};
}

class TappedTile {
 public:
  TappedTile(const TappedModel& model, const TappedReach& reach, const Pairs& pairs,
             std::int64_t first, const Metric& metric, const EdgeOptions& options,
             const std::function<void()>& step)
      : model_(model),
        reach_(reach),
        pairs_(pairs),
        metric_(metric),
        options_(options),
        step_(step),
        space_(model.config()),
        logits_(metric, pairs, of_logits(), first) {}

  EdgeTile run() {
    writes_ = writes_of(model_, reach_, pairs_, metric_);
    made_.evaluations = writes_.evaluations;
    if (!reads_block(metric_)) logits_.compare_with(writes_.clean.unsqueeze(1));
    {
      const c10::AutoGradMode no_gradients(false);
      made_.clean = value(writes_.clean, Which::clean).to(at::kDouble).cpu();
      made_.corrupt = value(writes_.corrupt, Which::corrupt).to(at::kDouble).cpu();
    }
    made_.sums = at::zeros({kept(), space_.edges()}, at::kDouble);
    switch (options_.method) {
      case EdgeMethod::eap: take({}, 1.0); break;
      case EdgeMethod::clean_corrupted:
        take({}, 0.5);
        take({.which = Which::corrupt}, 0.5);
        break;
      case EdgeMethod::eap_ig: along_input(IgPoints::left, 1.0); break;
      case EdgeMethod::eap_ig_activations: along_components(); break;
      case EdgeMethod::direct:
      case EdgeMethod::exact: break;  // refused before
    }
    return std::move(made_);
  }

 private:
  int depth() const { return static_cast<int>(reach_.blocks.size()); }
  std::int64_t positions() const { return pairs_.count() * pairs_.length(); }
  std::int64_t kept() const {
    return options_.each ? pairs_.count() : options_.by_position ? pairs_.length() : 1;
  }

  at::Tensor value(const at::Tensor& read, Which which) const {
    if (reads_block(metric_))
      return site_metric(metric_, read, lengths_of(pairs_, which).to(read.device()));
    return logits_(read.unsqueeze(1), read_plan(metric_, pairs_, which)).squeeze(1);
  }

  void along_input(IgPoints own, double share) {
    const at::Tensor change = writes_.change[0].view(writes_.input.sizes());
    for (const IgPoint& point : ig_points(options_.points.value_or(own), options_.steps)) {
      take({.input = widened(writes_.input) + (1.0 - point.clean) * change}, point.weight * share);
    }
  }

  void along_components() {
    const double share = 1.0 / (2.0 * depth() + 1.0);
    along_input(IgPoints::right, share);
    const std::int64_t H = space_.heads();
    for (int layer = 0; layer < depth(); ++layer) {
      const TappedBlock& block = reach_.blocks[static_cast<std::size_t>(layer)];
      const std::int64_t first = 1 + std::int64_t{layer} * (H + 1);
      for (const bool mlp : {false, true}) {
        const bool there =
            mlp ? block.mlp_reads.has_value() : block.heads != TappedBlock::Heads::none;
        const at::Tensor change =
            (mlp ? writes_.change[first + H] : writes_.change.narrow(0, first, H).sum(0))
                .view(writes_.input.sizes());
        for (const IgPoint& point :
             ig_points(options_.points.value_or(IgPoints::right), options_.steps)) {
          TappedSample sample;
          if (there) {
            sample.constant = {mlp ? Part::mlp_out : Part::attn_out, layer};
            sample.change = (1.0 - point.clean) * change;
          }
          take(sample, point.weight * share);
        }
      }
    }
  }

  // Adds what one run with a gradient says.
  void take(const TappedSample& sample, double weight) {
    const TappedGraph graph(model_, reach_, pairs_, metric_, sample,
                            [&](const at::Tensor& read) { return value(read, sample.which); });
    const c10::AutoGradMode no_gradients(false);
    if (const at::Tensor gradient = graph.read_out(); gradient.defined())
      add(space_.receivers() - 1, gradient.unsqueeze(0), reach_.seen, weight);
    for (int layer = depth() - 1; layer >= 0; --layer) {
      at::Tensor readers;
      if (const at::Tensor gradient = graph.mlp(layer); gradient.defined()) {
        const std::int64_t receiver =
            space_.index_of(EdgeReceiver{EdgeReceiver::Kind::mlp, layer, -1});
        add(receiver, gradient.unsqueeze(0), space_.seen_by(receiver), weight);
        readers = gradient;
      }
      if (const at::Tensor gradients = graph.heads(layer); gradients.defined()) {
        const std::int64_t receiver =
            space_.index_of(EdgeReceiver{EdgeReceiver::Kind::q, layer, 0});
        add(receiver, gradients, space_.seen_by(receiver), weight);
        const at::Tensor sum = gradients.sum(0);
        readers = readers.defined() ? readers + sum : sum;
      }
      if (!sample.change.defined() || sample.constant.layer != layer)
        graph.check_readers(layer, readers);
    }
    made_.evaluations += graph.evaluations();
    made_.backwards += positions() * depth();
    step_();
  }

  // Receivers from the given one on, gradients [R, N, d_model], all of which see so many senders.
  void add(std::int64_t receiver, const at::Tensor& gradients, std::int64_t seen, double weight) {
    const at::Tensor writes = writes_.change.narrow(0, 0, seen).transpose(0, 1);  // [N, S, d]
    const at::Tensor products =
        at::bmm(writes, gradients.permute({1, 2, 0}))
            .to(at::kDouble)
            .view({pairs_.count(), pairs_.length(), seen, gradients.size(0)});
    at::Tensor sums;
    if (options_.each) {
      sums = products.sum(1);
    } else if (options_.by_position) {
      sums = products.sum(0);
    } else {
      sums = products.sum(c10::IntArrayRef{0, 1}, false).unsqueeze(0);
    }
    const at::Tensor here = sums.cpu();
    for (std::int64_t r = 0; r < gradients.size(0); ++r)
      made_.sums.narrow(1, space_.first_edge(receiver + r), seen).add_(here.select(2, r), weight);
  }

  const TappedModel& model_;
  const TappedReach& reach_;
  const Pairs& pairs_;
  const Metric& metric_;
  const EdgeOptions& options_;
  const std::function<void()>& step_;
  EdgeSpace space_;
  LogitMetric logits_;
  TappedWrites writes_ = {};
  EdgeTile made_ = {};
};

void check_offered(const EdgeOptions& options) {
  if (!is_estimate(options.method))
    throw Error(ErrorKind::unsupported,
                fmt::format("{} runs parts of a model by themselves, and a tapped model runs as a "
                            "whole; take eap or eap-ig",
                            to_string(options.method)));
  if (options.rules != EdgeRules::gradient)
    throw Error(
        ErrorKind::unsupported,
        fmt::format("rules {} say how parts of a decoder are pulled back, and a tapped model "
                    "is pulled back as it is written; detach there what they hold, and take "
                    "the rules gradient",
                    to_string(options.rules)));
}

}  // namespace

EdgeReport edge_report(const TappedModel& model, const Pairs& pairs, const Metric& metric,
                       const EdgeOptions& options, const Progress& progress) {
  check_offered(options);
  check_edge_options(model.shape(), pairs, metric, options);
  const TappedReach reach = reach_of(model, pairs, metric, options);
  EdgeReport report{.options = options, .metric = metric};
  report.scores.space = EdgeSpace(model.config());
  const Tiling tiling(pairs.count(), pairs.length(), false);
  const std::int64_t steps =
      tiling.count() * samples_of(options, static_cast<int>(reach.blocks.size()));
  std::int64_t done = 0;
  const std::function<void()> step = [&] {
    ++done;
    if (progress) progress("scoring edges", static_cast<double>(done) / static_cast<double>(steps));
  };
  std::vector<EdgeTile> tiles;
  for (std::int64_t index = 0; index < tiling.count(); ++index) {
    const std::int64_t first = tiling.first(index);
    const Pairs own = some_of(pairs, first, tiling.sequences(index));
    tiles.push_back(TappedTile(model, reach, own, first, metric, options, step).run());
  }
  add_up(report, std::move(tiles), pairs.count());
  report.scores.method = to_string(options.method);
  report.scores.convention = edge_convention(pairs, metric, options);
  return report;
}

EdgeScores attribute_edges(const TappedModel& model, const Pairs& pairs, const Metric& metric,
                           const EdgeOptions& options, const Progress& progress) {
  return edge_report(model, pairs, metric, options, progress).scores;
}

}  // namespace plumb
