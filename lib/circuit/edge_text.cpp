#include "circuit/edge_text.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

// Edges that any file may claim: 36 MB. More only where the file has a byte for each, as those that
// list them all have many.
constexpr double kModest = 4e6;

}  // namespace

std::string json_text(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

EdgeSpace claimed_space(std::int64_t layers, std::int64_t heads, std::int64_t kv_heads,
                        bool parallel, std::size_t bytes, const std::string& where) {
  if (layers < 1 || heads < 1 || kv_heads < 1 || heads % kv_heads != 0) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: expected layers, heads and key heads, the heads a multiple of the "
                            "key heads; the file has {}, {} and {}",
                            where, layers, heads, kv_heads));
  }
  const auto L = static_cast<double>(layers);
  const auto H = static_cast<double>(heads);
  const auto K = static_cast<double>(kv_heads);
  const double edges = L * (H + 2 * K + 1) * (1 + 0.5 * L * (H + 1));
  if (edges > kModest && edges > static_cast<double>(bytes)) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: {} bytes are too few for a circuit of {} layers and {} heads",
                            where, bytes, layers, heads));
  }
  return {static_cast<int>(layers), static_cast<int>(heads), static_cast<int>(kv_heads), parallel};
}

EdgeFiller::EdgeFiller(EdgeCircuit& circuit, std::string where)
    : circuit_(circuit), where_(std::move(where)), met_(circuit.in.size(), 0) {}

void EdgeFiller::refuse(const std::string& what) const {
  throw Error(ErrorKind::bad_file, where_ + ": " + what);
}

void EdgeFiller::put(std::string_view name, double score, bool in) {
  const auto edge = circuit_.space.find_edge(name);
  if (!edge) refuse(fmt::format("the model has no edge {}", printable(name)));
  const auto place = static_cast<std::size_t>(*edge);
  if (std::exchange(met_[place], 1) != 0)
    refuse(fmt::format("edge {} occurs twice", printable(name)));
  if (!std::isfinite(score)) refuse(fmt::format("the score of {} is not finite", printable(name)));
  circuit_.scores[place] = score;
  circuit_.in[place] = in ? 1 : 0;
}

}  // namespace plumb
