// Texts to train on, as bytes.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// How documents become sequences of one length. Either way documents are joined by line ends, and
/// what reaches past the last one goes on in the first.
enum class Packing {
  stream,  ///< a sequence begins at any byte
  starts,  ///< a sequence begins where a document does
};
const char* to_string(Packing packing) noexcept;
/// "stream" or "starts". Throws bad_argument, listing them.
Packing parse_packing(std::string_view text);

/// Documents in two parts: of n, the last n / 10 (at least one) are held out.
struct Corpus {
  std::vector<std::string> training = {};
  std::vector<std::string> held_out = {};
  std::string sha256 = {};  ///< of all documents and where they end
};

/// Of a directory every file whose name ends in ".txt" is a document, in the order of the names; of
/// a file every line that is not blank. Throws bad_file where it cannot be read, holds fewer than
/// two documents, more than 1 GB, an empty document or a zero byte.
Corpus read_corpus(const std::filesystem::path& path);

}  // namespace plumb
