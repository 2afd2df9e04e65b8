// A tokenizer as the files of a Hugging Face directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/json.h"
#include "checkpoint/tokenizer_files.h"

namespace plumb {

/// The text of a file to write, by its name.
struct FileToWrite {
  std::string name = {};
  std::string text = {};
};

/// `tokenizer.json` of a byte-level BPE tokenizer, or of SentencePiece's BPE as a GGUF file holds
/// it: splits the text as plumb does. Throws unsupported for what the format cannot say.
Json tokenizer_json(const TokenizerSpec& spec);

/// The parts of it in which SentencePiece's BPE differs: the model without its vocabulary, with
/// ranks in place of scores; the normalizer; the decoder.
Json sentencepiece_model_json(const TokenizerSpec& spec);
Json sentencepiece_normalizer_json(const TokenizerSpec& spec);
Json sentencepiece_decoder_json(const TokenizerSpec& spec);

/// `tokenizer_config.json`: names of the special tokens, whether a BOS is put in front.
Json tokenizer_config_json(const TokenizerSpec& spec, int context);

/// What carries a checkpoint's tokenizer: the files of a directory as they are; those made from a
/// GGUF file's metadata, and then also `spec`. Throws what reading the tokenizer throws.
struct TokenizerFiles {
  std::vector<FileToWrite> files = {};
  std::optional<std::int64_t> bos = {};
  std::optional<std::int64_t> eos = {};
};
TokenizerFiles tokenizer_files(const std::filesystem::path& checkpoint, int context);

}  // namespace plumb
