// What the fuzzers do with one input, and what has to hold. Replayed over the kept inputs by
// replay_test.cpp.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace plumb::fuzz {

/// One reader of untrusted bytes, driven through the interface that users call.
struct Target {
  std::string_view name;
  /// Takes any bytes. Returns when they are accepted or refused with a plumb::Error; everything
  /// else escapes as it was thrown, a broken promise as std::logic_error.
  void (*run)(std::string_view input);
  /// The most memory that one input may have in use at once: `fixed` bytes and `factor` for each of
  /// its own.
  std::size_t fixed = 0;
  std::size_t factor = 0;
};

const std::vector<Target>& targets();

/// Throws std::invalid_argument when there is none of that name.
const Target& target(std::string_view name);

/// Runs the target. Throws std::logic_error when it took more memory than it may.
void run_checked(const Target& target, std::string_view input);

void run_config(std::string_view input);
void run_index(std::string_view input);
void run_safetensors(std::string_view input);
void run_gguf(std::string_view input);
void run_tokenizer_json(std::string_view input);
void run_tokenizer_model(std::string_view input);
void run_circuit_json(std::string_view input);
void run_eap_ig(std::string_view input);
void run_neuronpedia(std::string_view input);
void run_edge_pruning(std::string_view input);
void run_dot(std::string_view input);
void run_graphml(std::string_view input);
void run_pairs_jsonl(std::string_view input);
void run_pairs_csv(std::string_view input);
void run_expressions(std::string_view input);

}  // namespace plumb::fuzz
