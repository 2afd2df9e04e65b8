// Seconds of a plain forward pass: plumb_bench_forward MODEL BxT [BxT ...] [--threads N]
// [--patched]
//
// Prints one JSON object like peer_forward.py's, measured the same way on the same ids. With
// --patched instead how much longer a forward pass takes in which one value is patched.
#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "plumb/error.h"
#include "plumb/machine.h"
#include "plumb/model.h"
#include "plumb/run.h"
#include "plumb/version.h"

namespace {

constexpr int most_runs = 15;
constexpr double most_seconds = 30.0;

struct Shape {
  std::int64_t batch = 0;
  std::int64_t length = 0;
};

std::int64_t parse_count(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 1) {
    throw plumb::Error(plumb::ErrorKind::bad_argument,
                       "expected a positive number, got '" + std::string(text) + "'");
  }
  return value;
}

Shape parse_shape(std::string_view text) {
  const auto cross = text.find('x');
  if (cross == std::string_view::npos) {
    throw plumb::Error(plumb::ErrorKind::bad_argument,
                       "expected a shape like 8x128, got '" + std::string(text) + "'");
  }
  return {parse_count(text.substr(0, cross)), parse_count(text.substr(cross + 1))};
}

// peer_forward.py makes the same ids.
plumb::Tokens tokens_of(const plumb::Model& model, Shape shape) {
  return {.ids = at::arange(shape.batch * shape.length, at::kLong)
                     .mul(7919)
                     .add(13)
                     .remainder(model.config().vocab)
                     .view({shape.batch, shape.length})};
}

template <class Work>
double seconds(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median_of(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  const auto middle = times.size() / 2;
  return times.size() % 2 == 1 ? times[middle] : (times[middle - 1] + times[middle]) / 2;
}

nlohmann::json measure(const plumb::Model& model, Shape shape) {
  const plumb::Tokens tokens = tokens_of(model, shape);
  at::Tensor logits;
  const auto once = [&] { return seconds([&] { logits = plumb::run(model, tokens).logits; }); };
  once();
  once();
  std::vector<double> times;
  double total = 0.0;
  while (times.size() < 3 || (times.size() < most_runs && total < most_seconds)) {
    times.push_back(once());
    total += times.back();
  }
  const at::Tensor last = logits[0][-1].to(at::kDouble);
  std::vector<double> head(4);
  for (std::size_t i = 0; i < head.size(); ++i) {
    head[i] = last[static_cast<std::int64_t>(i)].item<double>();
  }
  return {{"model", model.name()},
          {"batch", shape.batch},
          {"length", shape.length},
          {"median_s", median_of(times)},
          {"min_s", *std::min_element(times.begin(), times.end())},
          {"max_s", *std::max_element(times.begin(), times.end())},
          {"runs", times.size()},
          {"check", {{"argmax", last.argmax().item<std::int64_t>()}, {"logits", head}}}};
}

// One value of the middle block put into a whole pass, each in turn with the plain pass, so that
// both meet the same machine.
nlohmann::json measure_patched(const plumb::Model& model, Shape shape) {
  const plumb::Tokens tokens = tokens_of(model, shape);
  const int layer = model.config().layers / 2;
  const std::vector<plumb::SlicedSite> sites = {
      {{plumb::Part::resid_pre, layer}, {.positions = {1}}},
      {{plumb::Part::attn_out, layer}, {.positions = {1}}},
      {{plumb::Part::mlp_out, layer}, {.positions = {1}}},
      {{plumb::Part::z, layer}, {.heads = {0}}},
      {{plumb::Part::q, layer}, {.heads = {0}}},
      {{plumb::Part::pattern, layer}, {.heads = {0}}}};
  plumb::Plan recording;
  recording.logits = plumb::Logits::none;
  for (const plumb::SlicedSite& site : sites) recording.record.emplace_back(site.site, site.slice);
  const plumb::Run values = plumb::run(model, tokens, recording);
  std::vector<plumb::Plan> plans(1);  // the plain one, then the patched ones
  for (const plumb::SlicedSite& site : sites) {
    plans.emplace_back();
    plans.back().interventions = {{.site = site.site,
                                   .where = site.slice,
                                   .edit = plumb::Put{values.cache.at(site.site).neg()}}};
  }
  std::vector<std::vector<double>> times(plans.size());
  for (int turn = 0; turn < 2 * most_runs; ++turn) {
    for (std::size_t i = 0; i < plans.size(); ++i)
      times[i].push_back(seconds([&] { plumb::run(model, tokens, plans[i]); }));
  }
  const double plain = median_of(times.front());
  nlohmann::json patched = nlohmann::json::object();
  for (std::size_t i = 0; i < sites.size(); ++i) {
    patched[plumb::to_string(sites[i])] = {{"median_s", median_of(times[i + 1])},
                                           {"ratio", median_of(times[i + 1]) / plain}};
  }
  return {{"model", model.name()}, {"batch", shape.batch},  {"length", shape.length},
          {"median_s", plain},     {"runs", 2 * most_runs}, {"patched", patched}};
}

int bench(const std::vector<std::string>& arguments) {
  plumb::LoadOptions options;
  std::string path;
  std::vector<Shape> shapes;
  bool patched = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--threads" && i + 1 < arguments.size()) {
      options.threads = static_cast<int>(parse_count(arguments[++i]));
    } else if (arguments[i] == "--patched") {
      patched = true;
    } else if (path.empty()) {
      path = arguments[i];
    } else {
      shapes.push_back(parse_shape(arguments[i]));
    }
  }
  if (shapes.empty()) {
    throw plumb::Error(plumb::ErrorKind::bad_argument,
                       "usage: plumb_bench_forward MODEL BxT [BxT ...] [--threads N] [--patched]");
  }
  const plumb::Model model = plumb::load(path, options);
  nlohmann::json results = nlohmann::json::array();
  for (const Shape shape : shapes) {
    results.push_back(patched ? measure_patched(model, shape) : measure(model, shape));
    std::fprintf(stderr, "%s %dx%d: %.3f s\n", model.name().c_str(), static_cast<int>(shape.batch),
                 static_cast<int>(shape.length), results.back()["median_s"].get<double>());
  }
  const nlohmann::json report = {{"library", "plumb"},
                                 {"plumb", plumb::version()},
                                 {"threads", model.threads()},
                                 {"dtype", "float32"},
                                 {"results", results}};
  std::puts(report.dump(2).c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  plumb::restart_with_right_blas(argv);
  try {
    return bench({argv + 1, argv + argc});
  } catch (const plumb::Error& error) {
    std::fprintf(stderr, "plumb_bench_forward: %s\n", error.what());
    return plumb::exit_code(error.kind());
  }
}
