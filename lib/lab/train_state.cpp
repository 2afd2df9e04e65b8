// A training on disk, and back.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>

#include "checkpoint/arrange_weights.h"
#include "checkpoint/atomic_file.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/write_safetensors.h"
#include "plumb/error.h"
#include "plumb/hash.h"
#include "plumb/train.h"

namespace plumb {

namespace {

constexpr std::int64_t record_width = 3;
constexpr const char* options_name = "options";  // SHA-256 of `describe`, as 32 numbers
constexpr const char* history_name = "history";
constexpr const char* table_prefix = "table.";

at::Tensor fingerprint(const TrainOptions& options) {
  const std::string text = describe(options);
  const std::string hex = sha256_hex(text.data(), text.size());
  std::vector<double> bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(std::stoi(hex.substr(i, 2), nullptr, 16));
  return at::tensor(bytes, at::kDouble);
}

at::Tensor history_tensor(const std::vector<StepRecord>& history) {
  at::Tensor result =
      at::empty({static_cast<std::int64_t>(history.size()), record_width}, at::kDouble);
  double* out = result.data_ptr<double>();
  for (const StepRecord& record : history) {
    *out++ = record.rate;
    *out++ = record.loss;
    *out++ = record.gradient_norm;
  }
  return result;
}

[[noreturn]] void damaged(const std::filesystem::path& file, const std::string& why) {
  throw Error(
      ErrorKind::bad_file,
      fmt::format("{}: {}; start the training anew in another directory", file.string(), why));
}

at::Tensor read_tensor(const std::filesystem::path& file, const StoredTensor& stored) {
  const bool wide = stored.storage == Storage::f64;
  if (!wide && stored.storage != Storage::f32)
    damaged(file, fmt::format("tensor {} is {}", stored.info.name, stored.info.dtype));
  at::Tensor value = at::empty(stored.info.shape, wide ? at::kDouble : at::kFloat);
  std::memcpy(value.data_ptr(), stored.data, static_cast<std::size_t>(stored.info.bytes));
  return value;
}

}  // namespace

bool has_checkpoints(const TrainOptions& options) {
  return options.attention == AttentionKind::softmax;
}

std::string describe(const TrainOptions& o) {
  using Json = nlohmann::ordered_json;
  // The config.json that checkpoints get says everything about the model but its kind of attention,
  // or is refused here.
  const auto config = config_to_write(family_to_write(o.config.family),
                                      with_attention(o.config, AttentionKind::softmax), at::kFloat);
  Json json = {
      {"model", Json::parse(config.dump())},
      {"task",
       {{"name", to_string(o.task.task)},
        {"length", o.task.length},
        {"start_rule", o.task.start_rule},
        {"bos", o.task.bos},
        {"seed", o.task.seed}}},
      {"steps", o.steps},
      {"batch", o.batch},
      {"rate", o.rate},
      {"warm_up", o.warm_up},
      {"final_share", o.final_share},
      {"beta1", o.adamw.beta1},
      {"beta2", o.adamw.beta2},
      {"epsilon", o.adamw.epsilon},
      {"weight_decay", o.weight_decay},
      {"clip", o.clip},
      {"seed", o.seed},
  };
  if (o.task.corpus) {
    json["task"]["corpus_sha256"] = o.task.corpus->sha256;
    json["task"]["packing"] = to_string(o.task.packing);
    // Told where they are on alone, so that trainings without them keep their state.
    if (o.task.document_bos) json["task"]["document_bos"] = true;
    if (o.task.intra_document) json["task"]["intra_document"] = true;
  }
  if (!has_checkpoints(o)) json["attention"] = to_string(o.attention);
  return json.dump();
}

void Training::save(const std::filesystem::path& file, const Tables& tables) const {
  std::vector<TensorToWrite> written;
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    const at::Tensor plain = tensor.detach();
    written.push_back(
        {name, plain.scalar_type(), plain.sizes().vec(), [plain] { return plain.contiguous(); }});
  };
  add(options_name, fingerprint(options_));
  add(history_name, history_tensor(history_));
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const std::string name = weight_name(parameters_[i].weight, parameters_[i].layer);
    add(name, parameters_[i].value);
    add(name + ".first", optimiser_.moments()[i].first);
    add(name + ".second", optimiser_.moments()[i].second);
  }
  for (const auto& [name, table] : tables) add(table_prefix + name, table.to(at::kDouble));
  AtomicFile out(file);
  write_safetensors(out, std::move(written));
  out.commit();
}

Training::Tables Training::resume(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  const std::vector<StoredTensor> stored = read_safetensors(mapped);
  const auto take = [&](const std::string& name) {
    const StoredTensor* found = find_tensor(stored, name);
    if (found == nullptr) damaged(file, fmt::format("tensor {} is missing", name));
    mapped.check_unchanged();
    return read_tensor(file, *found);
  };
  if (!at::equal(take(options_name), fingerprint(options_))) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("{} is the state of a training with other options; give the same ones, "
                            "or another directory",
                            file.string()));
  }
  const at::Tensor history = take(history_name);
  if (history.dim() != 2 || history.size(1) != record_width || history.size(0) > options_.steps ||
      history.scalar_type() != at::kDouble) {
    damaged(file, "its history has another shape");
  }
  std::vector<at::Tensor> values;
  std::vector<Adamw::Moments> moments;
  for (const Parameter& parameter : parameters_) {
    const std::string name = weight_name(parameter.weight, parameter.layer);
    values.push_back(take(name));
    moments.push_back({take(name + ".first"), take(name + ".second")});
    for (const at::Tensor& tensor : {values.back(), moments.back().first, moments.back().second}) {
      if (tensor.sizes() != parameter.value.sizes())
        damaged(file, fmt::format("tensor {} has another shape", name));
    }
  }
  // Nothing is changed before everything has been found right.
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    parameters_[i].value.detach().copy_(values[i]);
  optimiser_.restore(history.size(0), moments);
  history_.clear();
  const auto rows = history.accessor<double, 2>();
  for (std::int64_t i = 0; i < history.size(0); ++i)
    history_.push_back({rows[i][0], rows[i][1], rows[i][2]});
  Tables tables;
  const std::string prefix = table_prefix;
  for (const StoredTensor& tensor : stored) {
    if (tensor.info.name.starts_with(prefix))
      tables[tensor.info.name.substr(prefix.size())] = read_tensor(file, tensor);
  }
  return tables;
}

}  // namespace plumb
