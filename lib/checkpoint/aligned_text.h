// Text on its way to the model, which remembers where in the input its bytes come from.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// How long rewriting may make a text of `bytes` bytes. The most that a normalisation form makes of
/// a character is eleven times its bytes; steps that a file chains may multiply without end.
constexpr std::size_t longest_rewritten(std::size_t bytes) { return 64 * bytes + 65536; }

/// Throws too_large.
[[noreturn]] void refuse_growth(std::size_t bytes);

/// Bytes `begin` to before `end` of the input.
struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// A stretch of text. Without `origins` its bytes are those of the input from `base` on.
struct AlignedView {
  std::string_view bytes = {};
  std::size_t base = 0;
  const Span* origins = nullptr;  ///< one for each byte
  bool tracked = false;           ///< whether rewriting has to keep origins at all

  AlignedView sub(std::size_t at, std::size_t size) const {
    return {bytes.substr(at, size), base + at, origins == nullptr ? nullptr : origins + at,
            tracked};
  }

  /// Where bytes `begin` to before `end` come from; an empty stretch lies before its byte.
  Span span(std::size_t begin, std::size_t end) const {
    if (origins == nullptr) return {base + begin, base + end};
    if (bytes.empty()) return {base, base};
    if (begin >= end) {
      const std::size_t at = begin < bytes.size() ? origins[begin].begin : origins[begin - 1].end;
      return {at, at};
    }
    return {origins[begin].begin, std::max(origins[begin].begin, origins[end - 1].end)};
  }
};

/// What rewriting a view left.
struct AlignedText {
  std::string bytes = {};
  std::size_t base = 0;
  std::vector<Span> origins = {};  ///< empty unless tracked
  bool tracked = false;

  AlignedView view() const { return {bytes, base, tracked ? origins.data() : nullptr, tracked}; }
};

/// Writes a text out of the parts of another.
class Rewriter {
 public:
  explicit Rewriter(const AlignedView& source) : source_(source) {
    out_.base = source.base;
    out_.tracked = source.tracked;
    out_.bytes.reserve(source.bytes.size());
    if (source.tracked) out_.origins.reserve(source.bytes.size());
  }

  void keep(std::size_t begin, std::size_t end) {
    out_.bytes += source_.bytes.substr(begin, end - begin);
    if (!source_.tracked) return;
    for (std::size_t at = begin; at < end; ++at) {
      out_.origins.push_back(source_.span(at, at + 1));
    }
  }

  /// `text` in place of the bytes `begin` to before `end`, or in front of `begin`. Throws too_large
  /// when the result exceeds `longest_rewritten`.
  void put(std::size_t begin, std::size_t end, std::string_view text) {
    out_.bytes += text;
    if (out_.bytes.size() > longest_rewritten(source_.bytes.size())) {
      refuse_growth(source_.bytes.size());
    }
    if (source_.tracked) out_.origins.resize(out_.bytes.size(), source_.span(begin, end));
  }

  /// Takes `bytes` off the end of what was written.
  void drop(std::size_t bytes) {
    out_.bytes.resize(out_.bytes.size() - bytes);
    if (source_.tracked) out_.origins.resize(out_.bytes.size());
  }

  const std::string& bytes() const { return out_.bytes; }
  AlignedText take() { return std::move(out_); }

 private:
  const AlignedView source_;
  AlignedText out_;
};

}  // namespace plumb
