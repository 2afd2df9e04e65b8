#include "checkpoint/tiny_gguf.h"

#include <utility>

#include "support/paths.h"

namespace plumb::test {

TinyLlama::TinyLlama(std::string name, std::uint32_t layers, bool dense)
    : architecture(std::move(name)) {
  build.string("general.architecture", architecture)
      .u32(key("block_count"), layers)
      .u32(key("embedding_length"), 4)
      .u32(key("feed_forward_length"), 2)
      .u32(key("attention.head_count"), 1)
      .u32(key("context_length"), 16)
      .f32(key("attention.layer_norm_rms_epsilon"), 1e-5F);
  matrix("token_embd.weight", 3);
  vector("output_norm.weight");
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    const std::string block = "blk." + std::to_string(layer) + ".";
    vector(block + "attn_norm.weight");
    vector(block + "ffn_norm.weight");
    for (const char* part : {"attn_q", "attn_k", "attn_v", "attn_output"}) {
      matrix(block + part + ".weight", 4);
    }
    if (!dense) continue;
    matrix(block + "ffn_gate.weight", 2);
    matrix(block + "ffn_up.weight", 2);
    build.tensor(block + "ffn_down.weight", {2, 4}, 0, std::string(32, '\0'));
  }
}

void TinyLlama::matrix(const std::string& name, std::uint64_t rows) {
  std::vector<float> values;
  for (std::uint64_t row = 0; row < rows; ++row) {
    for (int column = 0; column < 4; ++column) {
      values.push_back(static_cast<float>(row) + 0.125F * static_cast<float>(column));
    }
  }
  build.tensor(name, {4, rows}, 0, floats(values));
}

void TinyLlama::vector(const std::string& name) {
  build.tensor(name, {4}, 0, floats({1, 1, 1, 1}));
}

std::filesystem::path TinyLlama::write(const std::string& file_name) const {
  const std::filesystem::path path = scratch_dir() / file_name;
  write_bytes(path, build.bytes());
  return path;
}

}  // namespace plumb::test
