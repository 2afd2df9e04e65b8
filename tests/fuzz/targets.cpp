#include "fuzz/targets.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <stdexcept>
#include <string>

#include "fuzz/memory.h"

namespace plumb::fuzz {

const std::vector<Target>& targets() {
  constexpr std::size_t mebibyte = std::size_t{1} << 20U;
  // JSON text of many small values, `{"a":0,...}`, takes some hundred bytes for each entry, once
  // parsed and once more as what is made of it.
  constexpr std::size_t json_factor = 256;
  // Stored numbers are widened to 64 bits, those of 2.6 bits as well, and held twice to be
  // compared.
  constexpr std::size_t weights_factor = 64;
  // A tokenizer's table of ids reaches to the largest id, 2^20 - 1, however few tokens there are.
  constexpr std::size_t ids = 96 * mebibyte;
  // Four million edges that any file may claim, a byte and a score for each and whether it was met;
  // what is read is compared with what is read again.
  constexpr std::size_t edges = 128 * mebibyte;
  // Prompts are padded to the longest one, up to 2^18 numbers of each kind.
  constexpr std::size_t padded = 32 * mebibyte;
  // A range such as 0-1048575 is a list of its numbers; sets of sites name four million at most.
  constexpr std::size_t indices = 160 * mebibyte;
  static const std::vector<Target> all = {
      {"config", run_config, 8 * mebibyte, json_factor},
      {"index", run_index, mebibyte, json_factor},
      {"safetensors", run_safetensors, mebibyte, json_factor},
      {"gguf", run_gguf, ids, weights_factor},
      {"tokenizer_json", run_tokenizer_json, ids, json_factor},
      {"tokenizer_model", run_tokenizer_model, ids, json_factor},
      {"circuit_json", run_circuit_json, edges, json_factor},
      {"eap_ig", run_eap_ig, edges, json_factor},
      {"neuronpedia", run_neuronpedia, edges, json_factor},
      {"edge_pruning", run_edge_pruning, mebibyte, json_factor},
      {"dot", run_dot, edges, json_factor},
      {"graphml", run_graphml, edges, json_factor},
      {"pairs_jsonl", run_pairs_jsonl, padded, json_factor},
      {"pairs_csv", run_pairs_csv, padded, json_factor},
      {"expressions", run_expressions, indices, json_factor},
  };
  return all;
}

const Target& target(std::string_view name) {
  for (const Target& each : targets()) {
    if (each.name == name) return each;
  }
  throw std::invalid_argument(fmt::format("no fuzz target {}", name));
}

void run_checked(const Target& target, std::string_view input) {
  // What a process does once is not the input's doing.
  static const bool ready = [] {
    at::set_num_threads(1);
    return true;
  }();
  static_cast<void>(ready);
  const MemoryWatch watch;
  target.run(input);
  const std::size_t allowed = target.fixed + target.factor * input.size();
  if (watch.peak() > allowed) {
    throw std::logic_error(fmt::format("{}: an input of {} bytes had {} bytes in use, {} allowed",
                                       target.name, input.size(), watch.peak(), allowed));
  }
}

}  // namespace plumb::fuzz
