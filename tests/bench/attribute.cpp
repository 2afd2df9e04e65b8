// Seconds and memory of edge attribution beside bare forward passes, on random weights:
//
//   plumb_bench_attribute gpt2|llama PAIRSxTOKENS [--threads N]
//   plumb_bench_attribute gpt2|llama PAIRSxTOKENS --memory [--threads N]
//   plumb_bench_attribute --formats
//
// The floor of a method is the forward passes that its reference makes, a backward pass counted as
// two: 5 for eap, 17 for eap-ig with 5 steps. With --memory, one run of each method, no forward
// pass before it: the most that is resident beside the model while it lasts, against what
// EAP-IG's difference tensor [pairs, tokens, senders, d_model] of float32 takes by itself.
// --formats times GPT-2's 32,491 edges to EAP-IG's JSON and back. Prints one JSON object.
#include "plumb/attribute.h"

#include <ATen/ATen.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "plumb/edge_formats.h"
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

std::int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t all = 0;
  std::int64_t resident = 0;
  file >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// VmHWM, which Linux lets a process start anew.
std::int64_t peak_bytes() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("VmHWM:")) return std::atoll(line.c_str() + 6) * 1024;
  }
  return 0;
}
bool forget_peak() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return file.good();
}

// Every weight, as a model has them that does not read on demand.
void read_all(const plumb::Model& model) {
  for (const plumb::Weight weight : plumb::all_weights()) {
    const int layers = plumb::is_per_layer(weight) ? model.config().layers : 1;
    for (int layer = 0; layer < layers; ++layer) model.weight(weight, layer);
  }
}

nlohmann::json memory(const plumb::Model& model, const plumb::Pairs& pairs,
                      const plumb::EdgeOptions& options, std::int64_t before, std::int64_t dense) {
  if (!forget_peak())
    throw plumb::Error(plumb::ErrorKind::unsupported,
                       "the kernel does not let a process start its peak anew");
  const auto start = std::chrono::steady_clock::now();
  plumb::attribute_edges(model, pairs, {}, options);
  const double took =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const std::int64_t above = peak_bytes() - before;
  return {{"s", took},
          {"peak_above_model_bytes", above},
          {"dense_over_peak", static_cast<double>(dense) / static_cast<double>(above)}};
}

nlohmann::json formats() {
  plumb::EdgeCircuit circuit = plumb::empty_circuit(plumb::EdgeSpace(12, 12, 12));
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  for (double& score : circuit.scores) score = normal(random);
  circuit = plumb::top_edges(circuit, 700, true);
  std::string text;
  const double write = seconds([&] { text = plumb::to_eap_ig(circuit); });
  const double read = seconds([&] { plumb::edge_circuit_from_eap_ig(text); });
  return {{"edges", circuit.space.edges()},
          {"eap_ig_bytes", text.size()},
          {"write_s", write},
          {"read_s", read}};
}

}  // namespace

int main(int argc, char** argv) try {
  plumb::restart_with_right_blas(argv);
  if (argc == 2 && std::string(argv[1]) == "--formats") {
    std::printf("%s\n", formats().dump(1).c_str());
    return 0;
  }
  if (argc < 3) {
    std::fprintf(stderr,
                 "usage: plumb_bench_attribute gpt2|llama PAIRSxTOKENS [--memory] [--threads N], "
                 "or plumb_bench_attribute --formats\n");
    return 2;
  }
  const plumb::ModelConfig config = shape(argv[1]);
  std::int64_t count = 0;
  std::int64_t length = 0;
  if (std::sscanf(argv[2], "%ldx%ld", &count, &length) != 2 || count < 1 || length < 2) {
    std::fprintf(stderr, "plumb_bench_attribute: expected a shape like 12x12, got %s\n", argv[2]);
    return 2;
  }
  const bool only_memory = argc > 3 && std::string(argv[3]) == "--memory";
  const int at = only_memory ? 5 : 4;
  const int threads = argc > at ? std::atoi(argv[at]) : 0;
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
  const std::int64_t senders = plumb::EdgeSpace(config).senders();
  const std::int64_t dense = senders * count * length * config.d_model * 4;
  if (only_memory) {
    read_all(model);
    const std::int64_t before = resident_bytes();
    const plumb::EdgeOptions integrated{.method = plumb::EdgeMethod::eap_ig, .steps = 5};
    const nlohmann::json found = {{"model", argv[1]},
                                  {"pairs", count},
                                  {"tokens", length},
                                  {"senders", senders},
                                  {"d_model", config.d_model},
                                  {"threads", model.threads()},
                                  {"dense_bytes", dense},
                                  {"resident_with_weights_bytes", before},
                                  {"eap", memory(model, pairs, {}, before, dense)},
                                  {"eap_ig_5", memory(model, pairs, integrated, before, dense)}};
    std::printf("%s\n", found.dump(1).c_str());
    return 0;
  }
  plumb::run(model, pairs.clean);
  const double forward = seconds([&] { plumb::run(model, pairs.clean); });
  const std::int64_t before = plumb::peak_memory();
  nlohmann::json found = {{"model", argv[1]},
                          {"pairs", count},
                          {"tokens", length},
                          {"threads", model.threads()},
                          {"forward_s", forward},
                          {"edges", plumb::EdgeSpace(config).edges()},
                          // What the dense difference of all senders would take.
                          {"dense_bytes", dense}};
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
