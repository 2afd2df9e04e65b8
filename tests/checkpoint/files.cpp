#include "checkpoint/files.h"

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

namespace plumb::test {

std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_bytes(const std::filesystem::path& path, std::string_view bytes) {
  // A new file, as some file systems flush one that is overwritten, which takes milliseconds.
  std::filesystem::remove(path);
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  EXPECT_TRUE(file.good()) << path;
}

std::string floats(const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) bytes += bytes_of(value);
  return bytes;
}

std::string safetensors(std::string_view header, std::string_view data) {
  return bytes_of(static_cast<std::uint64_t>(header.size())) + std::string(header) +
         std::string(data);
}

std::string safetensors(const std::vector<PlainTensor>& tensors) {
  nlohmann::json header = nlohmann::json::object();
  std::string data;
  for (const PlainTensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  return safetensors(header.dump(), data);
}

std::string GgufBuilder::text(std::string_view value) {
  return bytes_of(static_cast<std::uint64_t>(value.size())) + std::string(value);
}

GgufBuilder& GgufBuilder::raw(std::string_view key, std::uint32_t type, std::string_view payload) {
  metadata_ += text(key) + bytes_of(type) + std::string(payload);
  ++metadata_count_;
  return *this;
}

GgufBuilder& GgufBuilder::u32(std::string_view key, std::uint32_t value) {
  return raw(key, 4, bytes_of(value));
}

GgufBuilder& GgufBuilder::f32(std::string_view key, float value) {
  return raw(key, 6, bytes_of(value));
}

GgufBuilder& GgufBuilder::string(std::string_view key, std::string_view value) {
  return raw(key, 8, text(value));
}

GgufBuilder& GgufBuilder::tensor(std::string_view name, const std::vector<std::uint64_t>& dims,
                                 std::uint32_t type, std::string_view data) {
  data_.append((alignment - data_.size() % alignment) % alignment, '\0');
  tensor_at(name, dims, type, data_.size());
  data_ += data;
  return *this;
}

GgufBuilder& GgufBuilder::tensor_at(std::string_view name, const std::vector<std::uint64_t>& dims,
                                    std::uint32_t type, std::uint64_t offset) {
  tensors_ += text(name) + bytes_of(static_cast<std::uint32_t>(dims.size()));
  for (const std::uint64_t extent : dims) tensors_ += bytes_of(extent);
  tensors_ += bytes_of(type) + bytes_of(offset);
  ++tensor_count_;
  return *this;
}

std::string GgufBuilder::bytes() const {
  std::string all = bytes_of(magic) + bytes_of(version) +
                    bytes_of(static_cast<std::int64_t>(tensor_count_) + extra_tensors) +
                    bytes_of(static_cast<std::int64_t>(metadata_count_) + extra_metadata) +
                    metadata_ + tensors_;
  if (data_.empty()) return all;
  all.append((alignment - all.size() % alignment) % alignment, '\0');
  return all + data_;
}

void expect_error(const std::function<void()>& action, ErrorKind kind,
                  const std::vector<std::string>& parts) {
  try {
    action();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_STREQ(to_string(error.kind()), to_string(kind)) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    for (const std::string& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << message << " lacks " << part;
    }
  }
}

}  // namespace plumb::test
