#include "plumb/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <system_error>
#include <utility>

#include "checkpoint/mapped_file.h"
#include "plumb/error.h"
#include "plumb/hash.h"

namespace plumb {

namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 2> names = {"stream", "starts"};
constexpr std::uint64_t most_bytes = 1'000'000'000;
constexpr std::size_t one_held_out_of = 10;

[[noreturn]] void refuse(const fs::path& path, const std::string& why) {
  throw Error(ErrorKind::bad_file, fmt::format("{}: {}", path.string(), why));
}

std::vector<fs::path> text_files(const fs::path& directory) {
  std::error_code failed;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory, failed)) {
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  }
  if (failed) refuse(directory, "cannot be read: " + failed.message());
  std::ranges::sort(files);
  return files;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t from = 0; from < text.size();) {
    const std::size_t end = std::min(text.find('\n', from), text.size());
    std::string line = text.substr(from, end - from);
    if (line.ends_with('\r')) line.pop_back();
    if (line.find_first_not_of(" \t") != std::string::npos) lines.push_back(std::move(line));
    from = end + 1;
  }
  return lines;
}

}  // namespace

const char* to_string(Packing packing) noexcept { return names[static_cast<std::size_t>(packing)]; }

Packing parse_packing(std::string_view text) {
  const auto found = std::ranges::find(names, text);
  if (found != names.end()) return static_cast<Packing>(found - names.begin());
  throw Error(ErrorKind::bad_argument,
              fmt::format("no packing \"{:.40}\": stream or starts", text));
}

Corpus read_corpus(const fs::path& path) {
  std::vector<std::string> documents;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    std::uint64_t bytes = 0;
    for (const fs::path& file : text_files(path)) {
      documents.push_back(read_text(file, most_bytes - bytes));
      bytes += documents.back().size();
      if (documents.back().empty()) refuse(file, "an empty document; leave it out");
    }
    if (documents.size() < 2) {
      refuse(path, fmt::format("expected at least 2 documents, files whose names end in .txt, "
                               "found {}",
                               documents.size()));
    }
  } else {
    documents = lines_of(read_text(path, most_bytes));
    if (documents.size() < 2) {
      refuse(path, fmt::format("expected at least 2 documents, one a line, found {}; a directory "
                               "of .txt files gives each file as one",
                               documents.size()));
    }
  }
  std::string all;
  for (const std::string& document : documents) {
    // The zero byte is the token that may stand before sequences.
    if (document.find('\0') != std::string::npos)
      refuse(path, "holds a zero byte: this is no text");
    all += document;
    all += '\0';
  }
  Corpus corpus{.sha256 = sha256_hex(all.data(), all.size())};
  const std::size_t kept =
      documents.size() - std::max<std::size_t>(1, documents.size() / one_held_out_of);
  for (std::size_t i = 0; i < documents.size(); ++i)
    (i < kept ? corpus.training : corpus.held_out).push_back(std::move(documents[i]));
  return corpus;
}

}  // namespace plumb
