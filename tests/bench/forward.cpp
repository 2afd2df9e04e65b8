// Seconds of a plain forward pass: plumb_bench_forward MODEL BxT [BxT ...] [--threads N]
//
// Prints one JSON object like peer_forward.py's, measured the same way on the same ids.
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

nlohmann::json measure(const plumb::Model& model, Shape shape) {
  // peer_forward.py makes the same ids.
  const auto count = shape.batch * shape.length;
  const plumb::Tokens tokens{.ids = at::arange(count, at::kLong)
                                        .mul(7919)
                                        .add(13)
                                        .remainder(model.config().vocab)
                                        .view({shape.batch, shape.length})};
  at::Tensor logits;
  const auto once = [&] {
    const auto start = std::chrono::steady_clock::now();
    logits = plumb::run(model, tokens).logits;
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  once();
  once();
  std::vector<double> times;
  double total = 0.0;
  while (times.size() < 3 || (times.size() < most_runs && total < most_seconds)) {
    times.push_back(once());
    total += times.back();
  }
  std::sort(times.begin(), times.end());
  const auto middle = times.size() / 2;
  const double median =
      times.size() % 2 == 1 ? times[middle] : (times[middle - 1] + times[middle]) / 2;
  const at::Tensor last = logits[0][-1].to(at::kDouble);
  std::vector<double> head(4);
  for (std::size_t i = 0; i < head.size(); ++i) {
    head[i] = last[static_cast<std::int64_t>(i)].item<double>();
  }
  return {{"model", model.name()},
          {"batch", shape.batch},
          {"length", shape.length},
          {"median_s", median},
          {"min_s", times.front()},
          {"max_s", times.back()},
          {"runs", times.size()},
          {"check", {{"argmax", last.argmax().item<std::int64_t>()}, {"logits", head}}}};
}

int bench(const std::vector<std::string>& arguments) {
  plumb::LoadOptions options;
  std::string path;
  std::vector<Shape> shapes;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--threads" && i + 1 < arguments.size()) {
      options.threads = static_cast<int>(parse_count(arguments[++i]));
    } else if (path.empty()) {
      path = arguments[i];
    } else {
      shapes.push_back(parse_shape(arguments[i]));
    }
  }
  if (shapes.empty()) {
    throw plumb::Error(plumb::ErrorKind::bad_argument,
                       "usage: plumb_bench_forward MODEL BxT [BxT ...] [--threads N]");
  }
  const plumb::Model model = plumb::load(path, options);
  nlohmann::json results = nlohmann::json::array();
  for (const Shape shape : shapes) {
    results.push_back(measure(model, shape));
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
