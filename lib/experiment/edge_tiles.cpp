#include "experiment/edge_tiles.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>

#include "core/parallel.h"
#include "experiment/edge_effects.h"
#include "experiment/patch_cost.h"
#include "experiment/tile_run.h"
#include "model/model_impl.h"
#include "plumb/hash.h"
#include "plumb/version.h"

namespace plumb {
namespace {

// Positions of the pairs whose plain runs are held at once.
constexpr std::int64_t rows_held = 768;

std::vector<std::int64_t> asked_edges(const EdgeReport& report) {
  std::vector<std::int64_t> edges = report.options.only;
  if (edges.empty()) {
    edges.resize(static_cast<std::size_t>(report.scores.space.edges()));
    std::iota(edges.begin(), edges.end(), 0);
  }
  std::ranges::sort(edges);
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  return edges;
}

void append(std::string& text, const void* data, std::size_t bytes) {
  text.append(static_cast<const char*>(data), bytes);
}
void append(std::string& text, const at::Tensor& values) {
  if (!values.defined()) return;
  const at::Tensor plain = values.to(at::kCPU, at::kDouble).contiguous();
  append(text, plain.data_ptr(), plain.nbytes());
}

class EffectRun {
 public:
  EffectRun(const EdgeReport& report, const Model& model, const Pairs& pairs)
      : report_(report),
        model_(model),
        pairs_(pairs),
        edges_(asked_edges(report)),
        step_(std::clamp<std::int64_t>(rows_held / pairs.length(), 1, pairs.count())),
        behind_(report.options.method == EdgeMethod::exact ? EdgeEffects::Behind::recomputed
                                                           : EdgeEffects::Behind::frozen) {
    // Edges into heads are run at all positions of a pair; others where the metric reads them, if
    // nothing follows.
    const std::int64_t whole = step_ * pairs.length();
    const std::int64_t read =
        reads_block(report.metric)
            ? whole
            : step_ * read_plan(report.metric, pairs, Which::clean).positions.size(1);
    jobs_ = effect_jobs(report.scores.space, edges_, [&](EdgeReceiver::Kind kind) {
      const bool heads = kind != EdgeReceiver::Kind::mlp && kind != EdgeReceiver::Kind::logits;
      return heads ||
                     (kind == EdgeReceiver::Kind::mlp && behind_ == EdgeEffects::Behind::recomputed)
                 ? whole
                 : read;
    });
  }

  std::vector<EdgeTile> run(const Progress& progress, const Tiles& kept) {
    const PatchCost cost = foresee();
    const int at_once = jobs_at_once(cost, model_);
    const Model::Impl::Reserved values(model_, cost.value_bytes);
    RunCost working = as_run(cost, at_once);
    working.result_bytes = cost.held_bytes;
    model_.impl().make_room(working);
    for (std::int64_t tile = 0; tile < count(); ++tile) {
      hold(tile);
      made_.push_back({.clean = held_->clean(), .corrupt = held_->corrupt()});
    }
    TileLayout layout;
    if (kept.store != nullptr) layout.experiment = fingerprint();
    for (std::int64_t tile = 0; tile < count(); ++tile) {
      for (const EffectJob& job : jobs_)
        layout.sizes.push_back(std::ssize(job.items) * pairs_of(tile));
    }
    TileRun tiles(std::move(layout), kept, progress);
    const std::int64_t jobs = std::ssize(jobs_);
    for (std::int64_t tile = 0; tile < count(); ++tile) {
      const std::vector<std::int64_t> mine = tiles.mine(tile * jobs, (tile + 1) * jobs);
      if (mine.empty()) continue;
      hold(tile);
      std::atomic<std::int64_t> evaluations{0};
      parallel_pieces(std::ssize(mine), at_once, [&](std::int64_t i) {
        const c10::AutoGradMode no_gradients(false);
        const std::int64_t place = mine[static_cast<std::size_t>(i)];
        std::int64_t own = 0;
        tiles.done(place, held_->effects(jobs_[static_cast<std::size_t>(place % jobs)], own),
                   "patching edges");
        evaluations += own;
      });
      made_[static_cast<std::size_t>(tile)].evaluations += evaluations;
    }
    held_.reset();
    put_together(tiles.finish());
    return std::move(made_);
  }

 private:
  std::int64_t count() const { return (pairs_.count() + step_ - 1) / step_; }
  std::int64_t pairs_of(std::int64_t tile) const {
    return std::min(step_, pairs_.count() - tile * step_);
  }

  // The plain runs of one tile at a time.
  void hold(std::int64_t tile) {
    if (held_ != nullptr && held_tile_ == tile) return;
    held_.reset();
    const std::int64_t first = tile * step_;
    // As one piece: a product of matrices on several threads is rounded by their number.
    parallel_pieces(1, model_.threads(), [&](std::int64_t) {
      held_ = std::make_unique<EdgeEffects>(model_, some_of(pairs_, first, pairs_of(tile)), first,
                                            report_.metric, behind_);
    });
    held_tile_ = tile;
    if (tile < std::ssize(made_)) {
      made_[static_cast<std::size_t>(tile)].evaluations += held_->evaluations();
    } else {
      plain_evaluations_ += held_->evaluations();
    }
  }

  // All that the values depend on. The metric of the plain runs stands for the weights of models
  // without a hash.
  std::string fingerprint() const {
    std::string text =
        fmt::format("edges {} {} {} {} {} {} {} {} {}", version(), model_.name(), model_.sha256(),
                    c10::toString(model_.dtype()), pairs_.sha256, model_.device().str(),
                    to_string(report_.options.method), to_string(report_.metric), edges_.size());
    append(text, edges_.data(), edges_.size() * sizeof(edges_.front()));
    append(text, report_.metric.direction);
    for (const EdgeTile& tile : made_) {
      append(text, tile.clean);
      append(text, tile.corrupt);
    }
    return sha256_hex(text.data(), text.size());
  }

  void put_together(const std::vector<at::Tensor>& values) {
    const std::int64_t all = report_.scores.space.edges();
    for (std::int64_t tile = 0; tile < count(); ++tile) {
      at::Tensor found = at::zeros({std::ssize(edges_), pairs_of(tile)}, at::kDouble);
      for (std::size_t number = 0; number < jobs_.size(); ++number) {
        const EffectJob& job = jobs_[number];
        std::vector<std::int64_t> places;
        for (const EffectJob::Item& item : job.items) places.push_back(item.place);
        found.index_copy_(0, at::tensor(places, at::kLong),
                          values[static_cast<std::size_t>(tile) * jobs_.size() + number].view(
                              {std::ssize(places), pairs_of(tile)}));
      }
      at::Tensor scores = at::full({pairs_of(tile), all}, std::nan(""), at::kDouble);
      scores.index_copy_(1, at::tensor(edges_, at::kLong), found.t().contiguous());
      EdgeTile& made = made_[static_cast<std::size_t>(tile)];
      made.sums = report_.options.each ? scores : scores.sum(0, true);
    }
    made_.front().evaluations += plain_evaluations_;
  }

  // From shapes alone.
  PatchCost foresee() const {
    const ModelConfig& config = model_.config();
    const std::int64_t T = std::max(pairs_.length(), pairs_.corrupt.length());
    const std::int64_t rows = step_ * T;
    const std::int64_t d = config.d_model;
    const std::int64_t z = std::int64_t{config.heads} * config.d_head;
    const std::int64_t keys = std::int64_t{config.kv_heads} * config.d_head;
    const std::int64_t bytes = number_bytes(model_);
    PatchCost cost;
    cost.weights = plumb::foresee(model_, step_, T, {.logits = Logits::none});
    if (!reads_block(report_.metric)) {
      const bool rows_alone = report_.metric.kind == MetricKind::logit_diff;
      const std::int64_t table =
          static_cast<std::int64_t>(at::elementSize(model_.dtype())) * d *
          (rows_alone ? std::min<std::int64_t>(2 * pairs_.count(), config.vocab) : config.vocab);
      cost.weights.weight_bytes += table;
      if (!rows_alone) cost.weights.tensor_bytes = std::max(cost.weights.tensor_bytes, table);
    }
    // The stream twice in each block, keys and values, z twice, the MLP's change.
    cost.held_bytes = bytes * rows * (2 * d + config.layers * (4 * d + 2 * keys + 2 * z));
    cost.making_bytes =
        cost.held_bytes +
        bytes * (8 * rows * d +
                 block_elements(config, rows, 2 * config.heads * T * rows, false, false));
    const std::int64_t packed = std::max(rows_at_once, rows);
    const std::int64_t blocks = reads_block(report_.metric) ? 2 : 1;
    cost.job_bytes = bytes * (packed * (6 * d + 2 * z) +
                              blocks * block_elements(config, packed, 3 * config.heads * T * packed,
                                                      false, false)) +
                     metric_bytes(report_.metric, model_);
    const auto number = static_cast<std::int64_t>(sizeof(double));
    cost.value_bytes =
        3 * number * std::ssize(edges_) * pairs_.count() +
        (report_.options.each ? number * report_.scores.space.edges() * pairs_.count() : 0);
    cost.jobs = std::ssize(jobs_);
    return cost;
  }

  const EdgeReport& report_;
  const Model& model_;
  const Pairs& pairs_;
  std::vector<std::int64_t> edges_;
  std::int64_t step_;
  EdgeEffects::Behind behind_;
  std::vector<EffectJob> jobs_ = {};
  std::vector<EdgeTile> made_ = {};
  std::unique_ptr<EdgeEffects> held_ = {};
  std::int64_t held_tile_ = 0;
  std::int64_t plain_evaluations_ = 0;
};

}  // namespace

std::vector<EdgeTile> effect_tiles(const EdgeReport& report, const Model& model, const Pairs& pairs,
                                   const Progress& progress, const Tiles& tiles) {
  return EffectRun(report, model, pairs).run(progress, tiles);
}

}  // namespace plumb
