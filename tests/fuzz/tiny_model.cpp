#include "fuzz/tiny_model.h"

#include <algorithm>
#include <cstring>

#include "checkpoint/families.h"
#include "checkpoint/json.h"
#include "plumb/error.h"

namespace plumb::fuzz {

const std::string_view tiny_config =
    R"({"model_type":"llama","hidden_size":4,"intermediate_size":4,"num_hidden_layers":1,)"
    R"("num_attention_heads":1,"vocab_size":4,"max_position_embeddings":8,"rms_norm_eps":1e-5,)"
    R"("tie_word_embeddings":true})";

ModelConfig read_config(std::string_view json) {
  const Json document = parse_json(json, "config.json");
  const Fields fields(document, "config.json");
  const Family* family = find_family(fields.text("model_type"));
  if (family == nullptr) throw Error(ErrorKind::unsupported, "no such family");
  ModelConfig config = family->read(fields);
  config.family = std::string(family->name);
  check(config);
  return config;
}

std::vector<TensorToWrite> tensors_of(const ModelConfig& config) {
  return arrange_weights(*find_family(config.family), config, [](Weight, int) {
    return WeightToWrite{at::kFloat, {}};
  });
}

std::uint64_t data_bytes(const std::vector<TensorToWrite>& tensors) {
  constexpr double most = 0x1p62;
  double bytes = 0;
  for (const TensorToWrite& tensor : tensors) {
    double size = sizeof(float);
    for (const std::int64_t extent : tensor.shape) size *= static_cast<double>(extent);
    bytes += size;
  }
  return static_cast<std::uint64_t>(std::min(bytes, most));
}

std::string safetensors_of(const std::vector<TensorToWrite>& tensors) {
  Json header = Json::object();
  std::string data;
  for (const TensorToWrite& tensor : tensors) {
    const std::size_t begin = data.size();
    std::uint64_t elements = 1;
    for (const std::int64_t extent : tensor.shape) elements *= static_cast<std::uint64_t>(extent);
    for (std::uint64_t i = 0; i < elements; ++i) {
      const float value = 0.125F * (static_cast<float>(i % 7) - 3);
      data.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    header[tensor.name] = {
        {"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
  }
  const std::string text = header.dump();
  const std::uint64_t length = text.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return file + text + data;
}

}  // namespace plumb::fuzz
