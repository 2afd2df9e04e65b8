#include "checkpoint/normalizer.h"

#include <utf8proc.h>

#include <string_view>
#include <utility>

#include "checkpoint/characters.h"
#include "checkpoint/utf8.h"

namespace plumb {
namespace {

AlignedText copy_of(const AlignedView& text) {
  Rewriter out(text);
  out.keep(0, text.bytes.size());
  return out.take();
}

/// The end of the grapheme cluster that begins at `at`.
std::size_t cluster_end(std::string_view text, std::size_t at) {
  CodePoint point = code_point(text, at);
  utf8proc_int32_t state = 0;
  at += point.bytes;
  while (at < text.size()) {
    const CodePoint next = code_point(text, at);
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(point.value),
                                         static_cast<utf8proc_int32_t>(next.value), &state)) {
      break;
    }
    point = next;
    at += next.bytes;
  }
  return at;
}

void map_stretch(const Charsmap& charsmap, std::string_view text, std::size_t base, Rewriter& out) {
  constexpr std::size_t longest_cluster = 5;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = cluster_end(text, at);
    if (end - at <= longest_cluster) {
      if (const auto rule = charsmap.shortest(text.substr(at, end - at))) {
        out.put(base + at, base + end, rule->text);
        at = end;
        continue;
      }
    }
    while (at < end) {
      const std::size_t bytes = code_point(text, at).bytes;
      if (const auto rule = charsmap.shortest(text.substr(at, bytes))) {
        out.put(base + at, base + at + bytes, rule->text);
      } else {
        out.keep(base + at, base + at + bytes);
      }
      at += bytes;
    }
  }
}

/// One run of SentencePiece's normalisation.
class SentencePieceRun {
 public:
  SentencePieceRun(const SentencePieceRules& rules, const AlignedView& text)
      : rules_(rules), text_(text), out_(text) {}

  AlignedText operator()() {
    const std::size_t size = text_.bytes.size();
    std::size_t at = 0;
    while (rules_.remove_extra_spaces && at < size) {
      const Part part = part_at(at);
      if (part.text != " ") break;
      at += part.bytes;
    }
    if (at == size) return out_.take();
    if (rules_.dummy_prefix) out_.put(at, at, space());
    bool after_space = rules_.remove_extra_spaces;
    while (at < size) {
      const Part part = part_at(at);
      std::string_view kept = part.text;
      while (after_space && kept.starts_with(' ')) kept.remove_prefix(1);
      if (!kept.empty()) {
        put(at, part, kept);
        after_space = rules_.remove_extra_spaces && kept.ends_with(' ');
      }
      at += part.bytes;
    }
    while (rules_.remove_extra_spaces && out_.bytes().ends_with(space())) {
      out_.drop(space().size());
    }
    return out_.take();
  }

 private:
  struct Part {
    std::size_t bytes = 0;  ///< of the text
    std::string_view text = {};
  };

  std::string_view space() const { return rules_.escape_spaces ? space_mark : " "; }

  /// What the text at `at` begins with, and what becomes of it.
  Part part_at(std::size_t at) const {
    const std::string_view rest = text_.bytes.substr(at);
    if (const std::size_t bytes = rules_.kept.longest(text_.bytes, at).bytes; bytes > 0) {
      return {bytes, rest.substr(0, bytes)};
    }
    if (rules_.charsmap) {
      if (const auto rule = rules_.charsmap->longest(rest)) return {rule->bytes, rule->text};
    }
    const std::size_t bytes = code_point(text_.bytes, at).bytes;
    // An ill-formed byte stays itself, where SentencePiece writes U+FFFD.
    return bytes == 0 ? Part{1, rest.substr(0, 1)} : Part{bytes, rest.substr(0, bytes)};
  }

  void put(std::size_t at, const Part& part, std::string_view kept) {
    const std::size_t end = at + part.bytes;
    const bool unchanged = kept == text_.bytes.substr(at, part.bytes);
    if (unchanged && kept.find(' ') == std::string_view::npos) return out_.keep(at, end);
    for (std::size_t i = 0; i < kept.size(); ++i) {
      // Unchanged bytes keep their own places.
      const Span from = unchanged ? Span{at + i, at + i + 1} : Span{at, end};
      out_.put(from.begin, from.end, kept[i] == ' ' ? space() : kept.substr(i, 1));
    }
  }

  const SentencePieceRules& rules_;
  const AlignedView& text_;
  Rewriter out_;
};

}  // namespace

AlignedText Normalizer::apply(const AlignedView& text) const {
  if (steps_.empty()) return copy_of(text);
  AlignedText out = steps_.front()(text);
  for (std::size_t i = 1; i < steps_.size(); ++i) {
    AlignedText next = steps_[i](out.view());
    out = std::move(next);
    if (out.bytes.size() > longest_rewritten(text.bytes.size())) refuse_growth(text.bytes.size());
  }
  return out;
}

std::string Normalizer::apply(const std::string& text) const {
  return apply(AlignedView{.bytes = text}).bytes;
}

Normalizer::Step prepend_step(std::string text) {
  return [text = std::move(text)](const AlignedView& in) {
    Rewriter out(in);
    if (!in.bytes.empty()) out.put(0, 0, text);
    out.keep(0, in.bytes.size());
    return out.take();
  };
}

Normalizer::Step replace_step(TextPattern pattern, std::string text) {
  return [pattern = std::move(pattern), text = std::move(text)](const AlignedView& in) {
    Rewriter out(in);
    std::size_t base = 0;
    for_each_utf8_stretch(in.bytes, [&](std::string_view part, bool well_formed) {
      std::size_t at = 0;
      TextPattern::Search search(pattern, part);
      while (well_formed && at < part.size()) {
        const auto [begin, end] = search.next(at);
        out.keep(base + at, base + begin);
        if (end > begin) out.put(base + begin, base + end, text);
        at = end;
      }
      out.keep(base + at, base + part.size());
      base += part.size();
    });
    return out.take();
  };
}

Normalizer::Step strip_step(bool left, bool right) {
  return [left, right](const AlignedView& in) {
    std::size_t begin = in.bytes.size();  // of what is kept
    std::size_t end = 0;
    for (std::size_t at = 0; at < in.bytes.size();) {
      const CodePoint point = code_point(in.bytes, at);
      const std::size_t next = at + (point.bytes == 0 ? 1 : point.bytes);
      if (point.bytes == 0 || !is_white_space(point.value)) {
        if (begin > at) begin = at;
        end = next;
      }
      at = next;
    }
    if (!left) begin = 0;
    if (!right) end = in.bytes.size();
    Rewriter out(in);
    if (begin < end) out.keep(begin, end);
    return out.take();
  };
}

Normalizer::Step strip_accents_step() {
  return [](const AlignedView& in) {
    Rewriter out(in);
    for (std::size_t at = 0; at < in.bytes.size();) {
      const CodePoint point = code_point(in.bytes, at);
      const std::size_t next = at + (point.bytes == 0 ? 1 : point.bytes);
      if (point.bytes == 0 || !is_mark(point.value)) out.keep(at, next);
      at = next;
    }
    return out.take();
  };
}

Normalizer::Step normal_form_step(NormalForm form) {
  return [form](const AlignedView& in) { return normalised(in, form); };
}

Normalizer::Step charsmap_step(std::shared_ptr<const Charsmap> charsmap) {
  return [charsmap = std::move(charsmap)](const AlignedView& in) {
    Rewriter out(in);
    std::size_t base = 0;
    for_each_utf8_stretch(in.bytes, [&](std::string_view part, bool well_formed) {
      if (well_formed) {
        map_stretch(*charsmap, part, base, out);
      } else {
        out.keep(base, base + part.size());
      }
      base += part.size();
    });
    return out.take();
  };
}

Normalizer::Step sentencepiece_step(SentencePieceRules rules) {
  return [rules = std::make_shared<const SentencePieceRules>(std::move(rules))](
             const AlignedView& in) { return SentencePieceRun(*rules, in)(); };
}

}  // namespace plumb
