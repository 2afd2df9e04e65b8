// Why softmax attention needs a sink (arXiv:2603.11487): one head that must give the mean of all
// tokens so far at a trigger, and nothing elsewhere, trained with softmax or ReLU attention.
//
//   trigger_task softmax|relu SEED [STEPS]
//
// Prints attention, seed, steps, mean squared error, largest error, and the mean attention to
// position 0 of the rows before and after the trigger and of the trigger's, as one CSV line.
#include <ATen/ATen.h>
#include <plumb/adamw.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr std::int64_t T = 16;
constexpr std::int64_t d = 16;
constexpr std::int64_t batch = 128;
constexpr double good_enough = 5e-3;  // largest error at which training stops
constexpr double rate = 1e-3;

// Coordinate 0 marks position 0, coordinate 1 the trigger, the last one all other tokens; the rest
// is noise.
struct Batch {
  at::Tensor x, y;      // [batch, T, d]
  at::Tensor triggers;  // [batch, T] bool
};

Batch draw(std::mt19937_64& random) {
  const auto uniform = [&] {
    return 2.0 * static_cast<double>(random() >> 11) / 9007199254740992.0 - 1.0;
  };
  Batch made{at::zeros({batch, T, d}), at::zeros({batch, T, d}), at::zeros({batch, T}, at::kBool)};
  auto x = made.x.accessor<float, 3>();
  for (std::int64_t b = 0; b < batch; ++b) {
    const auto trigger = 1 + static_cast<std::int64_t>(random() % (T - 1));
    for (std::int64_t t = 0; t < T; ++t) {
      for (std::int64_t i = 2; i + 1 < d; ++i) x[b][t][i] = static_cast<float>(uniform());
      x[b][t][t == 0 ? 0 : t == trigger ? 1 : d - 1] = 1.0F;
    }
    made.triggers[b][trigger].fill_(true);
    made.y[b][trigger].copy_(made.x[b].narrow(0, 1, trigger).mean(0));
  }
  return made;
}

// [batch, T, T]; of ReLU, row t shares its weights among the t tokens after position 0.
at::Tensor attention(const at::Tensor& scores, bool softmax) {
  const at::Tensor index = at::arange(T);
  const at::Tensor hidden = index.unsqueeze(0).gt(index.unsqueeze(1));
  if (softmax)
    return at::softmax(scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()), -1);
  return scores.relu().masked_fill(hidden, 0.0) / index.clamp_min(1).unsqueeze(1);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string kind = argc > 1 ? argv[1] : "";
  if (argc < 3 || argc > 4 || (kind != "softmax" && kind != "relu")) {
    std::fprintf(stderr, "usage: trigger_task softmax|relu SEED [STEPS]\n");
    return 2;
  }
  std::mt19937_64 random(std::strtoull(argv[2], nullptr, 10));
  const long most = argc > 3 ? std::atol(argv[3]) : 3000;
  std::vector<at::Tensor> weights;  // query, key, value, output
  for (int i = 0; i < 4; ++i) {
    at::Tensor weight = at::empty({d, d});
    for (std::int64_t k = 0; k < d * d; ++k) {
      // A normal number by Box and Muller, the same everywhere.
      const double u = (static_cast<double>(random() >> 11) + 0.5) / 9007199254740992.0;
      const double v = static_cast<double>(random() >> 11) / 9007199254740992.0;
      weight.view({-1})[k].fill_(0.02 * std::sqrt(-2.0 * std::log(u)) *
                                 std::cos(6.283185307179586 * v));
    }
    weights.push_back(weight.set_requires_grad(true));
  }
  plumb::Adamw optimiser({{weights, 0.0}}, {.beta1 = 0.9, .beta2 = 0.95});
  at::Tensor pattern;
  Batch now;
  double mean = 0.0;
  double largest = 0.0;
  long steps = 0;
  for (;; ++steps) {
    now = draw(random);
    const at::Tensor q = at::matmul(now.x, weights[0]);
    const at::Tensor k = at::matmul(now.x, weights[1]);
    pattern = attention(at::matmul(q, k.transpose(1, 2)) / std::sqrt(double{d}), kind == "softmax");
    const at::Tensor out =
        at::matmul(at::matmul(pattern, at::matmul(now.x, weights[2])), weights[3]);
    const at::Tensor error = out - now.y;
    const at::Tensor loss = error.square().mean();
    mean = loss.item<double>();
    largest = error.detach().abs().max().item<double>();
    if (largest < good_enough || steps >= most) break;
    for (at::Tensor& weight : weights) weight.mutable_grad() = at::Tensor();
    loss.backward();
    optimiser.step(rate);
  }
  const at::Tensor first = pattern.detach().select(2, 0).narrow(1, 1, T - 1);
  const at::Tensor triggers = now.triggers.narrow(1, 1, T - 1);
  std::printf("%s,%s,%ld,%.2e,%.2e,%.4f,%.4f\n", kind.c_str(), argv[2], steps, mean, largest,
              first.masked_select(triggers.logical_not()).mean().item<double>(),
              first.masked_select(triggers).mean().item<double>());
  return 0;
}
