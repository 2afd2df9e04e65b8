#include "checkpoint/write_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <system_error>

#include "checkpoint/gguf.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

// What Python's tokenizers read beside the weights.
constexpr std::array<const char*, 9> carried = {"tokenizer.json",
                                                "tokenizer_config.json",
                                                "special_tokens_map.json",
                                                "added_tokens.json",
                                                "vocab.json",
                                                "merges.txt",
                                                "tokenizer.model",
                                                "chat_template.jinja",
                                                "chat_template.json"};
constexpr std::uint64_t largest_carried = std::uint64_t{256} << 20;

Json byte_level(bool prefix, bool split) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", prefix},
          {"trim_offsets", true},
          {"use_regex", split}};
}

Json pre_tokenizer(const TokenizerSpec& spec) {
  auto steps = spec.pretokenizer.steps();
  // The last two steps that ByteLevel does on its own: a space in front, GPT-2's pattern.
  const bool split = !steps.empty() && steps.back() && *steps.back() == gpt2_split_pattern;
  if (split) steps.pop_back();
  const bool prefix = !steps.empty() && !steps.back();
  if (prefix) steps.pop_back();
  Json list = Json::array();
  for (const auto& step : steps) {
    if (!step || (prefix && !split)) {
      throw Error(
          ErrorKind::unsupported,
          fmt::format("{}: its space prefix stands where tokenizer.json has no place for it",
                      spec.where));
    }
    list.push_back({{"type", "Split"},
                    {"pattern", {{"Regex", *step}}},
                    {"behavior", "Isolated"},
                    {"invert", false}});
  }
  list.push_back(byte_level(prefix, split));
  return {{"type", "Sequence"}, {"pretokenizers", list}};
}

std::string content_of(const TokenizerSpec& spec, std::int64_t id) {
  for (const AddedToken& token : spec.added) {
    if (token.id == id) return token.content;
  }
  for (const auto& [token, number] : spec.vocab) {
    if (number == id) return token;
  }
  throw Error(ErrorKind::bad_file, fmt::format("{}: has no token {}", spec.where, id));
}

/// Puts the BOS in front; with a second text, in front of both.
Json bos_template(const std::string& bos, std::int64_t id) {
  const auto special = [&](int type) {
    return Json{{"SpecialToken", {{"id", bos}, {"type_id", type}}}};
  };
  const auto text = [](const char* name, int type) {
    return Json{{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  return {{"type", "TemplateProcessing"},
          {"single", {special(0), text("A", 0)}},
          {"pair", {special(0), text("A", 0), special(1), text("B", 1)}},
          {"special_tokens", {{bos, {{"id", bos}, {"ids", {id}}, {"tokens", {bos}}}}}}};
}

Json vocabulary(const TokenizerSpec& spec) {
  Json vocab = Json::object();
  for (const auto& [token, id] : spec.vocab) {
    if (!vocab.emplace(token, id).second) {
      throw Error(ErrorKind::unsupported,
                  fmt::format("{}: token {} stands twice in the vocabulary, which tokenizer.json "
                              "cannot say",
                              spec.where, printable(token)));
    }
  }
  return vocab;
}

Json added_tokens(const TokenizerSpec& spec) {
  std::vector<AddedToken> tokens = spec.added;
  std::sort(tokens.begin(), tokens.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  Json added = Json::array();
  for (const AddedToken& token : tokens) {
    added.push_back({{"id", token.id},
                     {"content", token.content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", token.normalized},
                     {"special", token.special}});
  }
  return added;
}

Json byte_model(const TokenizerSpec& spec) {
  Json merges = Json::array();
  for (const auto& [left, right] : spec.merges) merges.push_back(left + " " + right);
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", spec.unknown ? Json(*spec.unknown) : Json()},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", spec.fuse_unknown},
          {"byte_fallback", false},
          {"ignore_merges", spec.ignore_merges},
          {"merges", merges}};
}

std::string text_of(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::strict) + "\n";
}

TokenizerFiles of_directory(const fs::path& directory) {
  TokenizerFiles files;
  for (const char* name : carried) {
    std::error_code ignored;
    if (!fs::is_regular_file(directory / name, ignored)) continue;
    files.files.push_back({name, read_text(directory / name, largest_carried)});
  }
  if (files.files.empty()) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: has no tokenizer's files to copy", directory.string()));
  }
  return files;
}

}  // namespace

Json tokenizer_json(const TokenizerSpec& spec) {
  const bool bytes = spec.model == ModelKind::byte_bpe;
  if (!bytes && spec.model != ModelKind::scored_bpe) {
    throw Error(
        ErrorKind::unsupported,
        fmt::format("{}: its tokenizer is neither byte-level nor SentencePiece's BPE, which "
                    "are what plumb writes as tokenizer.json",
                    spec.where));
  }
  Json model = bytes ? byte_model(spec) : sentencepiece_model_json(spec);
  model["vocab"] = vocabulary(spec);
  const Json nfc = spec.nfc ? Json{{"type", "NFC"}} : Json();
  const Json plain = bytes ? byte_level(false, true) : Json();
  return {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added_tokens(spec)},
      {"normalizer", bytes ? nfc : sentencepiece_normalizer_json(spec)},
      {"pre_tokenizer", bytes ? pre_tokenizer(spec) : Json()},
      {"post_processor",
       spec.adds_bos && spec.bos ? bos_template(content_of(spec, *spec.bos), *spec.bos) : plain},
      {"decoder", bytes ? byte_level(true, true) : sentencepiece_decoder_json(spec)},
      {"model", model}};
}

Json tokenizer_config_json(const TokenizerSpec& spec, int context) {
  const auto name = [&](const std::optional<std::int64_t>& id) {
    return id ? Json(content_of(spec, *id)) : Json();
  };
  return {{"tokenizer_class", "PreTrainedTokenizerFast"},
          {"bos_token", name(spec.bos)},
          {"eos_token", name(spec.eos)},
          {"unk_token", spec.unknown ? Json(*spec.unknown) : Json()},
          {"add_bos_token", spec.adds_bos},
          {"clean_up_tokenization_spaces", false},
          {"model_max_length", context}};
}

TokenizerFiles tokenizer_files(const fs::path& checkpoint, int context) {
  std::error_code ignored;
  if (fs::is_directory(checkpoint, ignored)) return of_directory(checkpoint);
  const TokenizerSpec spec = read_tokenizer_gguf(checkpoint);
  Json config = tokenizer_config_json(spec, context);
  const GgufFile file(checkpoint);
  if (file.has("tokenizer.chat_template")) {
    config["chat_template"] = std::string(file.text("tokenizer.chat_template"));
  }
  TokenizerFiles made;
  made.bos = spec.bos;
  made.eos = spec.eos;
  made.files = {{"tokenizer.json", text_of(tokenizer_json(spec))},
                {"tokenizer_config.json", text_of(config)}};
  return made;
}

}  // namespace plumb
