// The normalizer, pre-tokenizer and decoder of a tokenizer.json.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <string_view>

#include "checkpoint/base64.h"
#include "checkpoint/tokenizer_files.h"
#include "plumb/error.h"

namespace plumb {
namespace {

const std::string not_handled = "which plumb does not handle";

/// A pattern given as {"Regex": ...} or {"String": ...}.
TextPattern read_pattern(const Fields& step) {
  const Fields pattern = step.object("pattern");
  if (pattern.has("Regex")) return TextPattern::oniguruma(pattern.text("Regex"), step.where());
  const std::string text = pattern.text("String");
  if (text.empty()) pattern.wrong("String", "a string that is not empty");
  return TextPattern::literal(text, step.where());
}

Normalizer::Step read_normalizer_step(const Fields& step) {
  const std::string type = step.text("type");
  if (type == "NFC") return normal_form_step(NormalForm::nfc);
  if (type == "NFD") return normal_form_step(NormalForm::nfd);
  if (type == "NFKC") return normal_form_step(NormalForm::nfkc);
  if (type == "NFKD") return normal_form_step(NormalForm::nfkd);
  if (type == "Prepend") return prepend_step(step.text("prepend"));
  if (type == "Replace") return replace_step(read_pattern(step), step.text("content"));
  if (type == "Strip") {
    return strip_step(step.flag("strip_left", true), step.flag("strip_right", true));
  }
  if (type == "StripAccents") return strip_accents_step();
  if (type == "Precompiled") {
    const auto blob = base64_decoded(step.text("precompiled_charsmap", ""));
    if (!blob) step.wrong("precompiled_charsmap", "text in base 64");
    return charsmap_step(std::make_shared<const Charsmap>(*blob, step.where()));
  }
  step.unsupported("type", "a normalizer that plumb does not handle");
}

/// Of a Metaspace step.
std::string read_replacement(const Fields& step) {
  std::string text = step.text("replacement");
  if (text.empty()) step.wrong("replacement", "a string that is not empty");
  return text;
}

SplitBehavior read_behavior(const Fields& step, const std::string& fallback) {
  const std::string name = step.text("behavior", fallback);
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  step.unsupported("behavior", not_handled);
}

PrependScheme read_prepend_scheme(const Fields& step) {
  // Older files say add_prefix_space instead.
  const bool prefix = step.flag("add_prefix_space", true);
  const std::string name = step.text("prepend_scheme", prefix ? "always" : "never");
  if (name == "never") return PrependScheme::never;
  if (!prefix) step.wrong("add_prefix_space", "true where the prepend_scheme is not \"never\"");
  if (name == "always") return PrependScheme::always;
  if (name == "first") return PrependScheme::first;
  step.unsupported("prepend_scheme", not_handled);
}

// Unicode's White_Space, and what a regular expression's \w matches.
constexpr std::string_view spaces =
    R"([\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}])";
constexpr std::string_view words_or_symbols =
    R"([\p{L}\p{M}\p{Nl}\p{Nd}\p{Pc}\x{200c}\x{200d}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189}]+)"
    R"(|[^\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})"
    R"(\p{L}\p{M}\p{Nl}\p{Nd}\p{Pc}\x{200c}\x{200d}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189}]+)";
constexpr std::string_view punctuation = R"([\p{P}!-/:-@\[-`{-~])";

/// One step; whether it was ByteLevel.
bool read_pretokenizer_step(const Fields& step, bool after_bytes, PreTokenizer& out) {
  const std::string type = step.text("type");
  if (type == "Split") {
    out.add_split(read_pattern(step), read_behavior(step, "Isolated"), step.flag("invert", false));
  } else if (type == "Digits") {
    const bool each = step.flag("individual_digits", false);
    out.add_split(each ? R"(\p{N})" : R"(\p{N}+)", step.where());
  } else if (type == "Punctuation") {
    out.add_split(TextPattern::pcre2(punctuation), read_behavior(step, "Isolated"));
  } else if (after_bytes) {
    step.unsupported("type", "which plumb does not handle behind ByteLevel");
  } else if (type == "WhitespaceSplit") {
    out.add_split(TextPattern::pcre2(spaces), SplitBehavior::removed);
  } else if (type == "Whitespace") {
    out.add_split(TextPattern::pcre2(words_or_symbols), SplitBehavior::removed, true);
  } else if (type == "CharDelimiterSplit") {
    out.add_split(TextPattern::literal(step.text("delimiter"), step.where()),
                  SplitBehavior::removed);
  } else if (type == "Metaspace") {
    out.add_metaspace(read_replacement(step), read_prepend_scheme(step), step.flag("split", true),
                      step.where());
  } else if (type == "ByteLevel") {
    if (step.flag("add_prefix_space", true)) out.add_space_prefix();
    if (step.flag("use_regex", true)) out.add_split(gpt2_split_pattern, step.where());
    out.enter_byte_alphabet();
    return true;
  } else {
    step.unsupported("type", "a pre-tokenizer that plumb does not handle");
  }
  return false;
}

void read_pretokenizer(const Fields& top, TokenizerSpec& spec) {
  bool bytes = false;
  if (top.has("pre_tokenizer")) {
    for (const Fields& step : sequence_of(top.object("pre_tokenizer"), "pretokenizers")) {
      bytes = read_pretokenizer_step(step, bytes, spec.pretokenizer) || bytes;
    }
  }
  if (bytes && spec.model == ModelKind::unigram) {
    top.object("pre_tokenizer").unsupported("type", "ByteLevel, in front of a Unigram model");
  }
  if (bytes && spec.byte_fallback) {
    top.object("model").unsupported("byte_fallback", "behind a ByteLevel pre-tokenizer");
  }
  if (!bytes && spec.model == ModelKind::byte_bpe) spec.model = ModelKind::character_bpe;
}

void read_decoder_step(const Fields& step, bool fused, Decoding& out) {
  const std::string type = step.text("type");
  if (type == "Replace" && !fused && !out.byte_tokens) {
    const Fields pattern = step.object("pattern");
    if (!pattern.has("String") || pattern.text("String").empty()) {
      step.unsupported("pattern", not_handled + " in a decoder");
    }
    out.replace.emplace_back(pattern.text("String"), step.text("content"));
  } else if (type == "ByteFallback" && !fused) {
    out.byte_tokens = true;
  } else if (type == "Fuse" && !fused) {
    out.between.clear();
  } else if (type == "Strip" && fused && out.strip.empty()) {
    out.strip = step.text("content");
    out.strip_begin = static_cast<std::size_t>(step.integer("start", 0, 1 << 20, 0));
    out.strip_end = static_cast<std::size_t>(step.integer("stop", 0, 1 << 20, 0));
  } else if (type == "Metaspace" && !fused) {
    out.replace.emplace_back(read_replacement(step), " ");
    if (read_prepend_scheme(step) != PrependScheme::never) {
      out.strip = " ";
      out.strip_begin = 1;
    }
  } else {
    step.unsupported("type", "a decoder that plumb does not handle in this place");
  }
}

void read_decoder(const Fields& top, TokenizerSpec& spec) {
  if (!top.has("decoder")) {
    // The reference writes tokens that nothing decodes with spaces between.
    if (spec.model != ModelKind::byte_bpe) spec.decoding.between = " ";
    return;
  }
  const Fields decoder = top.object("decoder");
  const bool bytes = spec.model == ModelKind::byte_bpe;
  if (bytes || decoder.text("type") == "ByteLevel") {
    if (!bytes || decoder.text("type") != "ByteLevel") {
      decoder.unsupported(
          "type", bytes ? "but the pre-tokenizer is ByteLevel" : "but the pre-tokenizer is not");
    }
    return;
  }
  bool fused = false;
  for (const Fields& step : sequence_of(decoder, "decoders")) {
    read_decoder_step(step, fused, spec.decoding);
    fused = fused || step.text("type") == "Fuse";
  }
}

}  // namespace

std::vector<Fields> sequence_of(const Fields& step, const std::string& members) {
  if (step.text("type") != "Sequence") return {step};
  const Json& list = step.raw(members);
  if (!list.is_array()) step.wrong(members, "a list");
  std::vector<Fields> out;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Fields member(list[i], fmt::format("{}: {}[{}]", step.where(), members, i));
    for (const Fields& inner : sequence_of(member, members)) out.push_back(inner);
  }
  return out;
}

void read_text_steps(const Fields& top, TokenizerSpec& spec) {
  if (top.has("normalizer")) {
    for (const Fields& step : sequence_of(top.object("normalizer"), "normalizers")) {
      spec.normalizer.add(read_normalizer_step(step));
    }
  }
  read_pretokenizer(top, spec);
  read_decoder(top, spec);
}

}  // namespace plumb
