// Tokenizers: tokenizer.json with tokenizer_config.json, and SentencePiece's tokenizer.model.
#include <string_view>

#include "fuzz/checks.h"
#include "fuzz/targets.h"

namespace plumb::fuzz {

/// `input` is tokenizer.json and, behind a zero byte, where there is one, tokenizer_config.json.
void run_tokenizer_json(std::string_view input) {
  static const ScratchDirectory directory;
  const std::size_t end = input.find('\0');
  directory.write("tokenizer.json", input.substr(0, end));
  if (end == std::string_view::npos) {
    directory.remove("tokenizer_config.json");
  } else {
    directory.write("tokenizer_config.json", input.substr(end + 1));
  }
  reads([&] { encode_everything(Tokenizer::open(directory.path())); });
}

/// `input` is tokenizer.model.
void run_tokenizer_model(std::string_view input) {
  static const ScratchDirectory directory;
  directory.write("tokenizer.model", input);
  reads([&] { encode_everything(Tokenizer::open(directory.path())); });
}

}  // namespace plumb::fuzz
