#include "checkpoint/gguf_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

// Of no consequence for the forward pass: how the file was made, or what the tensors say too.
constexpr std::array<std::string_view, 4> harmless = {
    "tensor_data_layout", "rope.scaling.finetuned",
    "attention.layer_norm_epsilon",  // of an architecture without LayerNorm
};

}  // namespace

GgufMetadata::GgufMetadata(const GgufModel& model)
    : model_(model), architecture_(model.head.text("general.architecture")) {}

std::string GgufMetadata::key(std::string_view name) const {
  return fmt::format("{}.{}", architecture_, name);
}

const GgufValue* GgufMetadata::find(std::string_view name) const {
  const auto found = file().metadata().find(key(name));
  if (found == file().metadata().end()) return nullptr;
  read_.insert(found->first);
  return &found->second;
}

bool GgufMetadata::has(std::string_view name) const { return find(name) != nullptr; }

const StoredTensor* GgufMetadata::tensor(std::string_view name) const {
  return find_tensor(model_.tensors, name);
}

std::int64_t GgufMetadata::integer(std::string_view name, std::int64_t low) const {
  const GgufValue* value = find(name);
  const std::string whole = key(name);
  if (value == nullptr || value->type != GgufType::array) {
    return file().integer(whole, low, INT32_MAX);
  }
  const auto values = file().integers(whole);
  if (values.empty() || values.front() < low || values.front() > INT32_MAX) {
    bad(fmt::format("metadata key {} should hold integers from {} to {}", printable(whole), low,
                    INT32_MAX));
  }
  if (std::adjacent_find(values.begin(), values.end(), std::not_equal_to<>()) != values.end()) {
    unsupported(
        fmt::format("metadata key {} differs between the layers, which plumb does not "
                    "handle",
                    printable(whole)));
  }
  return values.front();
}

int GgufMetadata::count(std::string_view name) const { return static_cast<int>(integer(name, 1)); }

int GgufMetadata::count(std::string_view name, int fallback) const {
  return has(name) ? count(name) : fallback;
}

int GgufMetadata::count_or_none(std::string_view name) const {
  return has(name) ? static_cast<int>(integer(name, 0)) : 0;
}

double GgufMetadata::number(std::string_view name) const {
  find(name);
  return file().number(key(name));
}

double GgufMetadata::number(std::string_view name, double fallback) const {
  return has(name) ? number(name) : fallback;
}

bool GgufMetadata::flag(std::string_view name, bool fallback) const {
  find(name);
  return file().flag(key(name), fallback);
}

std::string_view GgufMetadata::text(std::string_view name, std::string_view fallback) const {
  find(name);
  return file().text(key(name), fallback);
}

std::vector<bool> GgufMetadata::flags(std::string_view name, int layers) const {
  const GgufValue* value = find(name);
  if (value == nullptr || value->type != GgufType::array) return {};
  std::vector<bool> flags;
  if (value->element == GgufType::boolean) {
    for (std::uint64_t i = 0; i < value->count; ++i) {
      flags.push_back(value->data[i] != std::byte{0});
    }
  } else {
    for (const std::int64_t number : file().integers(key(name))) flags.push_back(number != 0);
  }
  if (flags.size() != static_cast<std::size_t>(layers)) {
    bad(fmt::format("metadata key {} has {} entries for {} layers", printable(key(name)),
                    flags.size(), layers));
  }
  return flags;
}

void GgufMetadata::refuse_unread() const {
  const std::string prefix = architecture_ + ".";
  const auto& all = file().metadata();
  for (auto entry = all.lower_bound(prefix); entry != all.end(); ++entry) {
    const auto& [whole, value] = *entry;
    if (!whole.starts_with(prefix)) break;
    const std::string_view name = std::string_view(whole).substr(prefix.size());
    if (read_.contains(whole)) continue;
    if (std::find(harmless.begin(), harmless.end(), name) != harmless.end()) continue;
    const bool nothing = value.type == GgufType::boolean  ? !file().flag(whole, false)
                         : value.type == GgufType::array  ? value.count == 0
                         : value.type == GgufType::string ? file().text(whole) == "none"
                                                          : file().number(whole) == 0;
    if (!nothing) unhandled(name);
  }
}

void GgufMetadata::bad(const std::string& message) const {
  throw Error(ErrorKind::bad_file, fmt::format("{}: {}", file().file().path().string(), message));
}

void GgufMetadata::unsupported(const std::string& message) const {
  throw Error(ErrorKind::unsupported,
              fmt::format("{}: {}", file().file().path().string(), message));
}

void GgufMetadata::unhandled(std::string_view name) const {
  unsupported(fmt::format("metadata key {} is not handled by plumb", printable(key(name))));
}

}  // namespace plumb
