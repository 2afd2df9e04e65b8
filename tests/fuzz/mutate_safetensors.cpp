#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>

#include "fuzz/mutators.h"

namespace plumb::fuzz {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t most_data = 1 << 14;

std::uint64_t element_bits(const Json& dtype) {
  if (!dtype.is_string()) return 32;
  const auto& name = dtype.get_ref<const std::string&>();
  for (const unsigned bits : {64U, 32U, 16U, 8U, 6U, 4U}) {
    if (name.find(std::to_string(bits)) != std::string::npos) return bits;
  }
  return 8;
}

/// Lays the tensors out one after the other, each as long as its shape and dtype say.
void lay_out(Json& header, std::string& data) {
  std::uint64_t end = 0;
  for (auto& [name, entry] : header.items()) {
    if (!entry.is_object() || !entry.contains("shape") || !entry["shape"].is_array()) continue;
    std::uint64_t bits = element_bits(entry.value("dtype", Json()));
    for (const Json& extent : entry["shape"]) {
      if (!extent.is_number_unsigned()) return;
      const auto factor = extent.get<std::uint64_t>();
      if (factor > most_data || bits > most_data * 8) return;
      bits *= factor;
    }
    entry["data_offsets"] = {end, end + bits / 8};
    end += bits / 8;
  }
  if (end <= most_data) data.resize(end, '\x3c');
}

}  // namespace

std::string mutate_safetensors(std::string_view input, const Mutation& mutation) {
  std::uint64_t length = 0;
  if (input.size() < sizeof length || mutation.one_in(8)) {
    return mutation.bytes(input, input.size() + 64);
  }
  std::memcpy(&length, input.data(), sizeof length);
  if (length > input.size() - sizeof length) length = input.size() - sizeof length;
  std::string header(input.substr(sizeof length, length));
  std::string data(input.substr(sizeof length + length));
  if (mutation.one_in(4)) {
    data = mutation.bytes(data, data.size() + 16);
  } else {
    header = mutate_json(header, mutation);
    if (mutation.one_in(2)) {
      Json document = Json::parse(header, nullptr, false);
      if (document.is_object()) {
        lay_out(document, data);
        header = document.dump(-1, ' ', false, Json::error_handler_t::replace);
      }
    }
  }
  length = header.size();
  if (mutation.one_in(32)) length += mutation.below(3) - 1;
  std::string out(sizeof length, '\0');
  std::memcpy(out.data(), &length, sizeof length);
  return out + header + data;
}

}  // namespace plumb::fuzz
