#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <system_error>
#include <utility>

#include "checkpoint/config_fields.h"
#include "checkpoint/families.h"
#include "checkpoint/printable.h"
#include "checkpoint/stored.h"
#include "checkpoint/write_safetensors.h"
#include "plumb/checkpoint_write.h"
#include "plumb/error.h"

namespace plumb {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::bad_argument, "cannot write the checkpoint: " + message);
}

/// A weight that is one tensor of the file, or some rows of it.
struct Part {
  std::int64_t first = 0;
  std::string name;
  at::Tensor values;
};

struct FileTensor {
  bool transposed = false;
  std::vector<Part> parts;
};

/// config.json, after making sure that reading it back gives the same model.
Json config_json(const Family& family, const ModelConfig& config, at::ScalarType dtype) {
  Json json = family.write(config);
  const char* name = dtype == at::kDouble     ? "float64"
                     : dtype == at::kHalf     ? "float16"
                     : dtype == at::kBFloat16 ? "bfloat16"
                                              : "float32";
  json["torch_dtype"] = name;
  ModelConfig read = family.read(Fields(json, "config.json"));
  read.family = std::string(family.name);
  const std::string difference = first_difference(config, read);
  if (!difference.empty()) {
    refuse(fmt::format("family {} cannot express this config: {} as read back", family.name,
                       difference));
  }
  return json;
}

void check_tensor(const std::string& name, const at::Tensor& values,
                  const std::vector<std::int64_t>& shape) {
  if (!values.defined()) refuse(fmt::format("tensor {} is undefined", name));
  if (values.sizes().vec() != shape) {
    refuse(fmt::format("tensor {} has shape {}, but the config says {}", name,
                       shape_text(values.sizes().vec()), shape_text(shape)));
  }
  if (safetensors_dtype(values.scalar_type()) == nullptr) {
    refuse(fmt::format("tensor {} is {}; float32, float64, float16 and bfloat16 can be written",
                       name, at::toString(values.scalar_type())));
  }
  if (!at::isfinite(values).all().item<bool>()) {
    refuse(fmt::format("tensor {} holds NaN or infinity", name));
  }
}

std::map<std::string, FileTensor> arrange(const Family& family, const ModelConfig& config,
                                          const Tensors& tensors) {
  std::map<std::string, FileTensor> arranged;
  std::size_t used = 0;
  const auto place = [&](Weight weight, int layer) {
    const std::vector<std::int64_t> shape = weight_shape(config, weight, layer);
    if (shape.empty()) return;
    const std::string name = weight_name(weight, layer);
    const auto given = tensors.find(name);
    if (given == tensors.end()) refuse(fmt::format("tensor {} is missing", name));
    check_tensor(name, given->second, shape);
    const Source source = family.source(config, weight, layer);
    FileTensor& tensor = arranged[source.tensor];
    tensor.transposed = source.transposed;
    tensor.parts.push_back({source.first, name, given->second});
    ++used;
  };
  for (const Weight weight : all_weights()) {
    const int layers = is_per_layer(weight) ? config.layers : 1;
    for (int layer = 0; layer < layers; ++layer) place(weight, layer);
  }
  if (used != tensors.size()) {
    for (const auto& [name, values] : tensors) {
      const bool known = std::any_of(arranged.begin(), arranged.end(), [&](const auto& entry) {
        return std::any_of(entry.second.parts.begin(), entry.second.parts.end(),
                           [&](const Part& part) { return part.name == name; });
      });
      if (!known) refuse(fmt::format("tensor {} has no place in this config", printable(name)));
    }
  }
  return arranged;
}

at::Tensor assemble(const FileTensor& tensor) {
  std::vector<at::Tensor> parts;
  for (const Part& part : tensor.parts) parts.push_back(part.values.detach().cpu());
  at::Tensor whole = parts.size() == 1 ? parts.front() : at::cat(parts, 0);
  if (tensor.transposed) whole = whole.t();
  return whole.contiguous();
}

TensorToWrite describe(const std::string& name, FileTensor& tensor) {
  std::sort(tensor.parts.begin(), tensor.parts.end(),
            [](const Part& a, const Part& b) { return a.first < b.first; });
  const Part& front = tensor.parts.front();
  TensorToWrite written = {name, front.values.scalar_type(), front.values.sizes().vec(), {}};
  for (std::size_t i = 1; i < tensor.parts.size(); ++i) {
    const Part& part = tensor.parts[i];
    if (part.values.scalar_type() != written.dtype) {
      refuse(fmt::format("tensors {} and {} are stored as one, but differ in dtype", front.name,
                         part.name));
    }
    written.shape.front() += part.values.size(0);
  }
  if (tensor.transposed) std::reverse(written.shape.begin(), written.shape.end());
  written.make = [&tensor] { return assemble(tensor); };
  return written;
}

}  // namespace

void write_checkpoint(const std::filesystem::path& directory, const ModelConfig& config,
                      const Tensors& tensors) {
  const Family* family = find_family(config.family);
  if (family == nullptr) {
    refuse(fmt::format("family {} is not known; plumb writes {}", printable(config.family),
                       family_names()));
  }
  check(config);
  std::map<std::string, FileTensor> arranged = arrange(*family, config, tensors);
  const Json json = config_json(*family, config, tensors.at("embed").scalar_type());

  std::error_code failed;
  std::filesystem::create_directories(directory, failed);
  if (failed) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: cannot be created: {}", directory.string(), failed.message()));
  }
  std::vector<TensorToWrite> written;
  for (auto& [name, tensor] : arranged) written.push_back(describe(name, tensor));
  AtomicFile weights(directory / "model.safetensors");
  write_safetensors(weights, std::move(written));
  weights.flush();
  AtomicFile text(directory / "config.json");
  const std::string dumped = json.dump(2) + "\n";
  text.write(dumped.data(), dumped.size());
  text.flush();
  weights.commit();
  text.commit();
}

}  // namespace plumb
