#include "plumb/p0_general.h"

#include <fmt/format.h>

#include <algorithm>

#include "plumb/error.h"
#include "sink/p0_ladder.h"

namespace plumb {

namespace {

constexpr std::size_t fewest_models = 3;
constexpr int rungs_counted = 8;
constexpr int rungs_of_a_circuit = 6;  // L1 to L6: found, necessary, sufficient, in order

Holds state_of(const P0Summary& model, const std::string& level) {
  const auto found =
      std::ranges::find_if(model.rungs, [&](const auto& rung) { return rung.first == level; });
  return found == model.rungs.end() ? Holds::untested : found->second;
}

Rung share_rung(std::string level, std::string name, std::string claim, std::size_t held,
                std::size_t tried) {
  Rung rung{.level = std::move(level), .name = std::move(name), .claim = std::move(claim)};
  if (tried == 0) return rung;
  const Estimate share =
      wilson(static_cast<double>(held) / static_cast<double>(tried), static_cast<double>(tried));
  rung.value = share.mean;
  rung.low = share.low;
  rung.high = share.high;
  return rung;
}

}  // namespace

P0Generality generalise(const std::vector<P0Summary>& models, double needed) {
  if (models.empty())
    throw Error(ErrorKind::bad_argument, "expected at least one finished plumb p0, got none");
  P0Generality found{.models = models};
  for (int i = 1; i <= rungs_counted; ++i) {
    const std::string level = fmt::format("L{}", i);
    std::size_t held = 0;
    std::size_t tried = 0;
    for (const auto& model : models) {
      const Holds holds = state_of(model, level);
      tried += holds == Holds::untested ? 0 : 1;
      held += holds == Holds::yes ? 1 : 0;
    }
    Rung rung = share_rung(level, "share of models",
                           fmt::format("holds in {} of {} models it was tested in", held, tried),
                           held, tried);
    rung.holds = tried == 0 ? Holds::untested : held == tried ? Holds::yes : Holds::no;
    found.rungs.push_back(std::move(rung));
  }
  std::size_t whole = 0;
  for (const auto& model : models) {
    bool all = model.verdict == Verdict::positional;
    for (int i = 1; i <= rungs_of_a_circuit; ++i)
      all = all && state_of(model, fmt::format("L{}", i)) == Holds::yes;
    whole += all ? 1 : 0;
  }
  found.general = share_rung(
      "L9", "general",
      fmt::format("share of models with a positional circuit in which L1 to L6 hold: {} of {}",
                  whole, models.size()),
      whole, models.size());
  found.general.null = needed;
  if (models.size() >= fewest_models)
    found.general.holds = found.general.low >= needed ? Holds::yes : Holds::no;
  return found;
}

}  // namespace plumb
