// The tokenizer that a GGUF file carries in its metadata.
#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <string_view>

#include "checkpoint/gguf.h"
#include "checkpoint/gguf_pretokenizers.h"
#include "checkpoint/printable.h"
#include "checkpoint/tokenizer_files.h"
#include "plumb/error.h"

namespace plumb {
namespace {

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
  enum : std::int64_t { normal = 1, unknown, control, user_defined, unused, byte };
  const bool characters = spec.model == ModelKind::scored_bpe;
  const std::int64_t last = characters ? byte : unused;
  spec.vocab.reserve(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto id = static_cast<std::int64_t>(i);
    if (types[i] < normal || types[i] > last) {
      throw Error(ErrorKind::unsupported,
                  fmt::format("{}: token {} has type {}, which plumb does not handle", spec.where,
                              i, types[i]));
    }
    spec.vocab.emplace_back(tokens[i], id);
    const bool special = types[i] == control || types[i] == unknown;
    if ((special || types[i] == user_defined) && !tokens[i].empty()) {
      spec.added.push_back({.content = std::string(tokens[i]), .id = id, .special = special});
    }
    if (types[i] == byte) spec.byte_fallback = true;
    if (types[i] == unknown && !spec.unknown && characters) spec.unknown = tokens[i];
  }
}

void read_gguf_merges(const GgufFile& file, TokenizerSpec& spec) {
  const auto merges = file.texts("tokenizer.ggml.merges");
  spec.merges.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    spec.merges.push_back(split_merge(merges[i], spec.where, i));
  }
}

void read_gguf_scores(const GgufFile& file, TokenizerSpec& spec) {
  spec.scores = file.numbers("tokenizer.ggml.scores");
  if (spec.scores.size() != spec.vocab.size()) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: tokenizer.ggml.scores has {} entries, but there are {} tokens",
                            spec.where, spec.scores.size(), spec.vocab.size()));
  }
  for (std::size_t i = 0; i < spec.scores.size(); ++i) {
    if (!std::isfinite(spec.scores[i])) {
      throw Error(ErrorKind::bad_file,
                  fmt::format("{}: token {} has the score {}", spec.where, i, spec.scores[i]));
    }
  }
}

/// Byte-level BPE.
void read_gpt2(const GgufFile& file, TokenizerSpec& spec) {
  const bool prefix = file.flag("tokenizer.ggml.add_space_prefix", false);
  const GgufPreTokenizer pre =
      add_gguf_pretokenizer(file.text("tokenizer.ggml.pre", ""), prefix, spec);
  read_gguf_tokens(file, spec);
  read_gguf_merges(file, spec);
  spec.adds_bos = pre.adds_bos;
}

/// SentencePiece's BPE, as llama.cpp does it: a space in front of every stretch of text, scores
/// instead of merges, BOS unless told otherwise.
void read_llama(const GgufFile& file, TokenizerSpec& spec) {
  spec.model = ModelKind::scored_bpe;
  spec.fuse_unknown = true;
  read_gguf_tokens(file, spec);
  read_gguf_scores(file, spec);
  for (const char* key :
       {"tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.treat_whitespace_as_suffix"}) {
    if (file.flag(key, false)) {
      throw Error(ErrorKind::unsupported,
                  fmt::format("{}: {} is true, which plumb does not handle", spec.where, key));
    }
  }
  const bool prefix = file.flag("tokenizer.ggml.add_space_prefix", true);
  if (prefix) spec.normalizer.add(prepend_step(space_mark));
  spec.normalizer.add(replace_step(TextPattern::literal(" ", spec.where), space_mark));
  spec.decoding.replace = {{space_mark, " "}};
  spec.decoding.byte_tokens = spec.byte_fallback;
  spec.decoding.strip = " ";
  spec.decoding.strip_begin = prefix ? 1 : 0;
  spec.adds_bos = true;
}

}  // namespace

TokenizerSpec read_tokenizer_gguf(const std::filesystem::path& path) {
  const GgufFile file(path);
  TokenizerSpec spec;
  spec.where = path.string();
  const std::string_view model = file.text("tokenizer.ggml.model");
  if (model != "gpt2" && model != "llama") {
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: tokenizer.ggml.model is {}, but plumb reads \"gpt2\" (byte-level "
                            "BPE) and \"llama\" (SentencePiece BPE)",
                            spec.where, printable(model)));
  }
  model == "gpt2" ? read_gpt2(file, spec) : read_llama(file, spec);
  const auto id = [&](const char* key) -> std::optional<std::int64_t> {
    if (!file.has(key)) return std::nullopt;
    return file.integer(key, 0, largest_token_id);
  };
  spec.bos = id("tokenizer.ggml.bos_token_id");
  spec.eos = id("tokenizer.ggml.eos_token_id");
  spec.adds_bos = file.flag("tokenizer.ggml.add_bos_token", spec.adds_bos) && spec.bos.has_value();
  spec.adds_eos = file.flag("tokenizer.ggml.add_eos_token", false);
  return spec;
}

}  // namespace plumb
