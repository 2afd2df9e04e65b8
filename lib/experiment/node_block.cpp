#include "experiment/node_block.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <utility>

#include "core/precision.h"

namespace plumb {
namespace {

at::Tensor leaf(const at::Tensor& value) {
  at::Tensor own = value.detach();
  own.set_requires_grad(true);
  return own;
}

}  // namespace

NodeBlock::NodeBlock(const TileModel& model, int layer, const at::Tensor& stream,
                     const std::vector<Part>& parts, const SiteReadOut* read, Writes writes,
                     const HeldSite& held)
    : stream_(leaf(stream)), reads_(read != nullptr && read->site.layer == layer) {
  const c10::AutoGradMode gradients(true);
  Plan plan{.logits = Logits::none, .gradients = true};
  plan.record.emplace_back(reads_ ? read->site : Site{Part::resid_post, layer});
  plan.restart = Restart{.layer = layer, .resid_pre = stream_};
  if (held.value.defined()) {
    sites_[held.part] = leaf(held.value);
    plan.interventions.push_back(
        {.site = {held.part, layer},
         .edit = Custom{"held",
                        [this, part = held.part](const at::Tensor&) { return sites_.at(part); }}});
  }
  for (const Part part : parts) {
    if (part == Part::resid_pre || sites_.contains(part)) continue;
    plan.interventions.push_back(
        {.site = {part, layer}, .edit = Custom{"watched", [this, part](const at::Tensor& value) {
                                                 sites_[part] = value;
                                                 return value;
                                               }}});
  }
  if (writes == Writes::cut) {
    for (const Part part : {Part::attn_out, Part::mlp_out}) {
      plan.interventions.push_back(
          {.site = {part, layer},
           .edit = Custom{"cut", [](const at::Tensor& value) { return value.detach(); }}});
    }
  }
  const DecoderInputs inputs = model.inputs(plan);
  const Tile tile = model.tile();
  Tap tap(plan, tile, tile.ids.size(0));
  TilePass pass(inputs, tile, tap);
  pass.begin(stream_);
  pass.block(layer);
  const Cache cache = tap.take();
  const at::Tensor& out = cache.at(plan.record.front().site);
  out_ = reads_ ? read->metric(out).sum().neg() : out;
  // Both the stream's own site, and a leaf like any other.
  for (const Part part : parts) {
    if (part == Part::resid_pre) sites_[part] = stream_;
  }
}

NodeBlock::Gradients NodeBlock::back(const at::Tensor& post, bool last) {
  Gradients found;
  if (!out_.requires_grad() || (!reads_ && !post.defined())) return found;
  std::vector<at::Tensor> inputs = {stream_};
  std::vector<Part> parts;
  for (const auto& [part, value] : sites_) {
    if (part == Part::resid_pre || !value.requires_grad()) continue;
    inputs.push_back(value);
    parts.push_back(part);
  }
  std::vector<at::Tensor> given;
  if (!reads_) given.push_back(post.to(out_.scalar_type()));
  std::vector<at::Tensor> made =
      torch::autograd::grad({out_}, inputs, given, !last, false, /*allow_unused=*/true);
  const auto wide = [](const at::Tensor& x) { return x.defined() ? widened(x) : x; };
  found.stream = wide(made.front());
  for (std::size_t i = 0; i < parts.size(); ++i) found.parts[parts[i]] = wide(made[i + 1]);
  if (sites_.contains(Part::resid_pre)) found.parts[Part::resid_pre] = found.stream;
  return found;
}

at::Tensor NodeBlock::value(Part part) const { return sites_.at(part).detach(); }

}  // namespace plumb
