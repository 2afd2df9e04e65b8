#include "plumb/run.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <bit>
#include <numeric>
#include <vector>

#include "core/parallel.h"
#include "model/decoder.h"
#include "model/plan_check.h"

namespace plumb {

namespace {

// Rows of a tile's matrix products. The more there are, the less packing the weights costs beside
// the product itself; but a batch too small for a few such tiles is cut finer, into two or four of
// at least 32 rows, so that several cores have equal work.
constexpr std::int64_t rows_per_tile = 768;
constexpr std::int64_t fewest_rows = 32;
constexpr std::uint64_t tiles_wanted = 4;

// A lone tile's products are shared among the threads, unless they are too small to be worth it.
constexpr std::int64_t rows_worth_sharing = 256;

// First sequence and count of each tile: a function of the batch's shape alone.
std::vector<std::pair<std::int64_t, std::int64_t>> cut(std::int64_t batch, std::int64_t length,
                                                       bool whole) {
  const auto rows = batch * length;
  const auto by_size = (rows + rows_per_tile - 1) / rows_per_tile;
  const auto by_count = static_cast<std::int64_t>(
      std::min(tiles_wanted, std::bit_floor(static_cast<std::uint64_t>(rows / fewest_rows))));
  const auto wanted = whole ? 1 : std::clamp<std::int64_t>(std::max(by_size, by_count), 1, batch);
  const auto size = (batch + wanted - 1) / wanted;
  std::vector<std::pair<std::int64_t, std::int64_t>> tiles;
  for (std::int64_t first = 0; first < batch; first += size) {
    tiles.emplace_back(first, std::min(size, batch - first));
  }
  return tiles;
}

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
    for (const auto& piece : pieces) parts.push_back(piece.at(key.first, key.second));
    joined.put(key.first, key.second, at::cat(parts, 0));
  }
  return joined;
}

}  // namespace

Run run(const Model& model, const Tokens& tokens, const Plan& plan) {
  check(model, tokens, plan);
  const auto& config = model.config();
  std::vector<std::int64_t> positions = tokens.positions;
  if (positions.empty()) {
    positions.resize(static_cast<std::size_t>(tokens.length()));
    std::iota(positions.begin(), positions.end(), 0);
  }
  const auto options = at::TensorOptions().dtype(model.dtype()).device(model.device());
  DecoderInputs inputs{.model = model, .plan = plan};
  inputs.positions = at::tensor(positions, at::kLong).to(model.device());
  if (config.positions == Positions::rope) {
    inputs.rope = make_rope_table(config.rope, positions, options);
    if (config.window_rope.dims > 0)
      inputs.window_rope = make_rope_table(config.window_rope, positions, options);
  }
  const at::Tensor ids = tokens.ids.to(model.device());
  const at::Tensor lengths =
      (tokens.lengths.defined() ? tokens.lengths
                                : at::full({tokens.batch()}, tokens.length(), at::kLong))
          .to(model.device());

  const auto tiles = cut(tokens.batch(), tokens.length(), plan.gradients);
  inputs.lone = tiles.size() == 1 && tokens.ids.numel() >= rows_worth_sharing && !plan.gradients;
  std::vector<Cache> caches(tiles.size());
  std::vector<at::Tensor> logits(tiles.size());
  // Logits are by far the largest tensor of a run: tiles write them where they will stay.
  at::Tensor all_logits;
  if (plan.logits == Logits::all && !plan.until && !plan.gradients && !touches_logits(plan)) {
    all_logits = at::empty({tokens.batch(), tokens.length(), config.vocab}, options);
  }
  parallel_pieces(static_cast<std::int64_t>(tiles.size()), model.threads(),
                  [&](std::int64_t index) {
                    const c10::AutoGradMode gradients(plan.gradients);
                    const auto piece = static_cast<std::size_t>(index);
                    const auto [first, count] = tiles[piece];
                    const Tile tile{.first = first,
                                    .ids = ids.narrow(0, first, count),
                                    .lengths = lengths.narrow(0, first, count)};
                    at::Tensor stream;
                    if (plan.restart)
                      stream = plan.restart->resid_pre.narrow(0, first, count).to(options);
                    Tap tap(plan, tile, tokens.batch());
                    const at::Tensor out =
                        all_logits.defined() ? all_logits.narrow(0, first, count) : at::Tensor();
                    logits[piece] = decode(inputs, tile, stream, out, tap);
                    caches[piece] = tap.take();
                  });

  Run result;
  result.cache = join(caches);
  if (all_logits.defined()) {
    result.logits = all_logits;
  } else if (logits.front().defined()) {
    result.logits = logits.size() == 1 ? logits.front() : at::cat(logits, 0);
  }
  const int blocks = plan.until.value_or(config.layers) - (plan.restart ? plan.restart->layer : 0);
  result.evaluations = tokens.batch() * tokens.length() * blocks;
  return result;
}

}  // namespace plumb
