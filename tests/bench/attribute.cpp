// Seconds and memory of edge attribution beside bare forward passes, on random weights:
//
//   plumb_bench_attribute gpt2|llama PAIRSxTOKENS [--threads N]
//
// The floor of a method is the forward passes that its reference makes, a backward pass counted as
// two: 5 for eap, 17 for eap-ig with 5 steps. Prints one JSON object.
#include "plumb/attribute.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "plumb/error.h"
#include "plumb/machine.h"
#include "plumb/run_info.h"

namespace {

constexpr double most_seconds = 40.0;
constexpr std::size_t most_runs = 5;

plumb::ModelConfig shape(const std::string& name) {
  plumb::ModelConfig config;
  config.family = name;
  config.vocab = 50257;
  config.context = 1024;
  if (name == "gpt2") {
    config.layers = 12;
    config.heads = config.kv_heads = 12;
    config.d_model = 768;
    config.d_head = 64;
    config.d_mlp = 3072;
    config.norm = plumb::Norm::layer;
    config.positions = plumb::Positions::learned;
    config.activation = plumb::Activation::gelu_tanh;
    config.gated_mlp = false;
    config.qkv_bias = config.out_bias = config.mlp_bias = true;
  } else {  // Llama-3.2-1B's heads and layers, narrower
    config.layers = 16;
    config.heads = 32;
    config.kv_heads = 8;
    config.d_model = 1024;
    config.d_head = 32;
    config.d_mlp = 4096;
    config.rope.dims = 32;
  }
  return config;
}

double median(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

template <class Work>
double seconds(const Work& work) {
  std::vector<double> times;
  double total = 0.0;
  while (times.empty() || (times.size() < most_runs && total < most_seconds)) {
    const auto start = std::chrono::steady_clock::now();
    work();
    times.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    total += times.back();
  }
  return median(times);
}

}  // namespace

int main(int argc, char** argv) try {
  plumb::restart_with_right_blas(argv);
  if (argc < 3) {
    std::fprintf(stderr, "usage: plumb_bench_attribute gpt2|llama PAIRSxTOKENS [--threads N]\n");
    return 2;
  }
  const plumb::ModelConfig config = shape(argv[1]);
  std::int64_t count = 0;
  std::int64_t length = 0;
  if (std::sscanf(argv[2], "%ldx%ld", &count, &length) != 2 || count < 1 || length < 2) {
    std::fprintf(stderr, "plumb_bench_attribute: expected a shape like 12x12, got %s\n", argv[2]);
    return 2;
  }
  const int threads = argc > 4 ? std::atoi(argv[4]) : 0;
  const auto source = [&](plumb::Weight weight, int layer) -> at::Tensor {
    const std::vector<std::int64_t> size = plumb::weight_shape(config, weight, layer);
    if (size.empty()) return {};
    return at::randn(size, at::kFloat).mul_(0.02);
  };
  const plumb::Model model(config, source, argv[1], {.dtype = at::kFloat, .threads = threads});
  std::vector<plumb::PairIds> list;
  for (std::int64_t b = 0; b < count; ++b) {
    plumb::PairIds pair{.right = 7, .wrong = 11};
    for (std::int64_t t = 0; t < length; ++t)
      pair.clean.push_back((7919 * (b * length + t) + 13) % config.vocab);
    pair.corrupt = pair.clean;
    pair.corrupt[1] = (pair.corrupt[1] + 1) % config.vocab;
    list.push_back(pair);
  }
  const plumb::Pairs pairs = plumb::make_pairs(list);
  plumb::run(model, pairs.clean);
  const double forward = seconds([&] { plumb::run(model, pairs.clean); });
  const std::int64_t before = plumb::peak_memory();
  nlohmann::json found = {
      {"model", argv[1]},
      {"pairs", count},
      {"tokens", length},
      {"threads", model.threads()},
      {"forward_s", forward},
      {"edges", plumb::EdgeSpace(config).edges()},
      // What the dense difference of all senders would take.
      {"dense_bytes", plumb::EdgeSpace(config).senders() * count * length * config.d_model * 4}};
  const auto time = [&](const char* name, const plumb::EdgeOptions& options, double floor) {
    const double took = seconds([&] { plumb::attribute_edges(model, pairs, {}, options); });
    found[name] = {{"s", took},
                   {"forwards", took / forward},
                   {"over_floor", took / (floor * forward)},
                   {"peak_over_forward_bytes", plumb::peak_memory() - before}};
  };
  time("eap", {}, 5.0);
  time("eap_ig_5", {.method = plumb::EdgeMethod::eap_ig, .steps = 5}, 17.0);
  std::printf("%s\n", found.dump(1).c_str());
  return 0;
} catch (const plumb::Error& error) {
  std::fprintf(stderr, "plumb_bench_attribute: %s\n", error.what());
  return plumb::exit_code(error.kind());
}
