#include "checkpoint/write_safetensors.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "checkpoint/json.h"

namespace plumb {

std::uint64_t bytes_of(const TensorToWrite& tensor) {
  std::uint64_t bytes = c10::elementSize(tensor.dtype);
  for (const std::int64_t extent : tensor.shape) bytes *= static_cast<std::uint64_t>(extent);
  return bytes;
}

const char* safetensors_dtype(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat: return "F32";
    case at::kDouble: return "F64";
    case at::kHalf: return "F16";
    case at::kBFloat16: return "BF16";
    default: return nullptr;
  }
}

void write_safetensors(AtomicFile& file, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& words) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorToWrite& a, const TensorToWrite& b) {
    const auto width = [](const TensorToWrite& tensor) { return c10::elementSize(tensor.dtype); };
    return width(a) != width(b) ? width(a) > width(b) : a.name < b.name;
  });
  // transformers asks for this mark of where the layout comes from.
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  for (const auto& [key, value] : words) header["__metadata__"][key] = value;
  std::uint64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    const std::uint64_t end = offset + bytes_of(tensor);
    header[tensor.name] = {
        {"dtype", tensor.dtype == at::kBool ? "BOOL" : safetensors_dtype(tensor.dtype)},
        {"shape", tensor.shape},
        {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');
  const std::uint64_t length = text.size();
  file.write(&length, sizeof length);
  file.write(text.data(), text.size());
  for (const TensorToWrite& tensor : tensors) {
    const at::Tensor values = tensor.make();
    file.write(values.data_ptr(), static_cast<std::size_t>(bytes_of(tensor)));
  }
}

}  // namespace plumb
