#include "plumb/checkpoint.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <mutex>
#include <numeric>
#include <set>
#include <system_error>
#include <utility>

#include "checkpoint/dequantise.h"
#include "checkpoint/gguf_split.h"
#include "checkpoint/opened.h"
#include "checkpoint/printable.h"
#include "core/sha256.h"
#include "plumb/error.h"

namespace plumb {

namespace fs = std::filesystem;

struct Checkpoint::Impl {
  std::string name;
  fs::path path;
  Opened opened;
  std::vector<TensorInfo> infos;
  std::int64_t parameters = 0;
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

std::int64_t product(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

Shape without_experts(const Shape& shape) { return {shape.begin() + 1, shape.end()}; }

/// The shape the file's tensor has to have. `canonical` is without the axis of the experts.
Shape stored_shape(const Source& source, const Shape& canonical) {
  Shape shape = canonical;
  if (source.outputs >= 0) shape.front() = source.outputs;
  if (source.transposed) std::reverse(shape.begin(), shape.end());
  return shape;
}

/// Copies rows of a canonical weight out of its stored tensor.
class RowReader {
 public:
  /// `shape` is that of one matrix or vector; where the tensor holds one for each expert, `expert`
  /// says which.
  RowReader(const StoredTensor& stored, const Source& source, const Shape& shape,
            std::int64_t expert = 0)
      : stored_(stored),
        source_(source),
        base_(expert * product(stored_shape(source, shape))),
        rows_(shape.front()),
        columns_(shape.size() > 1 ? shape[1] : 1),
        vector_(shape.size() == 1) {}

  template <class Out>
  void all(Out* out) const {
    copy_all(out);
    shift(out, rows_ * columns_);
  }

  template <class Out>
  void one(std::int64_t row, Out* out) const {
    copy_one(row, out);
    shift(out, columns_);
  }

 private:
  template <class Out>
  void shift(Out* out, std::int64_t count) const {
    if (source_.offset == 0.0) return;
    for (std::int64_t i = 0; i < count; ++i) out[i] += static_cast<Out>(source_.offset);
  }

  template <class Out>
  void copy_all(Out* out) const {
    if (vector_) return read_vector(out);
    if (source_.transposed) return read_transposed(out);
    if (source_.group > 0) {
      for (std::int64_t row = 0; row < rows_; row += source_.group) {
        widen(stored_, base_ + stored_row(row) * columns_, source_.group * columns_, out + row * columns_);
      }
      return;
    }
    if (source_.interleaved_heads == 0) {
      return widen(stored_, base_ + source_.first * columns_, rows_ * columns_, out);
    }
    for (std::int64_t row = 0; row < rows_; ++row) copy_one(row, out + row * columns_);
  }

  template <class Out>
  void copy_one(std::int64_t row, Out* out) const {
    if (!source_.transposed) {
      return widen(stored_, base_ + stored_row(row) * columns_, columns_, out);
    }
    const std::int64_t outputs = stored_.info.shape.back();
    for (std::int64_t column = 0; column < columns_; ++column) {
      widen(stored_, base_ + column * outputs + stored_row(row), 1, out + column);
    }
  }

  /// In interleaved order, stored rows 2i and 2i + 1 of a head are its rows i and i + half.
  std::int64_t stored_row(std::int64_t row) const {
    if (source_.group > 0) {
      return source_.first + row / source_.group * source_.stride + row % source_.group;
    }
    if (source_.interleaved_heads == 0) return source_.first + row;
    const std::int64_t d_head = rows_ / source_.interleaved_heads;
    const std::int64_t half = d_head / 2;
    const std::int64_t head = row / d_head;
    const std::int64_t channel = row % d_head;
    const std::int64_t within = channel < half ? 2 * channel : 2 * (channel - half) + 1;
    return source_.first + head * d_head + within;
  }

  template <class Out>
  void read_vector(Out* out) const {
    std::vector<Out> values(static_cast<std::size_t>(stored_.info.shape.back()));
    widen(stored_, base_, stored_.info.shape.back(), values.data());
    for (std::int64_t row = 0; row < rows_; ++row) {
      out[row] = values[static_cast<std::size_t>(stored_row(row))];
    }
  }

  /// Takes a band of inputs at a time, so that both sides stay in the cache.
  template <class Out>
  void read_transposed(Out* out) const {
    constexpr std::int64_t band = 32;
    const std::int64_t outputs = stored_.info.shape.back();
    const std::int64_t first = stored_row(0);
    const std::int64_t span = stored_row(rows_ - 1) - first + 1;
    std::vector<Out> values(static_cast<std::size_t>(band * span));
    for (std::int64_t begin = 0; begin < columns_; begin += band) {
      const std::int64_t width = std::min(band, columns_ - begin);
      for (std::int64_t i = 0; i < width; ++i) {
        widen(stored_, base_ + (begin + i) * outputs + first, span,
              values.data() + i * span);
      }
      for (std::int64_t row = 0; row < rows_; ++row) {
        for (std::int64_t i = 0; i < width; ++i) {
          out[row * columns_ + begin + i] =
              values[static_cast<std::size_t>(i * span + stored_row(row) - first)];
        }
      }
    }
  }

  const StoredTensor& stored_;
  const Source& source_;
  std::int64_t base_;  ///< elements of the tensor before the matrix or vector
  std::int64_t rows_;
  std::int64_t columns_;
  bool vector_;
};

at::Tensor allocate(const Shape& shape, at::ScalarType dtype, const std::string& what) {
  if (dtype != at::kFloat && dtype != at::kDouble) {
    throw Error(ErrorKind::bad_argument, fmt::format("{} can be read as float32 or float64, not {}",
                                                     what, at::toString(dtype)));
  }
  try {
    return at::empty(shape, at::TensorOptions().dtype(dtype));
  } catch (const std::exception&) {
    throw Error(ErrorKind::too_large,
                fmt::format("{} of shape {} does not fit the memory", what, shape_text(shape)));
  }
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
  const RowReader reader(found, source, shape, source.split() ? 0 : expert);
  if (values.scalar_type() == at::kFloat) {
    reader.all(values.data_ptr<float>());
    refuse_non_finite<float>(values, *this, tensor, what);
  } else {
    reader.all(values.data_ptr<double>());
    refuse_non_finite<double>(values, *this, tensor, what);
  }
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
  const Source source = impl_->locate(weight, 0);
  const StoredTensor& stored = impl_->stored(source.tensor);
  at::Tensor values = allocate({static_cast<std::int64_t>(rows.size()), shape[1]}, dtype, what);
  stored.file->check_unchanged();
  const RowReader reader(stored, source, shape);
  const auto fill = [&](auto* out) {
    for (const std::int64_t row : rows) {
      reader.one(row, out);
      out += shape[1];
    }
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
    const auto hash_of = [](const MappedFile& file) {
      file.check_unchanged();
      Sha256 hash;
      hash.update(file.data(), static_cast<std::size_t>(file.size()));
      return hash.hex();
    };
    const auto& files = impl_->opened.files;
    if (format() == "gguf" && files.size() == 1) {
      impl_->sha256 = hash_of(*files.front());
      return;
    }
    std::vector<std::pair<std::string, const MappedFile*>> named;
    for (const auto& file : files) named.emplace_back(file->path().filename().string(), file.get());
    std::sort(named.begin(), named.end());
    std::string lines;
    for (const auto& [file_name, file] : named) lines += hash_of(*file) + "  " + file_name + "\n";
    Sha256 hash;
    hash.update(lines.data(), lines.size());
    impl_->sha256 = hash.hex();
  });
  return impl_->sha256;
}

}  // namespace plumb
