#include "report/p0_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "report/text_pieces.h"

namespace plumb::report {
namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string show_loss(const Effect& effect) {
  return effect.loss_change ? show_change(effect.loss_change->mean) : "";
}

std::string show_name(const Effect& effect, Naming naming) {
  const bool kind = naming == Naming::with_kind && !effect.kind.empty() && !effect.name.empty();
  return kind ? effect.name + ", " + effect.kind : effect.name.empty() ? effect.kind : effect.name;
}

// Shares of a sink that is not there to begin with mean nothing.
std::string show_removed(double removed) {
  constexpr double kSense = 5.0;
  return std::abs(removed) <= kSense ? show_share(removed) : "-";
}

}  // namespace

std::string ledger_table(const std::vector<LedgerRow>& rows, double total) {
  if (rows.empty()) return "";
  constexpr double kShown = 0.01;
  Rows table;
  LedgerRow rest;
  int others = 0;
  const auto add = [&](const std::string& name, const LedgerRow& row) {
    table.push_back({name, show_norm(row.p0), show_share(row.p0 / total), show_norm(row.others)});
  };
  for (const LedgerRow& row : rows) {
    if (std::abs(row.p0) >= kShown * std::abs(total)) {
      add(row.name, row);
    } else {
      ++others;
      rest.p0 += row.p0;
      rest.others += row.others;
    }
  }
  if (others > 0) add(fmt::format("{} smaller", others), rest);
  return columns({"<part", "at P0", "share", "at t > 0"}, table);
}

std::string knockout_table(const std::vector<Effect>& effects) {
  if (effects.empty()) return "";
  std::vector<std::string> names;
  std::vector<std::string> kinds;
  const auto note = [](std::vector<std::string>& list, const std::string& value) {
    if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
  };
  std::map<std::pair<std::string, std::string>, const Effect*> by_name;
  for (const Effect& effect : effects) {
    note(names, effect.name);
    note(kinds, effect.kind);
    by_name[{effect.name, effect.kind}] = &effect;
  }
  std::vector<std::string> titles = {"<part"};
  for (const std::string& kind : kinds) titles.push_back(kind);
  titles.insert(titles.end(), {"loss", "<strongest edit"});
  Rows table;
  for (const std::string& name : names) {
    std::vector<std::string> row = {name};
    const Effect* strongest = nullptr;
    for (const std::string& kind : kinds) {
      const auto found = by_name.find({name, kind});
      if (found == by_name.end()) {
        row.emplace_back();
        continue;
      }
      const Effect& effect = *found->second;
      row.push_back(show_removed(effect.removed) + " / " + show_norm(effect.norm.mean));
      if (strongest == nullptr || effect.removed > strongest->removed) strongest = &effect;
    }
    row.push_back(show_loss(*strongest));
    row.push_back(strongest->kind + ": " + strongest->outcome);
    table.push_back(std::move(row));
  }
  return columns(titles, table);
}

std::string effect_table(const std::vector<Effect>& effects, Naming naming) {
  if (effects.empty()) return "";
  const bool places = std::any_of(effects.begin(), effects.end(), [&](const Effect& effect) {
    return effect.where != effects.front().where;
  });
  const bool losses = std::any_of(effects.begin(), effects.end(), [](const Effect& effect) {
    return effect.loss_change.has_value();
  });
  std::vector<std::string> titles = {"<edit", "<sink", "removed", "norm", "next norm"};
  if (places) titles.insert(titles.begin() + 1, "<where");
  if (losses) titles.emplace_back("loss");
  titles.emplace_back("<outcome");
  Rows table;
  for (const Effect& effect : effects) {
    std::vector<std::string> row = {
        show_name(effect, naming), show_estimate(effect.value), show_removed(effect.removed),
        show_norm(effect.norm.mean),
        std::isfinite(effect.other_norm)
            ? fmt::format("{} at {}", show_norm(effect.other_norm), effect.other_position)
            : "-"};
    if (places) row.insert(row.begin() + 1, effect.where);
    if (losses) row.push_back(show_loss(effect));
    row.push_back(effect.outcome);
    table.push_back(std::move(row));
  }
  return columns(titles, table);
}

std::string contrast_table(const std::vector<Contrast>& contrasts) {
  if (contrasts.empty()) return "";
  Rows table;
  for (const Contrast& beside : contrasts) {
    table.push_back({beside.rung, beside.name, show_share(beside.effect), beside.control,
                     show_share(beside.by_control), show_estimate(beside.difference),
                     beside.exceeds ? "yes" : "no"});
  }
  return columns(
      {"<rung", "<what", "effect", "<control", "its effect", "<difference", "<beyond it"}, table);
}

std::string self_mask_table(const std::vector<SelfMask>& masks) {
  if (masks.empty()) return "";
  Rows table;
  for (const SelfMask& mask : masks) {
    table.push_back({fmt::format("{{{}}}", fmt::join(mask.layers, ", ")), show_estimate(mask.sink),
                     show_norm(mask.norm.mean), show_share(mask.spiking),
                     mask.sufficient ? "yes" : "no"});
  }
  return columns({"<layers", "<sink there", "norm", "spiking", "<enough"}, table);
}

std::string ladder_table(const std::vector<Rung>& ladder) {
  if (ladder.empty()) return "";
  Rows table;
  for (const Rung& rung : ladder) {
    const bool tested = rung.holds != Holds::untested;
    const char* holds = rung.holds == Holds::yes  ? "holds"
                        : rung.holds == Holds::no ? "fails"
                                                  : "not tested";
    table.push_back({rung.level, rung.name, holds, tested ? show_value(rung.value) : "",
                     tested ? show_value(rung.null) : "",
                     tested ? show_interval(rung.low, rung.high) : ""});
  }
  // The claims are sentences: each stands under its row.
  const std::string lines = columns({"<rung", "<name", "<", "value", "null", "<interval"}, table);
  std::size_t from = lines.find('\n', lines.find('\n') + 1) + 1;  // after titles and rule
  std::string text = lines.substr(0, from);
  for (const Rung& rung : ladder) {
    const std::size_t end = lines.find('\n', from) + 1;
    text += lines.substr(from, end - from);
    if (!rung.claim.empty()) text += wrap(rung.claim, 8, 8);
    from = end;
  }
  return text;
}

}  // namespace plumb::report
