#include "checkpoint/split_pattern.h"

#include <fmt/format.h>

#include <cctype>
#include <cstddef>
#include <string>
#include <string_view>

#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

/// Rewrites one pattern. What means the same in both (with PCRE2's UTF, UCP and MULTILINE) is
/// copied, `\s` and `\S` are spelled out, and everything else is refused, since a silently
/// different split would give other tokens.
class SplitPattern {
 public:
  SplitPattern(std::string_view source, const std::string& where)
      : source_(source), where_(where) {}

  /// Throws unsupported naming the construct.
  std::string translate() {
    while (at_ < source_.size()) {
      const char c = source_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_member(c);
      } else {
        outside_class(c);
      }
    }
    return out_;
  }

 private:
  // Unicode's White_Space, which is Oniguruma's \s. PCRE2's \s has U+180E as well.
  static constexpr std::string_view white_space =
      R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

  [[noreturn]] void refuse(std::string_view construct) const {
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: split pattern {} uses {} at byte {}, which plumb does not handle",
                            where_, printable(source_), printable(construct), at_));
  }

  void copy(std::size_t bytes) {
    out_ += source_.substr(at_, bytes);
    at_ += bytes;
  }

  void escape() {
    const std::string_view pair = source_.substr(at_, 2);
    if (pair.size() < 2) refuse(pair);
    const char c = pair[1];
    if (c == 's') {
      out_ += in_class_ ? std::string(white_space) : fmt::format("[{}]", white_space);
      at_ += 2;
    } else if (c == 'S' && !in_class_) {
      out_ += fmt::format("[^{}]", white_space);
      at_ += 2;
    } else if (c == 'p' || c == 'P') {
      property();
    } else if (c == 'u') {
      const std::string_view digits = source_.substr(at_ + 2, 4);
      if (digits.size() < 4) refuse(pair);
      for (const char digit : digits) {
        if (std::isxdigit(static_cast<unsigned char>(digit)) == 0) refuse(pair);
      }
      out_ += fmt::format("\\x{{{}}}", digits);
      at_ += 6;
    } else if (c == 'r' || c == 'n' || c == 't' || c == 'f' || c == 'd' || c == 'D' || c == 'x' ||
               std::ispunct(static_cast<unsigned char>(c)) != 0) {
      copy(2);
    } else {
      refuse(pair);
    }
  }

  /// General categories only: script names mean script extensions in newer PCRE2.
  void property() {
    const std::size_t close = source_.find('}', at_);
    const bool braced = at_ + 2 < source_.size() && source_[at_ + 2] == '{';
    if (!braced || close == std::string_view::npos) refuse(source_.substr(at_, 2));
    const std::string_view name = source_.substr(at_ + 3, close - at_ - 3);
    constexpr std::string_view major = "LMNPSZC";
    const bool category =
        (name.size() == 1 || (name.size() == 2 && name[1] >= 'a' && name[1] <= 'z')) &&
        major.find(name[0]) != std::string_view::npos;
    if (!category) refuse(source_.substr(at_, close + 1 - at_));
    copy(close + 1 - at_);
  }

  void class_member(char c) {
    const std::string_view pair = source_.substr(at_, 2);
    // Nested classes and intersections exist in Oniguruma only.
    if (c == '[') refuse("[ inside a class");
    if (pair == "&&") refuse(pair);
    if (c == ']' && at_ != class_begin_) in_class_ = false;
    copy(1);
  }

  void outside_class(char c) {
    const std::string_view rest = source_.substr(at_);
    if (c == '[') {
      in_class_ = true;
      copy(rest.substr(0, 2) == "[^" ? 2 : 1);
      class_begin_ = at_;
      return;
    }
    if (c == '(') return group(rest);
    // In Oniguruma a plus after an interval repeats it, and {,n} is an interval; in PCRE2 the first
    // is possessive and the second plain text.
    if (rest.substr(0, 2) == "}+") refuse("}+");
    if (rest.substr(0, 2) == "{,") refuse("{,");
    copy(1);
  }

  void group(std::string_view rest) {
    for (const std::string_view opening : {"(?<=", "(?<!", "(?i:", "(?:", "(?=", "(?!", "(?>"}) {
      if (rest.substr(0, opening.size()) == opening) return copy(opening.size());
    }
    if (rest.substr(0, 2) == "(?" || rest.substr(0, 2) == "(*") refuse(rest.substr(0, 3));
    copy(1);
  }

  std::string_view source_;
  const std::string& where_;
  std::string out_;
  std::size_t at_ = 0;
  std::size_t class_begin_ = 0;
  bool in_class_ = false;
};

}  // namespace

std::string translate_split_pattern(std::string_view source, const std::string& where) {
  return SplitPattern(source, where).translate();
}

}  // namespace plumb
