// Jacobians of the last state, and the paths of attention that bound them.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "core/random.h"
#include "plumb/mix.h"
#include "plumb/run.h"
#include "sink/mix_measurement.h"

namespace plumb {
namespace {

// Vectors pulled back through one graph. Threads share such groups, as a product in a backward pass
// of a few positions is too small for them to share: each would wait for the others at every one.
constexpr std::int64_t probes_per_graph = 4;

std::int64_t graphs_of(std::int64_t probes) {
  return (probes + probes_per_graph - 1) / probes_per_graph;
}

// A_l [T, T] of every block, float64: patterns summed over heads, and 1 / H on the diagonal.
struct Passed {
  std::vector<at::Tensor> effective = {};
  std::vector<at::Tensor> streams = {};  // [1, T, d_model] entering each block
};

Passed pass_through(const Model& model, const at::Tensor& ids,
                    const std::vector<Intervention>& edits) {
  const int layers = model.config().layers;
  Plan plan{.interventions = edits, .logits = Logits::none, .until = layers};
  for (int layer = 0; layer < layers; ++layer) {
    plan.record.push_back({Site{Part::pattern, layer}, "heads",
                           [](const at::Tensor& p, const Tile&) { return p.abs().sum(1); }});
    plan.record.emplace_back(Site{Part::resid_pre, layer});
  }
  const Run made = run(model, Tokens{.ids = ids}, plan);
  Passed passed;
  for (int layer = 0; layer < layers; ++layer) {
    const at::Tensor heads =
        made.cache.at({Part::pattern, layer}, "heads")[0].to(at::kCPU, at::kDouble);
    passed.effective.push_back(heads +
                               at::eye(heads.size(0), heads.options()) / model.config().heads);
    passed.streams.push_back(made.cache.at({Part::resid_pre, layer}));
  }
  return passed;
}

// Blocks [first, last) from a stream that wants its gradient: what leaves them, [T, d_model].
at::Tensor run_blocks(const Model& model, const at::Tensor& ids, const at::Tensor& leaf, int first,
                      int last, const std::vector<Intervention>& edits) {
  Plan plan{
      .logits = Logits::none, .restart = Restart{first, leaf}, .until = last, .gradients = true};
  for (const Intervention& edit : edits) {
    if (edit.site.layer >= first && edit.site.layer < last) plan.interventions.push_back(edit);
  }
  const Site site{Part::resid_post, last - 1};
  plan.record.emplace_back(site);
  return run(model, Tokens{.ids = ids}, plan).cache.at(site)[0];
}

// Squared norms [T] of what a probe pulls back to each position.
at::Tensor pull_back(const at::Tensor& output, const at::Tensor& leaf, const at::Tensor& probe) {
  const at::Tensor gradient =
      torch::autograd::grad({output}, {leaf}, {probe}, /*retain_graph=*/true).front();
  return gradient[0].detach().to(at::kCPU, at::kDouble).square().sum(1);
}

at::Tensor leaf_of(const at::Tensor& stream) {
  at::Tensor leaf = stream.detach().clone();
  leaf.set_requires_grad(true);
  return leaf;
}

at::Tensor ranks(const at::Tensor& values) {
  const at::Tensor order = values.argsort();
  return at::empty({values.size(0)}, at::kDouble)
      .scatter_(0, order, at::arange(values.size(0), at::kDouble));
}

double spearman(const at::Tensor& a, const at::Tensor& b) {
  at::Tensor x = ranks(a);
  at::Tensor y = ranks(b);
  x = x - x.mean();
  y = y - y.mean();
  return ((x * y).sum() / (x.norm() * y.norm())).item<double>();
}

}  // namespace

std::int64_t reach_evaluations(const Model& model, std::int64_t T, std::int64_t probes) {
  const std::int64_t count = probes > 0 ? probes : model.config().d_model;
  return T * model.config().layers * (1 + graphs_of(count) + count);
}

Reach measure_reach(const Model& model, const at::Tensor& ids,
                    const std::vector<Intervention>& edits, std::int64_t probes,
                    std::uint64_t seed) {
  const int layers = model.config().layers;
  const std::int64_t T = ids.size(1);
  const Passed passed = pass_through(model, ids, edits);
  Reach reach;
  reach.path = at::zeros({1, T}, at::kDouble);
  reach.path.select(1, T - 1).fill_(1.0);
  for (int layer = layers - 1; layer >= 0; --layer)
    reach.path = reach.path.matmul(passed.effective[static_cast<std::size_t>(layer)]);
  reach.path = reach.path[0];

  const at::Tensor& stream = passed.streams.front();
  const std::int64_t width = stream.size(2);
  const std::int64_t count = probes > 0 ? probes : width;
  at::Tensor signs;
  if (probes > 0) {
    signs = at::empty({probes, width}, at::kFloat);
    Random random(seed);
    auto* sign = signs.data_ptr<float>();
    for (std::int64_t i = 0; i < signs.numel(); ++i) sign[i] = random.below(2) == 0 ? -1.0F : 1.0F;
  }
  at::Tensor each = at::empty({count, T}, at::kDouble);
  parallel_pieces(graphs_of(count), model.threads(), [&](std::int64_t graph) {
    const at::Tensor leaf = leaf_of(stream);
    const at::Tensor last = run_blocks(model, ids, leaf, 0, layers, edits)[T - 1];
    const std::int64_t end = std::min(count, (graph + 1) * probes_per_graph);
    for (std::int64_t i = graph * probes_per_graph; i < end; ++i) {
      at::Tensor probe = at::zeros_like(last);
      if (probes > 0) {
        probe.copy_(signs[i]);
      } else {
        probe[i].fill_(1.0);
      }
      each[i].copy_(pull_back(last, leaf, probe));
    }
  });
  at::Tensor squares = each.sum(0);
  if (probes > 0) squares /= static_cast<double>(probes);
  reach.jacobian = squares.sqrt();
  const at::Tensor ratio = reach.jacobian / reach.path.clamp_min(1e-300);
  reach.constant = std::pow(ratio.max().item<double>(), 1.0 / layers);
  reach.correlation = spearman(reach.jacobian, reach.path);
  return reach;
}

std::vector<double> block_constants(const Model& model, const at::Tensor& ids,
                                    const std::vector<Intervention>& edits) {
  const Passed passed = pass_through(model, ids, edits);
  std::vector<double> constants(passed.streams.size());
  parallel_pieces(std::ssize(constants), model.threads(), [&](std::int64_t layer) {
    const auto l = static_cast<std::size_t>(layer);
    const int block = static_cast<int>(layer);
    const at::Tensor leaf = leaf_of(passed.streams[l]);
    const at::Tensor out = run_blocks(model, ids, leaf, block, block + 1, edits);
    double largest = 0.0;
    for (std::int64_t j = 0; j < out.size(0); ++j) {
      at::Tensor squares = at::zeros({out.size(0)}, at::kDouble);
      for (std::int64_t c = 0; c < out.size(1); ++c) {
        at::Tensor probe = at::zeros_like(out);
        probe[j][c].fill_(1.0);
        squares += pull_back(out, leaf, probe);
      }
      const at::Tensor weight = passed.effective[l][j];
      const at::Tensor ratio = (squares.sqrt() / weight).narrow(0, 0, j + 1);
      // Where attention is exactly 0, as behind a window, so is the Jacobian.
      const at::Tensor seen = weight.narrow(0, 0, j + 1).gt(0.0);
      largest = std::max(largest, ratio.masked_fill(seen.logical_not(), 0.0).max().item<double>());
    }
    constants[l] = largest;
  });
  return constants;
}

}  // namespace plumb
