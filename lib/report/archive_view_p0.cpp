// The waves of an archive of `plumb p0`.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "report/archive_columns.h"

namespace plumb::report {
namespace {

constexpr int most_waves = 1000;

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

std::vector<Contrast> read_contrasts(const ArchiveReader& archive, const std::string& group) {
  const Columns table(archive, group, "name");
  std::vector<Contrast> found;
  if (table.rows() == 0) return found;
  const auto rung = table.strings("rung");
  const auto control = table.strings("control");
  const auto effect = table.numbers("effect");
  const auto by_control = table.numbers("by_control");
  const at::Tensor difference = table.estimates("difference");
  const auto exceeds = table.numbers("exceeds");
  for (std::size_t i = 0; i < table.rows(); ++i) {
    found.push_back({.rung = rung[i],
                     .name = table.first()[i],
                     .control = control[i],
                     .effect = effect[i],
                     .by_control = by_control[i],
                     .difference = estimate(difference, static_cast<std::int64_t>(i)),
                     .exceeds = exceeds[i] != 0.0});
  }
  return found;
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
  found.contrasts = read_contrasts(archive, group + "/contrasts");
  read_graph(archive, group + "/graph", found);
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
