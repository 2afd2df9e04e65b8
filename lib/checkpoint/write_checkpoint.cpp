#include <ATen/ATen.h>
#include <fmt/format.h>

#include <set>
#include <system_error>
#include <utility>

#include "checkpoint/arrange_weights.h"
#include "checkpoint/printable.h"
#include "checkpoint/stored.h"
#include "plumb/checkpoint_write.h"
#include "plumb/error.h"

namespace plumb {
namespace {

void check_tensor(const std::string& name, const at::Tensor& values,
                  const std::vector<std::int64_t>& shape) {
  if (!values.defined()) refuse_to_write(fmt::format("tensor {} is undefined", name));
  if (values.sizes().vec() != shape) {
    refuse_to_write(fmt::format("tensor {} has shape {}, but the config says {}", name,
                                shape_text(values.sizes().vec()), shape_text(shape)));
  }
  if (safetensors_dtype(values.scalar_type()) == nullptr) {
    refuse_to_write(
        fmt::format("tensor {} is {}; float32, float64, float16 and bfloat16 can be written", name,
                    at::toString(values.scalar_type())));
  }
  if (!at::isfinite(values).all().item<bool>()) {
    refuse_to_write(fmt::format("tensor {} holds NaN or infinity", name));
  }
}

}  // namespace

void write_checkpoint(const std::filesystem::path& directory, const ModelConfig& config,
                      const std::map<std::string, at::Tensor>& tensors) {
  const Family& family = family_to_write(config.family);
  check(config);
  std::set<std::string> used;
  const auto give = [&](Weight weight, int layer) {
    const std::string name = weight_name(weight, layer);
    const auto given = tensors.find(name);
    if (given == tensors.end()) refuse_to_write(fmt::format("tensor {} is missing", name));
    check_tensor(name, given->second, weight_shape(config, weight, layer));
    used.insert(name);
    return WeightToWrite{given->second.scalar_type(), [values = given->second] { return values; }};
  };
  std::vector<TensorToWrite> written = arrange_weights(family, config, give);
  for (const auto& [name, values] : tensors) {
    if (!used.contains(name)) {
      refuse_to_write(fmt::format("tensor {} has no place in this config", printable(name)));
    }
  }
  const Json json = config_to_write(family, config, tensors.at("embed").scalar_type());

  std::error_code failed;
  std::filesystem::create_directories(directory, failed);
  if (failed) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: cannot be created: {}", directory.string(), failed.message()));
  }
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
