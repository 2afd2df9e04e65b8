// The tags of an XML text.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace plumb {

/// Goes through an XML text tag by tag, keeping none of it: nothing nests, so that no text can make
/// it go deep. Comments, declarations and `<!DOCTYPE ...>` without definitions are passed over.
class XmlReader {
 public:
  XmlReader(std::string_view text, std::string where);

  struct Tag {
    std::string name = {};  ///< without any prefix; empty at the end of the text
    bool closes = false;    ///< </name>
    bool empty = false;     ///< <name ... />
    std::map<std::string, std::string> attributes = {};
    std::string text = {};  ///< between it and the next tag
  };
  /// Throws bad_file where the text is no XML.
  Tag next();
  [[noreturn]] void refuse(const std::string& what) const;

 private:
  std::string plain(std::string_view text) const;
  void skip_space();

  std::string_view text_;
  std::string where_;
  std::size_t at_ = 0;
};

/// With the characters that XML keeps for itself written as entities.
std::string xml_text(std::string_view text);

}  // namespace plumb
