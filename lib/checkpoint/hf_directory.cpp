#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "checkpoint/families.h"
#include "checkpoint/json.h"
#include "checkpoint/mxfp4_pairs.h"
#include "checkpoint/opened.h"
#include "checkpoint/printable.h"
#include "checkpoint/safetensors.h"
#include "plumb/error.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t largest_config = 16 << 20;
constexpr std::uint64_t largest_index = 100'000'000;
constexpr std::size_t most_shards = 10'000;

[[noreturn]] void bad(const std::string& where, const std::string& message) {
  throw Error(ErrorKind::bad_file, fmt::format("{}: {}", where, message));
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

void add_file(const fs::path& path, Opened& opened) {
  auto file = std::make_shared<const MappedFile>(path);
  std::vector<StoredTensor> tensors = read_safetensors(*file);
  opened.files.push_back(std::move(file));
  std::move(tensors.begin(), tensors.end(), std::back_inserter(opened.tensors));
}

/// Tensor name to shard name, checked to be plain file names.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const std::string where = path.string();
  const Json json = parse_json(read_text(path, largest_index), where, 16);
  const Fields map = Fields(json, where).object("weight_map");
  std::map<std::string, std::string> index;
  for (const auto& [tensor, value] : map.json().items()) {
    const std::string shard = map.text(tensor);
    if (shard.empty() || shard == "." || shard == ".." || shard.find('/') != std::string::npos ||
        shard.find('\0') != std::string::npos) {
      bad(where,
          fmt::format("tensor {} lies in {}, which is not the name of a file beside the index",
                      printable(tensor), printable(shard)));
    }
    index.emplace(tensor, shard);
  }
  if (index.empty()) bad(where, "weight_map is empty");
  return index;
}

void add_shards(const fs::path& directory, const fs::path& index_path, Opened& opened) {
  const auto index = read_index(index_path);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : index) shards.insert(shard);
  if (shards.size() > most_shards) {
    bad(index_path.string(),
        fmt::format("names {} shards, more than the {} allowed", shards.size(), most_shards));
  }
  for (const std::string& shard : shards) {
    if (!is_there(directory / shard)) {
      bad(index_path.string(),
          fmt::format("names the shard {}, which is missing", printable(shard)));
    }
    const std::size_t before = opened.tensors.size();
    add_file(directory / shard, opened);
    for (std::size_t i = before; i < opened.tensors.size(); ++i) {
      const std::string& name = opened.tensors[i].info.name;
      const auto entry = index.find(name);
      if (entry == index.end()) {
        bad((directory / shard).string(),
            fmt::format("holds tensor {}, which the index does not name", printable(name)));
      }
      if (entry->second != shard) {
        bad((directory / shard).string(),
            fmt::format("holds tensor {}, which the index places in {}", printable(name),
                        printable(entry->second)));
      }
    }
  }
  sort_by_name(opened.tensors, directory.string());
  for (const auto& [tensor, shard] : index) {
    if (find_tensor(opened.tensors, tensor) == nullptr) {
      bad((directory / shard).string(),
          fmt::format("lacks tensor {}, which the index places there", printable(tensor)));
    }
  }
}

void add_weights(const fs::path& directory, Opened& opened) {
  const fs::path single = directory / "model.safetensors";
  const fs::path index = directory / "model.safetensors.index.json";
  if (is_there(single)) {
    add_file(single, opened);
  } else if (is_there(index)) {
    add_shards(directory, index, opened);
  } else if (is_there(directory / "pytorch_model.bin") ||
             is_there(directory / "pytorch_model.bin.index.json")) {
    throw Error(
        ErrorKind::unsupported,
        fmt::format("{}: holds pytorch_model.bin, a pickle; convert it to model.safetensors",
                    directory.string()));
  } else {
    bad(directory.string(), "holds neither model.safetensors nor model.safetensors.index.json");
  }
}

const Family& family_of(const Fields& fields) {
  const std::string type = fields.text("model_type");
  if (const Family* family = find_family(type)) return *family;
  fields.unsupported("model_type", fmt::format("but plumb knows {}", family_names()));
}

}  // namespace

Opened open_hf_directory(const fs::path& directory) {
  const fs::path config_path = directory / "config.json";
  if (!is_there(config_path)) {
    bad(directory.string(), "has no config.json; is it a Hugging Face model directory?");
  }
  Opened opened;
  opened.format = "safetensors";
  opened.where = directory.string();
  const auto config_file = std::make_shared<const MappedFile>(config_path);
  if (config_file->size() > largest_config) {
    bad(config_path.string(),
        fmt::format("has {} bytes, more than the {} allowed", config_file->size(), largest_config));
  }
  opened.files.push_back(config_file);
  const Json json = parse_json(config_file->text(), config_path.string());
  const Fields fields(json, config_path.string());
  const Family& family = family_of(fields);
  opened.config = family.read(fields);
  opened.config.family = std::string(family.name);
  add_weights(directory, opened);
  if (fields.has("quantization_config") &&
      fields.object("quantization_config").text("quant_method", "") == "mxfp4") {
    join_mxfp4_pairs(opened.tensors, directory.string());
  }

  // A file of the bare decoder leaves the prefix out; the embedding tells.
  const std::string embedding = family.source(opened.config, Weight::embed, 0).tensor;
  const std::string bare = embedding.substr(family.prefix.size());
  const bool stripped = find_tensor(opened.tensors, embedding) == nullptr &&
                        find_tensor(opened.tensors, bare) != nullptr;
  std::set<std::string, std::less<>> pairs;
  for (const StoredTensor& tensor : opened.tensors) {
    if (tensor.storage == Storage::mxfp4_pair) pairs.insert(tensor.info.name);
  }
  opened.source = [family = &family, config = opened.config, stripped, pairs = std::move(pairs)](
                      Weight weight, int layer) {
    Source source = family->source(config, weight, layer);
    if (stripped && source.tensor.starts_with(family->prefix)) {
      source.tensor.erase(0, family->prefix.size());
    }
    // Blocks lie along the inputs, whatever the family does with other numbers.
    if (pairs.contains(source.tensor)) source.transposed = false;
    return source;
  };
  opened.layer_prefix = (stripped ? "" : std::string(family.prefix)) + std::string(family.layers);
  opened.ignores = family.ignores;
  return opened;
}

}  // namespace plumb
