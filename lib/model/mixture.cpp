#include "model/mixture.h"

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "core/parallel.h"
#include "model/mlp.h"

namespace plumb {

namespace {

// Which tokens of a tile visit an expert, and where their probabilities stand among the chosen
// ones.
struct Visits {
  int expert = 0;
  at::Tensor tokens = {};  ///< [n] int64, rising
  at::Tensor places = {};  ///< [n] int64 into the flattened [N, per_token]
};

// N tokens of a tile, E experts.
class Mixture {
 public:
  Mixture(const Pass& pass, int layer, const at::Tensor& normed)
      : pass_(pass),
        rules_(pass.rules()),
        model_(pass.inputs().model),
        experts_(pass.config().experts),
        layer_(layer),
        x_(normed.reshape({-1, normed.size(-1)})) {}

  // [N, E], of all experts.
  at::Tensor probabilities() const {
    const at::Tensor logits =
        widened(pass_.project(x_, Weight::router, Weight::router_bias, layer_));
    return experts_.sigmoid ? at::sigmoid(logits) : at::softmax(logits, -1);
  }

  // Reads which experts the probabilities choose.
  void route(const at::Tensor& probabilities) {
    const at::Tensor chosen =
        std::get<1>(at::sort(probabilities.detach(), /*stable=*/true, -1, /*descending=*/true))
            .narrow(1, 0, experts_.per_token)
            .contiguous();
    at::Tensor weights = probabilities.gather(1, chosen);
    if (experts_.normalise) {
      const at::Tensor sum = weights.sum(-1, true);
      // An edit may have left nothing to divide by; nothing is then written.
      weights = weights / sum.masked_fill(sum.eq(0), 1.0);
    }
    weights_ = weights.reshape({-1});
    std::vector<std::vector<std::int64_t>> places(static_cast<std::size_t>(experts_.count));
    const at::Tensor here = chosen.cpu();
    const auto* expert = here.data_ptr<std::int64_t>();
    for (std::int64_t place = 0; place < here.numel(); ++place) {
      places[static_cast<std::size_t>(expert[place])].push_back(place);
    }
    for (std::size_t e = 0; e < places.size(); ++e) {
      if (places[e].empty()) continue;
      const at::Tensor at = at::tensor(places[e], at::kLong).to(x_.device());
      visits_.push_back({static_cast<int>(e), at.div(experts_.per_token, "floor"), at});
    }
  }

  // [N, d_model], the sum of the writes of the chosen experts.
  at::Tensor sum() const {
    const at::Tensor result = at::zeros(x_.sizes(), sums());
    each_write([&](const Visits& visits, const at::Tensor& write) {
      result.index_add_(0, visits.tokens, widened(write));
    });
    return result.to(x_.scalar_type());
  }

  // [N, E, d_model]
  at::Tensor writes() const {
    const at::Tensor result = at::zeros({x_.size(0) * experts_.count, x_.size(1)}, sums());
    each_write([&](const Visits& visits, const at::Tensor& write) {
      result.index_add_(0, visits.tokens * experts_.count + visits.expert, widened(write));
    });
    return result.view({x_.size(0), experts_.count, x_.size(1)}).to(x_.scalar_type());
  }

  // [N, d_model]
  at::Tensor shared() const {
    const at::Tensor gate = project(x_, Weight::shared_gate);
    const at::Tensor post = rules_.product(activate(pass_.config().activation, gate, rules_),
                                           project(x_, Weight::shared_up));
    const at::Tensor write = project(post, Weight::shared_down);
    if (!experts_.shared_gated) return write;
    return rules_.held(at::sigmoid(project(x_, Weight::shared_router))) * write;
  }

 private:
  at::TensorOptions sums() const { return x_.options().dtype(sum_type(x_.scalar_type())); }

  at::Tensor project(const at::Tensor& x, Weight weight) const {
    return pass_.linear(x, pass_.weight(weight, layer_), {});
  }

  at::Tensor expert(const at::Tensor& x, int expert, Weight weight, Weight bias) const {
    return Pass::affine(x, model_.expert_weight(weight, layer_, expert),
                        model_.expert_weight(bias, layer_, expert));
  }

  at::Tensor neurons(at::Tensor gate, at::Tensor up) const {
    if (experts_.limit == 0)
      return rules_.product(activate(pass_.config().activation, gate, rules_), up);
    gate = rules_.ratio(gate, gate.clamp_max(experts_.limit));
    up = rules_.ratio(up, up.clamp(-experts_.limit, experts_.limit));
    return rules_.product(gate * rules_.held(at::sigmoid(gate * experts_.alpha)), up + 1);
  }

  // One expert's weighted writes, a row for each of its tokens.
  at::Tensor write(const Visits& visits) const {
    const at::Tensor weight = rules_.held(weights_.index_select(0, visits.places).unsqueeze(1));
    at::Tensor x = x_.index_select(0, visits.tokens);
    if (experts_.weigh_input) x = Pass::scaled(x, weight);
    const int e = visits.expert;
    const at::Tensor post = neurons(expert(x, e, Weight::expert_gate, Weight::expert_gate_bias),
                                    expert(x, e, Weight::expert_up, Weight::expert_up_bias));
    const at::Tensor result = expert(post, e, Weight::expert_down, Weight::expert_down_bias);
    return experts_.weigh_input ? result : result * weight;
  }

  // Calls `take` with the writes of one expert after another. The experts of a lone tile are shared
  // among threads, each wholly one thread's, so that the bits are the same for any number.
  template <class Take>
  void each_write(const Take& take) const {
    if (!pass_.inputs().lone) {
      for (const Visits& visits : visits_) take(visits, write(visits));
      return;
    }
    std::vector<at::Tensor> writes(visits_.size());
    share(static_cast<std::int64_t>(visits_.size()), [&](std::int64_t i) {
      const auto index = static_cast<std::size_t>(i);
      writes[index] = write(visits_[index]);
    });
    for (std::size_t i = 0; i < visits_.size(); ++i) take(visits_[i], writes[i]);
  }

  const Pass& pass_;
  const BackRules& rules_;
  const Model& model_;
  const Experts& experts_;
  int layer_;
  at::Tensor x_;
  at::Tensor weights_ = {};  // [N * per_token]
  std::vector<Visits> visits_ = {};
};

}  // namespace

at::Tensor mixture(Pass& pass, int layer, const at::Tensor& normed) {
  const Experts& experts = pass.config().experts;
  Tap& tap = pass.tap();
  const std::int64_t B = normed.size(0);
  const std::int64_t T = normed.size(1);
  Mixture mixed(pass, layer, normed);
  const at::Tensor probabilities =
      tap({Part::router, layer}, mixed.probabilities().view({B, T, experts.count}));
  mixed.route(probabilities.reshape({B * T, experts.count}));
  at::Tensor sum;
  if (tap.wants({Part::expert_out, layer})) {
    const at::Tensor writes =
        tap({Part::expert_out, layer}, mixed.writes().view({B, T, experts.count, -1}));
    // Where nobody edits them, the sum is taken as ever, so that recording changes no bit.
    if (tap.edits({Part::expert_out, layer})) sum = writes.sum(2);
  }
  if (!sum.defined()) sum = mixed.sum().view(normed.sizes());
  if (experts.shared_width == 0) return sum;
  return sum + tap({Part::shared_out, layer}, mixed.shared().view(normed.sizes()));
}

}  // namespace plumb
