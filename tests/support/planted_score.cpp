#include "support/planted_score.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

#include "support/planted_p0.h"
#include "support/planted_trial.h"

namespace plumb::test {

namespace {

// What the search promises: a drawn edge changes the projection by at least this share, and an
// upstream component the sink or the norm by at least that.
constexpr double edge_share = 0.01;
constexpr double needed_share = 0.3;

// The ladder's L5: of the share of sequences in which position 0 spikes, what the masked position
// has to reach.
constexpr double spiking_needed = 0.9;

bool has(const std::set<std::string>& names, const std::string& name) {
  return names.contains(name);
}

std::string bare(const std::string& node) { return node.substr(0, node.find('@')); }

std::string reader_of(const CircuitEdge& edge) { return is_end(edge.to) ? "sink" : bare(edge.to); }

// Edges between components, and into the sink: "a0->m0", "m1->sink".
bool between_components(const CircuitEdge& edge) {
  return place_of(edge.from) >= 0 && (is_end(edge.to) || place_of(edge.to) >= 0);
}

// What the wiring implies beside the circuit itself: a backup is fed and writes as the writer is
// and does; an eraser reads what it takes away, from the sink or from the second writer's view.
std::set<std::string> implied_edges(const Planted& planted) {
  std::set<std::string> edges;
  const std::string detects = fmt::format("m{}", planted.options.detect);
  const std::string writes = fmt::format("m{}", planted.options.write);
  for (const auto& backup : planted.backups) {
    edges.insert(detects + "->" + bare(backup));
    edges.insert(bare(backup) + "->sink");
    if (planted.options.second != 0)
      edges.insert(fmt::format("{}->m{}", bare(backup), planted.options.second));
  }
  for (const auto& eraser : planted.erasers) {
    edges.insert(writes + "->" + bare(eraser));
    edges.insert(bare(eraser) + "->sink");
    edges.insert(fmt::format("{}->m{}", bare(eraser), planted.options.second));
  }
  return edges;
}

// An effect on unseen sequences against the claimed sign and what the search promises: its 95 %
// interval has to leave out zero, and to reach the promise.
Ruling rule(const Estimate& effect, double claimed, double promised) {
  const double sign = claimed < 0.0 ? -1.0 : 1.0;
  if (std::min(sign * effect.low, sign * effect.high) <= 0.0) return Ruling::made_up;
  return std::max(sign * effect.low, sign * effect.high) >= promised ? Ruling::real
                                                                     : Ruling::overstated;
}

// The arithmetic of position 0, made when something has to be decided by it.
class Judge {
 public:
  explicit Judge(const Planted& planted) : planted_(planted) {}

  const PlantedP0& system() {
    if (!system_) system_.emplace(planted_, model(), trial_length);
    return *system_;
  }
  const Model& model() {
    if (!model_) model_.emplace(to_model(planted_, {.threads = 1}));
    return *model_;
  }

  Unwired edge(const WaveReport& wave, const CircuitEdge& edge) {
    const Place from = place_of(edge.from);
    const Place to = is_end(edge.to) ? 2 * wave.wave.onset : place_of(edge.to);
    Unwired found{.what = bare(edge.from) + "->" + reader_of(edge), .claimed = edge.score};
    // What erases after the onset is no path to it: its claim is what it writes.
    if (from >= 2 * wave.wave.onset || to > 2 * wave.wave.onset) return found;
    found.effect = edge_effect(system(), wave, from, to);
    found.ruling = rule(found.effect, found.claimed, edge_share);
    return found;
  }

  // A writer has to matter to the projection; what is upstream, to it or to the norm.
  Unwired node(const WaveReport& wave, const std::string& name, bool writer) {
    const Place place = place_of(name);
    Unwired found{.what = name, .claimed = writer ? edge_share : needed_share, .node = true};
    found.effect = node_effect(system(), wave, place);
    found.ruling = !writer && norm_effect(system(), wave, place) >= needed_share
                       ? Ruling::real
                       : rule(found.effect, 1.0, found.claimed);
    return found;
  }

  bool vocabulary_falls_short(const WaveReport& wave, double share) {
    return drawing_share(planted_, model(), system().ids(), wave.wave) < share;
  }

  // Whether the tokens that stand at the masked position spike too rarely when they see themselves
  // alone, as position 0 does. There is no such reason where position 0 has no spike.
  bool masked_falls_short(const WaveReport& wave) {
    const at::Tensor ids = trial_tokens(planted_).narrow(0, 0, trial_sequences);
    const auto spiking = [&](std::int64_t position) {
      const at::Tensor state = system().alone(ids.select(1, position), position, wave.wave.onset);
      return state.norm(2, -1).gt(wave.spike_norm).to(at::kDouble).mean().item<double>();
    };
    return spiking(trial_masked_position) < spiking_needed * spiking(0);
  }

 private:
  const Planted& planted_;
  std::optional<Model> model_ = {};
  std::optional<PlantedP0> system_ = {};
};

void score_waves(const Planted& planted, const P0Report& report, TrialScore& score) {
  score.waves = static_cast<int>(planted.waves.size());
  for (const auto& [first, last] : planted.waves) {
    const bool found = std::ranges::any_of(report.waves, [&](const WaveReport& wave) {
      return wave.wave.onset == first && wave.wave.last == last;
    });
    score.waves_found += found ? 1 : 0;
    if (!found) score.missed.push_back(fmt::format("wave {}-{}", first, last));
  }
  for (const auto& wave : report.waves) {
    const bool planted_one = std::ranges::any_of(planted.waves, [&](const auto& span) {
      return wave.wave.onset <= span.second && wave.wave.last >= span.first;
    });
    if (planted_one) continue;
    ++score.false_waves;
    score.made_up.push_back(fmt::format("wave {}-{}", wave.wave.onset, wave.wave.last));
  }
}

void take_unwired(TrialScore& score, Unwired found) {
  if (found.ruling == Ruling::made_up) {
    score.made_up.push_back(fmt::format("{} ({:+.3f}, unseen {:+.3f} [{:+.3f}, {:+.3f}])",
                                        found.what, found.claimed, found.effect.mean,
                                        found.effect.low, found.effect.high));
  }
  score.unwired.push_back(std::move(found));
}

void score_nodes(const Planted& planted, const P0Report& report, Judge& judge, TrialScore& score) {
  std::set<std::string> truth;
  for (const auto& node : planted.circuit_nodes) {
    if (bare(node) != "input" && !planted.waves.empty()) truth.insert(bare(node));
  }
  std::set<std::string> extra;
  for (const auto* names : {&planted.backups, &planted.erasers}) {
    for (const auto& name : *names) extra.insert(bare(name));
  }
  std::set<std::string> found;
  std::set<std::string> judged;
  for (const auto& wave : report.waves) {
    for (const auto& set : wave.backups) found.insert(set.begin(), set.end());
    for (const auto* names : {&wave.writers, &wave.upstream}) {
      for (const auto& name : *names) {
        found.insert(name);
        if (truth.contains(name) || extra.contains(name) || !judged.insert(name).second) continue;
        take_unwired(score, judge.node(wave, name, names == &wave.writers));
      }
    }
  }
  for (const auto& node : truth) {
    ++score.nodes;
    if (has(found, node)) {
      ++score.nodes_found;
    } else {
      score.missed.push_back("node " + node);
    }
  }
}

void score_edges(const Planted& planted, const P0Report& report, Judge& judge, TrialScore& score) {
  std::set<std::string> wired(planted.circuit_edges.begin(), planted.circuit_edges.end());
  if (planted.waves.empty()) wired.clear();
  const std::set<std::string> implied = implied_edges(planted);
  std::set<std::string> found;
  for (const auto& wave : report.waves) {
    for (const auto& edge : wave.circuit.edges) {
      if (!between_components(edge)) continue;
      const std::string name = bare(edge.from) + "->" + reader_of(edge);
      found.insert(name);
      if (wired.contains(name) || implied.contains(name)) continue;
      take_unwired(score, judge.edge(wave, edge));
    }
  }
  for (const auto& edge : wired) {
    ++score.edges;
    if (has(found, edge)) {
      ++score.edges_found;
    } else {
      score.missed.push_back("edge " + edge);
    }
  }
}

void score_extras(const Planted& planted, const P0Report& report, TrialScore& score) {
  std::set<std::string> erasers;
  std::set<std::string> backups;
  for (const auto& wave : report.waves) {
    erasers.insert(wave.erasers.begin(), wave.erasers.end());
    for (const auto& set : wave.backups) backups.insert(set.begin(), set.end());
  }
  const auto ask = [&](bool found, const std::string& what) {
    ++score.extras;
    score.extras_found += found ? 1 : 0;
    if (!found) score.missed.push_back(what);
  };
  for (const auto& eraser : planted.erasers)
    ask(has(erasers, bare(eraser)), "eraser " + bare(eraser));
  for (const auto& backup : planted.backups)
    ask(has(backups, bare(backup)), "backup " + bare(backup));
  if (planted.options.route == Route::moved && !report.waves.empty()) {
    const std::string detects = fmt::format("a{}", planted.options.detect);
    ask(std::ranges::any_of(
            report.waves.front().knockouts,
            [&](const Effect& e) { return e.name == detects && e.outcome == "moved to t = 1"; }),
        "the move to position 1");
  }
}

void score_rungs(const P0Report& report, Judge& judge, TrialScore& score) {
  for (const auto& wave : report.waves) {
    for (const auto& rung : wave.ladder) {
      if (rung.level == "L7" || rung.level == "L8" || rung.level == "L9") continue;
      ++score.rungs;
      if (rung.holds == Holds::yes) {
        ++score.rungs_held;
      } else if (rung.level == "L2" &&
                 judge.vocabulary_falls_short(wave, report.options.vocabulary)) {
        ++score.rungs_rightly_refused;
      } else if (rung.level == "L5" && judge.masked_falls_short(wave)) {
        ++score.rungs_rightly_refused;
      } else {
        score.missed.push_back(fmt::format("{} of wave {}-{} {}: {:.3f}", rung.level,
                                           wave.wave.onset, wave.wave.last, to_string(rung.holds),
                                           rung.value));
      }
    }
  }
}

}  // namespace

const char* to_string(Ruling ruling) noexcept {
  switch (ruling) {
    case Ruling::real: return "real";
    case Ruling::overstated: return "overstated";
    case Ruling::made_up: return "made up";
  }
  return "made up";
}

TrialScore score_trial(const Planted& planted, const P0Report& report) {
  TrialScore score{.verdict = to_string(report.verdict)};
  Judge judge(planted);
  score.verdict_right = score.verdict == planted.verdict;
  if (!score.verdict_right)
    score.made_up.push_back("verdict " + score.verdict + " for " + planted.verdict);
  score_waves(planted, report, score);
  // Of a sink that only the BOS token makes, the locator names no components.
  if (planted.verdict != "token") {
    score_nodes(planted, report, judge, score);
    score_edges(planted, report, judge, score);
  }
  score_extras(planted, report, score);
  if (planted.verdict == "positional") score_rungs(report, judge, score);
  return score;
}

}  // namespace plumb::test
