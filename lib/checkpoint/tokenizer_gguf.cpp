// The tokenizer that a GGUF file carries in its metadata.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

#include "checkpoint/gguf.h"
#include "checkpoint/printable.h"
#include "checkpoint/tokenizer_files.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr std::string_view llama3_split_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen2_split_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct GgufPreTokenizer {
  std::string_view name;
  bool digits;  ///< every digit on its own, first
  std::string_view pattern;
  bool ignore_merges;
  bool nfc;
};

/// `tokenizer.ggml.pre` and what the tokenizer.json behind it said.
constexpr std::array<GgufPreTokenizer, 10> gguf_pretokenizers = {{
    {"gpt-2", false, gpt2_split_pattern, false, false},
    {"olmo", false, gpt2_split_pattern, false, true},
    {"smollm", true, gpt2_split_pattern, false, false},
    {"starcoder", true, gpt2_split_pattern, false, false},
    {"refact", true, gpt2_split_pattern, false, false},
    {"llama-bpe", false, llama3_split_pattern, true, false},
    {"llama3", false, llama3_split_pattern, true, false},
    {"llama-v3", false, llama3_split_pattern, true, false},
    {"qwen2", false, qwen2_split_pattern, false, true},
    {"deepseek-r1-qwen", false, qwen2_split_pattern, false, true},
}};

void read_gguf_pretokenizer(const GgufFile& file, TokenizerSpec& spec) {
  const std::string pre(file.text("tokenizer.ggml.pre", ""));
  const auto* found = std::find_if(gguf_pretokenizers.begin(), gguf_pretokenizers.end(),
                                   [&](const GgufPreTokenizer& each) { return each.name == pre; });
  if (found == gguf_pretokenizers.end()) {
    std::string known;
    for (const GgufPreTokenizer& each : gguf_pretokenizers) {
      known += fmt::format("{}{}", known.empty() ? "" : ", ", each.name);
    }
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: tokenizer.ggml.pre is {}; plumb knows {}", spec.where,
                            pre.empty() ? "missing" : printable(pre), known));
  }
  if (found->digits) spec.pretokenizer.add_split(R"(\p{N})", spec.where);
  if (file.flag("tokenizer.ggml.add_space_prefix", false)) spec.pretokenizer.add_space_prefix();
  spec.pretokenizer.add_split(found->pattern, spec.where);
  spec.ignore_merges = found->ignore_merges;
  spec.nfc = found->nfc;
}

void read_gguf_tokens(const GgufFile& file, TokenizerSpec& spec) {
  const auto tokens = file.texts("tokenizer.ggml.tokens");
  if (tokens.size() > static_cast<std::size_t>(largest_token_id) + 1) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: tokenizer.ggml.tokens has {} tokens, more than {}", spec.where,
                            tokens.size(), largest_token_id + 1));
  }
  std::vector<std::int64_t> types(tokens.size(), 1);
  if (file.has("tokenizer.ggml.token_type")) types = file.integers("tokenizer.ggml.token_type");
  if (types.size() != tokens.size()) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: tokenizer.ggml.token_type has {} entries, but there are {} tokens",
                            spec.where, types.size(), tokens.size()));
  }
  enum : std::int64_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5 };
  spec.vocab.reserve(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto id = static_cast<std::int64_t>(i);
    if (types[i] < normal || types[i] > unused) {
      throw Error(ErrorKind::unsupported,
                  fmt::format("{}: token {} has type {}, which plumb does not handle", spec.where,
                              i, types[i]));
    }
    spec.vocab.emplace_back(tokens[i], id);
    const bool special = types[i] == control || types[i] == unknown;
    if ((special || types[i] == user_defined) && !tokens[i].empty()) {
      spec.added.push_back({std::string(tokens[i]), id, special, false});
    }
  }
}

}  // namespace

TokenizerSpec read_tokenizer_gguf(const std::filesystem::path& path) {
  const GgufFile file(path);
  TokenizerSpec spec;
  spec.where = path.string();
  if (file.text("tokenizer.ggml.model") != "gpt2") {
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: tokenizer.ggml.model is {}, but plumb reads \"gpt2\" (byte-level "
                            "BPE) only",
                            spec.where, printable(file.text("tokenizer.ggml.model"))));
  }
  read_gguf_pretokenizer(file, spec);
  read_gguf_tokens(file, spec);
  const auto merges = file.texts("tokenizer.ggml.merges");
  spec.merges.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    spec.merges.push_back(split_merge(merges[i], spec.where, i));
  }
  const auto id = [&](const char* key) -> std::optional<std::int64_t> {
    if (!file.has(key)) return std::nullopt;
    return file.integer(key, 0, largest_token_id);
  };
  spec.bos = id("tokenizer.ggml.bos_token_id");
  spec.eos = id("tokenizer.ggml.eos_token_id");
  // Where the file is silent, the Llama-3 tokenizers put a BOS and the others do not.
  const bool usual = file.text("tokenizer.ggml.pre", "").starts_with("llama");
  spec.adds_bos = file.flag("tokenizer.ggml.add_bos_token", usual) && spec.bos.has_value();
  return spec;
}

}  // namespace plumb
