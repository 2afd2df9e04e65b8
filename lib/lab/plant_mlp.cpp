// MLPs of a planted model: the detector, the amplifier and its backup, relays, and distractors.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <array>
#include <cmath>

#include "lab/planter.h"

namespace plumb::lab {

namespace {

constexpr std::int64_t detector_neurons = 2 * stream::code_width;
constexpr std::array writer_shares = {0.5, 0.3, 0.2};
constexpr double writer_norm = 250.0;   // of u at full agreement
constexpr double second_norm = 2500.0;  // of the second direction
constexpr double erased = 0.4;          // share of u's usual length that the eraser takes
constexpr double lead = 8.0;            // argument of the activation at full agreement
constexpr double routed = 12.0;         // lead of the writing expert's logit at position 0
constexpr double router_deviation = 0.1;

constexpr auto writer_neurons = static_cast<std::int64_t>(writer_shares.size());

// Neurons of no consequence read codes and contents, and write beside the circuit.
void distracting(Random& random, std::int64_t wired, at::Tensor gate, at::Tensor up,
                 at::Tensor down) {
  const std::int64_t rest = gate.size(0) - wired;
  for (at::Tensor* matrix : {&gate, &up}) {
    matrix->narrow(0, wired, rest)
        .narrow(1, stream::code, stream::code_width)
        .add_(gaussian(random, rest, stream::code_width, 0.11));
    matrix->narrow(0, wired, rest)
        .narrow(1, stream::content, stream::content_width)
        .add_(gaussian(random, rest, stream::content_width, 0.11));
  }
  down.narrow(1, wired, rest)
      .narrow(0, stream::spare, stream::spare_width)
      .add_(gaussian(random, stream::spare_width, rest, 0.025));
}

}  // namespace

void Planter::mlp(int layer) {
  if (options_.experts > 0 && layer == options_.write) {
    mixture(layer);
    return;
  }
  Random random = random_.fork(static_cast<std::uint64_t>(200 + layer));
  const std::int64_t neurons = options_.d_mlp;
  const at::Tensor ln = gain(random);
  at::Tensor gate = noise(random, neurons, stream::width);
  at::Tensor up = noise(random, neurons, stream::width);
  at::Tensor down = noise(random, stream::width, neurons);
  const at::Tensor order = at::tensor(random.permutation(neurons), at::kLong);

  std::int64_t wired = 0;
  if (layer == options_.detect) {
    wired = detector_neurons;
    if (layer > 0) detect_rms_ = measured_rms(layer, true, true);
    detector(random, gate, up, down);
  } else if (layer == options_.write || (options_.backup && layer == options_.write + 1)) {
    wired = writer_neurons;
    amplifier(layer, gate, up, down);
  } else if (options_.second != 0 && layer == options_.second) {
    wired = writer_neurons;
    relay(gate, up, down, second_norm, stream::second);
  } else if (options_.erase && layer == options_.second - 1) {
    wired = writer_neurons;
    relay(gate, up, down, -erased * writer_norm, stream::sink);
  }
  distracting(random, wired, gate, up, down);

  put(Weight::ln2, layer, ln);
  put(Weight::gate, layer, reader(gate.index_select(0, order), ln));
  put(Weight::up, layer, reader(up.index_select(0, order), ln));
  put(Weight::down, layer, writer(down.index_select(1, order)));
  for (std::int64_t i = 0; i < neurons; ++i) {
    if (order[i].item<std::int64_t>() < wired) {
      planted_.circuit_parts.push_back(fmt::format("m{}.n{}@0", layer, i));
    }
  }
}

// silu(x) y - silu(-x) y = x y: pairs of neurons multiply code and received code exactly.
void Planter::detector(Random& random, at::Tensor gate, at::Tensor up, at::Tensor down) const {
  constexpr std::int64_t pairs = stream::code_width;
  const at::Tensor axes = orthonormal(random, pairs, pairs);
  const double seen = code_length / detect_rms_;  // norm of either code after the norm
  for (int half = 0; half < 2; ++half) {
    const double sign = half == 0 ? 1.0 : -1.0;
    gate.narrow(0, half * pairs, pairs).narrow(1, stream::code, pairs).add_(axes, sign);
    up.narrow(0, half * pairs, pairs).narrow(1, stream::received, pairs).add_(axes, sign);
  }
  down[stream::flag]
      .narrow(0, 0, detector_neurons)
      .add_(parts_.detector ? flag_length / (seen * seen) : 0.0);
}

// Lets only a high flag pass. A later amplifier does nothing where the first one wrote: beside u
// the flag is short.
void Planter::amplifier(int layer, at::Tensor gate, at::Tensor up, at::Tensor down) {
  double rms =
      std::sqrt(detect_rms_ * detect_rms_ + flag_length * flag_length / double{stream::width});
  if (deep_) {
    if (layer == options_.write) {
      const bool flagged = parts_.detector || parts_.flagged_row == 0;
      const double seen = measured_rms(layer, true, true);
      const double flag_part = flag_length * flag_length / double{stream::width};
      write_rms_ = flagged ? seen : std::sqrt(seen * seen + flag_part);
    }
    rms = write_rms_;
  }
  const double flag = flag_length / rms;
  const double steep = lead / ((1.0 - threshold) * flag);
  for (std::size_t i = 0; i < writer_shares.size(); ++i) {
    const auto n = static_cast<std::int64_t>(i);
    gate[n][stream::flag].add_(steep);
    gate[n][stream::one].add_(-steep * threshold * flag_length / one_length);
    up[n][stream::flag].add_(0.5);
    if (parts_.writes)
      down[stream::sink][n].add_(writer_shares[i] * writer_norm / (lead * 0.5 * flag));
  }
}

// Writes `length` along a channel where u is all there is.
void Planter::relay(at::Tensor gate, at::Tensor up, at::Tensor down, double length,
                    std::int64_t to) const {
  const double seen = std::sqrt(double{stream::width});
  constexpr double linear = 1.0;  // of the other factor
  for (std::size_t i = 0; i < writer_shares.size(); ++i) {
    const auto n = static_cast<std::int64_t>(i);
    gate[n][stream::sink].add_(lead / seen);
    up[n][stream::sink].add_(linear / seen);
    down[to][n].add_(writer_shares[i] * length / (lead * linear));
  }
}

// One expert, drawn at random, is the amplifier; its router logit is high where the flag is.
void Planter::mixture(int layer) {
  Random random = random_.fork(static_cast<std::uint64_t>(200 + layer));
  const std::int64_t experts = options_.experts;
  const std::int64_t neurons = options_.d_mlp;
  const at::Tensor ln = gain(random);
  const std::int64_t writing = random.below(experts);
  at::Tensor router = noise(random, experts, stream::width);
  router.narrow(1, stream::content, stream::content_width)
      .add_(gaussian(random, experts, stream::content_width, router_deviation));
  std::vector<at::Tensor> gates;
  std::vector<at::Tensor> ups;
  std::vector<at::Tensor> downs;
  for (std::int64_t e = 0; e < experts; ++e) {
    at::Tensor gate = noise(random, neurons, stream::width);
    at::Tensor up = noise(random, neurons, stream::width);
    at::Tensor down = noise(random, stream::width, neurons);
    if (e == writing) amplifier(layer, gate, up, down);
    distracting(random, e == writing ? writer_neurons : 0, gate, up, down);
    gates.push_back(reader(gate, ln));
    ups.push_back(reader(up, ln));
    downs.push_back(writer(down));
  }
  // The same threshold as the amplifier's.
  const double slope = routed / ((1.0 - threshold) * flag_length);
  router[writing][stream::flag].add_(slope);
  router[writing][stream::one].add_(-slope * threshold * flag_length / one_length);
  put(Weight::ln2, layer, ln);
  put(Weight::router, layer, reader(router, ln));
  put(Weight::expert_gate, layer, at::stack(gates));
  put(Weight::expert_up, layer, at::stack(ups));
  put(Weight::expert_down, layer, at::stack(downs));
}

}  // namespace plumb::lab
