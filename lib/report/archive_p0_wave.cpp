// What the archive of `plumb p0` holds of one wave.
#include <ATen/ATen.h>

#include <limits>

#include "plumb/report_text.h"
#include "report/archive_p0.h"
#include "report/archive_table.h"

namespace plumb::report {
namespace {

using Strings = std::vector<std::string>;
using Numbers = std::vector<double>;
using Whole = std::vector<std::int64_t>;

void put_ledger(ArchiveWriter& file, const std::string& group, const Ledger& ledger) {
  file.attribute(group, "total", ledger.total);
  file.attribute(group, "closing_error", ledger.closing_error);
  const auto rows = [&](const char* name, const std::vector<LedgerRow>& list) {
    Table<LedgerRow> table(file, group + "/" + name, list, "component");
    table.strings(
        "name", [](const LedgerRow& r) { return r.name; }, "component");
    table.numbers(
        "p0", [](const LedgerRow& r) { return r.p0; }, "length along the direction",
        "its write at position 0, mean over sequences");
    table.numbers(
        "others", [](const LedgerRow& r) { return r.others; }, "length along the direction",
        "its write at t > 0, mean");
  };
  rows("components", ledger.components);
  rows("heads", ledger.heads);
  rows("neurons", ledger.neurons);
  rows("erasers", ledger.erasers);
}

void put_effects(ArchiveWriter& file, const std::string& group, const std::vector<Effect>& list) {
  Table<Effect> table(file, group, list, "edit");
  table.strings(
      "name", [](const Effect& e) { return e.name; }, "what was edited");
  table.strings(
      "kind", [](const Effect& e) { return e.kind; }, "how");
  table.strings(
      "where", [](const Effect& e) { return e.where; }, "P0, or t: another position");
  table.strings(
      "outcome", [](const Effect& e) { return e.outcome; }, "what became of the sink");
  table.estimates(
      "value", [](const Effect& e) { return e.value; }, "share of attention",
      "mean sink over the wave's layers that were run");
  table.numbers(
      "removed", [](const Effect& e) { return e.removed; }, "share",
      "of the sink's excess over the null that is gone");
  table.estimates(
      "norm_at_onset", [](const Effect& e) { return e.norm; }, "length",
      "of the position's state entering the wave's first layer");
  table.numbers(
      "other_norm", [](const Effect& e) { return e.other_norm; }, "length",
      "largest among the other positions, mean over sequences");
  table.whole(
      "other_position", [](const Effect& e) { return e.other_position; }, "position",
      "where that is most often");
  table.numbers(
      "rival_share", [](const Effect& e) { return e.rival_share; }, "share of sequences",
      "in which another position spikes");
  table.estimates(
      "loss_change",
      [](const Effect& e) {
        constexpr double none = std::numeric_limits<double>::quiet_NaN();
        return e.loss_change.value_or(Estimate{none, none, none});
      },
      "nats per predicted token", "edited minus clean; NaN where it was not measured");
  table.whole(
      "sequences", [](const Effect& e) { return e.sequences; }, "sequences",
      "that it was read on; of fewer than all, value and norm are the clean run's of all plus the "
      "difference in these");
  table.profiles(
      "sink_by_layer", [](const Effect& e) -> const Numbers& { return e.sink; },
      "share of attention", "to position 0; NaN where the layer was not run");
  table.profiles(
      "other_sink_by_layer", [](const Effect& e) -> const Numbers& { return e.other_sink; },
      "share of attention", "to the largest other column; NaN where it was not run");
}

void put_self_masks(ArchiveWriter& file, const std::string& group,
                    const std::vector<SelfMask>& list) {
  Table<SelfMask> table(file, group, list, "layer_set");
  table.strings(
      "layers",
      [](const SelfMask& m) {
        std::string text;
        for (const int layer : m.layers) {
          text += (text.empty() ? "" : ",") + std::to_string(layer);
        }
        return text;
      },
      "layers in which the position attends only to itself");
  table.estimates(
      "sink", [](const SelfMask& m) { return m.sink; }, "share of attention",
      "drawn by the masked position, over the wave's layers that were run");
  table.estimates(
      "norm_at_onset", [](const SelfMask& m) { return m.norm; }, "length",
      "of the masked position's state entering the wave's first layer");
  table.numbers(
      "spiking", [](const SelfMask& m) { return m.spiking; }, "share of sequences",
      "in which it spikes");
  table.whole(
      "sufficient", [](const SelfMask& m) { return m.sufficient ? 1 : 0; }, "0 or 1", "");
}

void put_contrasts(ArchiveWriter& file, const std::string& group,
                   const std::vector<Contrast>& list) {
  Table<Contrast> table(file, group, list, "contrast");
  table.strings(
      "rung", [](const Contrast& c) { return c.rung; }, "that it serves");
  table.strings(
      "name", [](const Contrast& c) { return c.name; }, "what was done");
  table.strings(
      "control", [](const Contrast& c) { return c.control; }, "what it is held against");
  table.numbers(
      "effect", [](const Contrast& c) { return c.effect; }, "share",
      "of the sink's excess or of the projection, in the layers that both were read in");
  table.numbers(
      "by_control", [](const Contrast& c) { return c.by_control; }, "share", "the control's");
  table.estimates(
      "difference", [](const Contrast& c) { return c.difference; }, "share",
      "effect less control, paired by sequence");
  table.whole(
      "exceeds", [](const Contrast& c) { return c.exceeds ? 1 : 0; }, "0 or 1",
      "whether it does more than its control");
}

void put_ladder(ArchiveWriter& file, const std::string& group, const std::vector<Rung>& ladder) {
  Table<Rung> table(file, group, ladder, "rung");
  table.strings(
      "level", [](const Rung& r) { return r.level; }, "");
  table.strings(
      "name", [](const Rung& r) { return r.name; }, "");
  table.strings(
      "claim", [](const Rung& r) { return r.claim; }, "what the value is");
  table.strings(
      "holds", [](const Rung& r) { return to_string(r.holds); }, "yes, no or untested");
  table.numbers(
      "value", [](const Rung& r) { return r.value; }, "", "");
  table.numbers(
      "null", [](const Rung& r) { return r.null; }, "", "the value by chance");
  table.numbers(
      "low", [](const Rung& r) { return r.low; }, "", "95 % interval");
  table.numbers(
      "high", [](const Rung& r) { return r.high; }, "", "95 % interval");
}

// Members of a set in one string, "a0+m0|a5": routes by "|", components by "+".
std::string routes_of(const Alternatives& set) {
  std::string text;
  for (const auto& route : set.routes) {
    if (!text.empty()) text += '|';
    for (std::size_t i = 0; i < route.size(); ++i) text += (i == 0 ? "" : "+") + route[i];
  }
  return text;
}

void put_graph(ArchiveWriter& file, const std::string& group, const WaveReport& found) {
  const GraphCheck& graph = found.graph;
  file.attribute(group, "edges", graph.edges);
  file.attribute(group, "candidates", graph.candidates);
  file.attribute(group, "minimal", std::int64_t{graph.minimal ? 1 : 0});
  file.attribute(group, "least_edge", graph.least_edge);
  file.attribute(group, "least_needed", graph.least_needed);
  const auto estimate = [&](const char* name, const Estimate& value, const char* note) {
    file.dataset(group + "/" + name,
                 at::tensor(Numbers{value.mean, value.low, value.high}, at::kDouble),
                 {{"mean_low_high"}, "share", note});
  };
  estimate("faithfulness", graph.faithfulness, "with the graph's paths alone");
  estimate("completeness", graph.completeness, "with all others; 0: nothing is left to them");
  const auto drawn = [&](const char* name, const Numbers& values, const char* note) {
    put_column(file, group + "/" + name, values, "graph", "share", note);
  };
  drawn("random_faithfulness", graph.random, "of as many paths drawn at random");
  drawn("random_completeness", graph.random_completeness, "of as many paths drawn at random");
  drawn("matched_faithfulness", graph.matched, "of as many others of like score");
  drawn("matched_completeness", graph.matched_completeness, "of as many others of like score");
  put_effects(file, group + "/paths", found.paths);
  Table<DoubtfulPath> doubtful(file, group + "/doubtful", graph.doubtful, "path");
  doubtful.strings(
      "name", [](const DoubtfulPath& path) { return path.name; }, "not drawn");
  doubtful.estimates(
      "score", [](const DoubtfulPath& path) { return path.score; }, "share",
      "lost without it, by the sequences' own first tokens");
  doubtful.estimates(
      "elsewhere", [](const DoubtfulPath& path) { return path.elsewhere; }, "share",
      "by other tokens put first; interval corrected for the number of paths");
  Table<Alternatives> sets(file, group + "/alternatives", found.alternatives, "set");
  sets.strings("routes", routes_of, "any one suffices: routes by |, their components by +");
  sets.strings(
      "shown_by", [](const Alternatives& set) { return set.shown_by; }, "");
}

}  // namespace

void put_wave(ArchiveWriter& file, const std::string& group, const WaveReport& found) {
  file.attribute(group, "onset", std::int64_t{found.wave.onset});
  file.attribute(group, "last", std::int64_t{found.wave.last});
  file.attribute(group, "peak", std::int64_t{found.wave.peak});
  file.attribute(group, "verdict",
                 std::string(found.ladder.empty() ? "not reached" : to_string(found.verdict)));
  file.attribute(group, "spike_norm", found.spike_norm);
  file.attribute(group, "vocabulary_share", found.vocabulary_share);
  if (!found.ladder.empty()) file.attribute(group, "sentence", wave_sentence(found));
  if (found.direction.defined()) {
    file.dataset(group + "/direction", found.direction.to(at::kCPU).contiguous(),
                 {{"d_model"}, "unit vector", "mean state of position 0 entering the first layer"});
  }
  const auto names = [&](const char* name, const Strings& list, const std::string& note) {
    put_column(file, group + "/" + name, list, "component", note);
  };
  names("writers", found.writers, "components that write the direction");
  names("upstream", found.upstream, "components needed before them");
  names("erasers", found.erasers, "components that take it away");
  put_ledger(file, group + "/ledger", found.ledger);
  put_effects(file, group + "/clean", {found.clean});
  put_effects(file, group + "/knockouts", found.knockouts);
  put_effects(file, group + "/sets", found.sets);
  put_effects(file, group + "/controls", found.controls);
  put_contrasts(file, group + "/contrasts", found.contrasts);
  put_effects(file, group + "/state", found.state);
  put_effects(file, group + "/use", found.use);
  put_effects(file, group + "/signal", found.signal);
  put_effects(file, group + "/restored", found.restored);
  put_effects(file, group + "/dependence", found.dependence_effects);
  put_graph(file, group + "/graph", found);
  put_self_masks(file, group + "/self_masks", found.self_masks);
  put_ladder(file, group + "/ladder", found.ladder);
  put_column(file, group + "/smallest_mask",
             Whole(found.smallest_mask.begin(), found.smallest_mask.end()), "layer", "",
             "smallest set of layers in which a self-mask is enough; empty: none found");
  put_column(file, group + "/dependence_sentences", found.dependence, "sentence",
             "how this wave depends on earlier ones");
  put_column(file, group + "/vocabulary_norm",
             Numbers(found.vocabulary_norm.begin(), found.vocabulary_norm.end()),
             "percentile_1_50_99", "length", "of single tokens at position 0");
  put_column(file, group + "/vocabulary_exceptions", found.vocabulary_exceptions, "token",
             "token id", "weakest tokens at position 0");
}

}  // namespace plumb::report
