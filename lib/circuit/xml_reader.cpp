#include "circuit/xml_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "checkpoint/utf8.h"
#include "plumb/error.h"

namespace plumb {
namespace {

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

void append_utf8(std::string& out, unsigned code) {
  const auto put = [&](unsigned byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

}  // namespace

std::string xml_text(std::string_view text) {
  std::string out;
  for_each_utf8_stretch(text, [&](std::string_view part, bool well_formed) {
    if (!well_formed) {
      out += "\uFFFD";
      return;
    }
    for (const char c : part) {
      switch (c) {
        case '&': out += "&amp;"; break;
        case '<': out += "&lt;"; break;
        case '>': out += "&gt;"; break;
        case '"': out += "&quot;"; break;
        case '\n': out += "&#10;"; break;
        case '\t': out += "&#9;"; break;
        case '\r': out += "&#13;"; break;
        default: out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
      }
    }
  });
  return out;
}

XmlReader::XmlReader(std::string_view text, std::string where)
    : text_(text), where_(std::move(where)) {}

void XmlReader::refuse(const std::string& what) const {
  throw Error(ErrorKind::bad_file, fmt::format("{}: {}, at byte {}", where_, what, at_));
}

void XmlReader::skip_space() {
  while (at_ < text_.size() && is_space(text_[at_])) ++at_;
}

std::string XmlReader::plain(std::string_view text) const {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '&') {
      out += text[i];
      continue;
    }
    const std::size_t end = text.find(';', i);
    if (end == std::string_view::npos || end - i > 12) refuse("an & that begins no entity");
    const std::string_view name = text.substr(i + 1, end - i - 1);
    if (name == "amp")
      out += '&';
    else if (name == "lt")
      out += '<';
    else if (name == "gt")
      out += '>';
    else if (name == "quot")
      out += '"';
    else if (name == "apos")
      out += '\'';
    else {
      const bool hexadecimal = name.starts_with("#x");
      const std::string_view digits =
          name.substr(std::min<std::size_t>(hexadecimal ? 2 : 1, name.size()));
      unsigned code = 0;
      const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code,
                                                 hexadecimal ? 16 : 10);
      if (!name.starts_with('#') || error != std::errc() || stop != digits.data() + digits.size() ||
          code == 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        refuse("an entity that is not known");
      append_utf8(out, code);
    }
    i = end;
  }
  return out;
}

XmlReader::Tag XmlReader::next() {
  for (;;) {
    const std::size_t open = text_.find('<', at_);
    if (open == std::string_view::npos) {
      at_ = text_.size();
      return {};
    }
    at_ = open;
    const auto skip = [&](std::string_view begin, std::string_view end) {
      if (!text_.substr(at_).starts_with(begin)) return false;
      const std::size_t stop = text_.find(end, at_ + begin.size());
      if (stop == std::string_view::npos) refuse("something that does not end");
      at_ = stop + end.size();
      return true;
    };
    if (skip("<!--", "-->") || skip("<?", "?>")) continue;
    if (text_.substr(at_).starts_with("<!")) {
      const std::size_t stop = text_.find_first_of("[>", at_);
      if (stop == std::string_view::npos || text_[stop] == '[')
        refuse("definitions and CDATA are not read");
      at_ = stop + 1;
      continue;
    }
    break;
  }
  Tag tag;
  ++at_;
  if (at_ < text_.size() && text_[at_] == '/') {
    tag.closes = true;
    ++at_;
  }
  const auto word = [&] {
    const std::size_t end = text_.find_first_of(" \n\t\r/>=<\"'", at_);
    if (end == std::string_view::npos || end == at_) refuse("a tag that is none");
    const std::string_view name = text_.substr(at_, end - at_);
    at_ = end;
    return std::string(name);
  };
  tag.name = word();
  if (const std::size_t colon = tag.name.find(':'); colon != std::string::npos)
    tag.name.erase(0, colon + 1);
  if (tag.name.empty()) refuse("a tag without a name");
  for (;;) {
    skip_space();
    if (at_ >= text_.size()) refuse("a tag that does not end");
    if (text_[at_] == '>') {
      ++at_;
      break;
    }
    if (text_.substr(at_).starts_with("/>")) {
      tag.empty = true;
      at_ += 2;
      break;
    }
    const std::string key = word();
    skip_space();
    if (at_ >= text_.size() || text_[at_] != '=') refuse("an attribute without a value");
    ++at_;
    skip_space();
    const char quote = at_ < text_.size() ? text_[at_] : ' ';
    if (quote != '"' && quote != '\'') refuse("an attribute without a value in quotes");
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) refuse("an attribute that does not end");
    if (!tag.attributes.emplace(key, plain(text_.substr(at_ + 1, end - at_ - 1))).second)
      refuse("an attribute that occurs twice");
    at_ = end + 1;
  }
  const std::size_t end = std::min(text_.find('<', at_), text_.size());
  tag.text = plain(text_.substr(at_, end - at_));
  return tag;
}

}  // namespace plumb
