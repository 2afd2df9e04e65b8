#include "experiment/attribute_tile.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <numeric>
#include <utility>

namespace plumb {

TileModel::TileModel(const Model& model, std::int64_t sequences, std::int64_t T,
                     const BackRules& rules)
    : model_(model), sequences_(sequences), T_(T), rules_(rules) {
  const ModelConfig& config = model.config();
  const auto options = at::TensorOptions().dtype(model.dtype()).device(model.device());
  std::vector<std::int64_t> positions(static_cast<std::size_t>(T));
  std::iota(positions.begin(), positions.end(), 0);
  positions_ = at::arange(T, options.dtype(at::kLong));
  if (config.positions == Positions::rope) {
    rope_ = make_rope_table(config.rope, positions, options);
    if (config.window_rope.dims > 0)
      window_rope_ = make_rope_table(config.window_rope, positions, options);
  }
}

DecoderInputs TileModel::inputs(const Plan& plan) const {
  return {.model = model_,
          .plan = plan,
          .rope = rope_,
          .window_rope = window_rope_,
          .positions = positions_,
          .rules = plan.gradients ? rules_ : BackRules{}};
}

Tile TileModel::tile() const {
  const auto whole = positions_.options();
  return {.first = 0,
          .ids = at::zeros({sequences_, T_}, whole),
          .lengths = at::full({sequences_}, T_, whole)};
}

TileModel::Embedded TileModel::embed(const at::Tensor& ids) const {
  const c10::AutoGradMode gradients(false);
  const bool learned = config().positions == Positions::learned;
  Plan plan{.record = {Site{Part::embed}}, .logits = Logits::none, .until = 0};
  if (learned) plan.record.emplace_back(Site{Part::pos_embed});
  const DecoderInputs made = inputs(plan);
  Tile own = tile();
  own.ids = ids.to(model_.device());
  Tap tap(plan, own, sequences_);
  TilePass pass(made, own, tap);
  pass.begin({});
  const Cache cache = tap.take();
  const at::Tensor rows = cache.at({Part::embed});
  return {.embed = rows, .stream = learned ? rows + cache.at({Part::pos_embed}) : rows};
}

Cache TileModel::block(int layer, const at::Tensor& stream, std::vector<Record> records,
                       std::vector<Intervention> edits) const {
  const c10::AutoGradMode gradients(false);
  records.emplace_back(Site{Part::resid_post, layer});
  Plan plan{
      .record = std::move(records), .interventions = std::move(edits), .logits = Logits::none};
  plan.restart = Restart{.layer = layer, .resid_pre = stream};
  const DecoderInputs made = inputs(plan);
  const Tile own = tile();
  Tap tap(plan, own, sequences_);
  TilePass pass(made, own, tap);
  pass.begin(stream);
  pass.block(layer);
  return tap.take();
}

}  // namespace plumb
