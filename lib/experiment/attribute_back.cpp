#include "experiment/attribute_back.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <utility>
#include <vector>

#include "core/precision.h"
#include "experiment/attribute_mlp.h"
#include "model/mlp.h"

namespace plumb {
namespace {

at::Tensor leaf(const at::Tensor& value) {
  at::Tensor own = value.detach();
  own.set_requires_grad(true);
  return own;
}

// Undefined stands for 0.
at::Tensor sum(const at::Tensor& a, const at::Tensor& b) {
  return a.defined() && b.defined() ? a + b : a.defined() ? a : b;
}

at::Tensor wide(const at::Tensor& x) { return x.defined() ? widened(x) : x; }

// Gradients at the inputs of what the outputs' gradients are given; undefined where there are none.
std::vector<at::Tensor> pull_back(const at::Tensor& output, const std::vector<at::Tensor>& inputs,
                                  const at::Tensor& gradient, bool keep) {
  std::vector<at::Tensor> given;
  if (gradient.defined()) given.push_back(gradient.to(output.scalar_type()));
  if (!output.requires_grad()) return std::vector<at::Tensor>(inputs.size());
  return torch::autograd::grad({output}, inputs, given, keep, false, /*allow_unused=*/true);
}

at::Tensor normless(const at::Tensor& x, const ModelConfig& config, at::Tensor& scale) {
  const at::Tensor y =
      config.norm == Norm::layer ? widened(x) - widened(x).mean(-1, true) : widened(x);
  scale = (y.square().mean(-1, true) + config.norm_eps).rsqrt();
  return y * scale;
}

}  // namespace

std::int64_t senders_read(const Site& site, const ModelConfig& config) {
  const std::int64_t before = 1 + std::int64_t{site.layer} * (config.heads + 1);
  switch (site.part) {
    case Part::resid_pre:
    case Part::q_in:
    case Part::k_in:
    case Part::v_in:
    case Part::ln1_scale: return before;
    case Part::mlp_in:
    case Part::ln2_scale: return config.parallel ? before : before + config.heads;
    case Part::resid_mid: return before + config.heads;
    case Part::resid_post: return before + config.heads + 1;
    default: return 0;
  }
}

Site stream_read_by(const Site& site) {
  if (site.part == Part::ln1_scale) return {Part::q_in, site.layer};
  if (site.part == Part::ln2_scale) return {Part::mlp_in, site.layer};
  return site;
}

at::Tensor writing_weights(const Model& model, int layer) {
  const ModelConfig& config = model.config();
  at::Tensor out = widened(model.weight(Weight::out, layer));
  if (config.norm_place != NormPlace::before) {
    const at::Tensor gain = model.weight(Weight::ln1_post, layer);
    if (gain.defined()) out = out * widened(gain).unsqueeze(1);
  }
  return out.view({config.d_model, config.heads, config.d_head}).permute({1, 2, 0});
}

// The block is cut where one part hands over to another, so that the gradient of each is found by
// itself.
struct GradientPass::Leaves {
  at::Tensor pre = {};  ///< needs a gradient only where the read-out is
  Projections projected = {};
  at::Tensor mid = {};
  at::Tensor mlp_in = {};
  at::Tensor post = {};
};

// What the read-out makes of each.
struct GradientPass::Direct {
  at::Tensor pre = {};
  Projections projected = {};
  at::Tensor mid = {};
  at::Tensor mlp_in = {};
  at::Tensor post = {};
};

GradientPass::GradientPass(const TileModel& model, const SiteReadOut* read)
    : model_(model),
      read_(read),
      plan_{.record = read == nullptr ? std::vector<Record>() : std::vector<Record>{read->site},
            .gradients = true},
      inputs_(model.inputs(plan_)),
      tile_(model.tile()),
      tap_(plan_, tile_, tile_.ids.size(0)),
      pass_(inputs_, tap_),
      attention_(pass_) {}

GradientPass::Direct GradientPass::direct(int layer, const Leaves& leaves) {
  if (read_ == nullptr || read_->site.layer != layer) return {};
  const Cache cache = tap_.take();
  const at::Tensor metric = read_->metric(cache.at(read_->site)).sum().neg();
  const Projections& parts = leaves.projected;
  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor*> places;
  Direct found;
  const auto ask = [&](const at::Tensor& input, at::Tensor& place) {
    if (!input.defined()) return;
    inputs.push_back(input);
    places.push_back(&place);
  };
  ask(leaves.pre, found.pre);
  ask(parts.q, found.projected.q);
  ask(parts.k, found.projected.k);
  ask(parts.v, found.projected.v);
  ask(parts.gate, found.projected.gate);
  ask(leaves.mid, found.mid);
  ask(leaves.mlp_in, found.mlp_in);
  ask(leaves.post, found.post);
  const std::vector<at::Tensor> gradients = pull_back(metric, inputs, {}, true);
  for (std::size_t i = 0; i < places.size(); ++i) *places[i] = wide(gradients[i]);
  return found;
}

BlockBack GradientPass::back(int layer, const at::Tensor& stream, const at::Tensor& post,
                             const ConstantWrite& constant) {
  const c10::AutoGradMode gradients(true);
  const ModelConfig& config = model_.config();
  const bool reads = read_ != nullptr && read_->site.layer == layer;
  Leaves leaves;
  leaves.pre = reads ? leaf(stream) : stream.detach();
  const at::Tensor entered = tap_({Part::resid_pre, layer}, leaves.pre);
  const at::Tensor in = attention_.read(layer, entered, Part::q_in, true).detach();
  for (const Part part : {Part::k_in, Part::v_in}) {
    if (tap_.wants({part, layer})) attention_.read(layer, entered, part, false);
  }
  leaves.projected = attention_.project(layer, in);
  std::vector<at::Tensor> parts;
  for (at::Tensor* part :
       {&leaves.projected.q, &leaves.projected.k, &leaves.projected.v, &leaves.projected.gate}) {
    if (!part->defined()) continue;
    part->set_requires_grad(true);
    parts.push_back(*part);
  }
  const at::Tensor z = tap_({Part::z, layer}, attention_.attend(layer, leaves.projected));
  const at::Tensor attn_out = tap_({Part::attn_out, layer}, attention_.write(layer, z));
  at::Tensor mid = stream + attn_out.detach();
  if (constant.of(layer, false)) mid = mid + constant.change.to(mid.scalar_type());
  leaves.mid = leaf(mid);
  tap_({Part::resid_mid, layer}, leaves.mid);
  leaves.mlp_in = leaf(config.parallel ? stream : mid);
  // What the MLP writes is run where it is read, or where only its graph knows the way back.
  const bool by_graph = reads || model_.rules().relevance || !knows_mlp_gradient(config, layer);
  at::Tensor mlp_out;
  if (by_graph) mlp_out = tap_({Part::mlp_out, layer}, mlp(pass_, layer, leaves.mlp_in));
  if (reads) {
    leaves.post = leaf(mid + mlp_out.detach());
    tap_({Part::resid_post, layer}, leaves.post);
  }

  const Direct read = direct(layer, leaves);
  const at::Tensor after = sum(post, read.post);
  BlockBack result;
  // The MLP.
  const std::int64_t seen = reads ? senders_read(read_->site, config) : 0;
  const bool stream_read = seen > 0;
  at::Tensor by_mlp;
  if (after.defined() && !constant.of(layer, true)) {
    by_mlp = by_graph ? wide(pull_back(mlp_out, {leaves.mlp_in}, after, false).front())
                      : mlp_gradient(pass_, layer, leaves.mlp_in, after);
  }
  if (!stream_read) by_mlp = sum(by_mlp, read.mlp_in);
  const at::Tensor at_mlp = stream_read ? sum(by_mlp, read.mlp_in) : by_mlp;
  result.resid_mid = sum(after, read.mid);
  if (!config.parallel) result.resid_mid = sum(result.resid_mid, at_mlp);
  // The heads.
  Projections found = read.projected;
  if (result.resid_mid.defined() && !constant.of(layer, false)) {
    const std::vector<at::Tensor> made = pull_back(attn_out, parts, result.resid_mid, false);
    std::size_t next = 0;
    for (at::Tensor* part : {&found.q, &found.k, &found.v, &found.gate}) {
      if (part == &found.gate && !leaves.projected.gate.defined()) continue;
      *part = sum(*part, wide(made[next++]));
    }
  }
  const c10::AutoGradMode no_gradients(false);
  result.receivers = receivers(layer, stream, leaves, found);
  result.resid_pre = sum(sum(result.resid_mid, read.pre), through_norm(layer, result.receivers));
  if (config.parallel) result.resid_pre = sum(result.resid_pre, at_mlp);
  if (!result.resid_pre.defined()) result.resid_pre = at::zeros_like(widened(stream));
  if (by_mlp.defined()) result.receivers.mlp = by_mlp.reshape({-1, config.d_model});

  if (stream_read) {
    at::Tensor gradient;
    for (const at::Tensor& part : {read.pre, read.mid, read.mlp_in, read.post}) {
      if (part.defined()) gradient = part;
    }
    if (gradient.defined()) result.read_out = StreamReader{gradient, seen};
  }
  return result;
}

ReceiverGradient GradientPass::receivers(int layer, const at::Tensor& stream, const Leaves& leaves,
                                         const Projections& parts) const {
  const ModelConfig& config = model_.config();
  const std::int64_t N = stream.size(0) * stream.size(1);
  ReceiverGradient made{.layer = layer};
  const bool normed = config.norm_place != NormPlace::after;
  at::Tensor scale;
  if (normed) made.hat = normless(stream.reshape({N, config.d_model}), config, scale);
  // A scale that is held has no part in the derivative.
  const bool held = model_.rules().relevance;
  if (held) made.hat = at::Tensor();
  const at::Tensor shift = normed ? pass_.weight(Weight::ln1_bias, layer) : at::Tensor();
  // What the projection is without what does not come from `hat`, times the gradient, in all of
  // d_head.
  const auto take = [&](const at::Tensor& gradient, const at::Tensor& value, Weight weight,
                        std::optional<Weight> bias, at::Tensor& part, at::Tensor& along) {
    if (!gradient.defined()) return;
    part = gradient.reshape({N, -1, config.d_head});
    if (!normed) return;
    part = part * scale.unsqueeze(2);
    if (held) return;
    at::Tensor from_hat = widened(value.detach()).reshape({N, -1});
    const at::Tensor own = bias ? pass_.weight(*bias, layer) : at::Tensor();
    if (own.defined()) from_hat = from_hat - widened(own);
    if (shift.defined())
      from_hat = from_hat - widened(shift).matmul(widened(pass_.weight(weight, layer)).t());
    along = sum(along, (part * from_hat.view(part.sizes())).sum(-1) / config.d_model);
  };
  take(parts.q, leaves.projected.q, Weight::q, Weight::q_bias, made.q, made.q_along);
  take(parts.k, leaves.projected.k, Weight::k, Weight::k_bias, made.k, made.k_along);
  take(parts.v, leaves.projected.v, Weight::v, Weight::v_bias, made.v, made.v_along);
  take(parts.gate, leaves.projected.gate, Weight::z_gate, std::nullopt, made.gate, made.q_along);
  return made;
}

// The sum of the heads' gradients at the stream.
at::Tensor GradientPass::through_norm(int layer, const ReceiverGradient& of) const {
  const ModelConfig& config = model_.config();
  at::Tensor total;
  at::Tensor along;
  const auto add = [&](const at::Tensor& part, Weight weight) {
    if (part.defined())
      total = sum(total, part.flatten(1).matmul(widened(pass_.weight(weight, layer))));
  };
  add(of.q, Weight::q);
  add(of.k, Weight::k);
  add(of.v, Weight::v);
  add(of.gate, Weight::z_gate);
  if (!total.defined()) return {};
  for (const at::Tensor& part : {of.q_along, of.k_along, of.v_along}) {
    if (part.defined()) along = sum(along, part.sum(1, true));
  }
  if (config.norm_place != NormPlace::after) {
    if (const at::Tensor gain = pass_.weight(Weight::ln1, layer); gain.defined())
      total = total * widened(gain);
    if (config.norm == Norm::layer) total = total - total.mean(-1, true);
    if (of.hat.defined()) total = total - along * of.hat;
  }
  return total.view({tile_.ids.size(0), tile_.ids.size(1), config.d_model});
}

}  // namespace plumb
