#include "model/decoder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "model/attention.h"
#include "model/mlp.h"
#include "model/pass.h"
#include "model/streamed_plan.h"
#include "plumb/streamed.h"

namespace plumb {

namespace {

class Decoder {
 public:
  Decoder(const DecoderInputs& inputs, Tap& tap)
      : pass_(inputs, tap), attention_(pass_), config_(pass_.config()), tap_(tap) {}

  at::Tensor embed(const at::Tensor& ids) {
    at::Tensor rows = pass_.inputs().model.embed(ids);
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
    if (ends_with_attention(pass_.inputs().plan, layer)) return x;
    x = x + tap_({Part::mlp_out, layer}, mlp(pass_, layer, config_.parallel ? pre : x));
    return tap_({Part::resid_post, layer}, x);
  }

  // Undefined if neither the logits nor the scale of the norm before them are `wanted`.
  at::Tensor unembed(const at::Tensor& stream, const at::Tensor& out, bool wanted) {
    const at::Tensor x = tap_({Part::resid_final}, stream);
    if (!wanted && !tap_.wants({Part::final_scale})) return {};
    const at::Tensor normed =
        pass_.normalise(x, {Part::final_scale}, Weight::final_norm, Weight::final_norm_bias, 0);
    if (streams_logits(pass_.inputs().plan, x.size(1))) {
      read_logits_in_parts(normed);
      return {};
    }
    const at::Tensor logits = pass_.linear(normed, pass_.weight(Weight::unembed), {}, out);
    return tap_({Part::logits}, pass_.soft_cap(logits, config_.logit_cap));
  }

 private:
  void read_logits_in_parts(const at::Tensor& normed) {
    const std::vector<const Record*>& records = tap_.records({Part::logits});
    if (records.empty()) return;
    std::vector<std::vector<at::Tensor>> parts(records.size());
    // The widest tensor of the run: its pages are asked for once.
    at::Tensor rows;
    for (std::int64_t first = 0; first < normed.size(1); first += streamed_logits) {
      const std::int64_t count = std::min(streamed_logits, normed.size(1) - first);
      if (!rows.defined() || rows.size(1) != count)
        rows = at::empty({normed.size(0), count, config_.vocab}, normed.options());
      const at::Tensor logits =
          pass_.soft_cap(pass_.linear(normed.narrow(1, first, count).contiguous(),
                                      pass_.weight(Weight::unembed), {}, rows),
                         config_.logit_cap);
      const at::Tensor ids = ids_from(tap_.tile().ids, first, count);
      for (std::size_t i = 0; i < records.size(); ++i) {
        parts[i].push_back(records[i]->reduce.target<EachPosition>()->at(logits, ids));
      }
    }
    for (std::size_t i = 0; i < records.size(); ++i) {
      tap_.keep(*records[i],
                records[i]->reduce.target<EachPosition>()->then(at::cat(parts[i], 1), tap_.tile()));
    }
  }

  Pass pass_;
  Attention attention_;
  const ModelConfig& config_;
  Tap& tap_;
};

}  // namespace

bool ends_with_attention(const Plan& plan, int layer) {
  if (!plan.until || layer + 1 != *plan.until) return false;
  const auto after_attention = [&](const auto& item) {
    return item.site.layer == layer && per_layer(item.site.part) && item.site.part >= Part::mlp_in;
  };
  return std::ranges::none_of(plan.record, after_attention) &&
         std::ranges::none_of(plan.interventions, after_attention);
}

std::pair<int, int> blocks_of(const DecoderInputs& inputs) {
  const Plan& plan = inputs.plan;
  return {plan.restart ? plan.restart->layer : 0,
          plan.until.value_or(inputs.model.config().layers)};
}

struct TilePass::Impl {
  const DecoderInputs& inputs;
  const Tile& tile;
  Tap& tap;
  Decoder decoder;
  at::Tensor stream = {};
};

TilePass::TilePass(const DecoderInputs& inputs, const Tile& tile, Tap& tap)
    : impl_(new Impl{inputs, tile, tap, Decoder(inputs, tap)}) {}
TilePass::~TilePass() = default;

void TilePass::begin(const at::Tensor& stream) {
  impl_->stream = impl_->inputs.plan.restart ? stream : impl_->decoder.embed(impl_->tile.ids);
}

void TilePass::block(int layer) { impl_->stream = impl_->decoder.block(layer, impl_->stream); }

at::Tensor TilePass::end(const at::Tensor& out) {
  const Plan& plan = impl_->inputs.plan;
  if (plan.until) return {};
  const bool wanted = plan.logits == Logits::all || impl_->tap.wants({Part::logits});
  const at::Tensor logits = impl_->decoder.unembed(impl_->stream, out, wanted);
  return plan.logits == Logits::all ? logits : at::Tensor();
}

at::Tensor decode(const DecoderInputs& inputs, const Tile& tile, const at::Tensor& stream,
                  const at::Tensor& out, Tap& tap) {
  TilePass pass(inputs, tile, tap);
  pass.begin(stream);
  const auto [first, last] = blocks_of(inputs);
  for (int layer = first; layer < last; ++layer) pass.block(layer);
  return pass.end(out);
}

}  // namespace plumb
