#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <set>
#include <system_error>
#include <utility>

#include "checkpoint/arrange_weights.h"
#include "checkpoint/atomic_file.h"
#include "checkpoint/write_safetensors.h"
#include "checkpoint/write_tokenizer.h"
#include "plumb/checkpoint_write.h"
#include "plumb/error.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

/// Whether reading in float32 would lose something.
bool holds_doubles(const Checkpoint& checkpoint) {
  return std::ranges::any_of(checkpoint.tensors(),
                             [](const TensorInfo& tensor) { return tensor.dtype == "F64"; });
}

at::ScalarType narrowest(const Checkpoint& checkpoint) {
  std::set<std::string> types;
  for (const TensorInfo& tensor : checkpoint.tensors()) types.insert(tensor.dtype);
  if (types == std::set<std::string>{"BF16"}) return at::kBFloat16;
  if (types == std::set<std::string>{"F16"}) return at::kHalf;
  return types.contains("F64") ? at::kDouble : at::kFloat;
}

void refuse_a_model(const fs::path& directory) {
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(directory, failed)) {
    const std::string name = entry.path().filename().string();
    if (name == "config.json" || entry.path().extension() == ".safetensors") {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("{} holds {} already; convert into a directory without a model",
                              directory.string(), name));
    }
  }
}

/// Reads weights, narrows them, and counts what that changed.
class Narrower {
 public:
  Narrower(const Checkpoint& checkpoint, at::ScalarType dtype, Conversion& result)
      : checkpoint_(checkpoint),
        dtype_(dtype),
        read_as_(holds_doubles(checkpoint) ? at::kDouble : at::kFloat),
        result_(result) {}

  at::Tensor operator()(Weight weight, int layer) const {
    const at::Tensor read = checkpoint_.read(weight, layer, read_as_);
    if (read_as_ == dtype_) return read;
    const at::Tensor narrow = read.to(dtype_);
    const at::Tensor back = narrow.to(read_as_);
    if (!at::isfinite(back).all().item<bool>()) {
      refuse_to_write(fmt::format("{} holds values beyond the range of {}; choose a wider --dtype",
                                  weight_name(weight, layer), safetensors_dtype(dtype_)));
    }
    result_.rounded += at::ne(back, read).sum().item<std::int64_t>();
    return narrow;
  }

  at::ScalarType read_as() const { return read_as_; }

 private:
  const Checkpoint& checkpoint_;
  at::ScalarType dtype_;
  at::ScalarType read_as_;
  Conversion& result_;
};

std::vector<std::vector<TensorToWrite>> shard(std::vector<TensorToWrite> tensors,
                                              std::int64_t limit) {
  std::vector<std::vector<TensorToWrite>> shards(1);
  std::int64_t filled = 0;
  for (TensorToWrite& tensor : tensors) {
    const auto bytes = static_cast<std::int64_t>(bytes_of(tensor));
    if (filled > 0 && filled + bytes > limit) {
      shards.emplace_back();
      filled = 0;
    }
    filled += bytes;
    shards.back().push_back(std::move(tensor));
  }
  return shards;
}

/// Files beside their places, put in place together.
class Delivery {
 public:
  explicit Delivery(fs::path directory) : directory_(std::move(directory)) {}

  AtomicFile& add(const std::string& name) {
    names_.push_back(name);
    return *files_.emplace_back(std::make_unique<AtomicFile>(directory_ / name));
  }
  void add(const std::string& name, const std::string& text) {
    AtomicFile& file = add(name);
    file.write(text.data(), text.size());
    file.flush();
  }
  std::vector<std::string> commit() {
    for (const auto& file : files_) file->commit();
    return names_;
  }

 private:
  fs::path directory_;
  std::vector<std::string> names_;
  std::vector<std::unique_ptr<AtomicFile>> files_;
};

void write_weights(std::vector<TensorToWrite> tensors, std::int64_t limit, Delivery& delivery,
                   Conversion& result) {
  auto shards = shard(std::move(tensors), limit);
  Json index = {{"metadata", Json::object()}, {"weight_map", Json::object()}};
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name =
        shards.size() == 1 ? std::string("model.safetensors")
                           : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    for (const TensorToWrite& tensor : shards[i]) {
      index["weight_map"][tensor.name] = name;
      result.weight_bytes += static_cast<std::int64_t>(bytes_of(tensor));
    }
    AtomicFile& file = delivery.add(name);
    write_safetensors(file, std::move(shards[i]));
    file.flush();
  }
  if (shards.size() == 1) return;
  index["metadata"]["total_size"] = result.weight_bytes;
  delivery.add("model.safetensors.index.json", index.dump(2) + "\n");
}

TokenizerFiles find_tokenizer(const Checkpoint& checkpoint, Conversion& result) {
  try {
    return tokenizer_files(checkpoint.path(), checkpoint.config().context);
  } catch (const Error& error) {
    result.tokenizer_problem = error.what();
    return {};
  }
}

/// Calls `visit` for every weight of the model, with the share that is done.
template <class Visit>
void every_weight(const ModelConfig& config, Visit visit) {
  for (const Weight weight : all_weights()) {
    const int layers = is_per_layer(weight) ? config.layers : 1;
    for (int layer = 0; layer < layers; ++layer) {
      if (!weight_shape(config, weight, layer).empty()) visit(weight, layer);
    }
  }
}

void compare(const Checkpoint& from, const Checkpoint& to, const Narrower& narrowed,
             at::ScalarType dtype, const std::function<void(Weight, int)>& tell) {
  every_weight(from.config(), [&](Weight weight, int layer) {
    tell(weight, layer);
    const at::Tensor expected = from.read(weight, layer, narrowed.read_as()).to(dtype);
    const at::Tensor found = to.read(weight, layer, narrowed.read_as());
    if (at::equal(found, expected.to(narrowed.read_as()))) return;
    throw Error(ErrorKind::internal, fmt::format("{}: {} does not read back as it was written",
                                                 to.path().string(), weight_name(weight, layer)));
  });
}

}  // namespace

Conversion convert_checkpoint(const Checkpoint& checkpoint, const fs::path& directory,
                              const ConvertOptions& options, const Progress& progress) {
  if (options.shard_bytes <= 0) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("expected shards of at least one byte, got {}", options.shard_bytes));
  }
  const ModelConfig& config = checkpoint.config();
  const at::ScalarType dtype = options.dtype.value_or(narrowest(checkpoint));
  if (safetensors_dtype(dtype) == nullptr) {
    refuse_to_write(fmt::format("float32, float64, float16 and bfloat16 can be written, not {}",
                                at::toString(dtype)));
  }
  Conversion result;
  result.directory = directory;
  result.dtype = safetensors_dtype(dtype);
  result.parameters = checkpoint.parameters();
  const Family& family = family_to_write(config.family);
  Json json = config_to_write(family, config, dtype);
  refuse_a_model(directory);
  std::error_code failed;
  fs::create_directories(directory, failed);
  if (failed) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: cannot be created: {}", directory.string(), failed.message()));
  }
  const TokenizerFiles tokenizer = find_tokenizer(checkpoint, result);
  if (tokenizer.bos) json["bos_token_id"] = *tokenizer.bos;
  if (tokenizer.eos) json["eos_token_id"] = *tokenizer.eos;

  double weights = 0;
  every_weight(config, [&](Weight, int) { ++weights; });
  double done = 0;
  const auto tell = [&](Weight weight, int layer) {
    if (progress) progress(weight_name(weight, layer), done / (2 * weights));
    ++done;
  };
  const Narrower narrower(checkpoint, dtype, result);
  Delivery delivery(directory);
  write_weights(arrange_weights(family, config,
                                [&](Weight weight, int layer) {
                                  return WeightToWrite{dtype, [&, weight, layer] {
                                                         tell(weight, layer);
                                                         return narrower(weight, layer);
                                                       }};
                                }),
                options.shard_bytes, delivery, result);
  for (const FileToWrite& file : tokenizer.files) delivery.add(file.name, file.text);
  delivery.add("config.json", json.dump(2) + "\n");
  result.files = delivery.commit();
  compare(checkpoint, Checkpoint::open(directory), narrower, dtype, tell);
  if (progress) progress("converted", 1.0);
  return result;
}

}  // namespace plumb
