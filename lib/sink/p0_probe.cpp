// B11, B12, A10, A6: what the state of position 0 says, and how values are spread.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "sink/p0_catalogue_runs.h"

namespace plumb::p0 {

namespace {

// Of the probe: tokens it is fitted to and asked about, and the ridge over the states' variance.
constexpr std::int64_t most_fitted = 2048;
constexpr std::int64_t most_asked = 256;
constexpr double ridge = 1e-3;

at::Tensor normalised(const at::Tensor& states) {
  return states / (states.square().mean(-1, true) + 1e-12).sqrt();
}

struct ProbeScore {
  double accuracy = 0;
  double bits = 0;
};

// A linear map from states to token embeddings, fitted to some tokens and asked to name others
// among themselves. A token's state at position 0 is one vector, so a probe of classes would see
// each class once: what can be held out is the token.
ProbeScore name_tokens(const at::Tensor& states, const at::Tensor& names, std::int64_t fitted) {
  const auto count = states.size(0);
  const at::Tensor x = normalised(states);
  const at::Tensor train = x.narrow(0, 0, fitted);
  const at::Tensor x_mean = train.mean(0, true);
  const at::Tensor y_train = names.narrow(0, 0, fitted);
  const at::Tensor y_mean = y_train.mean(0, true);
  const at::Tensor a = train - x_mean;
  const at::Tensor gram = a.t().matmul(a);
  const double lift =
      ridge * gram.diagonal().mean().item<double>() + 1e-12 * static_cast<double>(fitted);
  const at::Tensor eye = at::eye(gram.size(0), gram.options());
  const at::Tensor map = at::linalg_solve(gram + lift * eye, a.t().matmul(y_train - y_mean));
  const at::Tensor fit = a.matmul(map);
  const double noise = std::max((y_train - y_mean - fit).square().mean().item<double>(), 1e-12);
  const at::Tensor asked = x.narrow(0, fitted, count - fitted) - x_mean;
  const at::Tensor guess = asked.matmul(map) + y_mean;
  const at::Tensor right = names.narrow(0, fitted, count - fitted);
  const at::Tensor distance = at::cdist(guess, right).square();  // [asked, candidates]
  const at::Tensor log_p = at::log_softmax(-distance / (2.0 * noise), 1);
  const at::Tensor index = at::arange(right.size(0), at::kLong);
  ProbeScore score;
  score.accuracy = std::get<1>(distance.min(1)).eq(index).to(at::kDouble).mean().item<double>();
  score.bits = std::max(0.0, std::log2(static_cast<double>(right.size(0))) +
                                 log_p.diagonal().mean().item<double>() / std::log(2.0));
  return score;
}

double participation(const at::Tensor& samples) {
  const at::Tensor centred = samples - samples.mean(0, true);
  const at::Tensor gram =
      samples.size(0) < samples.size(1) ? centred.matmul(centred.t()) : centred.t().matmul(centred);
  const double trace = gram.diagonal().sum().item<double>();
  const double square = gram.square().sum().item<double>();
  return square > 0.0 ? trace * trace / square : 0.0;
}

int blocks_shown(const P0Bench& bench) { return std::max(1, bench.wave().onset); }

}  // namespace

void probe_identity(P0Bench& bench) {
  const Model& model = bench.context.model;
  const std::int64_t vocab = model.config().vocab;
  const std::int64_t fitted = std::min(most_fitted, vocab * 3 / 4);
  const std::int64_t asked = std::min(most_asked, vocab - fitted);
  std::vector<std::int64_t> order = Random(bench.context.options.seed).fork(91).permutation(vocab);
  order.resize(static_cast<std::size_t>(fitted + asked));
  const at::Tensor ids = at::tensor(order, at::kLong);
  const at::Tensor names = model.embed(ids).cpu().to(at::kDouble);
  Plan plan{.logits = Logits::none};
  const int layers = std::min(bench.context.layers(), bench.wave().onset + 2);
  for (int layer = 0; layer < layers; ++layer) {
    plan.record.push_back({Site{Part::resid_pre, layer}});
    plan.record.push_back({Site{Part::resid_mid, layer}});
  }
  plan.until = layers;
  const Run run = plumb::run(model, Tokens{.ids = ids.unsqueeze(1)}, plan);
  bench.context.evaluations += run.evaluations;
  std::vector<double> scores;
  for (const auto& record : plan.record) {
    const ProbeScore score =
        name_tokens(run.cache.at(record.site).squeeze(1).cpu().to(at::kDouble), names, fitted);
    scores.insert(scores.end(), {score.accuracy, score.bits});
  }
  const auto rows = static_cast<std::int64_t>(plan.record.size());
  const at::Tensor table = at::tensor(scores, at::kDouble).view({rows, 2});
  bench.array("probe", {"half_layer", "accuracy_bits"}, table,
              fmt::format("a linear map from position 0's normalised state to the token's "
                          "embedding, fitted to {} tokens: share of {} held-out tokens it tells "
                          "from each other, and bits of log2 {} it gives",
                          fitted, asked, asked));
  const std::int64_t at_onset = 2 * bench.wave().onset;
  bench.find(
      fmt::format("held-out tokens named from the state of position 0 among {}: {:.0f} % "
                  "({:.1f} bits) at the embedding, {:.0f} % ({:.1f} bits) entering layer {}",
                  asked, 100 * table[0][0].item<double>(), table[0][1].item<double>(),
                  100 * table[at_onset][0].item<double>(), table[at_onset][1].item<double>(),
                  bench.wave().onset));
}

void cone_anisotropy(P0Bench& bench) {
  const auto& config = bench.context.model.config();
  std::vector<at::Tensor> layers;
  for (int layer = 0; layer < blocks_shown(bench); ++layer) {
    const at::Tensor v = bench.clean({Part::v, layer}).cpu().to(at::kDouble);
    std::vector<double> rows;
    for (std::int64_t h = 0; h < config.kv_heads; ++h) {
      const at::Tensor values = v.select(2, h).reshape({-1, config.d_head});
      const at::Tensor units = values / values.norm(2, -1, true).clamp_min(1e-30);
      const at::Tensor mean = units.mean(0);
      const at::Tensor axis = mean / mean.norm().clamp_min(1e-30);
      const at::Tensor rest = values - values.matmul(axis).unsqueeze(1) * axis;
      rows.insert(rows.end(), {participation(rest), static_cast<double>(config.d_head - 1),
                               mean.norm().item<double>()});
    }
    layers.push_back(at::tensor(rows, at::kDouble).view({config.kv_heads, 3}));
  }
  const at::Tensor table = at::stack(layers);
  bench.array("values", {"layer", "kv_head", "part"}, table,
              "participation ratio of the values' residuals orthogonal to their axis, its largest "
              "possible value, alpha = length of the mean unit value");
  bench.find(
      fmt::format("residuals of the values fill {:.1f} of {} dimensions on average in the "
                  "blocks before layer {}",
                  table.select(2, 0).mean().item<double>(), config.d_head - 1,
                  std::max(1, bench.wave().onset)));
}

void cone(P0Bench& bench) {
  const auto& config = bench.context.model.config();
  const std::int64_t group = config.heads / config.kv_heads;
  std::vector<at::Tensor> concentration;
  std::vector<at::Tensor> alphas;
  std::vector<at::Tensor> predicted;
  std::vector<at::Tensor> measured;
  for (int layer = 0; layer < blocks_shown(bench); ++layer) {
    const at::Tensor pattern = bench.clean({Part::pattern, layer}).cpu().to(at::kDouble);
    const at::Tensor square = pattern.square().sum(-1).mean(0);  // [H, T]
    const at::Tensor v = bench.clean({Part::v, layer}).cpu().to(at::kDouble);
    const at::Tensor units = v / v.norm(2, -1, true).clamp_min(1e-30);
    const auto n = static_cast<double>(units.size(0) * units.size(1));
    // Mean cosine of two different values: from the length of their sum.
    const at::Tensor sum = units.sum(c10::IntArrayRef{0, 1});
    const at::Tensor pairs = (sum.square().sum(-1) - n) / (n * (n - 1.0));
    const at::Tensor alpha2 = pairs.clamp(0.0, 1.0).repeat_interleave(group).unsqueeze(1);
    const at::Tensor unit_out =
        pattern.matmul(units.repeat_interleave(group, 2).permute({0, 2, 1, 3}));
    concentration.push_back(square);
    alphas.push_back(alpha2.squeeze(1).sqrt());
    predicted.push_back(alpha2 + (1.0 - alpha2) * square);
    measured.push_back(unit_out.square().sum(-1).mean(0));
  }
  bench.array("concentration", {"layer", "head", "position"}, at::stack(concentration),
              "E sum_i A[t, i]^2");
  bench.array("alpha", {"layer", "head"}, at::stack(alphas),
              "square root of the mean cosine of two values");
  bench.array("predicted", {"layer", "head", "position"}, at::stack(predicted),
              "alpha^2 + (1 - alpha^2) concentration (arXiv:2603.06591 Eq. 11)");
  bench.array("measured", {"layer", "head", "position"}, at::stack(measured),
              "E |sum_i A[t, i] v_i / |v_i||^2");
  const at::Tensor gap = (predicted.front() - measured.front()).abs();
  bench.find(
      fmt::format("block 0: the cone model misses the measured square of the mixed values by "
                  "{:.3f} on average (head mean alpha {:.2f})",
                  gap.mean().item<double>(), alphas.front().mean().item<double>()));
}

void state_pca(P0Bench& bench) {
  const int onset = bench.wave().onset;
  const int before = std::max(0, onset - 1);
  const std::pair<Site, const char*> sites[] = {{{Part::resid_mid, before}, "mlp_input"},
                                                {{Part::resid_pre, onset}, "attention_input"}};
  for (const auto& [site, name] : sites) {
    const at::Tensor states = bench.clean(site).cpu().to(at::kDouble);
    const at::Tensor flat = normalised(states).flatten(0, 1);
    const at::Tensor centred = flat - flat.mean(0, true);
    const auto vectors = std::get<1>(at::linalg_eigh(centred.t().matmul(centred)));
    const at::Tensor axes = vectors.narrow(1, vectors.size(1) - 2, 2).flip({1});
    const at::Tensor plane = centred.matmul(axes);
    bench.array(name, {"sequence_position", "component"}, plane,
                fmt::format("two leading components of the normalised {}; the position is the "
                            "index modulo {}",
                            to_string(site), bench.length()));
    const at::Tensor first = plane.view({states.size(0), states.size(1), 2}).select(1, 0);
    const at::Tensor rest =
        plane.view({states.size(0), states.size(1), 2}).narrow(1, 1, states.size(1) - 1);
    const double between =
        (first.mean(0) - rest.mean(c10::IntArrayRef{0, 1})).norm().item<double>();
    const double within = std::sqrt((first - first.mean(0)).square().sum(-1).mean().item<double>());
    bench.find(
        fmt::format("{}: position 0 lies {:.1f} from the others' mean in the plane of two "
                    "components, its own spread is {:.2f}",
                    name, between, within));
  }
}

}  // namespace plumb::p0
