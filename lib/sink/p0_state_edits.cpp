#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/random.h"
#include "sink/p0_experiments.h"

namespace plumb {

namespace {

at::Tensor random_unit(std::int64_t width, std::uint64_t seed) {
  Random random(seed);
  at::Tensor vector = at::empty({width}, at::kDouble);
  for (std::int64_t i = 0; i < width; ++i) vector[i] = random.normal();
  return vector / vector.norm();
}

}  // namespace

void edit_state(P0Context& context, std::size_t w, WaveReport& report) {
  const Wave& wave = context.waves[w];
  const at::Tensor& stream = context.stream(wave.onset);
  const at::Tensor own = stream.narrow(1, 0, 1);
  const at::Tensor norms = at::linalg_vector_norm(stream, 2, c10::IntArrayRef{-1}, true);
  const at::Tensor median = std::get<0>(norms.narrow(1, 1, norms.size(1) - 1).median(1, true));
  const at::Tensor p0_norm = norms.narrow(1, 0, 1);
  const at::Tensor other = stream.narrow(1, context.control_position(), 1);
  const at::Tensor random =
      random_unit(own.size(2), context.options.seed + 101 + w).to(own.scalar_type());

  const std::vector<std::pair<std::string, Edit>> edits{
      {"norm clamped to the median of t > 0", ClampNorm{median}},
      {"sink direction projected out", ProjectOut{context.direction[w]}},
      {"random vector of the same norm", Put{p0_norm * random.view({1, 1, -1})}},
      {fmt::format("state of t = {}", context.control_position()), Put{other}},
      {"state of position 0 of another sequence", Put{own.roll({1}, {0})}},
  };
  double done = 0.0;
  for (const auto& [name, edit] : edits) {
    context.tell("editing the state at the onset", done);
    done += 1.0 / static_cast<double>(edits.size());
    const std::vector<Intervention> plan{
        {.site = {Part::resid_pre, wave.onset}, .where = {.positions = {0}}, .edit = edit}};
    report.state.push_back(
        context.read(w, context.intervene(plan, std::nullopt), 0, name, "state", "P0"));
  }
}

void test_use(P0Context& context, std::size_t w, WaveReport& report) {
  const Wave& wave = context.waves[w];
  std::vector<std::int64_t> later_queries;
  for (std::int64_t t = 1; t < context.inputs.length(); ++t) later_queries.push_back(t);
  std::vector<Intervention> values;
  std::vector<Intervention> hidden;
  for (int layer = wave.onset; layer <= wave.last; ++layer) {
    values.push_back({.site = {Part::v, layer}, .where = {.positions = {0}}, .edit = Zero{}});
    hidden.push_back({.site = {Part::scores, layer},
                      .where = {.positions = later_queries, .keys = {0}},
                      .edit = Hide{}});
  }
  const std::string where = fmt::format("P0, layers {}-{}", wave.onset, wave.last);
  context.tell("testing what the sink is used for", 0.0);
  report.use.push_back(
      context.read(w, context.intervene(values, std::nullopt), 0, "values zeroed", "use", where));
  context.tell("testing what the sink is used for", 0.5);
  report.use.push_back(
      context.read(w, context.intervene(hidden, std::nullopt), 0, "column hidden", "use", where));
}

void test_signal(P0Context& context, std::size_t w, const std::vector<int>& blocks,
                 WaveReport& report) {
  const Wave& wave = context.waves[w];
  const std::int64_t k = context.control_position();
  const int until = std::min(wave.last + 1, wave.onset + 4);
  const auto& config = context.model.config();
  const Component a0{.layer = blocks.front(), .mlp = false};
  const auto& value = context.values.at(a0);

  // What selective attention writes at t > 0 beyond the mean value of the same tokens.
  Plan plan{.record = {{Site{Part::v, a0.layer}, "mean",
                        [](const at::Tensor& v, const Tile& tile) {
                          const at::Tensor index =
                              at::arange(v.size(1), tile.lengths.options()).view({1, -1, 1, 1});
                          const at::Tensor counted =
                              index.gt(0)
                                  .logical_and(index < tile.lengths.view({-1, 1, 1, 1}))
                                  .to(v.options());
                          return (v * counted).sum(1) / counted.sum(1).clamp_min(1.0);
                        }}},
            .logits = Logits::none};
  plan.until = a0.layer + 1;
  const Run run = plumb::run(context.model, context.inputs.tokens, plan);
  context.evaluations += run.evaluations;
  const at::Tensor mean_v = run.cache.at({Part::v, a0.layer}, "mean");  // [B, K, d_head]
  const at::Tensor spread = mean_v.unsqueeze(2)
                                .expand({-1, -1, config.heads / config.kv_heads, -1})
                                .reshape({mean_v.size(0), 1, config.heads * config.d_head});
  at::Tensor uniform = spread.matmul(context.model.weight(Weight::out, a0.layer).t());
  if (const at::Tensor& bias = context.model.weight(Weight::out_bias, a0.layer); bias.defined())
    uniform = uniform + bias;
  if (config.norm_place != NormPlace::before) {  // attention writes through a norm
    uniform = uniform * (uniform.square().mean(-1, true) + config.norm_eps).rsqrt();
    const at::Tensor& gain = context.model.weight(Weight::ln1_post, a0.layer);
    if (gain.defined()) uniform = uniform * gain;
  }
  const at::Tensor delta = value.mean - uniform;
  const at::Tensor noise =
      random_unit(delta.size(2), context.options.seed + 211).to(delta.scalar_type()) *
      at::linalg_vector_norm(delta, 2, c10::IntArrayRef{-1}, true);

  const auto name = to_string(a0);
  const auto at_p0 = [&](const std::string& what, Edit edit) {
    context.tell("naming the signal", 0.3);
    report.signal.push_back(context.read(
        w,
        context.intervene(
            {{.site = output_site(a0), .where = {.positions = {0}}, .edit = std::move(edit)}},
            until),
        0, what, "signal", "P0"));
  };
  at_p0(name + " := uniform mixture of the values at t > 0", Put{uniform});
  at_p0(name + " + what selection adds at t > 0", Add{delta});
  at_p0(name + " + random vector of that size", Add{noise});

  const Edit mix_uniformly = Custom{"uniform attention", [](const at::Tensor& row) {
                                      const at::Tensor seen = row.gt(0.0).to(row.options());
                                      return seen / seen.sum(-1, true);
                                    }};
  const auto at_k = [&](const std::string& what, Part part, const Edit& edit) {
    std::vector<Intervention> edits;
    for (const int layer : blocks)
      edits.push_back({.site = {part, layer}, .where = {.positions = {k}}, .edit = edit});
    context.tell("naming the signal", 0.7);
    report.signal.push_back(context.read(w, context.intervene(edits, until), k, what, "signal",
                                         fmt::format("k = {}", k)));
  };
  const std::string layers = blocks.size() == 1
                                 ? fmt::format("block {}", blocks.front())
                                 : fmt::format("blocks {}-{}", blocks.front(), blocks.back());
  at_k("uniform attention in " + layers, Part::pattern, mix_uniformly);
  at_k("attention output zeroed in " + layers, Part::attn_out, Zero{});
}

}  // namespace plumb
