#include "model/decoder.h"

#include <ATen/ATen.h>

#include "model/attention.h"
#include "model/mlp.h"
#include "model/pass.h"

namespace plumb {

namespace {

class Decoder {
 public:
  Decoder(const DecoderInputs& inputs, Tap& tap)
      : pass_(inputs, tap), attention_(pass_), config_(pass_.config()), tap_(tap) {}

  at::Tensor embed(const at::Tensor& ids) {
    at::Tensor rows = at::embedding(pass_.weight(Weight::embed), ids);
    if (config_.embed_scale != 1.0) rows = rows * config_.embed_scale;
    at::Tensor x = tap_({Part::embed}, rows);
    if (config_.positions == Positions::learned) {
      rows = pass_.weight(Weight::pos_embed).index_select(0, pass_.inputs().positions);
      x = x + tap_({Part::pos_embed}, rows.unsqueeze(0).expand_as(x));
    }
    return x;
  }

  at::Tensor block(int layer, const at::Tensor& stream) {
    const at::Tensor pre = tap_({Part::resid_pre, layer}, stream);
    at::Tensor x = pre + tap_({Part::attn_out, layer}, attention_(layer, pre));
    x = tap_({Part::resid_mid, layer}, x);
    if (ends_with_attention(layer)) return x;
    x = x + tap_({Part::mlp_out, layer}, mlp(pass_, layer, config_.parallel ? pre : x));
    return tap_({Part::resid_post, layer}, x);
  }

  // Undefined if neither the logits nor the scale of the norm before them are `wanted`.
  at::Tensor unembed(const at::Tensor& stream, const at::Tensor& out, bool wanted) {
    const at::Tensor x = tap_({Part::resid_final}, stream);
    if (!wanted && !tap_.wants({Part::final_scale})) return {};
    const at::Tensor normed =
        pass_.normalise(x, {Part::final_scale}, Weight::final_norm, Weight::final_norm_bias, 0);
    const at::Tensor logits = pass_.linear(normed, pass_.weight(Weight::unembed), {}, out);
    return tap_({Part::logits}, pass_.soft_cap(logits, config_.logit_cap));
  }

 private:
  // Nobody reads the MLP of the last block of a run that stops there, unless the plan does.
  bool ends_with_attention(int layer) const {
    const Plan& plan = pass_.inputs().plan;
    if (!plan.until || layer + 1 != *plan.until) return false;
    for (const Part part :
         {Part::mlp_in, Part::ln2_scale, Part::mlp_pre, Part::mlp_up, Part::mlp_post,
          Part::router, Part::expert_out, Part::shared_out, Part::ln2_post_scale, Part::mlp_out,
          Part::resid_post}) {
      if (tap_.wants({part, layer})) return false;
    }
    return true;
  }

  Pass pass_;
  Attention attention_;
  const ModelConfig& config_;
  Tap& tap_;
};

}  // namespace

at::Tensor decode(const DecoderInputs& inputs, const Tile& tile, const at::Tensor& stream,
                  const at::Tensor& out, Tap& tap) {
  Decoder decoder(inputs, tap);
  const int last = inputs.plan.until.value_or(inputs.model.config().layers);
  int layer = 0;
  at::Tensor x = stream;
  if (inputs.plan.restart) {
    layer = inputs.plan.restart->layer;
  } else {
    x = decoder.embed(tile.ids);
  }
  for (; layer < last; ++layer) x = decoder.block(layer, x);
  if (inputs.plan.until) return {};
  const bool wanted = inputs.plan.logits == Logits::all || tap.wants({Part::logits});
  const at::Tensor logits = decoder.unembed(x, out, wanted);
  return inputs.plan.logits == Logits::all ? logits : at::Tensor();
}

}  // namespace plumb
