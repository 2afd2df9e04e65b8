#include "checkpoint/gguf_pretokenizers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

using Patterns = std::array<std::string_view, 4>;

constexpr std::string_view each_digit = R"(\p{N})";
constexpr std::string_view llama3_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen2_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen35_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|)"
    R"( ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view gpt4o_pattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view tekken_pattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view deepseek3_words =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
    R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view east_asian = R"([\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+)";

constexpr Patterns gpt2 = {gpt2_split_pattern};
constexpr Patterns digits_gpt2 = {each_digit, gpt2_split_pattern};
constexpr Patterns llama3 = {llama3_pattern};
constexpr Patterns qwen2 = {qwen2_pattern};
constexpr Patterns gpt4o = {gpt4o_pattern};
constexpr Patterns deepseek3 = {R"(\p{N}{1,3})", east_asian, deepseek3_words};
constexpr Patterns falcon = {R"([\p{P}\$\+<=>\^~\|`]+)", gpt2_split_pattern, "[0-9][0-9][0-9]"};
constexpr Patterns plain = {R"([\p{P}\$\+<=>\^~\|]+)", gpt2_split_pattern, R"(\p{N}+)",
                            "[0-9][0-9][0-9]"};

struct Named {
  std::string_view name;
  const Patterns& patterns;
  bool ignore_merges = false;
  bool adds_bos = false;
  bool nfc = false;  ///< the tokenizer.json behind it normalises
};

constexpr Patterns qwen35 = {qwen35_pattern};
constexpr Patterns tekken = {tekken_pattern};

constexpr auto names = std::to_array<Named>({
    {"default", plain},
    {"gpt-2", gpt2},
    {"phi-2", gpt2},
    {"mpt", gpt2},
    {"jais", gpt2},
    {"exaone4", gpt2},
    {"trillion", gpt2},
    {"granite-docling", gpt2},
    {"olmo", gpt2, false, false, true},
    {"smollm", digits_gpt2},
    {"starcoder", digits_gpt2},
    {"refact", digits_gpt2},
    {"command-r", digits_gpt2, false, false, true},
    {"codeshell", digits_gpt2},
    {"exaone", digits_gpt2},
    {"minerva-7b", digits_gpt2},
    {"llama-bpe", llama3, true, true},
    {"llama3", llama3, true, true},
    {"llama-v3", llama3, true, true},
    {"falcon3", llama3, true, true},
    {"falcon-h1", llama3, true, true},
    {"pixtral", llama3, true, true},
    {"midm-2.0", llama3, true, true},
    {"lfm2", llama3, true, true},
    {"dbrx", llama3},
    {"smaug-bpe", llama3},
    {"qwen2", qwen2, false, false, true},
    {"deepseek-r1-qwen", qwen2, false, false, true},
    {"stablelm2", qwen2},
    {"megrez", qwen2},
    {"hunyuan", qwen2},
    {"qwen35", qwen35, false, false, true},
    {"gpt-4o", gpt4o},
    {"llama4", gpt4o},
    {"kanana2", gpt4o},
    {"tekken", tekken, true, true},
    {"deepseek-v3", deepseek3},
    {"falcon", falcon},
});

}  // namespace

GgufPreTokenizer add_gguf_pretokenizer(std::string_view name, bool space_prefix,
                                       TokenizerSpec& spec) {
  const auto* found = std::find_if(names.begin(), names.end(),
                                   [&](const Named& each) { return each.name == name; });
  if (found == names.end()) {
    std::string known;
    for (const Named& each : names) {
      known += fmt::format("{}{}", known.empty() ? "" : ", ", each.name);
    }
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: tokenizer.ggml.pre is {}; plumb knows {}", spec.where,
                            name.empty() ? "missing" : printable(name), known));
  }
  for (const std::string_view pattern : found->patterns) {
    if (pattern.empty()) continue;
    // ByteLevel's prefix comes behind the splitting of digits.
    if (space_prefix && pattern != each_digit) {
      spec.pretokenizer.add_space_prefix();
      space_prefix = false;
    }
    spec.pretokenizer.add_split(pattern, spec.where);
  }
  spec.ignore_merges = found->ignore_merges;
  spec.nfc = found->nfc;
  if (found->nfc) spec.normalizer.add(normal_form_step(NormalForm::nfc));
  return {.adds_bos = found->adds_bos};
}

}  // namespace plumb
