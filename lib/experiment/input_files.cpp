#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <limits>

#include "checkpoint/json.h"
#include "experiment/text_files.h"
#include "plumb/error.h"
#include "plumb/inputs.h"

namespace plumb {

namespace {

constexpr std::uintmax_t largest_input = std::uintmax_t{1} << 30;

}  // namespace

std::string read_input(const std::filesystem::path& file) {
  std::error_code failure;
  if (!std::filesystem::is_regular_file(file, failure)) {
    throw Error(ErrorKind::bad_file, fmt::format("{}: no such file", file.string()));
  }
  if (std::filesystem::file_size(file, failure) > largest_input) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: expected an input of at most 1 GiB; split it", file.string()));
  }
  std::ifstream stream(file, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  if (!stream) throw Error(ErrorKind::bad_file, fmt::format("{}: cannot be read", file.string()));
  return content;
}

std::vector<std::string> split_lines(const std::string& content) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  while (begin < content.size()) {
    auto end = content.find('\n', begin);
    if (end == std::string::npos) end = content.size();
    std::string line = content.substr(begin, end - begin);
    if (line.ends_with('\r')) line.pop_back();
    lines.push_back(std::move(line));
    begin = end + 1;
  }
  return lines;
}

std::vector<std::string> csv_record(std::string_view content, std::size_t& at) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (; at < content.size(); ++at) {
    const char c = content[at];
    if (quoted) {
      if (c != '"') {
        fields.back() += c;
      } else if (at + 1 < content.size() && content[at + 1] == '"') {
        fields.back() += content[++at];
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',') {
      fields.emplace_back();
    } else if (c == '\n') {
      ++at;
      break;
    } else if (c != '\r') {
      fields.back() += c;
    }
  }
  return fields;
}

std::vector<std::string> read_texts(const std::filesystem::path& file) {
  std::vector<std::string> texts;
  for (std::string& line : split_lines(read_input(file))) {
    if (line.find_first_not_of(" \t") != std::string::npos) texts.push_back(std::move(line));
  }
  if (texts.empty()) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: expected one text a line, found no text", file.string()));
  }
  return texts;
}

std::vector<std::vector<std::int64_t>> read_token_file(const std::filesystem::path& file) {
  const std::string where = file.string();
  const Json document = parse_json(read_input(file), where, 3);
  const auto wrong = [&](const std::string& what) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: expected a JSON list of lists of token ids, {}", where, what));
  };
  if (!document.is_array() || document.empty()) wrong("got something else or an empty list");
  std::vector<std::vector<std::int64_t>> sequences;
  for (std::size_t i = 0; i < document.size(); ++i) {
    if (!document[i].is_array() || document[i].empty())
      wrong(fmt::format("entry {} is not a list of ids", i));
    auto& sequence = sequences.emplace_back();
    for (const auto& id : document[i]) {
      const bool valid = id.is_number_integer() && id.get<std::int64_t>() >= 0 &&
                         id.get<std::int64_t>() <= std::numeric_limits<std::int32_t>::max();
      if (!valid) wrong(fmt::format("entry {} holds {}", i, id.dump().substr(0, 40)));
      sequence.push_back(id.get<std::int64_t>());
    }
  }
  return sequences;
}

}  // namespace plumb
