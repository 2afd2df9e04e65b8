#include "support/planted_trial.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "core/random.h"
#include "support/token_lists.h"

namespace plumb::test {

namespace {

constexpr std::int64_t sequences = 12;
constexpr std::int64_t length = 48;
constexpr std::int64_t masked_position = 20;
constexpr int deepest_write = 11;

template <typename T, std::size_t n>
T one_of(Random& random, const std::array<T, n>& values) {
  return values[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(n)))];
}

bool has(const std::set<std::string>& names, const std::string& name) {
  return names.contains(name);
}

std::string bare(const std::string& node) { return node.substr(0, node.find('@')); }

// "a0@0" -> "m0@0" and "m1@0" -> "sink[2-5]" as "a0->m0" and "m1->sink".
std::map<std::string, double> edges_of(const Circuit& circuit, const Planted& planted) {
  std::map<std::string, double> edges;
  for (const auto& edge : circuit.edges) {
    const bool part = edge.from.find(".n") != std::string::npos;
    const bool erases = std::ranges::find(planted.erasers, edge.from) != planted.erasers.end();
    const auto backs_up = [&](const std::string& node) {
      return std::ranges::find(planted.backups, node) != planted.backups.end();
    };
    if (edge.from == "input@0" || part || erases || backs_up(edge.from) || backs_up(edge.to) ||
        edge.from.starts_with("or"))
      continue;
    const bool last = edge.to.starts_with("sink") || edge.to.starts_with("or");
    const std::string to = last ? "sink" : bare(edge.to);
    edges.emplace(bare(edge.from) + "->" + to, edge.score);
  }
  return edges;
}

}  // namespace

const std::vector<std::string>& trial_kinds() {
  static const std::vector<std::string> kinds{
      "positional", "backup",   "two_waves",        "erased",      "mixture",
      "bos_too",    "token",    "learned_position", "sink_logits", "none",
      "norm_only",  "no_spike", "second_position",  "moved"};
  return kinds;
}

PlantOptions draw_trial(const std::string& kind, std::uint64_t seed) {
  Random random = Random(seed).fork(500);
  PlantOptions options{.seed = seed};
  const bool waves = kind == "two_waves" || kind == "erased";
  options.write = 1 + static_cast<int>(random.below(waves ? deepest_write - 4 : deepest_write));
  options.detect = static_cast<int>(random.below(options.write));
  options.heads = one_of(random, std::array{2, 4, 8});
  options.kv_heads = options.heads / one_of(random, std::array{1, 2});
  options.d_mlp = one_of(random, std::array{64, 96, 128});
  options.norm = one_of(random, std::array{Norm::rms, Norm::layer});
  options.d_model = one_of(random, std::array{136, 160, 192});
  options.positions = one_of(random, std::array{Positions::rope, Positions::rope, Positions::none,
                                                Positions::alibi, Positions::learned});
  options.noise = one_of(random, std::array{0.0, 0.003, 0.006});
  const bool variant = kind == "backup" || waves || kind == "mixture" || kind == "bos_too";
  options.route = variant ? Route::positional : parse_route(kind);
  options.backup = kind == "backup";
  options.bos_too = kind == "bos_too";
  options.erase = kind == "erased";
  if (kind == "mixture") options.experts = one_of(random, std::array{2, 4, 8});
  const int readers = 2 + static_cast<int>(random.below(3));
  int last = options.write + (options.backup ? 1 : 0) + readers;
  if (waves) {
    options.second = options.write + 2 + static_cast<int>(random.below(3));
    last = options.second + readers;
  }
  options.layers = last + 1;
  return options;
}

std::string describe(const PlantOptions& o) {
  constexpr std::array positions{"rope", "learned", "alibi", "no positions"};
  return fmt::format(
      "{} seed {}: {} layers, {}/{} heads, width {}, {} norm, {}, detect {}, write "
      "{}{}{}{}{}, noise {}",
      to_string(o.route), o.seed, o.layers, o.heads, o.kv_heads, o.d_model,
      o.norm == Norm::rms ? "rms" : "layer", positions[static_cast<std::size_t>(o.positions)],
      o.detect, o.write, o.second != 0 ? fmt::format(", second {}", o.second) : "",
      o.erase ? ", erased" : "", o.backup ? ", backup" : "",
      o.experts != 0 ? fmt::format(", {} experts", o.experts) : "", o.noise);
}

P0Report locate_trial(const Planted& planted) {
  const PlantOptions& options = planted.options;
  const Model model = to_model(planted, {.threads = 1});
  const auto ids = as_lists(plant_tokens(planted, options.seed + 5, sequences, length));
  P0Inputs inputs;
  inputs.plain = make_inputs(ids, length, {}, "tokens");
  if (options.route == Route::token || options.bos_too)
    inputs.native = make_inputs(ids, length, planted.bos, "tokens");
  inputs.random = make_inputs(random_ids(sequences, length, planted.bos, nullptr, options.seed + 9),
                              length, {}, "random");
  P0Options p0;
  p0.causal_sequences = sequences;
  p0.causal_length = length;
  p0.self_mask_position = masked_position;
  p0.seed = options.seed;
  return locate_p0(model, inputs, p0);
}

TrialScore score_trial(const Planted& planted, const P0Report& report) {
  TrialScore score{.verdict = to_string(report.verdict)};
  const auto fault = [&](const std::string& text) { score.faults.push_back(text); };
  score.verdict_right = score.verdict == planted.verdict;
  if (!score.verdict_right) fault("verdict " + score.verdict + " for " + planted.verdict);

  score.waves = static_cast<int>(planted.waves.size());
  for (const auto& [first, last] : planted.waves) {
    const bool found = std::ranges::any_of(report.waves, [&](const WaveReport& wave) {
      return wave.wave.onset == first && wave.wave.last == last;
    });
    score.waves_found += found ? 1 : 0;
    if (!found) fault(fmt::format("wave {}-{} missed", first, last));
  }
  for (const auto& wave : report.waves) {
    const bool planted_one = std::ranges::any_of(planted.waves, [&](const auto& span) {
      return wave.wave.onset <= span.second && wave.wave.last >= span.first;
    });
    if (planted_one) continue;
    ++score.false_waves;
    fault(fmt::format("wave {}-{} made up", wave.wave.onset, wave.wave.last));
  }

  // Only the positional routes have a circuit of components before the onset that the locator is
  // asked for; of the token route it climbs no further than that.
  std::set<std::string> found;
  std::set<std::string> erasers;
  std::set<std::string> backups;
  for (const auto& wave : report.waves) {
    found.insert(wave.writers.begin(), wave.writers.end());
    found.insert(wave.upstream.begin(), wave.upstream.end());
    erasers.insert(wave.erasers.begin(), wave.erasers.end());
    for (const auto& set : wave.backups) backups.insert(set.begin(), set.end());
  }
  std::set<std::string> truth;
  for (const auto& node : planted.circuit_nodes) {
    if (bare(node) != "input" && !planted.waves.empty()) truth.insert(bare(node));
  }
  const bool climbed = planted.verdict != "token";
  if (climbed) {
    std::set<std::string> all = found;
    all.insert(backups.begin(), backups.end());
    for (const auto& node : truth) {
      ++score.nodes;
      if (has(all, node)) {
        ++score.nodes_found;
      } else {
        fault("node " + node + " missed");
      }
    }
    for (const auto& node : found) {
      const bool extra =
          std::ranges::any_of(planted.backups,
                              [&](const auto& backup) { return bare(backup) == node; }) ||
          std::ranges::any_of(planted.erasers, [&](const auto& e) { return bare(e) == node; });
      if (truth.contains(node) || extra) continue;
      ++score.false_nodes;
      fault("node " + node + " made up");
    }
    const std::map<std::string, double> drawn = edges_of(report.circuit, planted);
    std::set<std::string> wired(planted.circuit_edges.begin(), planted.circuit_edges.end());
    if (planted.waves.empty()) wired.clear();
    for (const auto& edge : wired) {
      ++score.edges;
      if (drawn.contains(edge)) {
        ++score.edges_found;
      } else {
        fault("edge " + edge + " missed");
      }
    }
    for (const auto& [edge, lost] : drawn) {
      if (wired.contains(edge)) continue;
      if (lost < 0.0) {
        ++score.lowering_edges;
        continue;
      }
      ++score.false_edges;
      score.largest_false_edge = std::max(score.largest_false_edge, std::abs(lost));
      fault(fmt::format("edge {} made up ({:+.3f})", edge, lost));
    }
  }
  for (const auto& eraser : planted.erasers) {
    ++score.extras;
    if (has(erasers, bare(eraser))) {
      ++score.extras_found;
    } else {
      fault("eraser " + bare(eraser) + " missed");
    }
  }
  for (const auto& backup : planted.backups) {
    ++score.extras;
    if (has(backups, bare(backup))) {
      ++score.extras_found;
    } else {
      fault("backup " + bare(backup) + " missed");
    }
  }
  if (planted.options.route == Route::moved && !report.waves.empty()) {
    ++score.extras;
    const std::string detects = fmt::format("a{}", planted.options.detect);
    const bool moved = std::ranges::any_of(report.waves.front().knockouts, [&](const Effect& e) {
      return e.name == detects && e.outcome == "moved to t = 1";
    });
    if (moved) {
      ++score.extras_found;
    } else {
      fault("the move to position 1 missed");
    }
  }
  if (planted.verdict == "positional") {
    for (const auto& wave : report.waves) {
      for (const auto& rung : wave.ladder) {
        if (rung.level == "L7" || rung.level == "L8" || rung.level == "L9") continue;
        ++score.rungs;
        if (rung.holds == Holds::yes) {
          ++score.rungs_held;
        } else {
          fault(fmt::format("{} {}: {:.3f}", rung.level, to_string(rung.holds), rung.value));
        }
      }
    }
  }
  return score;
}

}  // namespace plumb::test
