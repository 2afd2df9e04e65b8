#include "sink/p0_bench.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/random.h"

namespace plumb {

namespace {

constexpr int half_layers_shown = 9;

at::Tensor at_one(const at::Tensor& values, std::int64_t position) {
  return values.narrow(1, position, 1);
}

}  // namespace

std::string at_position(std::int64_t position) {
  return position == 0 ? "P0" : fmt::format("t = {}", position);
}

at::Tensor mean_over_others(const P0Context& context, const at::Tensor& values) {
  const auto& tokens = context.inputs.tokens;
  at::Tensor counted = at::ones({tokens.batch(), tokens.length()}, at::kBool);
  if (tokens.lengths.defined())
    counted = at::arange(tokens.length(), at::kLong).unsqueeze(0) < tokens.lengths.unsqueeze(1);
  counted = counted.clone();
  counted.select(1, 0).fill_(false);
  std::vector<std::int64_t> shape(static_cast<std::size_t>(values.dim()), 1);
  shape[0] = tokens.batch();
  shape[1] = tokens.length();
  const at::Tensor weights = counted.to(values.options()).view(shape);
  return (values * weights).sum(1, true) / weights.sum(1, true).clamp_min(1.0);
}

P0Bench::P0Bench(P0Context& context_, std::size_t wave, P0Experiment& into)
    : context(context_), w(wave), into_(into) {
  context.watch();
  Random random = Random(context.options.seed).fork(31 + wave);
  do {
    random_position_ = 1 + random.below(length() - 1);
  } while (random_position_ == other() && length() > 2);
}

const at::Tensor& P0Bench::clean(Site site) {
  const auto known = kept_.find(site);
  if (known != kept_.end()) return known->second;
  Plan plan{.record = {site}, .logits = Logits::none};
  plan.until = site.layer + 1;
  int from = site.layer;
  while (from >= 0 && !context.has_stream(from)) --from;
  plan.restart = Restart{.layer = from, .resid_pre = context.stream(from)};
  const Run run = plumb::run(context.model, context.inputs.tokens, plan);
  context.evaluations += run.evaluations;
  return kept_[site] = run.cache.at(site);
}

Site P0Bench::half_layer(int j) const {
  return {j % 2 == 0 ? Part::resid_pre : Part::resid_mid, j / 2};
}

std::vector<int> P0Bench::half_layers() const {
  const int last = 2 * wave().onset;
  std::vector<int> chosen;
  for (int j = 0; j <= last; ++j) {
    if (last < half_layers_shown || j < 3 || j > last - 3) chosen.push_back(j);
  }
  return chosen;
}

at::Tensor P0Bench::random_like(const at::Tensor& difference) {
  Random random = Random(context.options.seed).fork(1000 + 97 * w + draws_++);
  at::Tensor noise = at::empty(difference.sizes(), at::kDouble);
  auto* data = noise.data_ptr<double>();
  for (std::int64_t i = 0; i < noise.numel(); ++i) data[i] = random.normal();
  noise = noise.to(difference.device());
  const at::Tensor wanted =
      at::linalg_vector_norm(difference.to(at::kDouble), 2, c10::IntArrayRef{-1}, true);
  const at::Tensor made = at::linalg_vector_norm(noise, 2, c10::IntArrayRef{-1}, true);
  return (noise * (wanted / made)).to(difference.scalar_type());
}

const P0Reading& P0Bench::keep(const Outcome& outcome, const std::string& name,
                               const std::string& role, const std::string& where,
                               std::int64_t column) {
  P0Reading reading{.effect = context.read(w, outcome, column, name, role, where),
                    .column = column};
  const auto seed = context.options.seed;
  const double threshold =
      std::max(context.options.sink.wave_threshold, 2.0 * context.null_at(column));
  at::Tensor values = at::zeros({batch()}, at::kDouble);
  at::Tensor before = at::zeros_like(values);
  int counted = 0;
  for (int layer = 0; layer < static_cast<int>(outcome.received.size()); ++layer) {
    const auto l = static_cast<std::size_t>(layer);
    const at::Tensor own = outcome.received[l].select(1, column).to(at::kDouble);
    reading.by_layer.push_back(bootstrap(own, seed));
    reading.rate.push_back(outcome.rate[l].select(1, column).mean().item<double>());
    if (reading.onset < 0 && reading.by_layer.back().mean >= threshold) reading.onset = layer;
    if (layer < wave().onset || layer > wave().last) continue;
    values = values + own;
    before = before + context.clean.received[l].select(1, column).to(at::kDouble);
    ++counted;
  }
  last_values_ = values / std::max(1, counted);
  before = before / std::max(1, counted);
  const double unknown = std::nan("");
  reading.removed = {unknown, unknown, unknown};
  if (column == 0) {
    const double excess = std::max(before.mean().item<double>() - context.null_at(0), 1e-9);
    reading.removed = bootstrap((before - last_values_) / excess, seed);
  }
  if (outcome.kl.defined()) reading.kl = bootstrap(outcome.kl, seed);
  into_.readings.push_back(std::move(reading));
  return into_.readings.back();
}

const P0Reading& P0Bench::run(const std::string& name, const std::string& role,
                              const std::string& where, const std::vector<Intervention>& edits,
                              std::int64_t column) {
  context.tell(fmt::format("{} {}: {}", into_.id, into_.name, name), 0.5);
  return keep(context.intervene(edits, std::nullopt), name, role, where, column);
}

const P0Reading& P0Bench::run_tokens(const std::string& name, const std::string& role,
                                     const std::string& where, const Tokens& tokens,
                                     const std::vector<Intervention>& edits, std::int64_t column) {
  context.tell(fmt::format("{} {}: {}", into_.id, into_.name, name), 0.5);
  return keep(context.intervene_tokens(tokens, edits, std::nullopt), name, role, where, column);
}

std::vector<Intervention> P0Bench::puts(const std::vector<Site>& sites, const Change& make,
                                        std::int64_t position, bool random) {
  std::vector<Intervention> edits;
  for (const Site site : sites) {
    const at::Tensor own = at_one(clean(site), position);
    const at::Tensor changed = make(own, site, position);
    Edit edit = Put{changed};
    if (random) edit = Add{random_like(changed - own)};
    edits.push_back({.site = site, .where = {.positions = {position}}, .edit = std::move(edit)});
  }
  return edits;
}

void P0Bench::change(const std::string& name, const std::vector<Site>& sites, const Change& make,
                     bool controls) {
  run(name, "edit", "P0", puts(sites, make, 0, false));
  if (!controls) return;
  run(name, "other position", at_position(other()), puts(sites, make, other(), false));
  run(name, "random position", at_position(random_position_),
      puts(sites, make, random_position_, false));
  run(name, "random vector", "P0", puts(sites, make, 0, true));
}

void P0Bench::make(const std::string& name, const std::vector<Site>& sites, const Change& change,
                   bool controls) {
  run(name, "edit", at_position(other()), puts(sites, change, other(), false), other());
  if (controls) {
    run(name, "random vector", at_position(other()), puts(sites, change, other(), true), other());
  }
}

void P0Bench::array(const std::string& name, const std::vector<std::string>& axes,
                    const at::Tensor& values, const std::string& note) {
  into_.arrays.push_back({name, axes, values.to(at::kCPU).contiguous(), note});
}

}  // namespace plumb
