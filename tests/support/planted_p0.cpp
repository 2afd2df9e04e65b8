#include "support/planted_p0.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "plumb/error.h"
#include "plumb/run.h"

namespace plumb::test {

namespace {

constexpr std::int64_t sequences = 128;
constexpr std::uint64_t unseen = 1U << 20;  // seeds of tokens no trial draws from

Site site_of(Place place) { return {place % 2 == 0 ? Part::attn_out : Part::mlp_out, place / 2}; }

at::Tensor along(const at::Tensor& state, const WaveReport& wave) {
  return state.matmul(wave.direction.to(at::kDouble));
}

// The component paths that the wave's circuit draws.
std::set<std::pair<Place, Place>> drawn(const WaveReport& wave) {
  std::set<std::pair<Place, Place>> edges;
  for (const auto& edge : wave.circuit.edges) {
    const Place from = place_of(edge.from);
    const Place to = is_end(edge.to) ? 2 * wave.wave.onset : place_of(edge.to);
    if (from >= 0 && to > from) edges.emplace(from, to);
  }
  return edges;
}

}  // namespace

bool is_end(const std::string& node) { return node.starts_with("sink") || node.starts_with("or"); }

Place place_of(const std::string& name) {
  const std::string bare = name.substr(0, name.find('@'));
  if (bare.size() < 2 || (bare[0] != 'a' && bare[0] != 'm')) return -1;
  if (bare.find_first_not_of("0123456789", 1) != std::string::npos) return -1;
  return 2 * std::stoi(bare.substr(1)) + (bare[0] == 'm' ? 1 : 0);
}

PlantedP0::PlantedP0(const Planted& planted, const Model& model, std::int64_t length)
    : planted_(planted),
      ids_(plant_tokens(planted, planted.options.seed + unseen, sequences, length)) {
  if (planted.config.sink_logits) {
    throw Error(ErrorKind::bad_argument,
                "position 0 of a model with learned sink logits does not see itself alone");
  }
  const Place places = 2 * planted.config.layers;
  Plan plan{.logits = Logits::none};
  for (Place place = 0; place < places; ++place) {
    plan.record.push_back({site_of(place), "own", {}, {.positions = {0}}});
    plan.record.push_back({site_of(place), "mean", [](const at::Tensor& value, const Tile&) {
                             return value.narrow(1, 1, value.size(1) - 1).mean(1);
                           }});
  }
  const Run run = plumb::run(model, Tokens{.ids = ids_}, plan);
  input_ = embedded(ids_.select(1, 0), 0);
  at::Tensor x = input_;
  double largest = 0.0;
  for (Place place = 0; place < places; ++place) {
    mean_[place] = run.cache.at(site_of(place), "mean").to(at::kDouble);
    const at::Tensor wrote = write(place, x);
    const at::Tensor recorded = run.cache.at(site_of(place), "own").squeeze(1).to(at::kDouble);
    apart_ = std::max(apart_, (wrote - recorded).abs().max().item<double>());
    largest = std::max(largest, recorded.abs().max().item<double>());
    x = x + wrote;
  }
  apart_ /= largest;
}

at::Tensor PlantedP0::weight(Weight weight, int layer) const {
  return planted_.weights.at({weight, layer}).to(at::kDouble);
}

at::Tensor PlantedP0::normed(const at::Tensor& x, Weight gain, int layer) const {
  const at::Tensor centred = planted_.config.norm == Norm::layer ? x - x.mean(-1, true) : x;
  const at::Tensor square = centred.square().mean(-1, true) + planted_.config.norm_eps;
  return centred / square.sqrt() * weight(gain, layer);
}

at::Tensor PlantedP0::embedded(const at::Tensor& tokens, std::int64_t position) const {
  const at::Tensor rows = weight(Weight::embed, 0).index_select(0, tokens);
  if (planted_.config.positions != Positions::learned) return rows;
  return rows + weight(Weight::pos_embed, 0).select(0, position);
}

at::Tensor PlantedP0::alone(const at::Tensor& tokens, std::int64_t position, int depth) const {
  at::Tensor x = embedded(tokens, position);
  for (Place place = 0; place < 2 * depth; ++place) x = x + write(place, x);
  return x;
}

at::Tensor PlantedP0::write(Place place, const at::Tensor& x) const {
  const int layer = place / 2;
  const auto& config = planted_.config;
  if (place % 2 == 0) {
    const at::Tensor values = normed(x, Weight::ln1, layer)
                                  .matmul(weight(Weight::v, layer).t())
                                  .view({-1, config.kv_heads, config.d_head})
                                  .repeat_interleave(config.heads / config.kv_heads, 1);
    return values.flatten(1).matmul(weight(Weight::out, layer).t());
  }
  const at::Tensor n = normed(x, Weight::ln2, layer);
  const auto unit = [&](const at::Tensor& gate, const at::Tensor& up, const at::Tensor& down) {
    return (at::silu(n.matmul(gate.t())) * n.matmul(up.t())).matmul(down.t());
  };
  if (!planted_.weights.contains({Weight::router, layer})) {
    return unit(weight(Weight::gate, layer), weight(Weight::up, layer),
                weight(Weight::down, layer));
  }
  const at::Tensor chances = n.matmul(weight(Weight::router, layer).t()).softmax(-1);
  const auto [chosen, which] = chances.topk(config.experts.per_token, -1);
  const at::Tensor shares =
      at::zeros_like(chances).scatter(1, which, chosen / chosen.sum(-1, true));
  const at::Tensor gates = weight(Weight::expert_gate, layer);
  const at::Tensor ups = weight(Weight::expert_up, layer);
  const at::Tensor downs = weight(Weight::expert_down, layer);
  at::Tensor sum = at::zeros_like(x);
  for (std::int64_t e = 0; e < gates.size(0); ++e)
    sum = sum + unit(gates[e], ups[e], downs[e]) * shares.narrow(1, e, 1);
  return sum;
}

at::Tensor PlantedP0::state(int depth, const Cut& cut, const std::vector<Place>& replaced,
                            bool zero) const {
  std::vector<at::Tensor> writes;
  const auto read = [&](Place reader) {
    at::Tensor sum = input_;
    for (Place sender = 0; sender < reader; ++sender) {
      const bool is_cut = cut && cut(sender, reader);
      sum = sum + (is_cut ? mean_.at(sender) : writes[static_cast<std::size_t>(sender)]);
    }
    return sum;
  };
  for (Place place = 0; place < 2 * depth; ++place) {
    if (std::ranges::find(replaced, place) != replaced.end()) {
      writes.push_back(zero ? at::zeros_like(input_) : mean_.at(place));
    } else {
      writes.push_back(write(place, read(place)));
    }
  }
  return read(2 * depth);
}

Estimate edge_effect(const PlantedP0& system, const WaveReport& wave, Place sender, Place reader) {
  const auto edges = drawn(wave);
  const int depth = wave.wave.onset;
  const double whole = along(system.state(depth), wave).mean().item<double>();
  const at::Tensor before = along(system.state(depth,
                                               [&](Place s, Place r) {
                                                 return !edges.contains({s, r});
                                               }),
                                  wave);
  const at::Tensor after =
      along(system.state(depth,
                         [&](Place s, Place r) {
                           return !edges.contains({s, r}) || (s == sender && r == reader);
                         }),
            wave);
  return bootstrap((before - after) / whole);
}

Estimate node_effect(const PlantedP0& system, const WaveReport& wave, Place component) {
  const int depth = wave.wave.onset;
  const at::Tensor whole = along(system.state(depth), wave);
  const at::Tensor without = along(system.state(depth, {}, {component}), wave);
  return bootstrap((whole - without) / whole.mean());
}

double norm_effect(const PlantedP0& system, const WaveReport& wave, Place component) {
  const int depth = wave.wave.onset;
  const double whole = system.state(depth).norm(2, -1).mean().item<double>();
  double largest = 0.0;
  for (const bool zero : {false, true}) {
    const double without =
        system.state(depth, {}, {component}, zero).norm(2, -1).mean().item<double>();
    largest = std::max(largest, 1.0 - without / whole);
  }
  return largest;
}

double drawing_share(const Planted& planted, const Model& model, const at::Tensor& ids,
                     const Wave& wave) {
  constexpr std::int64_t tried = 2;  // sequences that each token is put before
  constexpr int layers = 2;          // of the wave
  const int until = std::min(wave.last + 1, wave.onset + layers);
  const std::int64_t length = ids.size(1);
  const auto sinks = [&](const at::Tensor& batch) {
    Plan plan{.logits = Logits::none, .until = until};
    for (int layer = wave.onset; layer < until; ++layer) {
      plan.record.push_back(
          {Site{Part::pattern, layer}, "column 0",
           [length](const at::Tensor& pattern, const Tile&) {
             return pattern.select(3, 0).narrow(2, 1, length - 1).mean(c10::IntArrayRef{1, 2});
           }});
    }
    const Run run = plumb::run(model, Tokens{.ids = batch}, plan);
    at::Tensor sum = at::zeros({batch.size(0)}, at::kDouble);
    for (const auto& record : plan.record)
      sum += run.cache.at(record.site, "column 0").to(at::kDouble);
    return sum / static_cast<double>(plan.record.size());
  };
  double null = 0.0;
  for (std::int64_t query = 1; query < length; ++query)
    null += 1.0 / static_cast<double>((query + 1) * (length - 1));
  const double usual = sinks(ids).mean().item<double>();
  const std::int64_t vocab = planted.config.vocab;
  at::Tensor batch = ids.narrow(0, 0, tried).repeat({vocab, 1});
  batch.select(1, 0).copy_(at::arange(vocab, at::kLong).repeat_interleave(tried));
  const at::Tensor drawn = sinks(batch).view({vocab, tried}).mean(1);
  return drawn.ge(null + 0.5 * (usual - null)).to(at::kDouble).mean().item<double>();
}

}  // namespace plumb::test
