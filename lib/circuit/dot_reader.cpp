#include "circuit/dot_reader.h"

#include <fmt/format.h>

#include "plumb/error.h"

namespace plumb {
namespace {

[[noreturn]] void refuse(std::size_t at, const std::string& expected) {
  throw Error(ErrorKind::bad_file,
              fmt::format("Graphviz text: expected {} at byte {}", expected, at));
}

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.' || c == '-' || static_cast<unsigned char>(c) >= 0x80;
}

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  std::vector<DotStatement> read() {
    std::vector<DotStatement> found;
    if (word() != "digraph") refuse(0, "digraph");
    skip_space();
    if (at_ < text_.size() && text_[at_] != '{') word();
    need('{');
    for (;;) {
      skip_space();
      if (take('}')) break;
      if (take(';')) continue;
      if (take('{')) {
        skip_group();
        continue;
      }
      found.push_back(statement());
    }
    skip_space();
    if (at_ < text_.size()) refuse(at_, "the end");
    return found;
  }

 private:
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' ||
                                  text_[at_] == '\r' || text_[at_] == ','))
      ++at_;
  }
  bool take(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void need(char c) {
    if (!take(c)) refuse(at_, fmt::format("'{}'", c));
  }

  // Ranks: the names in them stand elsewhere, too.
  void skip_group() {
    int depth = 1;
    while (depth > 0) {
      skip_space();
      if (at_ >= text_.size()) refuse(at_, "'}'");
      const char c = text_[at_];
      if (c == '"') {
        word();
        continue;
      }
      depth += c == '{' ? 1 : c == '}' ? -1 : 0;
      ++at_;
    }
  }

  // A quoted, HTML or bare word.
  std::string word() {
    skip_space();
    if (at_ >= text_.size()) refuse(at_, "a name");
    std::string found;
    if (text_[at_] == '"') {
      for (++at_;; ++at_) {
        if (at_ >= text_.size()) refuse(at_, "'\"'");
        if (text_[at_] == '"') break;
        if (text_[at_] == '\\' && at_ + 1 < text_.size() &&
            (text_[at_ + 1] == '"' || text_[at_ + 1] == '\\'))
          ++at_;
        found += text_[at_];
      }
      ++at_;
      return found;
    }
    if (text_[at_] == '<') {
      int depth = 0;
      do {
        if (at_ >= text_.size()) refuse(at_, "'>'");
        depth += text_[at_] == '<' ? 1 : text_[at_] == '>' ? -1 : 0;
        ++at_;
      } while (depth > 0);
      return found;
    }
    while (at_ < text_.size() && is_word(text_[at_])) {
      if (text_[at_] == '-' && at_ + 1 < text_.size() && text_[at_ + 1] == '>') break;
      found += text_[at_++];
    }
    if (found.empty()) refuse(at_, "a name");
    return found;
  }

  DotStatement statement() {
    DotStatement made{.from = word()};
    skip_space();
    if (text_.substr(at_).starts_with("->")) {
      at_ += 2;
      made.to = word();
      if (made.to.empty()) refuse(at_, "a name");
    }
    if (!take('[')) return made;
    while (!take(']')) {
      if (take(';')) continue;
      const std::size_t start = at_;
      const std::string key = word();
      need('=');
      if (!made.attributes.emplace(key, word()).second)
        refuse(start, fmt::format("an attribute that does not occur twice"));
    }
    return made;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

std::vector<DotStatement> read_dot(std::string_view text) { return Reader(text).read(); }

}  // namespace plumb
