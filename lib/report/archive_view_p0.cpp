// The waves of an archive of `plumb p0`.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "report/archive_view.h"

namespace plumb::report {
namespace {

constexpr int most_waves = 1000;

Estimate estimate(const at::Tensor& table, std::int64_t row) {
  const double* at = table.data_ptr<double>() + 3 * row;
  return {at[0], at[1], at[2]};
}

// The columns of a table, all as long as `name`, which may be missing with the whole table.
class Columns {
 public:
  Columns(const ArchiveReader& archive, std::string group, const std::string& first)
      : archive_(archive),
        group_(std::move(group)),
        first_(archive.strings(group_ + "/" + first)) {}

  std::size_t rows() const { return first_.size(); }
  const std::vector<std::string>& first() const { return first_; }
  std::vector<std::string> strings(const std::string& name) const {
    return checked(archive_.strings(group_ + "/" + name), name);
  }
  std::vector<double> numbers(const std::string& name) const {
    return checked(archive_.list(group_ + "/" + name), name);
  }
  at::Tensor estimates(const std::string& name) const {
    const auto count = static_cast<std::int64_t>(rows());
    const at::Tensor table = archive_.numbers(group_ + "/" + name, {count, 3});
    return table.defined() ? table : at::full({count, 3}, std::nan(""), at::kDouble);
  }

 private:
  template <typename List>
  List checked(List list, const std::string& name) const {
    if (list.size() != rows()) {
      archive_.refuse(group_ + "/" + name,
                      fmt::format("it has {} rows, the table {}", list.size(), rows()));
    }
    return list;
  }

  const ArchiveReader& archive_;
  std::string group_;
  std::vector<std::string> first_;
};

std::vector<Effect> read_effects(const ArchiveReader& archive, const std::string& group) {
  const Columns table(archive, group, "name");
  std::vector<Effect> effects;
  if (table.rows() == 0) return effects;
  const auto kind = table.strings("kind");
  const auto where = table.strings("where");
  const auto outcome = table.strings("outcome");
  const at::Tensor value = table.estimates("value");
  const auto removed = table.numbers("removed");
  const at::Tensor norm = table.estimates("norm_at_onset");
  const auto other_norm = table.numbers("other_norm");
  const auto other_position = table.numbers("other_position");
  const at::Tensor loss = table.estimates("loss_change");
  for (std::size_t i = 0; i < table.rows(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    Effect effect{.name = table.first()[i], .kind = kind[i], .where = where[i]};
    effect.value = estimate(value, row);
    effect.removed = removed[i];
    effect.norm = estimate(norm, row);
    effect.other_norm = other_norm[i];
    if (std::abs(other_position[i]) < 1e15)
      effect.other_position = static_cast<std::int64_t>(other_position[i]);
    effect.outcome = outcome[i];
    const Estimate change = estimate(loss, row);
    if (!std::isnan(change.mean)) effect.loss_change = change;
    effects.push_back(std::move(effect));
  }
  return effects;
}

// "0,1,2"
std::vector<int> layers_of(const ArchiveReader& archive, const std::string& group,
                           const std::string& text) {
  std::vector<int> layers;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    int layer = 0;
    const auto [next, error] = std::from_chars(at, end, layer);
    if (error != std::errc{} || (next != end && *next != ','))
      archive.refuse(group + "/layers", "no lists of layers");
    layers.push_back(layer);
    at = next == end ? end : next + 1;
  }
  return layers;
}

std::vector<SelfMask> read_self_masks(const ArchiveReader& archive, const std::string& group) {
  const Columns table(archive, group, "layers");
  std::vector<SelfMask> masks;
  if (table.rows() == 0) return masks;
  const at::Tensor sink = table.estimates("sink");
  const at::Tensor norm = table.estimates("norm_at_onset");
  const auto spiking = table.numbers("spiking");
  const auto sufficient = table.numbers("sufficient");
  for (std::size_t i = 0; i < table.rows(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    masks.push_back({.layers = layers_of(archive, group, table.first()[i]),
                     .sink = estimate(sink, row),
                     .norm = estimate(norm, row),
                     .spiking = spiking[i],
                     .sufficient = sufficient[i] != 0.0});
  }
  return masks;
}

std::vector<Rung> read_ladder(const ArchiveReader& archive, const std::string& group) {
  const Columns table(archive, group, "level");
  std::vector<Rung> ladder;
  if (table.rows() == 0) return ladder;
  const auto name = table.strings("name");
  const auto claim = table.strings("claim");
  const auto holds = table.strings("holds");
  const auto value = table.numbers("value");
  const auto null = table.numbers("null");
  const auto low = table.numbers("low");
  const auto high = table.numbers("high");
  for (std::size_t i = 0; i < table.rows(); ++i) {
    ladder.push_back({.level = table.first()[i],
                      .name = name[i],
                      .claim = claim[i],
                      .value = value[i],
                      .null = null[i],
                      .low = low[i],
                      .high = high[i],
                      .holds = holds[i] == "yes"  ? Holds::yes
                               : holds[i] == "no" ? Holds::no
                                                  : Holds::untested});
  }
  return ladder;
}

std::vector<LedgerRow> read_rows(const ArchiveReader& archive, const std::string& group) {
  const Columns table(archive, group, "name");
  std::vector<LedgerRow> rows;
  if (table.rows() == 0) return rows;
  const auto p0 = table.numbers("p0");
  const auto others = table.numbers("others");
  for (std::size_t i = 0; i < table.rows(); ++i)
    rows.push_back({.name = table.first()[i], .p0 = p0[i], .others = others[i]});
  return rows;
}

int layer(const ArchiveReader& archive, const std::string& group, const char* name) {
  const double value = archive.number(group, name);
  if (!(value >= 0 && value < 1e6)) archive.refuse(group, fmt::format("no layer '{}'", name));
  return static_cast<int>(value);
}

WaveView read_wave(const ArchiveReader& archive, const std::string& group) {
  WaveView view;
  WaveReport& found = view.found;
  view.verdict = archive.attribute(group, "verdict");
  view.sentence = archive.attribute(group, "sentence");
  found.wave.onset = layer(archive, group, "onset");
  found.wave.last = layer(archive, group, "last");
  found.wave.peak = layer(archive, group, "peak");
  found.spike_norm = archive.number(group, "spike_norm");
  found.vocabulary_share = archive.number(group, "vocabulary_share");
  found.writers = archive.strings(group + "/writers");
  found.upstream = archive.strings(group + "/upstream");
  found.erasers = archive.strings(group + "/erasers");
  found.ledger.total = archive.number(group + "/ledger", "total");
  found.ledger.closing_error = archive.number(group + "/ledger", "closing_error");
  found.ledger.components = read_rows(archive, group + "/ledger/components");
  found.ledger.heads = read_rows(archive, group + "/ledger/heads");
  found.ledger.neurons = read_rows(archive, group + "/ledger/neurons");
  found.ledger.erasers = read_rows(archive, group + "/ledger/erasers");
  const auto clean = read_effects(archive, group + "/clean");
  if (clean.size() != 1) archive.refuse(group + "/clean", "not one row");
  found.clean = clean.front();
  found.knockouts = read_effects(archive, group + "/knockouts");
  found.sets = read_effects(archive, group + "/sets");
  found.controls = read_effects(archive, group + "/controls");
  found.state = read_effects(archive, group + "/state");
  found.use = read_effects(archive, group + "/use");
  found.signal = read_effects(archive, group + "/signal");
  found.restored = read_effects(archive, group + "/restored");
  found.dependence_effects = read_effects(archive, group + "/dependence");
  found.dependence = archive.strings(group + "/dependence_sentences");
  found.self_masks = read_self_masks(archive, group + "/self_masks");
  found.ladder = read_ladder(archive, group + "/ladder");
  for (const std::int64_t l : archive.whole(group + "/smallest_mask"))
    found.smallest_mask.push_back(static_cast<int>(l));
  found.vocabulary_exceptions = archive.whole(group + "/vocabulary_exceptions");
  const auto norms = archive.list(group + "/vocabulary_norm");
  if (norms.size() == found.vocabulary_norm.size())
    std::ranges::copy(norms, found.vocabulary_norm.begin());
  return view;
}

}  // namespace

std::vector<WaveView> read_waves(const ArchiveReader& archive) {
  std::vector<WaveView> waves;
  for (int i = 1; i <= most_waves; ++i) {
    const std::string group = fmt::format("/p0/wave{}", i);
    if (!archive.has(group)) break;
    waves.push_back(read_wave(archive, group));
  }
  return waves;
}

}  // namespace plumb::report
