#include "plumb/model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <utility>
#include <vector>

#include "core/address_space.h"
#include "core/parallel.h"
#include "model/arithmetic.h"
#include "model/model_impl.h"
#include "plumb/error.h"

namespace plumb {

namespace {

// Reading everything once more for its checksum takes minutes from here on.
constexpr std::uint64_t most_bytes_hashed = 100'000'000'000;

std::uint64_t stored_bytes(const Checkpoint& checkpoint) {
  std::uint64_t bytes = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) bytes += tensor.bytes;
  return bytes;
}

// The config of the first blocks alone.
ModelConfig cut(const ModelConfig& whole, const std::optional<LayerRange>& layers) {
  check(whole);
  if (!layers) return whole;
  if (layers->first < 0 || layers->last < layers->first || layers->last >= whole.layers) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("expected layers of 0-{}, got {}-{}", whole.layers - 1, layers->first,
                            layers->last));
  }
  ModelConfig config = whole;
  config.layers = layers->last + 1;
  const auto shorten = [&](auto& list) {
    if (!list.empty()) list.resize(static_cast<std::size_t>(config.layers));
  };
  shorten(config.windows);
  shorten(config.rope_layers);
  shorten(config.experts.layers);
  return config;
}

}  // namespace

std::int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t total = 0;
  std::int64_t resident = 0;
  return file >> total >> resident ? resident * sysconf(_SC_PAGESIZE) : 0;
}

Model::Impl::Impl(const ModelConfig& whole, Source source_, std::string name_,
                  std::optional<Checkpoint> checkpoint_, const LoadOptions& options_)
    : config(cut(whole, options_.layers)),
      all_layers(whole.layers),
      source(std::move(source_)),
      name(std::move(name_)),
      checkpoint(std::move(checkpoint_)),
      options(options_),
      base_bytes(resident_bytes()),
      store(config, static_cast<std::int64_t>(at::elementSize(options_.dtype)),
            [this](Weight weight, int layer, int expert) { return read(weight, layer, expert); }),
      embed_rows_([this](const auto& ids) { return read_rows(Weight::embed, ids); }),
      unembed_rows_([this](const auto& ids) { return read_rows(Weight::unembed, ids); }) {
  check_arithmetic(options.dtype, options.device);
  if (options.threads < 0) {
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("expected a number of threads, 0 = all cores, got {}", options.threads));
  }
  if (options.memory < 0) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("expected bytes of memory, 0 = no bound, got {}", options.memory));
  }
  if (options.device.is_cpu()) check_room_for_blas(options.threads);
  if (options.threads == 0) options.threads = physical_cores();
}

void Model::Impl::check_layer(int layer) const {
  if (layer >= 0 && layer < config.layers) return;
  throw Error(ErrorKind::bad_argument,
              fmt::format("expected a layer of 0-{}, got {}", config.layers - 1, layer));
}

at::Tensor Model::Impl::place(const at::Tensor& value) const {
  return value.to(at::TensorOptions().dtype(options.dtype).device(options.device)).contiguous();
}

at::Tensor Model::Impl::read(Weight weight, int layer, int expert) const {
  if (!checkpoint) {
    const at::Tensor value = source(weight, layer);
    return value.defined() ? place(value) : value;
  }
  if (!checkpoint->has(weight, layer)) return {};
  return place(expert < 0 ? checkpoint->read(weight, layer, options.dtype)
                          : checkpoint->read_expert(weight, layer, expert, options.dtype));
}

at::Tensor Model::Impl::rows(Weight weight, const at::Tensor& ids) const {
  if (weight == Weight::unembed && config.tied) weight = Weight::embed;
  RowCache& cache = weight == Weight::embed ? embed_rows_ : unembed_rows_;
  const at::Tensor table = checkpoint ? store.find(weight, 0) : store.get(weight, 0);
  if (!table.defined()) return cache.get(ids);
  cache.forget();
  return at::embedding(table, ids);
}

at::Tensor Model::Impl::read_rows(Weight weight, const std::vector<std::int64_t>& ids) const {
  return place(checkpoint->read_rows(weight, ids, options.dtype));
}

std::int64_t Model::Impl::program_bytes() const {
  std::call_once(base_found_, [this] {
    base_bytes = std::max<std::int64_t>(base_bytes, resident_bytes() - store.held());
  });
  return base_bytes + overhead_bytes;
}

Model::Impl::Fit Model::Impl::make_room(const RunCost& cost) const {
  if (options.memory == 0 || !checkpoint) return Fit::all;
  const std::int64_t program = program_bytes();
  const std::int64_t others = program + reserved + cost.activation_bytes + cost.result_bytes;
  const std::int64_t room = options.memory - others;
  if (room < cost.tensor_bytes) {
    constexpr double giga = 1e9;
    throw Error(
        ErrorKind::too_large,
        fmt::format("{:.2f} GB of memory are too few: the largest weight takes {:.2f} GB, what is "
                    "computed {:.2f} GB, the program {:.2f} GB; allow more, or run fewer or "
                    "shorter sequences",
                    static_cast<double>(options.memory) / giga,
                    static_cast<double>(cost.tensor_bytes) / giga,
                    static_cast<double>(others - program) / giga,
                    static_cast<double>(program) / giga));
  }
  store.keep_to(room);
  if (room >= cost.weight_bytes) return Fit::all;
  return room >= cost.block_bytes ? Fit::block : Fit::tensor;
}

Model::Model(const ModelConfig& config, Source source, std::string name, const LoadOptions& options)
    : impl_(std::make_shared<const Impl>(config, std::move(source), std::move(name), std::nullopt,
                                         options)) {}

Model::Model(const Checkpoint& checkpoint, const LoadOptions& options)
    : impl_(std::make_shared<const Impl>(checkpoint.config(), Source(), checkpoint.name(),
                                         checkpoint, options)) {}

const ModelConfig& Model::config() const { return impl_->config; }
const std::string& Model::name() const { return impl_->name; }
int Model::first_layer() const { return impl_->options.layers ? impl_->options.layers->first : 0; }
int Model::all_layers() const { return impl_->all_layers; }
bool Model::whole() const { return impl_->config.layers == impl_->all_layers; }
at::ScalarType Model::dtype() const { return impl_->options.dtype; }
at::Device Model::device() const { return impl_->options.device; }
int Model::threads() const { return impl_->options.threads; }
std::int64_t Model::memory() const { return impl_->options.memory; }

std::string Model::sha256() const {
  const auto& checkpoint = impl_->checkpoint;
  if (!checkpoint || !whole() || stored_bytes(*checkpoint) > most_bytes_hashed) return {};
  return checkpoint->sha256();
}

std::string Model::headers_sha256() const {
  return impl_->checkpoint ? impl_->checkpoint->headers_sha256() : std::string();
}

std::uint64_t Model::bytes_read() const {
  return impl_->checkpoint ? impl_->checkpoint->bytes_read() : 0;
}

at::Tensor Model::weight(Weight weight, int layer) const {
  impl_->check_layer(layer);
  if (weight == Weight::unembed && impl_->config.tied) weight = Weight::embed;
  return impl_->store.get(weight, layer);
}

at::Tensor Model::embed(const at::Tensor& ids) const {
  std::vector<std::int64_t> shape = ids.sizes().vec();
  shape.push_back(impl_->config.d_model);
  return impl_->rows(Weight::embed, ids.reshape({-1})).view(shape);
}

at::Tensor Model::expert_weight(Weight weight, int layer, int expert) const {
  impl_->check_layer(layer);
  if (!is_per_expert(weight) || expert < 0 || expert >= impl_->config.experts.count) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("there is no expert {} of {}", expert, weight_name(weight, layer)));
  }
  if (impl_->checkpoint) return impl_->store.get(weight, layer, expert);
  const at::Tensor whole = this->weight(weight, layer);
  return whole.defined() ? whole.select(0, expert) : whole;
}

Model load(const std::filesystem::path& checkpoint, const LoadOptions& options) {
  return Model(Checkpoint::open(checkpoint), options);
}

}  // namespace plumb
