#include "checkpoint/arrange_weights.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "checkpoint/config_fields.h"
#include "checkpoint/families.h"
#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

/// A weight, or one expert's part of it, that is one tensor of the file, or some rows of it.
struct Part {
  Source source = {};
  std::string name = {};
  std::vector<std::int64_t> shape = {};
  WeightToWrite weight = {};
};

struct FileTensor {
  std::string name = {};
  bool transposed = false;
  std::int64_t axis = 0;  ///< of the parts' rows: 1 where the first is that of the experts
  std::vector<Part> parts = {};
};

/// Whether the rows do not simply follow each other: groups of them, or rows that no weight fills.
bool scattered(const FileTensor& tensor) {
  return std::any_of(tensor.parts.begin(), tensor.parts.end(), [&](const Part& part) {
    return part.source.group > 0 || (tensor.parts.size() == 1 && part.source.first > 0);
  });
}

/// Rows i and i + half of a head become its stored rows 2i and 2i + 1.
at::Tensor interleave(const at::Tensor& rows, int heads) {
  std::vector<std::int64_t> shape = rows.sizes().vec();
  const std::int64_t half = shape.front() / heads / 2;
  shape.insert(shape.begin(), {heads, 2});
  shape[2] = half;
  return rows.reshape(shape).transpose(1, 2).reshape(rows.sizes());
}

at::Tensor values_of(const Part& part) {
  at::Tensor values = part.weight.make().detach().cpu();
  if (part.source.interleaved_heads > 0) {
    values = interleave(values, part.source.interleaved_heads);
  }
  if (part.source.offset == 0.0) return values;
  return (values.to(at::kDouble) - part.source.offset).to(values.scalar_type());
}

/// Rows that no weight fills are zero: what they hold is never read.
at::Tensor scatter(const FileTensor& tensor, std::int64_t rows) {
  at::Tensor whole;
  for (const Part& part : tensor.parts) {
    const at::Tensor values = values_of(part);
    if (!whole.defined()) {
      std::vector<std::int64_t> shape = values.sizes().vec();
      shape[static_cast<std::size_t>(tensor.axis)] = rows;
      whole = at::zeros(shape, values.options());
    }
    at::Tensor index = at::arange(values.size(tensor.axis), at::TensorOptions().dtype(at::kLong));
    if (const std::int64_t group = part.source.group; group > 0) {
      const at::Tensor within = index.remainder(group);
      index = (index - within).div(group, "floor") * part.source.stride + within;
    }
    whole.index_copy_(tensor.axis, index + part.source.first, values);
  }
  return whole;
}

at::Tensor assemble(const FileTensor& tensor) {
  at::Tensor whole;
  if (scattered(tensor)) {
    whole = scatter(tensor, tensor.parts.front().source.outputs);
  } else {
    std::vector<at::Tensor> parts;
    for (const Part& part : tensor.parts) parts.push_back(values_of(part));
    whole = parts.size() == 1 ? parts.front() : at::cat(parts, tensor.axis);
  }
  if (tensor.transposed) whole = whole.transpose(tensor.axis, tensor.axis + 1);
  return whole.contiguous();
}

TensorToWrite describe(FileTensor tensor) {
  std::sort(tensor.parts.begin(), tensor.parts.end(),
            [](const Part& a, const Part& b) { return a.source.first < b.source.first; });
  const Part& front = tensor.parts.front();
  const auto axis = static_cast<std::size_t>(tensor.axis);
  TensorToWrite written = {tensor.name, front.weight.dtype, front.shape, {}};
  for (std::size_t i = 1; i < tensor.parts.size(); ++i) {
    const Part& part = tensor.parts[i];
    if (part.weight.dtype != written.dtype) {
      refuse_to_write(fmt::format("tensors {} and {} are stored as one, but differ in dtype",
                                  front.name, part.name));
    }
    written.shape[axis] += part.shape[axis];
  }
  if (scattered(tensor)) written.shape[axis] = front.source.outputs;
  if (tensor.transposed) std::reverse(written.shape.begin() + tensor.axis, written.shape.end());
  written.make = [whole = std::make_shared<const FileTensor>(std::move(tensor))] {
    return assemble(*whole);
  };
  return written;
}

}  // namespace

void refuse_to_write(const std::string& message) {
  throw Error(ErrorKind::bad_argument, "cannot write the checkpoint: " + message);
}

const Family& family_to_write(const std::string& name) {
  if (const Family* family = find_family(name)) return *family;
  refuse_to_write(
      fmt::format("family {} is not known; plumb writes {}", printable(name), family_names()));
}

Json config_to_write(const Family& family, const ModelConfig& config, at::ScalarType dtype) {
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
    refuse_to_write(fmt::format("family {} cannot express this config: {} as read back",
                                family.name, difference));
  }
  return json;
}

std::vector<TensorToWrite> arrange_weights(
    const Family& family, const ModelConfig& config,
    const std::function<WeightToWrite(Weight weight, int layer)>& give) {
  std::vector<FileTensor> arranged;
  std::map<std::string, std::size_t> places;
  const auto place = [&](Weight weight, int layer) {
    const std::vector<std::int64_t> shape = weight_shape(config, weight, layer);
    if (shape.empty()) return;
    const Source source = family.source(config, weight, layer);
    const std::string name = weight_name(weight, layer);
    const WeightToWrite given = give(weight, layer);
    const auto put = [&](const std::string& tensor, std::int64_t axis,
                         const std::vector<std::int64_t>& part_shape, const WeightToWrite& part) {
      const auto [found, fresh] = places.emplace(tensor, arranged.size());
      if (fresh) arranged.push_back({tensor, source.transposed, axis, {}});
      arranged[found->second].parts.push_back({source, name, part_shape, part});
    };
    if (!source.split()) {
      put(source.tensor, is_per_expert(weight) ? 1 : 0, shape, given);
      return;
    }
    // Made once for all experts, whose turns follow each other, and let go after the last.
    const auto whole = std::make_shared<at::Tensor>();
    for (int expert = 0; expert < config.experts.count; ++expert) {
      const bool last = expert + 1 == config.experts.count;
      put(source.tensor_of(expert), 0, {shape.begin() + 1, shape.end()},
          {given.dtype, [make = given.make, whole, expert, last] {
             if (!whole->defined()) *whole = make();
             const at::Tensor part = whole->select(0, expert);
             if (last) whole->reset();
             return part;
           }});
    }
  };
  for (const Weight weight : all_weights()) {
    if (!is_per_layer(weight)) place(weight, 0);
  }
  for (int layer = 0; layer < config.layers; ++layer) {
    for (const Weight weight : all_weights()) {
      if (is_per_layer(weight)) place(weight, layer);
    }
  }
  std::vector<TensorToWrite> written;
  written.reserve(arranged.size());
  for (FileTensor& tensor : arranged) written.push_back(describe(std::move(tensor)));
  return written;
}

}  // namespace plumb
