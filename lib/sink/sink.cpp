#include "plumb/sink.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "plumb/error.h"

namespace plumb {

namespace {

constexpr std::array<const char*, 4> query_names{"all", "no_self", "second_half", "last"};
constexpr std::array<const char*, 2> pool_names{"per_sample", "pooled"};

template <typename Enum, std::size_t count>
Enum parse(const std::array<const char*, count>& names, const std::string& text, const char* what) {
  const auto found = std::ranges::find(names, text);
  if (found != names.end()) return static_cast<Enum>(found - names.begin());
  std::string allowed;
  for (const auto* name : names) allowed += (allowed.empty() ? "" : ", ") + std::string(name);
  throw Error(ErrorKind::bad_argument,
              fmt::format("expected {} of {}, got \"{}\"", what, allowed, text));
}

}  // namespace

const char* to_string(Queries queries) noexcept {
  return query_names[static_cast<std::size_t>(queries)];
}
const char* to_string(Pool pool) noexcept { return pool_names[static_cast<std::size_t>(pool)]; }
Queries parse_queries(const std::string& text) {
  return parse<Queries>(query_names, text, "a query set");
}
Pool parse_pool(const std::string& text) { return parse<Pool>(pool_names, text, "a pooling"); }

double uniform_sink(std::int64_t length, Queries queries) {
  const auto mean_inverse = [&](std::int64_t first) {
    double sum = 0.0;
    for (std::int64_t query = first; query < length; ++query)
      sum += 1.0 / static_cast<double>(query + 1);
    return sum / static_cast<double>(std::max<std::int64_t>(1, length - first));
  };
  switch (queries) {
    case Queries::all: return mean_inverse(0);
    case Queries::no_self: return mean_inverse(1);
    case Queries::second_half: return mean_inverse(std::max<std::int64_t>(1, (length + 1) / 2));
    case Queries::last: return 1.0 / static_cast<double>(length);
  }
  return 0.0;
}

double sink_rate_from(const SinkSurvey& survey, int start_layer) {
  const auto layers = survey.rate.size(0);
  if (start_layer < 0 || start_layer >= layers) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("expected a start layer of 0-{}, got {}", layers - 1, start_layer));
  }
  return survey.rate.narrow(0, start_layer, layers - start_layer)
      .to(at::kDouble)
      .mean()
      .item<double>();
}

std::vector<Wave> find_waves(const at::Tensor& layer_mean, double threshold) {
  const at::Tensor means = layer_mean.to(at::kDouble).contiguous();
  const auto* mean = means.data_ptr<double>();
  const auto layers = static_cast<int>(means.size(0));
  std::vector<Wave> waves;
  for (int layer = 0; layer < layers; ++layer) {
    if (!(mean[layer] >= threshold)) continue;
    Wave wave{.onset = layer, .last = layer, .peak = layer};
    double sum = 0.0;
    for (; layer < layers && mean[layer] >= threshold; ++layer) {
      wave.last = layer;
      if (mean[layer] > mean[wave.peak]) wave.peak = layer;
      sum += mean[layer];
    }
    wave.mean = sum / (wave.last - wave.onset + 1);
    waves.push_back(wave);
  }
  return waves;
}

}  // namespace plumb
