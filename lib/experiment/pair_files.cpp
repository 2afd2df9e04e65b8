// Pairs from JSON lines and from CSV.
#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <string_view>

#include "checkpoint/json.h"
#include "checkpoint/printable.h"
#include "experiment/text_files.h"
#include "plumb/error.h"
#include "plumb/pairs.h"

namespace plumb {
namespace {

constexpr std::int64_t largest_id = std::numeric_limits<std::int32_t>::max();

/// Turns what a line says into ids.
class PairReader {
 public:
  PairReader(const Tokenizer* tokenizer, std::optional<std::int64_t> bos)
      : tokenizer_(tokenizer), bos_(bos) {}

  std::string where = {};  ///< begins messages: "pairs.jsonl: line 3"

  [[noreturn]] void wrong(const std::string& what) const {
    throw Error(ErrorKind::bad_file, fmt::format("{}: {}", where, what));
  }

  std::vector<std::int64_t> text(const std::string& text) const {
    if (tokenizer_ == nullptr)
      wrong("holds text, but the model has no tokenizer; give ids instead");
    std::vector<std::int64_t> ids = tokenizer_->encode(text);
    if (bos_) ids.insert(ids.begin(), *bos_);
    return ids;
  }

  std::int64_t answer(const std::string& text) const {
    if (tokenizer_ == nullptr)
      wrong("holds text, but the model has no tokenizer; give ids instead");
    const std::vector<std::int64_t> ids = tokenizer_->encode(text);
    if (ids.size() != 1) {
      wrong(
          fmt::format("the answer {} is {} tokens; an answer is one token (mind the space before "
                      "a word), or an id",
                      printable(text), ids.size()));
    }
    return ids.front();
  }

  std::int64_t id(const Json& value) const {
    if (!value.is_number_integer() || value.get<std::int64_t>() < 0 ||
        value.get<std::int64_t>() > largest_id) {
      wrong(fmt::format("expected a token id, got {}", printable(value.dump())));
    }
    return value.get<std::int64_t>();
  }

  /// One answer, or several that are as good.
  std::vector<std::int64_t> answers(const Json& value) const {
    std::vector<std::int64_t> ids;
    const auto one = [&](const Json& entry) {
      return entry.is_string() ? answer(entry.get<std::string>()) : id(entry);
    };
    if (!value.is_array()) return {one(value)};
    if (value.empty()) wrong("a list of answers is empty");
    for (const Json& entry : value) ids.push_back(one(entry));
    return ids;
  }

  std::vector<std::int64_t> prompt(const Json& line, const char* key) const {
    if (!line.contains(key)) wrong(fmt::format("has no \"{}\"", key));
    const Json& value = line.at(key);
    if (value.is_string()) return text(value.get<std::string>());
    if (!value.is_array() || value.empty())
      wrong(fmt::format("\"{}\" should be a text or a list of ids", key));
    std::vector<std::int64_t> ids;
    for (const Json& entry : value) ids.push_back(id(entry));
    return ids;
  }

 private:
  const Tokenizer* tokenizer_;
  std::optional<std::int64_t> bos_;
};

std::vector<std::pair<std::int64_t, std::int64_t>> map_of(const Json& value,
                                                          const PairReader& reader) {
  std::vector<std::pair<std::int64_t, std::int64_t>> map;
  if (!value.is_array() || value.empty())
    reader.wrong("\"align\" should be a list of [clean position, corrupt position]");
  for (const Json& entry : value) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_number_integer() ||
        !entry[1].is_number_integer())
      reader.wrong("\"align\" should be a list of [clean position, corrupt position]");
    map.emplace_back(entry[0].get<std::int64_t>(), entry[1].get<std::int64_t>());
  }
  return map;
}

PairIds from_json(const Json& line, const PairReader& reader) {
  if (!line.is_object()) reader.wrong("expected an object with clean, corrupt and answers");
  for (const auto& [key, value] : line.items()) {
    if (key != "clean" && key != "corrupt" && key != "answers" && key != "align")
      reader.wrong(
          fmt::format("unknown key {}; expected clean, corrupt, answers, align", printable(key)));
  }
  PairIds pair{.clean = reader.prompt(line, "clean")};
  if (line.contains("corrupt")) pair.corrupt = reader.prompt(line, "corrupt");
  if (line.contains("align")) pair.align = map_of(line.at("align"), reader);
  if (!line.contains("answers")) return pair;
  const Json& answers = line.at("answers");
  if (!answers.is_array() || answers.size() != 2)
    reader.wrong("\"answers\" should be a list of two: the right and the wrong one");
  const std::vector<std::int64_t> right = reader.answers(answers.at(0));
  const std::vector<std::int64_t> wrong = reader.answers(answers.at(1));
  pair.right = right.front();
  pair.wrong = wrong.front();
  pair.also_right.assign(right.begin() + 1, right.end());
  pair.also_wrong.assign(wrong.begin() + 1, wrong.end());
  return pair;
}

std::size_t column(const std::vector<std::string>& header, const char* name,
                   const PairReader& reader) {
  for (std::size_t i = 0; i < header.size(); ++i) {
    if (header[i] == name) return i;
  }
  reader.wrong(
      fmt::format("has no column {}; expected clean, corrupted, correct_idx, incorrect_idx", name));
}

std::vector<PairIds> from_csv(const std::string& content, const std::string& file,
                              PairReader& reader) {
  std::size_t at = 0;
  reader.where = file + ": header";
  const std::vector<std::string> header = csv_record(content, at);
  const auto clean = column(header, "clean", reader);
  const auto corrupt = column(header, "corrupted", reader);
  const auto right = column(header, "correct_idx", reader);
  const auto wrong = column(header, "incorrect_idx", reader);
  std::vector<PairIds> pairs;
  for (std::size_t record = 1; at < content.size(); ++record) {
    reader.where = fmt::format("{}: record {}", file, record);
    const std::vector<std::string> fields = csv_record(content, at);
    if (fields.size() == 1 && fields.front().empty()) continue;
    if (fields.size() != header.size()) {
      reader.wrong(
          fmt::format("has {} fields, but the header has {}", fields.size(), header.size()));
    }
    const auto id = [&](const std::string& text) {
      std::int64_t value = -1;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (error != std::errc{} || end != text.data() + text.size() || value < 0 ||
          value > largest_id) {
        reader.wrong(fmt::format("expected a token id, got {}", printable(text)));
      }
      return value;
    };
    pairs.push_back({.clean = reader.text(fields[clean]),
                     .corrupt = reader.text(fields[corrupt]),
                     .right = id(fields[right]),
                     .wrong = id(fields[wrong])});
  }
  return pairs;
}

}  // namespace

std::vector<PairIds> read_pairs(const std::filesystem::path& file, const Tokenizer* tokenizer,
                                std::optional<std::int64_t> bos) {
  PairReader reader(tokenizer, bos);
  std::vector<PairIds> pairs;
  if (file.extension() == ".csv") {
    pairs = from_csv(read_input(file), file.string(), reader);
  } else {
    std::size_t number = 0;
    for (const std::string& line : split_lines(read_input(file))) {
      reader.where = fmt::format("{}: line {}", file.string(), ++number);
      if (line.find_first_not_of(" \t") == std::string::npos) continue;
      pairs.push_back(from_json(parse_json(line, reader.where, 4), reader));
    }
  }
  if (pairs.empty())
    throw Error(ErrorKind::bad_file, fmt::format("{}: holds no pair", file.string()));
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    if (pairs[i].corrupt.empty() || !pairs[i].align.empty() ||
        pairs[i].clean.size() == pairs[i].corrupt.size())
      continue;
    throw Error(ErrorKind::bad_argument,
                fmt::format("{}: pair {}: the clean prompt has {} tokens and the corrupt one {}; "
                            "positions must match one by one: reword one, give ids, or say with "
                            "\"align\" which belong together",
                            file.string(), i + 1, pairs[i].clean.size(), pairs[i].corrupt.size()));
  }
  return pairs;
}

}  // namespace plumb
