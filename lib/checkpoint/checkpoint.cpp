#include "plumb/checkpoint.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <system_error>
#include <utility>

#include "checkpoint/dequantise.h"
#include "checkpoint/gguf_split.h"
#include "checkpoint/hash_files.h"
#include "checkpoint/opened.h"
#include "checkpoint/printable.h"
#include "checkpoint/row_reader.h"
#include "core/precision.h"
#include "plumb/error.h"

namespace plumb {

namespace fs = std::filesystem;

struct Checkpoint::Impl {
  std::string name;
  fs::path path;
  Opened opened;
  std::vector<TensorInfo> infos;
  std::int64_t parameters = 0;
  mutable std::atomic<std::uint64_t> bytes_read = 0;
  mutable std::once_flag hashed;
  mutable std::string sha256;

  Source locate(Weight weight, int layer) const { return opened.source(weight, layer); }
  const StoredTensor& stored(const std::string& tensor) const;
  void check_tensors();
  void read_part(const Source& source, const std::vector<std::int64_t>& shape, int expert,
                 const std::string& what, const at::Tensor& values) const;
  [[noreturn]] void bad(const std::string& message) const {
    throw Error(ErrorKind::bad_file, fmt::format("{}: {}", opened.where, message));
  }
};

namespace {

using Shape = std::vector<std::int64_t>;

Shape without_experts(const Shape& shape) { return {shape.begin() + 1, shape.end()}; }

at::Tensor allocate(const Shape& shape, at::ScalarType dtype, const std::string& what) {
  if (dtype != at::kFloat && dtype != at::kDouble) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("{} can be read as float32, float64, bfloat16 or float16, not {}", what,
                            at::toString(dtype)));
  }
  try {
    return at::empty(shape, at::TensorOptions().dtype(dtype));
  } catch (const std::exception&) {
    throw Error(ErrorKind::too_large,
                fmt::format("{} of shape {} does not fit the memory", what, shape_text(shape)));
  }
}

/// Rounded from float32; a number that float16 cannot hold is refused.
at::Tensor narrowed(const at::Tensor& values, at::ScalarType dtype, const std::string& what) {
  at::Tensor narrow = values.to(dtype);
  if (dtype == at::kHalf && !at::isfinite(narrow).all().item<bool>()) {
    throw Error(ErrorKind::unsupported,
                fmt::format("{} holds numbers beyond the range of float16; choose --dtype bf16 or "
                            "f32",
                            what));
  }
  return narrow;
}

template <class Out>
void refuse_non_finite(const at::Tensor& values, const Checkpoint::Impl& impl,
                       const std::string& tensor, const std::string& what) {
  const std::int64_t at = first_non_finite(values.data_ptr<Out>(), values.numel());
  if (at < 0) return;
  const std::string index = values.dim() == 2
                                ? fmt::format("[{}, {}]", at / values.size(1), at % values.size(1))
                                : fmt::format("[{}]", at);
  impl.bad(fmt::format("tensor {} holds {} at {} of {}", printable(tensor),
                       static_cast<double>(values.data_ptr<Out>()[at]), index, what));
}

std::string name_of(const fs::path& path) {
  std::error_code ignored;
  fs::path whole = fs::weakly_canonical(path, ignored);
  if (whole.empty()) whole = path;
  const std::string name = whole.filename().string();
  return name.ends_with(".gguf") ? name.substr(0, name.size() - 5) : name;
}

Opened open_any(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return open_hf_directory(path);
  if (!fs::exists(path, ignored)) {
    throw Error(
        ErrorKind::bad_file,
        fmt::format("{}: no such file or directory; a model is a Hugging Face directory or a "
                    ".gguf file",
                    path.string()));
  }
  if (path.extension() == ".safetensors") {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: has weights but no config; give its directory", path.string()));
  }
  return open_gguf(path);
}

}  // namespace

const StoredTensor& Checkpoint::Impl::stored(const std::string& tensor) const {
  const StoredTensor* found = find_tensor(opened.tensors, tensor);
  if (found == nullptr) bad(fmt::format("tensor {} is missing", printable(tensor)));
  return *found;
}

/// Fills `values`, contiguous and of `shape`: a weight, or one expert's part of it.
void Checkpoint::Impl::read_part(const Source& source, const Shape& shape, int expert,
                                 const std::string& what, const at::Tensor& values) const {
  const std::string tensor = source.tensor_of(expert);
  const StoredTensor& found = stored(tensor);
  found.file->check_unchanged();
  if (found.scales_file != nullptr) found.scales_file->check_unchanged();
  RowReader reader(found, source, shape, source.split() ? 0 : expert);
  if (values.scalar_type() == at::kFloat) {
    reader.all(values.data_ptr<float>());
    if (!reader.finite()) refuse_non_finite<float>(values, *this, tensor, what);
  } else {
    reader.all(values.data_ptr<double>());
    if (!reader.finite()) refuse_non_finite<double>(values, *this, tensor, what);
  }
  bytes_read += reader.bytes();
}

/// Every weight of the config is there in its shape, and the layers hold nothing else.
void Checkpoint::Impl::check_tensors() {
  std::set<std::string, std::less<>> used;
  const auto examine_tensor = [&](const std::string& tensor, const Shape& expected) {
    const StoredTensor& found = stored(tensor);
    if (found.info.shape != expected) {
      bad(fmt::format("tensor {} has shape {}, but the config says {}", printable(tensor),
                      shape_text(found.info.shape), shape_text(expected)));
    }
    used.insert(tensor);
  };
  const auto examine = [&](Weight weight, int layer) {
    const Shape shape = weight_shape(opened.config, weight, layer);
    if (shape.empty()) return;
    const Source source = locate(weight, layer);
    const bool experts = is_per_expert(weight);
    Shape expected = stored_shape(source, experts ? without_experts(shape) : shape);
    if (source.split()) {
      for (int expert = 0; expert < opened.config.experts.count; ++expert) {
        examine_tensor(source.tensor_of(expert), expected);
      }
    } else {
      if (experts) expected.insert(expected.begin(), shape.front());
      examine_tensor(source.tensor, expected);
    }
    parameters += product(shape);
  };
  for (const Weight weight : all_weights()) {
    if (!is_per_layer(weight)) examine(weight, 0);
  }
  for (int layer = 0; layer < opened.config.layers; ++layer) {
    for (const Weight weight : all_weights()) {
      if (is_per_layer(weight)) examine(weight, layer);
    }
  }
  for (const StoredTensor& tensor : opened.tensors) {
    const std::string& tensor_name = tensor.info.name;
    if (!tensor_name.starts_with(opened.layer_prefix) || used.contains(tensor_name) ||
        opened.ignores(tensor_name)) {
      continue;
    }
    bad(
        fmt::format("tensor {} has no place in a {} model of this config ({} layers); the config "
                    "and the weights contradict each other",
                    printable(tensor_name), opened.config.family, opened.config.layers));
  }
}

Checkpoint Checkpoint::open(const fs::path& path) {
  auto impl = std::make_shared<Impl>();
  impl->path = path;
  impl->name = name_of(path);
  impl->opened = open_any(path);
  if (impl->opened.format == "gguf" && impl->opened.files.size() > 1) {
    // Of a split model the name without "-00001-of-00003".
    const auto count = static_cast<std::int64_t>(impl->opened.files.size());
    const std::string suffix = gguf_part_suffix(0, count);
    if (impl->name.ends_with(suffix)) impl->name.resize(impl->name.size() - suffix.size());
  }
  try {
    check(impl->opened.config);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("{}: {}", path.string(), error.what()));
  }
  impl->check_tensors();
  impl->infos.reserve(impl->opened.tensors.size());
  for (const StoredTensor& tensor : impl->opened.tensors) impl->infos.push_back(tensor.info);
  return Checkpoint(std::move(impl));
}

const std::string& Checkpoint::name() const { return impl_->name; }
const fs::path& Checkpoint::path() const { return impl_->path; }
const ModelConfig& Checkpoint::config() const { return impl_->opened.config; }
const std::string& Checkpoint::format() const { return impl_->opened.format; }
const std::vector<TensorInfo>& Checkpoint::tensors() const { return impl_->infos; }
std::int64_t Checkpoint::parameters() const { return impl_->parameters; }
std::uint64_t Checkpoint::bytes_read() const { return impl_->bytes_read; }

bool Checkpoint::has(Weight weight, int layer) const {
  return !weight_shape(config(), weight, layer).empty();
}

at::Tensor Checkpoint::read(Weight weight, int layer, at::ScalarType dtype) const {
  if (weight == Weight::unembed && config().tied) weight = Weight::embed;
  const std::string what = weight_name(weight, layer);
  const Shape shape = weight_shape(config(), weight, layer);
  if (shape.empty()) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("model {} has no weight {}", printable(name()), what));
  }
  if (is_narrow(dtype)) return narrowed(read(weight, layer, at::kFloat), dtype, what);
  const Source source = impl_->locate(weight, layer);
  at::Tensor values = allocate(shape, dtype, what);
  if (!is_per_expert(weight)) {
    impl_->read_part(source, shape, 0, what, values);
    return values;
  }
  for (int expert = 0; expert < config().experts.count; ++expert) {
    impl_->read_part(source, without_experts(shape), expert,
                     fmt::format("expert {} of {}", expert, what), values.select(0, expert));
  }
  return values;
}

at::Tensor Checkpoint::read_expert(Weight weight, int layer, int expert,
                                   at::ScalarType dtype) const {
  const std::string what = fmt::format("expert {} of {}", expert, weight_name(weight, layer));
  const Shape shape = weight_shape(config(), weight, layer);
  if (shape.empty() || !is_per_expert(weight) || expert < 0 || expert >= shape.front()) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("model {} has no {}", printable(name()), what));
  }
  if (is_narrow(dtype)) {
    return narrowed(read_expert(weight, layer, expert, at::kFloat), dtype, what);
  }
  const Shape part = without_experts(shape);
  const at::Tensor values = allocate(part, dtype, what);
  impl_->read_part(impl_->locate(weight, layer), part, expert, what, values);
  return values;
}

at::Tensor Checkpoint::read_rows(Weight weight, const std::vector<std::int64_t>& rows,
                                 at::ScalarType dtype) const {
  if (weight == Weight::unembed && config().tied) weight = Weight::embed;
  const std::string what = weight_name(weight, 0);
  const Shape shape = weight_shape(config(), weight, 0);
  if (shape.size() != 2 || is_per_expert(weight)) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("model {} has no matrix {} to read rows of", printable(name()), what));
  }
  for (const std::int64_t row : rows) {
    if (row < 0 || row >= shape.front()) {
      throw Error(
          ErrorKind::bad_argument,
          fmt::format("row {} of {} is asked for, which has {} rows", row, what, shape.front()));
    }
  }
  if (is_narrow(dtype)) return narrowed(read_rows(weight, rows, at::kFloat), dtype, what);
  const Source source = impl_->locate(weight, 0);
  const StoredTensor& stored = impl_->stored(source.tensor);
  at::Tensor values = allocate({static_cast<std::int64_t>(rows.size()), shape[1]}, dtype, what);
  stored.file->check_unchanged();
  RowReader reader(stored, source, shape);
  const auto fill = [&](auto* out) {
    for (const std::int64_t row : rows) {
      reader.one(row, out);
      out += shape[1];
    }
    reader.release();
    impl_->bytes_read += reader.bytes();
  };
  if (dtype == at::kFloat) {
    fill(values.data_ptr<float>());
    refuse_non_finite<float>(values, *impl_, source.tensor, "the rows of " + what);
  } else {
    fill(values.data_ptr<double>());
    refuse_non_finite<double>(values, *impl_, source.tensor, "the rows of " + what);
  }
  return values;
}

const std::string& Checkpoint::sha256() const {
  std::call_once(impl_->hashed, [this] {
    const auto& files = impl_->opened.files;
    const auto whole = [](const MappedFile& file) { return file.size(); };
    impl_->sha256 = format() == "gguf" && files.size() == 1 ? hash_file(*files.front())
                                                            : hash_files(files, whole);
  });
  return impl_->sha256;
}

std::string Checkpoint::headers_sha256() const {
  std::map<const MappedFile*, std::uint64_t> headers;
  const auto holds_values = [&](const MappedFile& file, const std::byte* from) {
    const auto begin = static_cast<std::uint64_t>(from - file.data());
    const auto [known, fresh] = headers.emplace(&file, begin);
    if (!fresh) known->second = std::min(known->second, begin);
  };
  for (const StoredTensor& tensor : impl_->opened.tensors) {
    holds_values(*tensor.file, tensor.data);
    if (tensor.scales != nullptr) holds_values(*tensor.scales_file, tensor.scales);
  }
  return hash_files(impl_->opened.files, [&](const MappedFile& file) {
    const auto found = headers.find(&file);
    return found == headers.end() ? file.size() : found->second;
  });
}

}  // namespace plumb
