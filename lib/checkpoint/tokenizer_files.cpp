// A directory's tokenizer, with what the configs beside it say.
#include "checkpoint/tokenizer_files.h"

#include <fmt/format.h>

#include <charconv>
#include <string_view>
#include <system_error>
#include <unordered_set>

#include "checkpoint/json.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

[[noreturn]] void bad(const std::string& message) { throw Error(ErrorKind::bad_file, message); }

/// Also true of what cannot be looked at, a loop of links say: opening it tells why.
bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::status(path, ignored).type() != std::filesystem::file_type::not_found;
}

/// The id of the token that tokenizer_config.json calls `field`; nothing when it says null.
std::optional<std::int64_t> named_token(const Fields& config, const std::string& field,
                                        const TokenizerSpec& spec) {
  if (!config.has(field)) return std::nullopt;
  const Json& value = config.raw(field);
  const std::string name =
      value.is_object() ? config.object(field).text("content") : config.text(field);
  for (const AddedToken& token : spec.added) {
    if (token.content == name) return token.id;
  }
  for (const auto& [token, id] : spec.vocab) {
    if (token == name) return id;
  }
  config.wrong(field, "a token of the vocabulary");
}

void read_tokenizer_config(const Fields& config, TokenizerSpec& spec) {
  if (config.has("added_tokens_decoder")) {
    const Fields tokens = config.object("added_tokens_decoder");
    std::unordered_set<std::int64_t> known;
    for (const AddedToken& token : spec.added) known.insert(token.id);
    for (const auto& [key, value] : tokens.json().items()) {
      std::int64_t id = -1;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size() || id < 0 ||
          id > largest_token_id) {
        bad(fmt::format("{}: key {} should be an id from 0 to {}", tokens.where(), printable(key),
                        largest_token_id));
      }
      if (known.insert(id).second) spec.added.push_back(read_added_token(tokens.object(key), id));
    }
  }
  // A field that is there and null says that there is no such token. What the tokenizer itself puts
  // in front stays, unless the config says anew whether there is to be a BOS.
  const bool decided = spec.adds_bos && !config.has("add_bos_token");
  if (config.json().contains("bos_token") && !decided) {
    spec.bos = named_token(config, "bos_token", spec);
  }
  if (config.json().contains("eos_token")) spec.eos = named_token(config, "eos_token", spec);
  spec.adds_bos = config.flag("add_bos_token", spec.adds_bos) && spec.bos.has_value();
  spec.adds_eos = config.flag("add_eos_token", spec.adds_eos);
}

std::optional<std::int64_t> configured_id(const Fields& config, const std::string& field) {
  if (!config.has(field)) return std::nullopt;
  if (!config.raw(field).is_array()) return config.integer(field, 0, largest_token_id);
  const std::vector<std::int64_t> ids = config.integers(field, 0, largest_token_id);
  return ids.empty() ? std::nullopt : std::optional(ids.front());
}

}  // namespace

TokenizerSpec read_tokenizer_directory(const std::filesystem::path& directory) {
  const std::filesystem::path json_path = directory / "tokenizer.json";
  const std::filesystem::path model_path = directory / "tokenizer.model";
  const bool has_json = is_there(json_path);
  if (!has_json && !is_there(model_path)) {
    bad(
        fmt::format("{}: has neither tokenizer.json nor tokenizer.model; give ids instead of text, "
                    "or copy one there",
                    directory.string()));
  }
  TokenizerSpec spec = has_json ? read_tokenizer_json(json_path) : read_tokenizer_model(model_path);

  // Both kinds of file may name the tokens themselves; where they do not, config.json does.
  bool bos_told = spec.bos.has_value();
  bool eos_told = spec.eos.has_value();
  const std::filesystem::path config_path = directory / "tokenizer_config.json";
  if (is_there(config_path)) {
    const Json json =
        parse_json(read_text(config_path, largest_tokenizer_file), config_path.string());
    read_tokenizer_config(Fields(json, config_path.string()), spec);
    bos_told = bos_told || json.contains("bos_token");
    eos_told = eos_told || json.contains("eos_token");
  }
  const std::filesystem::path path = directory / "config.json";
  if ((!bos_told || !eos_told) && is_there(path)) {
    const Json json = parse_json(read_text(path, largest_tokenizer_file), path.string());
    const Fields config(json, path.string());
    if (!bos_told) spec.bos = configured_id(config, "bos_token_id");
    if (!eos_told) spec.eos = configured_id(config, "eos_token_id");
  }
  return spec;
}

}  // namespace plumb
