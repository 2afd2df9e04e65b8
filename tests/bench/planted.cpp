// Plants models over many seeds, locates the circuit in each and counts what was found, missed and
// made up. Results are appended to a file as they come, and what it holds is not done again:
//   planted FILE SEEDS [FIRST [KIND]]    seeds FIRST, FIRST + 1, ... of every kind, or of one
//   planted --table FILE...              the tables of what the files hold
//   planted --cost KIND SEED             where one model's CPU seconds go
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plumb/error.h"
#include "plumb/machine.h"
#include "support/planted_records.h"
#include "support/planted_score.h"
#include "support/planted_trial.h"

namespace {

using namespace plumb;
using namespace plumb::test;

double cpu() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

TrialRecord one_trial(const std::string& kind, std::uint64_t seed) {
  const PlantOptions options = draw_trial(kind, seed);
  const double start = cpu();
  const Planted planted = plant(options);
  const TrialScore score = score_trial(planted, locate_trial(planted));
  return {.kind = kind,
          .seed = seed,
          .model = describe(options),
          .noise = options.noise,
          .score = score,
          .cpu_seconds = cpu() - start};
}

int work(const std::string& file, int seeds, int first, const std::string& only) {
  std::set<std::pair<std::string, std::uint64_t>> done;
  for (const auto& record : read_records(file)) done.emplace(record.kind, record.seed);
  for (int seed = first; seed < first + seeds; ++seed) {
    for (const auto& kind : trial_kinds()) {
      const auto number = static_cast<std::uint64_t>(seed);
      if ((!only.empty() && kind != only) || done.contains({kind, number})) continue;
      const TrialRecord record = one_trial(kind, number);
      append_record(file, record);
      fmt::print(stderr, "{} ({}): {:.2f} s\n", kind, record.model, record.cpu_seconds);
      for (const auto& what : record.score.missed) fmt::print(stderr, "    missed {}\n", what);
      for (const auto& what : record.score.made_up) fmt::print(stderr, "    made up {}\n", what);
    }
  }
  return 0;
}

int print_cost(const std::string& kind, std::uint64_t seed) {
  std::map<std::string, double> spent;
  std::string stage = "loading and surveying";
  double since = cpu();
  const auto turn = [&](const std::string& next) {
    const double now = cpu();
    spent[stage] += now - since;
    since = now;
    stage = next;
  };
  turn("planting");
  const Planted planted = plant(draw_trial(kind, seed));
  turn("loading and surveying");
  const P0Report report =
      locate_trial(planted, [&](std::string_view what, double) { turn(std::string(what)); });
  turn("judging");
  score_trial(planted, report);
  turn("");
  for (const auto& [what, seconds] : spent) fmt::print("{:7.3f} s  {}\n", seconds, what);
  return 0;
}

int run(const std::vector<std::string>& words) {
  if (words.size() >= 2 && words[0] == "--table") {
    std::vector<TrialRecord> records;
    for (std::size_t i = 1; i < words.size(); ++i) {
      const auto more = read_records(words[i]);
      records.insert(records.end(), more.begin(), more.end());
    }
    fmt::print("{}", tables(records));
    return 0;
  }
  if (words.size() == 3 && words[0] == "--cost")
    return print_cost(words[1], static_cast<std::uint64_t>(std::atoi(words[2].c_str())));
  if (words.size() < 2) {
    fmt::print(stderr,
               "usage: planted FILE SEEDS [FIRST [KIND]] | --table FILE... | --cost KIND "
               "SEED\n");
    return 2;
  }
  const int first = words.size() > 2 ? std::atoi(words[2].c_str()) : 0;
  return work(words[0], std::atoi(words[1].c_str()), first, words.size() > 3 ? words[3] : "");
}

}  // namespace

int main(int argc, char** argv) {
  plumb::restart_with_right_blas(argv);
  try {
    return run({argv + 1, argv + argc});
  } catch (const plumb::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
