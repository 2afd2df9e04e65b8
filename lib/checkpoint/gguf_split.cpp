#include "checkpoint/gguf_split.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t most_parts = 65535;  // the counts are 16 bits wide
constexpr const char* number_key = "split.no";
constexpr const char* count_key = "split.count";
constexpr const char* tensors_key = "split.tensors.count";

[[noreturn]] void bad(const fs::path& path, const std::string& message) {
  throw Error(ErrorKind::bad_file, fmt::format("{}: {}", path.string(), message));
}

std::string ending(std::int64_t number, std::int64_t count) {
  return gguf_part_suffix(number, count) + ".gguf";
}

std::int64_t number_of(const GgufFile& file) { return file.integer(number_key, 0, most_parts, 0); }

std::int64_t count_of(const GgufFile& file) {
  return std::max<std::int64_t>(file.integer(count_key, 0, most_parts, 1), 1);
}

/// What the names of all parts begin with.
std::string common_name(const GgufFile& first, std::int64_t count) {
  const fs::path& path = first.file().path();
  const std::string name = path.filename().string();
  const std::int64_t number = number_of(first);
  if (number >= count) {
    bad(path, fmt::format("says that it is part {} of {}: {} and {} contradict each other",
                          number + 1, count, number_key, count_key));
  }
  const bool named = name.ends_with(ending(number, count));
  const std::string common = name.substr(0, name.size() - ending(number, count).size() * named);
  if (number > 0) {
    const std::string which =
        named ? ": " + (path.parent_path() / (common + ending(0, count))).string() : "";
    bad(path, fmt::format("is part {} of the {} of a split model; give the first part{}",
                          number + 1, count, which));
  }
  if (!named) {
    bad(path, fmt::format("is the first of the {} parts of a split model, so its name should end "
                          "in {} for the others to be found beside it",
                          count, ending(number, count)));
  }
  return common;
}

void check_part(const GgufFile& part, const GgufFile& first, std::int64_t number) {
  const fs::path& path = part.file().path();
  const std::int64_t count = count_of(first);
  if (!part.has(number_key) || !part.has(count_key)) {
    bad(path, fmt::format("should be part {} of {}, but has no {} and {}", number + 1, count,
                          number_key, count_key));
  }
  if (number_of(part) != number || count_of(part) != count) {
    bad(path, fmt::format("says that it is part {} of {}, but its name says part {} of {}",
                          number_of(part) + 1, count_of(part), number + 1, count));
  }
  constexpr const char* architecture = "general.architecture";
  if (part.has(architecture) && part.text(architecture) != first.text(architecture)) {
    bad(path, fmt::format("is a part of a {} model, but the first part is of {}",
                          printable(part.text(architecture)), printable(first.text(architecture))));
  }
}

void sort_all(std::vector<StoredTensor>& tensors) {
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const auto& a, const auto& b) { return a.info.name < b.info.name; });
  const auto twice =
      std::adjacent_find(tensors.begin(), tensors.end(),
                         [](const auto& a, const auto& b) { return a.info.name == b.info.name; });
  if (twice == tensors.end()) return;
  bad((twice + 1)->file->path(),
      fmt::format("holds tensor {}, which {} holds too", printable(twice->info.name),
                  twice->file->path().filename().string()));
}

void check_total(const GgufModel& model) {
  const auto held = static_cast<std::int64_t>(model.tensors.size());
  const std::int64_t announced = model.head.integer(tensors_key, 0, INT64_MAX, held);
  if (announced == held) return;
  bad(model.head.file().path(),
      fmt::format("{} is {}, but {} {} tensors", tensors_key, announced,
                  model.files.size() == 1 ? "the file holds" : "all parts together hold", held));
}

}  // namespace

std::string gguf_part_suffix(std::int64_t number, std::int64_t count) {
  return fmt::format("-{:05}-of-{:05}", number + 1, count);
}

GgufModel open_gguf_parts(const fs::path& path) {
  GgufModel model{.head = GgufFile(path), .files = {}, .tensors = {}};
  model.files = {model.head.shared_file()};
  model.tensors = model.head.tensors();
  const std::int64_t count = count_of(model.head);
  if (count > 1 || number_of(model.head) > 0) {
    const std::string common = common_name(model.head, count);
    for (std::int64_t number = 1; number < count; ++number) {
      const fs::path part_path = path.parent_path() / (common + ending(number, count));
      std::error_code ignored;
      if (!fs::exists(part_path, ignored)) {
        bad(part_path, fmt::format("is missing: part {} of the {} of the split model {}",
                                   number + 1, count, path.filename().string()));
      }
      const GgufFile part(part_path);
      check_part(part, model.head, number);
      model.files.push_back(part.shared_file());
      model.tensors.insert(model.tensors.end(), part.tensors().begin(), part.tensors().end());
    }
    sort_all(model.tensors);
  }
  check_total(model);
  return model;
}

}  // namespace plumb
