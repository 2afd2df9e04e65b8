#include "support/sparse_model.h"

#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace plumb::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Shape = std::vector<std::int64_t>;

constexpr const char* config = R"({
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "bos_token_id": 128000,
  "hidden_act": "silu", "hidden_size": 16384, "intermediate_size": 53248,
  "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
  "num_attention_heads": 128, "num_hidden_layers": 126, "num_key_value_heads": 8,
  "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0,
  "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
  "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
  "vocab_size": 128256})";

// Header and size of the file; what follows the header is a hole.
bool write_shard(const fs::path& path, const std::vector<std::pair<std::string, Shape>>& tensors,
                 Json& index) {
  Json header = Json::object();
  std::uint64_t end = 0;
  for (const auto& [name, shape] : tensors) {
    std::uint64_t bytes = 2;
    for (const std::int64_t size : shape) bytes *= static_cast<std::uint64_t>(size);
    header[name] = {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {end, end + bytes}}};
    end += bytes;
    index["weight_map"][name] = path.filename().string();
  }
  const std::string text = header.dump();
  const std::uint64_t length = text.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  std::ofstream(path, std::ios::binary) << bytes << text;
  std::error_code error;
  fs::resize_file(path, sizeof length + length + end, error);
  return !error;
}

std::int64_t status_kilobytes(const std::string& key) {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with(key)) return std::stoll(line.substr(key.size() + 1));
  }
  return 0;
}

}  // namespace

bool write_llama_405b(const fs::path& directory) {
  constexpr std::int64_t d = 16384;
  constexpr std::int64_t keys = 1024;
  constexpr std::int64_t mlp = 53248;
  constexpr std::int64_t vocab = 128256;
  std::ofstream(directory / "config.json") << config;
  Json index = {{"metadata", Json::object()}, {"weight_map", Json::object()}};
  bool written = write_shard(directory / "model-outside.safetensors",
                             {{"model.embed_tokens.weight", {vocab, d}},
                              {"model.norm.weight", {d}},
                              {"lm_head.weight", {vocab, d}}},
                             index);
  for (int layer = 0; layer < 126 && written; ++layer) {
    const std::string block = fmt::format("model.layers.{}.", layer);
    written = write_shard(directory / fmt::format("model-block-{:03}.safetensors", layer),
                          {{block + "input_layernorm.weight", {d}},
                           {block + "self_attn.q_proj.weight", {d, d}},
                           {block + "self_attn.k_proj.weight", {keys, d}},
                           {block + "self_attn.v_proj.weight", {keys, d}},
                           {block + "self_attn.o_proj.weight", {d, d}},
                           {block + "post_attention_layernorm.weight", {d}},
                           {block + "mlp.gate_proj.weight", {mlp, d}},
                           {block + "mlp.up_proj.weight", {mlp, d}},
                           {block + "mlp.down_proj.weight", {d, mlp}}},
                          index);
  }
  std::ofstream(directory / "model.safetensors.index.json") << index.dump();
  return written;
}

std::int64_t peak_bytes() { return status_kilobytes("VmHWM:") * 1024; }

void reset_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace plumb::test
