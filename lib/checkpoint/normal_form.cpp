#include "checkpoint/normal_form.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "checkpoint/utf8.h"
#include "plumb/error.h"

namespace plumb {
namespace {

std::string map(std::string_view text, NormalForm form) {
  int options = UTF8PROC_STABLE;
  const bool composed = form == NormalForm::nfc || form == NormalForm::nfkc;
  options |= composed ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalForm::nfkc || form == NormalForm::nfkd) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* out = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &out,
                                             static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owned(out, &std::free);
  if (size < 0) {
    throw Error(ErrorKind::too_large, fmt::format("cannot normalise a text of {} bytes: {}",
                                                  text.size(), utf8proc_errmsg(size)));
  }
  return {reinterpret_cast<const char*>(out), static_cast<std::size_t>(size)};
}

/// Whether the full decomposition of `point` begins with a starter, so that what stands before it
/// cannot be reordered with what follows.
bool begins_with_starter(std::uint32_t point) {
  std::array<utf8proc_int32_t, 32> out{};
  int last_class = 0;
  const utf8proc_ssize_t size = utf8proc_decompose_char(
      static_cast<utf8proc_int32_t>(point), out.data(), out.size(),
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT),
      &last_class);
  return size > 0 && utf8proc_get_property(out[0])->combining_class == 0;
}

/// Cuts a well-formed stretch where normalising the parts equals normalising the whole.
class Chunks {
 public:
  Chunks(std::string_view text, NormalForm form) : text_(text), form_(form) {}

  template <typename Sink>
  void each(Sink&& sink) {
    for (std::size_t at = 0; at < text_.size();) {
      const std::size_t begin = at;
      std::string mapped = take(at);
      while (at < text_.size()) {
        const CodePoint point = code_point(text_, at);
        // Nothing below U+0300 joins what stands before it.
        if (point.value < 0x300) break;
        if (begins_with_starter(point.value)) {
          std::size_t end = at;
          const std::string alone = take(end);
          std::string together = map(text_.substr(begin, end - begin), form_);
          if (together == mapped + alone) break;
          mapped = std::move(together);
          at = end;
        } else {
          at = end_of_marks(at);
          mapped = map(text_.substr(begin, at - begin), form_);
        }
      }
      sink(begin, at, mapped);
    }
  }

 private:
  std::string take(std::size_t& at) const {
    const std::size_t begin = at;
    at += code_point(text_, at).bytes;
    return map(text_.substr(begin, at - begin), form_);
  }

  /// After the marks from `at` on: in one go, as each mapping looks at all of the chunk.
  std::size_t end_of_marks(std::size_t at) const {
    while (at < text_.size()) {
      const CodePoint point = code_point(text_, at);
      if (point.value < 0x300 || begins_with_starter(point.value)) break;
      at += point.bytes;
    }
    return at;
  }

  std::string_view text_;
  NormalForm form_;
};

}  // namespace

AlignedText normalised(const AlignedView& text, NormalForm form) {
  Rewriter out(text);
  // Up to here every character is in the form already; lead bytes are told apart without decoding.
  const unsigned char unchanged = form == NormalForm::nfc ? 0xCC : 0x80;
  const auto beyond = [&](char c) { return static_cast<unsigned char>(c) >= unchanged; };
  if (std::none_of(text.bytes.begin(), text.bytes.end(), beyond)) {
    out.keep(0, text.bytes.size());
    return out.take();
  }
  std::size_t base = 0;
  for_each_utf8_stretch(text.bytes, [&](std::string_view part, bool well_formed) {
    if (!well_formed) {
      out.keep(base, base + part.size());
    } else if (!text.tracked) {
      out.put(base, base + part.size(), map(part, form));
    } else {
      Chunks(part, form).each([&](std::size_t begin, std::size_t end, const std::string& mapped) {
        if (part.substr(begin, end - begin) == mapped) {
          out.keep(base + begin, base + end);
        } else {
          out.put(base + begin, base + end, mapped);
        }
      });
    }
    base += part.size();
  });
  return out.take();
}

}  // namespace plumb
