#include "checkpoint/tokenizer_files.h"

#include <fmt/format.h>

#include <charconv>
#include <string_view>
#include <unordered_set>

#include "checkpoint/json.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

// Twice the largest tokenizer.json known; parsed, it takes some ten times as much.
constexpr std::uint64_t largest_json = 64U << 20U;

constexpr std::string_view not_handled = "which plumb does not handle";

[[noreturn]] void bad(const std::string& message) { throw Error(ErrorKind::bad_file, message); }

void refuse_when_set(const Fields& fields, const std::string& field) {
  const Json& value = fields.raw(field);
  const bool unset =
      value.is_null() || value == "" || value == false || (value.is_number() && value == 0);
  if (!unset) fields.unsupported(field, std::string(not_handled));
}

void read_model(const Fields& model, TokenizerSpec& spec) {
  // Old files leave the type out; they are all BPE.
  if (model.text("type", "BPE") != "BPE") {
    model.unsupported("type", "but plumb reads byte-level BPE only");
  }
  for (const char* field :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) {
    refuse_when_set(model, field);
  }
  spec.ignore_merges = model.flag("ignore_merges", false);
  spec.fuse_unknown = model.flag("fuse_unk", false);
  if (model.has("unk_token")) spec.unknown = model.text("unk_token");

  const Fields vocab = model.object("vocab");
  spec.vocab.reserve(vocab.json().size());
  for (const auto& [token, id] : vocab.json().items()) {
    spec.vocab.emplace_back(token, vocab.integer(token, 0, largest_token_id));
  }

  const Json& merges = model.raw("merges");
  if (!merges.is_array()) model.wrong("merges", "a list");
  spec.merges.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const Json& merge = merges[i];
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      if (i == 0 && text.starts_with("#version")) continue;
      spec.merges.push_back(split_merge(text, model.where(), i));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      spec.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    } else {
      bad(fmt::format("{}: merge {} should be a string or a pair of strings", model.where(), i));
    }
  }
}

/// The members of a Sequence, or the thing itself.
std::vector<Fields> sequence(const Fields& step, const std::string& members) {
  if (step.text("type") != "Sequence") return {step};
  const Json& list = step.raw(members);
  if (!list.is_array()) step.wrong(members, "a list");
  std::vector<Fields> out;
  for (std::size_t i = 0; i < list.size(); ++i) {
    out.emplace_back(list[i], fmt::format("{}: {}[{}]", step.where(), members, i));
  }
  return out;
}

void read_normalizer(const Fields& top, TokenizerSpec& spec) {
  if (!top.has("normalizer")) return;
  for (const Fields& step : sequence(top.object("normalizer"), "normalizers")) {
    if (step.text("type") != "NFC") {
      step.unsupported("type", "but plumb normalises to NFC or not at all");
    }
    spec.nfc = true;
  }
}

void read_split(const Fields& step, PreTokenizer& pretokenizer) {
  if (step.text("behavior") != "Isolated") step.unsupported("behavior", std::string(not_handled));
  const Fields pattern = step.object("pattern");
  std::string regex;
  if (pattern.has("Regex")) {
    regex = pattern.text("Regex");
  } else {
    for (const char c : pattern.text("String")) {
      const bool meaning = std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos;
      if (meaning) regex += '\\';
      regex += c;
    }
  }
  // With the matches isolated, inverting the pattern changes nothing.
  pretokenizer.add_split(regex, step.where());
}

void read_pretokenizer(const Fields& top, TokenizerSpec& spec) {
  if (!top.has("pre_tokenizer")) {
    throw Error(
        ErrorKind::unsupported,
        fmt::format("{}: has no pre_tokenizer, but plumb reads byte-level BPE only", top.where()));
  }
  const Fields pre = top.object("pre_tokenizer");
  const std::vector<Fields> steps = sequence(pre, "pretokenizers");
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const Fields& step = steps[i];
    const std::string type = step.text("type");
    const bool last = i + 1 == steps.size();
    if (type == "Split" && !last) {
      read_split(step, spec.pretokenizer);
    } else if (type == "Digits" && !last) {
      const bool each = step.flag("individual_digits", false);
      spec.pretokenizer.add_split(each ? R"(\p{N})" : R"(\p{N}+)", step.where());
    } else if (type == "ByteLevel" && last) {
      if (step.flag("add_prefix_space", true)) spec.pretokenizer.add_space_prefix();
      if (step.flag("use_regex", true))
        spec.pretokenizer.add_split(gpt2_split_pattern, step.where());
    } else {
      step.unsupported("type", last ? "but plumb reads byte-level BPE only, where ByteLevel is last"
                                    : std::string(not_handled));
    }
  }
  if (steps.empty()) pre.unsupported("pretokenizers", "but plumb reads byte-level BPE only");
}

AddedToken read_added_token(const Fields& fields, std::int64_t id) {
  for (const char* field : {"single_word", "lstrip", "rstrip"}) refuse_when_set(fields, field);
  AddedToken token;
  token.content = fields.text("content");
  token.id = id;
  token.special = fields.flag("special", false);
  token.normalized = fields.flag("normalized", !token.special);
  if (token.content.empty()) fields.wrong("content", "a string that is not empty");
  return token;
}

void read_added_tokens(const Fields& top, TokenizerSpec& spec) {
  const Json& list = top.raw("added_tokens");
  if (list.is_null()) return;
  if (!list.is_array()) top.wrong("added_tokens", "a list");
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Fields fields(list[i], fmt::format("{}: added_tokens[{}]", top.where(), i));
    spec.added.push_back(read_added_token(fields, fields.integer("id", 0, largest_token_id)));
  }
}

/// A TemplateProcessing puts special tokens around the text; one in front is the BOS.
void read_template(const Fields& processor, TokenizerSpec& spec) {
  const Json& single = processor.raw("single");
  if (!single.is_array()) processor.wrong("single", "a list");
  std::vector<std::string> leading;
  for (const Json& part : single) {
    if (!part.is_object() || !part.contains("SpecialToken")) break;
    leading.push_back(Fields(part, processor.where()).object("SpecialToken").text("id"));
  }
  if (leading.empty()) return;
  if (leading.size() > 1) {
    processor.unsupported("single", "with more than one token in front of the text");
  }
  const Fields token = processor.object("special_tokens").object(leading.front());
  const std::vector<std::int64_t> ids = token.integers("ids", 0, largest_token_id);
  if (ids.size() != 1) token.wrong("ids", "a list of one id");
  spec.bos = ids.front();
  spec.adds_bos = true;
}

void read_post_processor(const Fields& top, TokenizerSpec& spec) {
  if (!top.has("post_processor")) return;
  for (const Fields& step : sequence(top.object("post_processor"), "processors")) {
    const std::string type = step.text("type");
    if (type == "TemplateProcessing") {
      read_template(step, spec);
    } else if (type != "ByteLevel") {
      step.unsupported("type", std::string(not_handled));
    }
  }
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
  // A field that is there and null says that there is no such token.
  if (config.json().contains("bos_token")) spec.bos = named_token(config, "bos_token", spec);
  if (config.json().contains("eos_token")) spec.eos = named_token(config, "eos_token", spec);
  spec.adds_bos = config.flag("add_bos_token", spec.adds_bos) && spec.bos.has_value();
}

std::optional<std::int64_t> configured_id(const Fields& config, const std::string& field) {
  if (!config.has(field)) return std::nullopt;
  if (!config.raw(field).is_array()) return config.integer(field, 0, largest_token_id);
  const std::vector<std::int64_t> ids = config.integers(field, 0, largest_token_id);
  return ids.empty() ? std::nullopt : std::optional(ids.front());
}

}  // namespace

std::pair<std::string, std::string> split_merge(std::string_view text, const std::string& where,
                                                std::size_t index) {
  const std::size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos ||
      space == 0 || space + 1 == text.size()) {
    bad(fmt::format("{}: merge {} should be two tokens with one space between, but is {}", where,
                    index, printable(text)));
  }
  return {std::string(text.substr(0, space)), std::string(text.substr(space + 1))};
}

TokenizerSpec read_tokenizer_directory(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "tokenizer.json";
  if (!std::filesystem::exists(path)) {
    if (std::filesystem::exists(directory / "tokenizer.model")) {
      throw Error(ErrorKind::unsupported,
                  fmt::format("{}: has a tokenizer.model (SentencePiece) but no tokenizer.json; "
                              "plumb reads byte-level BPE from tokenizer.json",
                              directory.string()));
    }
    bad(fmt::format("{}: has no tokenizer.json; give ids instead of text, or copy it there",
                    directory.string()));
  }
  TokenizerSpec spec;
  spec.where = path.string();
  const Json document = parse_json(read_text(path, largest_json), spec.where);
  const Fields top(document, spec.where);
  read_model(top.object("model"), spec);
  read_normalizer(top, spec);
  read_pretokenizer(top, spec);
  read_added_tokens(top, spec);
  read_post_processor(top, spec);
  if (top.has("decoder") && top.object("decoder").text("type") != "ByteLevel") {
    top.object("decoder").unsupported("type", "but plumb reads byte-level BPE only");
  }

  bool bos_told = spec.bos.has_value();
  bool eos_told = false;
  const std::filesystem::path config_path = directory / "tokenizer_config.json";
  if (std::filesystem::exists(config_path)) {
    const Json json = parse_json(read_text(config_path, largest_json), config_path.string());
    read_tokenizer_config(Fields(json, config_path.string()), spec);
    bos_told = bos_told || json.contains("bos_token");
    eos_told = json.contains("eos_token");
  }
  const std::filesystem::path model_path = directory / "config.json";
  if ((!bos_told || !eos_told) && std::filesystem::exists(model_path)) {
    const Json json = parse_json(read_text(model_path, largest_json), model_path.string());
    const Fields config(json, model_path.string());
    if (!bos_told) spec.bos = configured_id(config, "bos_token_id");
    if (!eos_told) spec.eos = configured_id(config, "eos_token_id");
  }
  return spec;
}

}  // namespace plumb
