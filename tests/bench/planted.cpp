// Plants models over many seeds, locates the circuit in each and counts what was found, missed and
// made up: planted SEEDS [FIRST [KIND]].
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "plumb/error.h"
#include "plumb/machine.h"
#include "support/planted_trial.h"

namespace {

using namespace plumb;
using namespace plumb::test;

struct Sum {
  int models = 0;
  int clean = 0;
  int verdicts = 0;
  TrialScore score = {};
  double seconds = 0;

  void add(const TrialScore& one, double took) {
    ++models;
    clean += one.clean() ? 1 : 0;
    verdicts += one.verdict_right ? 1 : 0;
    seconds += took;
    for (const auto member :
         {&TrialScore::waves, &TrialScore::waves_found, &TrialScore::false_waves,
          &TrialScore::nodes, &TrialScore::nodes_found, &TrialScore::false_nodes,
          &TrialScore::edges, &TrialScore::edges_found, &TrialScore::false_edges,
          &TrialScore::lowering_edges, &TrialScore::extras, &TrialScore::extras_found,
          &TrialScore::rungs, &TrialScore::rungs_held}) {
      score.*member += one.*member;
    }
    score.largest_false_edge = std::max(score.largest_false_edge, one.largest_false_edge);
  }

  void print(const std::string& kind) const {
    const auto of = [](int found, int all) { return fmt::format("{}/{}", found, all); };
    fmt::print(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n", kind, models,
        of(verdicts, models), of(score.waves_found, score.waves), score.false_waves,
        of(score.nodes_found, score.nodes), score.false_nodes, of(score.edges_found, score.edges),
        score.false_edges,
        score.false_edges == 0 ? std::string() : fmt::format("{:.3f}", score.largest_false_edge),
        score.lowering_edges, of(score.extras_found, score.extras),
        of(score.rungs_held, score.rungs), of(clean, models));
  }
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int run(int argc, char** argv) {
  const int seeds = argc > 1 ? std::atoi(argv[1]) : 3;
  const int first = argc > 2 ? std::atoi(argv[2]) : 0;
  const std::string only = argc > 3 ? argv[3] : "";
  std::map<std::string, Sum> sums;
  Sum all;
  for (int seed = first; seed < first + seeds; ++seed) {
    for (const auto& kind : trial_kinds()) {
      if (!only.empty() && kind != only) continue;
      const PlantOptions options = draw_trial(kind, static_cast<std::uint64_t>(seed));
      const double start = now();
      const Planted planted = plant(options);
      const TrialScore score = score_trial(planted, locate_trial(planted));
      const double took = now() - start;
      sums[kind].add(score, took);
      all.add(score, took);
      fmt::print(stderr, "{} ({}): {:.1f} s\n", kind, describe(options), took);
      for (const auto& fault : score.faults) fmt::print(stderr, "    {}\n", fault);
    }
  }
  fmt::print(
      "| kind | models | verdict | waves | made up | nodes | made up | edges | made up | strongest "
      "| "
      "lowering | erasers, backups, moves | L1-L6 | without a fault "
      "|\n|---|---|---|---|---|---|---|---|---|---|---"
      "|---|---|---|\n");
  for (const auto& kind : trial_kinds()) {
    if (sums.contains(kind)) sums[kind].print(kind);
  }
  all.print("all");
  fmt::print("\n{:.0f} s in all, {:.1f} a model\n", all.seconds, all.seconds / all.models);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  plumb::restart_with_right_blas(argv);
  try {
    return run(argc, argv);
  } catch (const plumb::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
