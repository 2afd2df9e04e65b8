#include "checkpoint/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "checkpoint/printable.h"
#include "checkpoint/split_pattern.h"
#include "plumb/error.h"

namespace plumb {
namespace {

// A pattern may need this much beyond PCRE2's own stack before the text counts as too difficult.
constexpr std::uint32_t heap_limit_kib = 64 * 1024;
constexpr std::uint32_t match_limit = 20'000'000;
constexpr std::size_t longest_pattern = 16 * 1024;
constexpr std::size_t most_steps = 32;

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeCompileContext {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};
struct FreeMatchContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct FreeMatchData {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

std::string message_of(int code) {
  std::string text(256, '\0');
  const int length =
      pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(text.data()), text.size());
  text.resize(length < 0 ? 0 : static_cast<std::size_t>(length));
  return text;
}

}  // namespace

struct PreTokenizer::Pattern {
  std::unique_ptr<pcre2_code, FreeCode> code;
  std::unique_ptr<pcre2_match_context, FreeMatchContext> limits;
  std::string source;
};

void PreTokenizer::add_split(std::string_view source, const std::string& where) {
  if (source.size() > longest_pattern || steps_.size() >= most_steps) {
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: more than {} splitting steps or {} bytes in a split pattern",
                            where, most_steps, longest_pattern));
  }
  const std::string translated = translate_split_pattern(source, where);
  // Line ends as in Oniguruma's default syntax: $ and ^ know \n alone.
  const std::unique_ptr<pcre2_compile_context, FreeCompileContext> context(
      pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE at = 0;
  auto pattern = std::make_shared<Pattern>();
  pattern->source = std::string(source);
  pattern->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                                    translated.size(), PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE,
                                    &code, &at, context.get()));
  if (!pattern->code) {
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: split pattern {} is not one plumb can run: {}", where,
                            printable(source), message_of(code)));
  }
  // Without JIT on this machine matching is slower and gives the same matches.
  pcre2_jit_compile(pattern->code.get(), PCRE2_JIT_COMPLETE);
  pattern->limits.reset(pcre2_match_context_create(nullptr));
  pcre2_set_heap_limit(pattern->limits.get(), heap_limit_kib);
  pcre2_set_match_limit(pattern->limits.get(), match_limit);
  steps_.push_back({std::move(pattern)});
}

void PreTokenizer::add_space_prefix() { steps_.push_back({nullptr}); }

std::vector<std::optional<std::string>> PreTokenizer::steps() const {
  std::vector<std::optional<std::string>> all;
  for (const Step& step : steps_) {
    all.push_back(step.pattern ? std::optional(step.pattern->source) : std::nullopt);
  }
  return all;
}

/// One call of split: the steps applied depth first, so that memory does not grow with the text.
class PreTokenizer::Run {
 public:
  Run(const std::vector<Step>& steps, const std::function<void(std::string_view)>& sink)
      : steps_(steps), sink_(sink) {
    for (const Step& step : steps) {
      data_.emplace_back(step.pattern ? pcre2_match_data_create(1, nullptr) : nullptr);
    }
  }

  void step(std::size_t level, std::string_view text) {
    if (text.empty()) return;
    if (level == steps_.size()) return sink_(text);
    const Pattern* pattern = steps_[level].pattern.get();
    if (pattern != nullptr) return cut(level, *pattern, text);
    if (text.front() == ' ') return step(level + 1, text);
    std::string prefixed(1, ' ');
    prefixed += text;
    step(level + 1, prefixed);
  }

 private:
  void cut(std::size_t level, const Pattern& pattern, std::string_view text) {
    std::size_t at = 0;
    while (at < text.size()) {
      const auto [begin, end] = next_match(pattern, data_[level].get(), text, at);
      step(level + 1, text.substr(at, begin - at));
      step(level + 1, text.substr(begin, end - begin));
      at = end;
    }
  }

  /// The next match from `at`; both ends at the text's end when there is none.
  static std::pair<std::size_t, std::size_t> next_match(const Pattern& pattern,
                                                        pcre2_match_data* data,
                                                        std::string_view text, std::size_t at) {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    // An empty match cuts nothing, and would stand still.
    std::uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    const auto match = [&] {
      return pcre2_match(pattern.code.get(), subject, text.size(), at, options, data,
                         pattern.limits.get());
    };
    int found = match();
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
      options |= PCRE2_NO_JIT;
      found = match();
    }
    if (found == PCRE2_ERROR_NOMATCH) return {text.size(), text.size()};
    if (found < 0) {
      throw Error(ErrorKind::too_large,
                  fmt::format("cannot cut a text of {} bytes into words with pattern {}: {}; "
                              "give it in smaller parts",
                              text.size(), printable(pattern.source), message_of(found)));
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data);
    return {ends[0], ends[1]};
  }

  const std::vector<Step>& steps_;
  const std::function<void(std::string_view)>& sink_;
  std::vector<std::unique_ptr<pcre2_match_data, FreeMatchData>> data_;
};

void PreTokenizer::split(std::string_view text,
                         const std::function<void(std::string_view)>& sink) const {
  Run(steps_, sink).step(0, text);
}

}  // namespace plumb
