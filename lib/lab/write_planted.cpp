#include <fmt/format.h>

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "checkpoint/atomic_file.h"
#include "plumb/checkpoint_write.h"
#include "plumb/plant.h"

namespace plumb {

namespace {

using Ordered = nlohmann::ordered_json;

constexpr const char* bos_token = "<|bos|>";

// The character that stands for a byte in byte-level vocabularies: itself where it is printable in
// Latin-1, else the next free one from U+0100 on. In UTF-8.
std::map<int, std::string> byte_alphabet() {
  std::map<int, std::string> alphabet;
  int next = 0x100;
  for (int byte = 0; byte < 0x100; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    const int point = printable ? byte : next++;
    std::string text;
    if (point < 0x80) {
      text += static_cast<char>(point);
    } else {
      text += static_cast<char>(0xc0 | (point >> 6));
      text += static_cast<char>(0x80 | (point & 0x3f));
    }
    alphabet[byte] = text;
  }
  return alphabet;
}

bool adds_bos(const Planted& planted) {
  return planted.options.route == Route::token || planted.options.bos_too;
}

Ordered tokenizer(const Planted& planted) {
  Ordered vocab = Ordered::object();
  for (const auto& [byte, text] : byte_alphabet()) vocab[text] = byte;
  vocab[bos_token] = planted.bos;
  const Ordered byte_level = {{"type", "ByteLevel"},
                              {"add_prefix_space", false},
                              {"trim_offsets", true},
                              {"use_regex", true}};
  Ordered processor = byte_level;
  if (adds_bos(planted)) {
    const Ordered bos = {{"SpecialToken", {{"id", bos_token}, {"type_id", 0}}}};
    const Ordered text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
    const Ordered second = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
    const Ordered meaning = {{"id", bos_token},
                             {"ids", Ordered::array({planted.bos})},
                             {"tokens", Ordered::array({bos_token})}};
    processor = {{"type", "TemplateProcessing"},
                 {"single", Ordered::array({bos, text})},
                 {"pair", Ordered::array({bos, text, second})},
                 {"special_tokens", {{bos_token, meaning}}}};
  }
  const Ordered added = {{"id", planted.bos}, {"content", bos_token}, {"single_word", false},
                         {"lstrip", false},   {"rstrip", false},      {"normalized", false},
                         {"special", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", Ordered::array({added})},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", processor},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"vocab", vocab},
            {"merges", Ordered::array()}}}};
}

Ordered tokenizer_config(const Planted& planted) {
  return {{"tokenizer_class", "PreTrainedTokenizerFast"},
          {"bos_token", bos_token},
          {"add_bos_token", adds_bos(planted)}};
}

Ordered ground_truth(const Planted& planted) {
  const PlantOptions& o = planted.options;
  return {{"route", to_string(o.route)},
          {"seed", o.seed},
          {"layers", o.layers},
          {"heads", o.heads},
          {"kv_heads", o.kv_heads},
          {"d_mlp", o.d_mlp},
          {"detect", o.detect},
          {"write", o.write},
          {"noise", o.noise},
          {"d_model", o.d_model},
          {"experts", o.experts},
          {"second", o.second},
          {"erase", o.erase},
          {"backup", o.backup},
          {"bos_too", o.bos_too},
          {"onset", planted.onset},
          {"waves", planted.waves},
          {"verdict", planted.verdict},
          {"circuit_nodes", planted.circuit_nodes},
          {"circuit_edges", planted.circuit_edges},
          {"erasers", planted.erasers},
          {"backups", planted.backups},
          {"circuit_parts", planted.circuit_parts},
          {"readers", planted.readers}};
}

void write_json(const std::filesystem::path& path, const Ordered& value) {
  const std::string text = value.dump(2) + "\n";
  AtomicFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

}  // namespace

void write_planted(const Planted& planted, const std::filesystem::path& directory) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [key, value] : planted.weights)
    tensors[weight_name(key.first, key.second)] = value;
  write_checkpoint(directory, planted.config, tensors);
  write_json(directory / "tokenizer.json", tokenizer(planted));
  write_json(directory / "tokenizer_config.json", tokenizer_config(planted));
  write_json(directory / "planted.json", ground_truth(planted));
}

}  // namespace plumb
