#include "tokenizer/support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "support/paths.h"

namespace plumb::test {

using nlohmann::json;

std::filesystem::path tiny_tokenizers() { return source_dir() / "tests" / "data" / "tokenizers"; }

json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return json::parse(file);
}

std::filesystem::path directory_with(const std::vector<std::pair<std::string, json>>& files) {
  const std::filesystem::path directory = scratch_dir();
  for (const auto& [name, content] : files) std::ofstream(directory / name) << content;
  return directory;
}

std::filesystem::path directory_with_text(std::string_view tokenizer_json) {
  const std::filesystem::path directory = scratch_dir();
  std::ofstream(directory / "tokenizer.json", std::ios::binary) << tokenizer_json;
  return directory;
}

json small_tokenizer() {
  json vocab = json::object();
  int id = 0;
  const json trained = read_json(tiny_tokenizers() / "gpt2" / "tokenizer.json");
  for (const auto& [token, ignored] : trained["model"]["vocab"].items()) {
    // The byte-level alphabet is what that vocabulary has of single characters.
    const bool single = token.size() == 1 || (token.size() == 2 && (token[0] & 0x80) != 0);
    if (single) vocab[token] = id++;
  }
  vocab["ab"] = id++;
  vocab["abc"] = id++;
  return {
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"a b", "ab c"}}}},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"decoder", {{"type", "ByteLevel"}}},
      {"added_tokens", json::array()}};
}

template <typename T>
void GgufWriter::number(T value) {
  body_.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void GgufWriter::string(std::string_view value) {
  number<std::uint64_t>(value.size());
  body_ += value;
}

void GgufWriter::key(std::string_view name, std::uint32_t type) {
  string(name);
  number(type);
  ++keys_;
}

void GgufWriter::text(std::string_view name, std::string_view value) {
  key(name, 8);
  string(value);
}

void GgufWriter::flag(std::string_view name, bool value) {
  key(name, 7);
  number<std::uint8_t>(value ? 1 : 0);
}

void GgufWriter::u32(std::string_view name, std::uint32_t value) {
  key(name, 4);
  number(value);
}

void GgufWriter::texts(std::string_view name, const std::vector<std::string>& values) {
  key(name, 9);
  number<std::uint32_t>(8);
  number<std::uint64_t>(values.size());
  for (const std::string& value : values) string(value);
}

void GgufWriter::i32s(std::string_view name, const std::vector<std::int32_t>& values) {
  key(name, 9);
  number<std::uint32_t>(5);
  number<std::uint64_t>(values.size());
  for (const std::int32_t value : values) number(value);
}

std::filesystem::path GgufWriter::write() const {
  GgufWriter header;
  header.body_ = "GGUF";
  header.number<std::uint32_t>(3);
  header.number<std::uint64_t>(0);
  header.number<std::uint64_t>(keys_);
  const std::filesystem::path path = scratch_dir() / "tokenizer.gguf";
  std::ofstream(path, std::ios::binary) << header.body_ << body_;
  return path;
}

GgufWriter gguf_of(const json& tokenizer_json, std::string_view pre) {
  std::vector<std::string> tokens;
  const auto place = [&](std::size_t id, const std::string& token) {
    tokens.resize(std::max(tokens.size(), id + 1));
    tokens[id] = token;
  };
  const json& model = tokenizer_json["model"];
  for (const auto& [token, id] : model["vocab"].items()) place(id.get<std::size_t>(), token);
  std::vector<std::int32_t> types(tokens.size(), 1);
  for (const json& added : tokenizer_json["added_tokens"]) {
    const auto id = added["id"].get<std::size_t>();
    place(id, added["content"].get<std::string>());
    types.resize(tokens.size(), 1);
    types[id] = added["special"].get<bool>() ? 3 : 4;
  }
  std::vector<std::string> merges;
  for (const json& merge : model["merges"]) {
    merges.push_back(merge.is_string()
                         ? merge.get<std::string>()
                         : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  GgufWriter out;
  out.text("tokenizer.ggml.model", "gpt2");
  out.text("tokenizer.ggml.pre", pre);
  out.texts("tokenizer.ggml.tokens", tokens);
  out.i32s("tokenizer.ggml.token_type", types);
  out.texts("tokenizer.ggml.merges", merges);
  return out;
}

Refusal refusal_of(const std::filesystem::path& checkpoint) {
  try {
    Tokenizer::open(checkpoint);
  } catch (const Error& error) {
    return {error.kind(), error.what()};
  }
  ADD_FAILURE() << checkpoint << " was accepted";
  return {};
}

}  // namespace plumb::test
