#include "plumb/model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "plumb/error.h"

namespace plumb {

namespace {

constexpr std::size_t weight_kinds = static_cast<std::size_t>(Weight::unembed) + 1;

struct Slot {
  std::once_flag once;
  at::Tensor value;
};

}  // namespace

struct Model::Impl {
  ModelConfig config;
  Source source;
  std::string name;
  std::optional<Checkpoint> checkpoint;
  LoadOptions options;
  mutable std::vector<Slot> slots;  // [layer][weight kind]; each is filled once and then constant

  Impl(const ModelConfig& config_, Source source_, std::string name_, const LoadOptions& options_)
      : config(config_),
        source(std::move(source_)),
        name(std::move(name_)),
        options(options_),
        slots(static_cast<std::size_t>(config_.layers) * weight_kinds) {
    check(config);
    if (options.dtype != at::kFloat && options.dtype != at::kDouble) {
      throw Error(ErrorKind::unsupported,
                  "the decoder computes in float32 or float64; choose --dtype f32 or f64");
    }
    if (options.threads < 0) {
      throw Error(
          ErrorKind::bad_argument,
          fmt::format("expected a number of threads, 0 = all cores, got {}", options.threads));
    }
    if (options.threads == 0) options.threads = physical_cores();
  }
};

Model::Model(const ModelConfig& config, Source source, std::string name, const LoadOptions& options)
    : impl_(std::make_shared<const Impl>(config, std::move(source), std::move(name), options)) {}

Model::Model(const Checkpoint& checkpoint, const LoadOptions& options) {
  const auto source = [checkpoint, dtype = options.dtype](Weight weight, int layer) {
    return checkpoint.has(weight, layer) ? checkpoint.read(weight, layer, dtype) : at::Tensor();
  };
  auto impl = std::make_shared<Impl>(checkpoint.config(), source, checkpoint.name(), options);
  impl->checkpoint = checkpoint;
  impl_ = std::move(impl);
}

const ModelConfig& Model::config() const { return impl_->config; }
const std::string& Model::name() const { return impl_->name; }
std::string Model::sha256() const {
  return impl_->checkpoint ? impl_->checkpoint->sha256() : std::string();
}
at::ScalarType Model::dtype() const { return impl_->options.dtype; }
at::Device Model::device() const { return impl_->options.device; }
int Model::threads() const { return impl_->options.threads; }

const at::Tensor& Model::weight(Weight weight, int layer) const {
  if (layer < 0 || layer >= impl_->config.layers) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("expected a layer of 0-{}, got {}", impl_->config.layers - 1, layer));
  }
  if (weight == Weight::unembed && impl_->config.tied) weight = Weight::embed;
  Slot& slot = impl_->slots[static_cast<std::size_t>(layer) * weight_kinds +
                            static_cast<std::size_t>(weight)];
  std::call_once(slot.once, [&] {
    at::Tensor value = impl_->source(weight, layer);
    if (value.defined()) {
      slot.value = value.to(at::TensorOptions().dtype(dtype()).device(device())).contiguous();
    }
  });
  return slot.value;
}

Model load(const std::filesystem::path& checkpoint, const LoadOptions& options) {
  return Model(Checkpoint::open(checkpoint), options);
}

}  // namespace plumb
