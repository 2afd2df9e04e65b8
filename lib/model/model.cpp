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
constexpr std::size_t first_of_experts = static_cast<std::size_t>(Weight::expert_gate);
constexpr std::size_t kinds_of_experts =
    static_cast<std::size_t>(Weight::expert_down_bias) - first_of_experts + 1;

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
  // Each slot is filled once and then constant.
  mutable std::vector<Slot> slots;         // [layer][weight kind]
  mutable std::vector<Slot> expert_slots;  // [layer][kind][expert], of a checkpoint

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

  void check_layer(int layer) const {
    if (layer >= 0 && layer < config.layers) return;
    throw Error(ErrorKind::bad_argument,
                fmt::format("expected a layer of 0-{}, got {}", config.layers - 1, layer));
  }

  at::Tensor place(const at::Tensor& value) const {
    return value.to(at::TensorOptions().dtype(options.dtype).device(options.device)).contiguous();
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
  const auto layers = static_cast<std::size_t>(impl->config.layers);
  const auto experts = static_cast<std::size_t>(impl->config.experts.count);
  impl->expert_slots = std::vector<Slot>(layers * kinds_of_experts * experts);
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
  impl_->check_layer(layer);
  if (weight == Weight::unembed && impl_->config.tied) weight = Weight::embed;
  Slot& slot = impl_->slots[static_cast<std::size_t>(layer) * weight_kinds +
                            static_cast<std::size_t>(weight)];
  std::call_once(slot.once, [&] {
    at::Tensor value = impl_->source(weight, layer);
    if (value.defined()) slot.value = impl_->place(value);
  });
  return slot.value;
}

at::Tensor Model::expert_weight(Weight weight, int layer, int expert) const {
  impl_->check_layer(layer);
  const auto& config = impl_->config;
  if (!is_per_expert(weight) || expert < 0 || expert >= config.experts.count) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("there is no expert {} of {}", expert, weight_name(weight, layer)));
  }
  if (!impl_->checkpoint) {
    const at::Tensor& whole = this->weight(weight, layer);
    return whole.defined() ? whole.select(0, expert) : whole;
  }
  if (!impl_->checkpoint->has(weight, layer)) return {};
  const std::size_t kind = static_cast<std::size_t>(weight) - first_of_experts;
  const std::size_t row = static_cast<std::size_t>(layer) * kinds_of_experts + kind;
  Slot& slot = impl_->expert_slots[row * static_cast<std::size_t>(config.experts.count) +
                                   static_cast<std::size_t>(expert)];
  std::call_once(slot.once, [&] {
    slot.value = impl_->place(impl_->checkpoint->read_expert(weight, layer, expert, dtype()));
  });
  return slot.value;
}

Model load(const std::filesystem::path& checkpoint, const LoadOptions& options) {
  return Model(Checkpoint::open(checkpoint), options);
}

}  // namespace plumb
