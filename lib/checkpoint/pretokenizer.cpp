#include "checkpoint/pretokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "checkpoint/byte_text.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr std::size_t most_steps = 32;

struct Part {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool match = false;
};

/// Matches and the gaps between them.
template <typename Sink>
void for_each_part(const TextPattern& pattern, std::string_view text, Sink&& sink) {
  TextPattern::Search search(pattern, text);
  std::size_t at = 0;
  while (at < text.size()) {
    const auto [begin, end] = search.next(at);
    if (begin > at) sink(Part{at, begin, false});
    if (end > begin) sink(Part{begin, end, true});
    at = end;
  }
}

void merge_with_previous(std::vector<Part>& parts) {
  std::vector<Part> out;
  bool after_match = false;
  for (const Part& part : parts) {
    if (part.match && !after_match && !out.empty()) {
      out.back().end = part.end;
    } else {
      out.push_back(part);
    }
    after_match = part.match;
  }
  parts = std::move(out);
}

/// From the back: the first match in front of a gap belongs to it.
void merge_with_next(std::vector<Part>& parts) {
  std::vector<Part> out;
  bool before_match = false;
  for (std::size_t i = parts.size(); i-- > 0;) {
    if (parts[i].match && !before_match && !out.empty()) {
      out.back().begin = parts[i].begin;
    } else {
      out.push_back(parts[i]);
    }
    before_match = parts[i].match;
  }
  std::reverse(out.begin(), out.end());
  parts = std::move(out);
}

void join_contiguous(std::vector<Part>& parts) {
  std::vector<Part> out;
  for (const Part& part : parts) {
    if (!out.empty() && out.back().match == part.match) {
      out.back().end = part.end;
    } else {
      out.push_back(part);
    }
  }
  parts = std::move(out);
}

}  // namespace

void PreTokenizer::add(Step step, const std::string& where) {
  if (steps_.size() >= most_steps) {
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: more than {} splitting steps", where, most_steps));
  }
  step.in_alphabet = in_alphabet_;
  steps_.push_back(std::move(step));
}

void PreTokenizer::add_split(TextPattern pattern, SplitBehavior behavior, bool invert) {
  add({.pattern = std::move(pattern), .behavior = behavior, .invert = invert}, "pre_tokenizer");
}

void PreTokenizer::add_split(std::string_view pattern, const std::string& where) {
  add({.pattern = TextPattern::oniguruma(pattern, where)}, where);
}

void PreTokenizer::add_space_prefix() {
  add({.kind = Step::Kind::space_prefix, .mark = " "}, "pre_tokenizer");
}

void PreTokenizer::add_metaspace(std::string mark, PrependScheme scheme, bool cut,
                                 const std::string& where) {
  TextPattern pattern = TextPattern::literal(mark, where);
  add({.kind = Step::Kind::metaspace,
       .pattern = std::move(pattern),
       .behavior = SplitBehavior::merged_with_next,
       .mark = std::move(mark),
       .scheme = scheme,
       .cut = cut},
      where);
}

std::vector<std::optional<std::string>> PreTokenizer::steps() const {
  std::vector<std::optional<std::string>> all;
  for (const Step& step : steps_) {
    const bool plain = step.kind == Step::Kind::split;
    all.push_back(plain ? std::optional(step.pattern.source()) : std::nullopt);
  }
  return all;
}

/// One call of split: the steps applied depth first, so that memory does not grow with the text.
class PreTokenizer::Run {
 public:
  Run(const std::vector<Step>& steps, const Sink& sink, std::size_t bytes)
      : steps_(steps), sink_(sink), bytes_(bytes) {}

  void step(std::size_t level, const AlignedView& text) {
    if (text.bytes.empty()) return;
    if (level == steps_.size()) return sink_(text);
    const Step& now = steps_[level];
    switch (now.kind) {
      case Step::Kind::split: return now.in_alphabet ? cut_mapped(level, text) : cut(level, text);
      case Step::Kind::space_prefix: return prefix(level, text);
      case Step::Kind::metaspace: return metaspace(level, text);
    }
  }

 private:
  void prefix(std::size_t level, const AlignedView& text) {
    if (text.bytes.starts_with(' ')) return step(level + 1, text);
    Rewriter out(text);
    out.put(0, 0, " ");
    out.keep(0, text.bytes.size());
    const AlignedText prefixed = take(out);
    step(level + 1, prefixed.view());
  }

  void metaspace(std::size_t level, const AlignedView& text) {
    const Step& now = steps_[level];
    const bool begins = text.bytes.starts_with(' ') || text.bytes.starts_with(now.mark);
    const bool prepend = now.scheme == PrependScheme::always ||
                         (now.scheme == PrependScheme::first && text.base == 0);
    Rewriter out(text);
    if (prepend && !begins) out.put(0, 0, now.mark);
    for (std::size_t at = 0; at < text.bytes.size();) {
      const std::size_t space = std::min(text.bytes.find(' ', at), text.bytes.size());
      out.keep(at, space);
      if (space < text.bytes.size()) out.put(space, space + 1, now.mark);
      at = space + 1;
    }
    const AlignedText marked = take(out);
    now.cut ? cut(level, marked.view()) : step(level + 1, marked.view());
  }

  /// What the steps put in front of every piece, later steps may cut into more pieces.
  AlignedText take(Rewriter& out) {
    AlignedText text = out.take();
    written_ += text.bytes.size();
    if (written_ > longest_rewritten(bytes_)) refuse_growth(bytes_);
    return text;
  }

  void cut(std::size_t level, const AlignedView& text) {
    const Step& now = steps_[level];
    if (now.behavior == SplitBehavior::isolated) {
      return for_each_part(now.pattern, text.bytes, [&](const Part& part) {
        step(level + 1, text.sub(part.begin, part.end - part.begin));
      });
    }
    for (const Part& part : parts_of(now, text.bytes)) {
      step(level + 1, text.sub(part.begin, part.end - part.begin));
    }
  }

  /// The pattern looks at the byte-level alphabet's letters, each of which stands for one byte.
  void cut_mapped(std::size_t level, const AlignedView& text) {
    std::string mapped;
    std::vector<std::size_t> byte_at;  // which byte of the text begins at this one of `mapped`
    for (std::size_t i = 0; i < text.bytes.size(); ++i) {
      mapped += in_byte_alphabet(text.bytes[i]);
      byte_at.resize(mapped.size(), i);
    }
    byte_at.push_back(text.bytes.size());
    for (const Part& part : parts_of(steps_[level], mapped)) {
      const std::size_t begin = byte_at[part.begin];
      step(level + 1, text.sub(begin, byte_at[part.end] - begin));
    }
  }

  static std::vector<Part> parts_of(const Step& now, std::string_view text) {
    std::vector<Part> parts;
    for_each_part(now.pattern, text, [&](Part part) {
      if (now.invert) part.match = !part.match;
      parts.push_back(part);
    });
    switch (now.behavior) {
      case SplitBehavior::isolated: break;
      case SplitBehavior::removed:
        std::erase_if(parts, [](const Part& part) { return part.match; });
        break;
      case SplitBehavior::merged_with_previous: merge_with_previous(parts); break;
      case SplitBehavior::merged_with_next: merge_with_next(parts); break;
      case SplitBehavior::contiguous: join_contiguous(parts); break;
    }
    return parts;
  }

  const std::vector<Step>& steps_;
  const Sink& sink_;
  std::size_t bytes_;  ///< of the whole text
  std::size_t written_ = 0;
};

void PreTokenizer::split(const AlignedView& text, const Sink& sink) const {
  Run(steps_, sink, text.bytes.size()).step(0, text);
}

}  // namespace plumb
