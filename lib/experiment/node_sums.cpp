#include "experiment/node_sums.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "experiment/patch_jobs.h"
#include "plumb/model.h"

namespace plumb {
namespace {

bool goes_over(SweepAxis axis, Axis own) {
  switch (axis) {
    case SweepAxis::position: return own == Axis::position || own == Axis::query;
    case SweepAxis::query: return own == Axis::query;
    case SweepAxis::head: return own == Axis::head || own == Axis::kv_head;
    case SweepAxis::neuron: return own == Axis::d_mlp;
    case SweepAxis::expert: return own == Axis::expert;
    case SweepAxis::key: return own == Axis::key;
    case SweepAxis::layer:
    case SweepAxis::set: return false;
  }
  return false;
}

}  // namespace

at::Tensor by_node(const at::Tensor& contribution, const SweepSpec& spec) {
  const auto own = axes(spec.part);
  std::vector<std::int64_t> order = {0};
  for (const SweepAxis axis : spec.axes) {
    const auto found =
        std::ranges::find_if(own, [&](Axis candidate) { return goes_over(axis, candidate); });
    if (found != own.end()) order.push_back(found - own.begin());
  }
  std::vector<std::int64_t> summed;
  for (std::int64_t dim = 1; dim < contribution.dim(); ++dim) {
    if (std::ranges::count(order, dim) == 0) summed.push_back(dim);
  }
  const at::Tensor sums =
      summed.empty() ? contribution.to(at::kDouble)
                     : contribution.sum(c10::IntArrayRef(summed), /*keepdim=*/true, at::kDouble);
  order.insert(order.end(), summed.begin(), summed.end());
  return sums.permute(order).reshape({contribution.size(0), -1});
}

std::int64_t nodes_of_layer(const SweepSpec& spec, const ModelConfig& config, std::int64_t T) {
  const std::vector<std::int64_t> shape = sweep_shape(spec, config, T);
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>()) /
         std::max(config.layers, 1);
}

void NodeEstimates::add(const at::Tensor& estimate, double weight) {
  const at::Tensor part = weight == 1.0 ? estimate : estimate * weight;
  effect_ = effect_.defined() ? effect_ + part : part;
}

void NodeEstimates::drop(const at::Tensor& estimate, std::int64_t times) {
  drops_ += times;
  if (times == 0) return;
  const at::Tensor part = estimate.abs() * static_cast<double>(times);
  dropped_ = dropped_.defined() ? dropped_ + part : part;
}

void NodeEstimates::consider(const at::Tensor& estimate) {
  low_ = low_.defined() ? at::minimum(low_, estimate) : estimate;
  high_ = high_.defined() ? at::maximum(high_, estimate) : estimate;
}

at::Tensor NodeEstimates::magnitude() const {
  return drops_ == 0 ? effect_.abs() : dropped_ / static_cast<double>(drops_);
}

at::Tensor NodeEstimates::doubt() const {
  return low_.defined() ? high_ - low_ : at::zeros_like(effect_);
}

NodeSums no_sums(const SweepSpec& spec, const ModelConfig& config, std::int64_t T,
                 std::int64_t pairs, bool each) {
  const std::int64_t nodes = nodes_of_layer(spec, config, T);
  at::Tensor start = at::zeros({config.layers, nodes}, at::kDouble);
  for (int layer = 0; layer < config.layers; ++layer) {
    if (!has_part(config, spec.part, layer)) start[layer].fill_(std::nan(""));
  }
  NodeSums made{.effects = start, .magnitudes = start.clone(), .doubts = start.clone()};
  if (each) made.each = start.unsqueeze(2).repeat({1, 1, pairs});
  return made;
}

void put(NodeSums& sums, int layer, const NodeEstimates& estimates) {
  if (estimates.empty()) return;
  sums.effects[layer].copy_(estimates.effect().sum(0));
  sums.magnitudes[layer].copy_(estimates.magnitude().sum(0));
  sums.doubts[layer].copy_(estimates.doubt().sum(0));
  if (sums.each.defined()) sums.each[layer].copy_(estimates.effect().t());
}

}  // namespace plumb
