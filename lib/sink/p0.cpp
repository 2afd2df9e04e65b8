#include "plumb/p0.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <set>

#include "plumb/error.h"
#include "sink/p0_context.h"
#include "sink/p0_experiments.h"
#include "sink/p0_graph.h"
#include "sink/p0_ladder.h"
#include "sink/p0_ledger.h"
#include "sink/p0_vocabulary.h"

namespace plumb {

namespace {

constexpr double same_wave_overlap =
    0.5;  // share of layers two conditions' waves must have in common

bool same_wave(const Wave& a, const Wave& b) {
  const int common = std::min(a.last, b.last) - std::max(a.onset, b.onset) + 1;
  const int shorter = std::min(a.last - a.onset, b.last - b.onset) + 1;
  return common >= same_wave_overlap * shorter;
}

std::vector<int> early_blocks(const WaveReport& report) {
  std::vector<int> blocks;
  for (const int layer : report.smallest_mask.empty() ? report.blocks : report.smallest_mask) {
    if (blocks.empty() || layer == blocks.back() + 1) blocks.push_back(layer);
  }
  if (blocks.empty()) blocks.push_back(0);
  return blocks;
}

void name_blocks(WaveReport& report) {
  for (const auto* names : {&report.writers, &report.upstream}) {
    for (const auto& name : *names) report.blocks.push_back(component_named(name).layer);
  }
  std::ranges::sort(report.blocks);
  report.blocks.erase(std::ranges::unique(report.blocks).begin(), report.blocks.end());
}

// Where the attention goes when position 0 has no wave: to learned sink logits, or to another
// position, the same one in all sequences.
Verdict without_a_wave(const SinkSurvey& survey, std::vector<std::string>& notes) {
  notes.emplace_back(
      "no layer reaches the wave threshold at position 0: there is no P0 sink circuit here");
  const double threshold = std::max(survey.options.wave_threshold, 2.0 * survey.null);
  if (survey.sink_mass.defined()) {
    const at::Tensor by_layer = survey.sink_mass.mean(1);
    if (by_layer.max().item<double>() >= threshold) {
      notes.push_back(fmt::format("learned sink logits take {:.3f} of the attention in layer {}",
                                  by_layer.max().item<double>(),
                                  by_layer.argmax().item<std::int64_t>()));
      return Verdict::sink_logits;
    }
  }
  // The last columns are seen by few queries, and a mean over few is not a sink.
  constexpr std::int64_t fewest_queries = 16;
  const std::int64_t last = survey.length - std::min(fewest_queries, survey.length / 2);
  if (last < 2) return Verdict::none;
  const at::Tensor drawn = survey.received.mean(0).narrow(1, 1, last - 1);  // [L, columns]
  const at::Tensor best = std::get<0>(drawn.max(0));
  if (best.max().item<double>() < threshold) return Verdict::none;
  const auto column = best.argmax().item<std::int64_t>();
  notes.push_back(fmt::format("position {} draws {:.3f} in layer {}: the sink is there", column + 1,
                              best.max().item<double>(),
                              drawn.select(1, column).argmax().item<std::int64_t>()));
  return Verdict::secondary;
}

// Notes what each step costs, in the report.
class Meter {
 public:
  explicit Meter(P0Report& report) : report_(report) {}

  /// Runs a step that serves a rung; its wave counts from 1, 0 being all of them.
  template <typename Step>
  auto run(const char* rung, const char* name, std::size_t wave, Step step) {
    const Stop stop{*this, rung, name, static_cast<int>(wave), evaluations(), cpu(), Clock::now()};
    return step();
  }
  const P0Context* context = nullptr;

 private:
  using Clock = std::chrono::steady_clock;
  struct Stop {
    Meter& meter;
    const char* rung;
    const char* name;
    int wave;
    std::int64_t evaluations;
    double cpu;
    Clock::time_point start;
    // A step that is stopped half-way has cost what it has cost.
    ~Stop() {
      meter.report_.costs.push_back(
          {.rung = rung,
           .step = name,
           .wave = wave,
           .evaluations = meter.evaluations() - evaluations,
           .seconds = std::chrono::duration<double>(Clock::now() - start).count(),
           .cpu_seconds = Meter::cpu() - cpu});
    }
  };
  static double cpu() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }
  std::int64_t evaluations() const {
    return report_.evaluations + (context == nullptr ? 0 : context->evaluations);
  }

  P0Report& report_;
};

// Which knock-outs of a late wave were run on some sequences alone, as part of a sentence.
std::string screened(const WaveReport& wave) {
  std::set<std::string> names;
  std::int64_t fewest = wave.clean.sequences;
  for (const auto& effect : wave.knockouts) {
    if (effect.sequences >= wave.clean.sequences) continue;
    names.insert(effect.name);
    fewest = effect.sequences;
  }
  if (names.empty()) return "";
  return fmt::format(
      "on the first {} sequences where the intervals there kept below {:.0f} % ({}), ", fewest,
      100 * knockout_matters, fmt::join(names, ", "));
}

// Everything about the waves of the condition without BOS, each finding put into the report as soon
// as it is there.
void examine(P0Context& context, P0Report& report, const LadderEvidence& common, Meter& meter) {
  std::vector<WaveReport>& waves = report.waves;
  waves.resize(context.waves.size());
  for (std::size_t w = 0; w < waves.size(); ++w) {
    WaveReport& wave = waves[w];
    wave.wave = context.waves[w];
    wave.direction = context.direction[w].to(at::kFloat);
    wave.spike_norm = context.spike_norm[w];
    wave.clean = context.read(w, context.clean, 0, "nothing", "clean", "P0");
    wave.ledger = meter.run("L3", "ledger", w + 1, [&] { return make_ledger(context, w); });
    for (const auto writer : writers_of(wave.ledger, context.options.located))
      wave.writers.push_back(to_string(writer));
    for (const auto& row : wave.ledger.erasers) wave.erasers.push_back(row.name);
  }
  meter.run("L2", "vocabulary", 0, [&] { sweep_vocabulary(context, waves); });
  meter.run("L4", "knock-outs", 0, [&] { knock_out_components(context, waves); });
  for (std::size_t w = 0; w < waves.size(); ++w) {
    WaveReport& wave = waves[w];
    LadderEvidence evidence = common;
    if (wave.wave.onset > 0) {
      const auto step = [&](const char* rung, const char* name, auto test) {
        meter.run(rung, name, w + 1, [&] { test(context, w, wave); });
      };
      step("L4", "sets and controls", knock_out_sets);
      if (w > 0) step("L6", "dependence on earlier waves", test_dependence);
      step("L5", "self-masks", test_self_mask);
      step("L5", "restoration", test_restoration);
      step("", "norm or direction", edit_state);
      name_blocks(wave);
      if (w == 0) {
        meter.run("L7", "signal", w + 1,
                  [&] { test_signal(context, w, early_blocks(wave), wave); });
      }
      evidence.graph =
          meter.run("L6", "graph", w + 1, [&] { return build_graph(context, w, wave); });
    }
    meter.run("L8", "use", w + 1, [&] { test_use(context, w, wave); });
    if (context.model.config().positions == Positions::learned) {
      evidence.learned_position_share = meter.run(
          "L2", "position rows", w + 1, [&] { return sink_following_the_row(context, w); });
      report.notes.push_back(
          fmt::format("layers {}-{}: with the position rows of 0 and {} exchanged, column 0 loses "
                      "{:.0f} % of its excess",
                      wave.wave.onset, wave.wave.last, context.control_position(),
                      100 * evidence.learned_position_share));
    }
    climb(context, w, evidence, wave);
  }
  for (std::size_t w = 1; w < waves.size(); ++w) {
    report.notes.push_back(fmt::format(
        "layers {}-{}: single knock-outs were read at layer {} alone, {}the strongest by mean and "
        "by resample (the writers by zero too) in all of the wave's layers",
        waves[w].wave.onset, waves[w].wave.last, waves[w].wave.onset, screened(waves[w])));
    const double cosine = context.direction[w - 1].dot(context.direction[w]).item<double>();
    report.notes.push_back(
        fmt::format("the directions of waves {}-{} and {}-{} have cosine {:.3f}: projecting out "
                    "one touches the other",
                    waves[w - 1].wave.onset, waves[w - 1].wave.last, waves[w].wave.onset,
                    waves[w].wave.last, cosine));
  }
}

// The counts of what was computed so far, whether the job ends well or not.
class Account {
 public:
  explicit Account(P0Report& report) : report_(report) {}
  ~Account() {
    if (context != nullptr) report_.evaluations += context->evaluations;
    report_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  Account(const Account&) = delete;
  Account& operator=(const Account&) = delete;
  const P0Context* context = nullptr;

 private:
  P0Report& report_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

P0Report locate_p0(const Model& model, const P0Inputs& inputs, const P0Options& options,
                   const Progress& progress) {
  P0Report report;
  locate_p0(model, inputs, options, progress, report);
  return report;
}

void locate_p0(const Model& model, const P0Inputs& inputs, const P0Options& options,
               const Progress& progress, P0Report& report) {
  check(options, model);
  if (inputs.plain.tokens.batch() < 2 || inputs.plain.length() < 8) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("locating the circuit needs at least 2 sequences of 8 tokens, got {} "
                            "of {}; give more or longer texts",
                            inputs.plain.tokens.batch(), inputs.plain.length()));
  }
  report = {.options = options};
  Account account(report);
  Meter meter(report);
  const auto survey = [&](const std::string& name, const Inputs& condition) {
    meter.run("L1", "survey", 0, [&] {
      report.surveys.push_back(survey_sink(model, condition, options.sink, progress));
      report.survey_names.push_back(name);
      report.evaluations += report.surveys.back().evaluations;
    });
  };
  survey(inputs.plain.kind + ", no BOS", inputs.plain);
  if (inputs.native) survey(inputs.native->kind + ", native BOS", *inputs.native);
  if (inputs.random) survey("random tokens, no BOS", *inputs.random);

  const SinkSurvey& plain = report.surveys.front();
  LadderEvidence evidence{.plain = &plain};
  if (inputs.native) evidence.native = &report.surveys[1];
  if (inputs.random) evidence.random = &report.surveys.back();
  std::optional<P0Context> located;
  if (!plain.waves.empty()) {
    meter.run("", "clean passes", 0, [&] {
      meter.context = &located.emplace(model, inputs.plain, options, plain.waves, plain, progress);
    });
    P0Context& context = *located;
    account.context = &context;
    if (model.config().positions != Positions::learned) {
      report.position_shift_change =
          meter.run("L2", "position ids", 0, [&] { return shifted_sink_change(context); });
      evidence.position_shift_change = report.position_shift_change;
      evidence.shift_tested = true;
    }
    examine(context, report, evidence, meter);
  }
  if (evidence.native != nullptr) {
    for (const auto& wave : evidence.native->waves) {
      const bool known = std::ranges::any_of(
          plain.waves, [&](const Wave& other) { return same_wave(wave, other); });
      if (known) continue;
      WaveReport token{.wave = wave};
      climb_token_route(*evidence.native, plain, token);
      report.waves.push_back(std::move(token));
    }
  }
  if (report.waves.empty()) report.verdict = without_a_wave(plain, report.notes);
  const auto strongest = std::ranges::max_element(
      report.waves, {}, [](const WaveReport& wave) { return wave.wave.mean; });
  if (strongest != report.waves.end()) report.verdict = strongest->verdict;
  report.circuit = join_circuits(report.waves);
  report.complete = true;
}

}  // namespace plumb
