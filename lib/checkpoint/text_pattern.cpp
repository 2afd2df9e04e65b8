#include "checkpoint/text_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <cstdint>
#include <new>
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

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeCompileContext {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};
struct FreeMatchContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

std::string message_of(int code) {
  std::string text(256, '\0');
  const int length =
      pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(text.data()), text.size());
  text.resize(length < 0 ? 0 : static_cast<std::size_t>(length));
  return text;
}

}  // namespace

struct TextPattern::Compiled {
  std::unique_ptr<pcre2_code, FreeCode> code;
  std::unique_ptr<pcre2_match_context, FreeMatchContext> limits;
  std::string source;
};

TextPattern TextPattern::oniguruma(std::string_view source, const std::string& where) {
  if (source.size() > longest_pattern) {
    throw Error(ErrorKind::unsupported, fmt::format("{}: a split pattern of {} bytes, more than {}",
                                                    where, source.size(), longest_pattern));
  }
  return compile(source, translate_split_pattern(source, where), where);
}

TextPattern TextPattern::literal(std::string_view text, const std::string& where) {
  std::string escaped;
  for (const char c : text) {
    const bool meaning = std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos;
    if (meaning) escaped += '\\';
    escaped += c;
  }
  return oniguruma(escaped, where);
}

TextPattern TextPattern::pcre2(std::string_view source) {
  return compile(source, std::string(source), "plumb");
}

TextPattern TextPattern::compile(std::string_view source, const std::string& translated,
                                 const std::string& where) {
  // Line ends as in Oniguruma's default syntax: $ and ^ know \n alone.
  const std::unique_ptr<pcre2_compile_context, FreeCompileContext> context(
      pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE at = 0;
  auto compiled = std::make_shared<Compiled>();
  compiled->source = std::string(source);
  compiled->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                                     translated.size(), PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE,
                                     &code, &at, context.get()));
  if (!compiled->code) {
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: split pattern {} is not one plumb can run: {}", where,
                            printable(source), message_of(code)));
  }
  // Without JIT on this machine matching is slower and gives the same matches.
  pcre2_jit_compile(compiled->code.get(), PCRE2_JIT_COMPLETE);
  compiled->limits.reset(pcre2_match_context_create(nullptr));
  pcre2_set_heap_limit(compiled->limits.get(), heap_limit_kib);
  pcre2_set_match_limit(compiled->limits.get(), match_limit);
  TextPattern out;
  out.compiled_ = std::move(compiled);
  return out;
}

const std::string& TextPattern::source() const { return compiled_->source; }

TextPattern::Search::Search(const TextPattern& pattern, std::string_view text)
    : pattern_(pattern), text_(text), data_(pcre2_match_data_create(1, nullptr)) {
  if (data_ == nullptr) throw std::bad_alloc();
}

TextPattern::Search::~Search() { pcre2_match_data_free(static_cast<pcre2_match_data*>(data_)); }

TextPattern::Match TextPattern::Search::next(std::size_t from) {
  const Compiled& compiled = *pattern_.compiled_;
  auto* data = static_cast<pcre2_match_data*>(data_);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text_.data());
  // An empty match cuts nothing, and would stand still.
  std::uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
  const auto match = [&] {
    return pcre2_match(compiled.code.get(), subject, text_.size(), from, options, data,
                       compiled.limits.get());
  };
  int found = match();
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
    options |= PCRE2_NO_JIT;
    found = match();
  }
  if (found == PCRE2_ERROR_NOMATCH) return {text_.size(), text_.size()};
  if (found < 0) {
    throw Error(ErrorKind::too_large,
                fmt::format("cannot cut a text of {} bytes into words with pattern {}: {}; "
                            "give it in smaller parts",
                            text_.size(), printable(compiled.source), message_of(found)));
  }
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data);
  return {ends[0], ends[1]};
}

}  // namespace plumb
