#include "terminal.h"

#include <unistd.h>

#include <cstdlib>

#include "plumb/plain_text.h"

namespace plumb::app {

std::string shown_text(const std::string& text) {
  if (isatty(STDOUT_FILENO) == 0) return text;
  const bool utf8 =
      locale_has_utf8(std::getenv("LC_ALL"), std::getenv("LC_CTYPE"), std::getenv("LANG"));
  return utf8 ? text : plain_text(text);
}

}  // namespace plumb::app
