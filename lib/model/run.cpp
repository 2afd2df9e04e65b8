#include "plumb/run.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "model/decoder.h"
#include "model/model_impl.h"
#include "model/plan_check.h"
#include "model/tiling.h"
#include "plumb/cost.h"
#include "plumb/error.h"

namespace plumb {

namespace {

// A lone tile's products are shared among the threads, unless they are too small to be worth it.
constexpr std::int64_t rows_worth_sharing = 256;

bool touches_logits(const Plan& plan) {
  const auto at_logits = [](const auto& item) { return item.site.part == Part::logits; };
  return std::ranges::any_of(plan.interventions, at_logits) ||
         std::ranges::any_of(plan.record, at_logits);
}

Cache join(std::vector<Cache>& pieces) {
  if (pieces.size() == 1) return std::move(pieces.front());
  Cache joined;
  for (const auto& [key, value] : pieces.front().entries()) {
    std::vector<at::Tensor> parts;
    parts.reserve(pieces.size());
    for (auto& piece : pieces) {
      parts.push_back(piece.at(key.first, key.second));
      piece.put(key.first, key.second, {});  // so that nothing is held twice for long
    }
    joined.put(key.first, key.second, at::cat(parts, 0));
  }
  return joined;
}

using Fit = Model::Impl::Fit;

// One tile on its way.
struct Piece {
  Piece(const DecoderInputs& inputs, Tile tile_, std::int64_t batch, const at::Tensor& restart)
      : tile(std::move(tile_)), tap(inputs.plan, tile, batch), pass(inputs, tile, tap) {
    pass.begin(restart);
  }
  Tile tile;
  Tap tap;
  TilePass pass;
};

// The tiles of a batch, run in groups.
class BatchRun {
 public:
  BatchRun(const Model& model, const Tokens& tokens, const Plan& plan)
      : model_(model),
        tokens_(tokens),
        plan_(plan),
        tiling_(tokens.batch(), tokens.length(), plan.gradients),
        inputs_{.model = model, .plan = plan_},
        options_(at::TensorOptions().dtype(model.dtype()).device(model.device())) {
    std::vector<std::int64_t> positions = tokens.positions;
    if (positions.empty()) {
      positions.resize(static_cast<std::size_t>(tokens.length()));
      std::iota(positions.begin(), positions.end(), 0);
    }
    const ModelConfig& config = model.config();
    inputs_.positions = at::tensor(positions, at::kLong).to(model.device());
    if (config.positions == Positions::rope) {
      inputs_.rope = make_rope_table(config.rope, positions, options_);
      if (config.window_rope.dims > 0)
        inputs_.window_rope = make_rope_table(config.window_rope, positions, options_);
    }
    inputs_.lone =
        tiling_.count() == 1 && tokens.ids.numel() >= rows_worth_sharing && !plan.gradients;
    ids_ = tokens.ids.to(model.device());
    lengths_ = (tokens.lengths.defined() ? tokens.lengths
                                         : at::full({tokens.batch()}, tokens.length(), at::kLong))
                   .to(model.device());
  }

  const Tiling& tiling() const { return tiling_; }

  Run run(std::int64_t first, std::int64_t count) const {
    const std::int64_t begin = tiling_.first(first);
    const std::int64_t sequences =
        tiling_.first(first + count - 1) + tiling_.sequences(first + count - 1) - begin;
    Group group{.first = first, .caches = std::vector<Cache>(static_cast<std::size_t>(count))};
    group.logits.resize(static_cast<std::size_t>(count));
    // Logits are by far the largest tensor of a run: tiles write them where they will stay.
    if (plan_.logits == Logits::all && !plan_.until && !plan_.gradients && !touches_logits(plan_)) {
      group.all_logits = at::empty({sequences, tokens_.length(), model_.config().vocab}, options_);
    }
    const Fit fit = room_for(sequences);
    if (fit == Fit::all) {
      tile_by_tile(group);
    } else {
      block_by_block(group, fit);
    }
    Run result;
    result.cache = join(group.caches);
    if (group.all_logits.defined()) {
      result.logits = group.all_logits;
    } else if (group.logits.front().defined()) {
      result.logits = group.logits.size() == 1 ? group.logits.front() : at::cat(group.logits, 0);
    }
    const auto [from, to] = blocks_of(inputs_);
    result.evaluations = sequences * tokens_.length() * (to - from);
    return result;
  }

 private:
  struct Group {
    std::int64_t first = 0;  ///< tile
    std::vector<Cache> caches = {};
    std::vector<at::Tensor> logits = {};
    at::Tensor all_logits = {};  ///< where the tiles write theirs, if they do
  };

  Fit room_for(std::int64_t sequences) const {
    if (model_.memory() == 0 || plan_.gradients) return Fit::all;
    return model_.impl().make_room(
        foresee(model_, tokens_.batch(), tokens_.length(), plan_, sequences));
  }

  // Threads never share the work of one tile of several.
  void each(std::size_t count, const std::function<void(std::size_t)>& work,
            bool in_turn = false) const {
    const bool alone = in_turn && count > 1;
    const int threads = alone || (count == 1 && tiling_.count() > 1) ? 1 : model_.threads();
    parallel_pieces(static_cast<std::int64_t>(count), threads, [&](std::int64_t index) {
      const c10::AutoGradMode gradients(plan_.gradients);
      work(static_cast<std::size_t>(index));
    });
  }

  std::unique_ptr<Piece> begin(std::int64_t index) const {
    const std::int64_t first = tiling_.first(index);
    const std::int64_t count = tiling_.sequences(index);
    at::Tensor stream;
    if (plan_.restart) stream = plan_.restart->resid_pre.narrow(0, first, count).to(options_);
    Tile tile{.first = first,
              .ids = ids_.narrow(0, first, count),
              .lengths = lengths_.narrow(0, first, count)};
    return std::make_unique<Piece>(inputs_, std::move(tile), tokens_.batch(), stream);
  }

  void end(Piece& piece, Group& group, std::size_t index) const {
    at::Tensor out;
    if (group.all_logits.defined()) {
      out = group.all_logits.narrow(0, piece.tile.first - tiling_.first(group.first),
                                    piece.tile.ids.size(0));
    }
    group.logits[index] = piece.pass.end(out);
    group.caches[index] = piece.tap.take();
  }

  WeightStore::Route route() const {
    const auto [from, to] = blocks_of(inputs_);
    return {.first = from,
            .last = to,
            .mlp = !ends_with_attention(plan_, to - 1),
            .logits = !plan_.until && needs_logits(plan_)};
  }

  void tile_by_tile(Group& group) const {
    const auto [from, to] = blocks_of(inputs_);
    // Of a single position queries and keys are not read.
    if (model_.impl().checkpoint && tokens_.length() > 1) model_.impl().store.read_ahead(route());
    each(group.caches.size(), [&, from = from, to = to](std::size_t index) {
      const auto piece = begin(group.first + static_cast<std::int64_t>(index));
      for (int layer = from; layer < to; ++layer) piece->pass.block(layer);
      end(*piece, group, index);
    });
  }

  // All tiles through one block, then all through the next, so that each weight is read once.
  // Where not even a block fits, each is read for every tile.
  void block_by_block(Group& group, Fit fit) const {
    WeightStore& store = model_.impl().store;
    const auto [from, to] = blocks_of(inputs_);
    // Tiles that do not share a block go their own ways.
    if (fit == Fit::block || group.caches.size() == 1) store.read_ahead(route());
    std::vector<std::unique_ptr<Piece>> pieces(group.caches.size());
    each(pieces.size(), [&](std::size_t index) {
      pieces[index] = begin(group.first + static_cast<std::int64_t>(index));
    });
    for (int layer = from; layer < to; ++layer) {
      std::optional<WeightStore::Hold> hold;
      if (fit == Fit::block) hold.emplace(store, layer);
      // One after another where there is room for a single weight alone.
      each(
          pieces.size(), [&](std::size_t index) { pieces[index]->pass.block(layer); },
          fit == Fit::tensor);
    }
    const WeightStore::Hold hold(store, model_.config().layers);
    each(pieces.size(), [&](std::size_t index) {
      end(*pieces[index], group, index);
      pieces[index].reset();
    });
  }

  const Model& model_;
  const Tokens& tokens_;
  const Plan plan_;
  const Tiling tiling_;
  DecoderInputs inputs_;
  const at::TensorOptions options_;
  at::Tensor ids_ = {};
  at::Tensor lengths_ = {};
};

}  // namespace

Run run(const Model& model, const Tokens& tokens, const Plan& plan) {
  check(model, tokens, plan);
  const BatchRun batch(model, tokens, within(model, plan));
  return batch.run(0, batch.tiling().count());
}

void run_in_parts(const Model& model, const Tokens& tokens, const Plan& plan,
                  std::int64_t sequences, const std::function<void(std::int64_t, Run)>& take) {
  check(model, tokens, plan);
  if (sequences < 1) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("expected parts of at least 1 sequence, got {}", sequences));
  }
  const BatchRun batch(model, tokens, within(model, plan));
  const std::int64_t at_once = batch.tiling().tiles_in(sequences);
  for (std::int64_t first = 0; first < batch.tiling().count(); first += at_once) {
    take(batch.tiling().first(first),
         batch.run(first, std::min(at_once, batch.tiling().count() - first)));
  }
}

}  // namespace plumb
