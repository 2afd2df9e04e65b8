#include "support/planted_records.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "plumb/error.h"
#include "support/planted_trial.h"

namespace plumb::test {

namespace {

using nlohmann::json;

constexpr std::array<std::pair<const char*, int TrialScore::*>, 12> counts{{
    {"waves", &TrialScore::waves},
    {"waves_found", &TrialScore::waves_found},
    {"false_waves", &TrialScore::false_waves},
    {"nodes", &TrialScore::nodes},
    {"nodes_found", &TrialScore::nodes_found},
    {"edges", &TrialScore::edges},
    {"edges_found", &TrialScore::edges_found},
    {"extras", &TrialScore::extras},
    {"extras_found", &TrialScore::extras_found},
    {"rungs", &TrialScore::rungs},
    {"rungs_held", &TrialScore::rungs_held},
    {"rungs_rightly_refused", &TrialScore::rungs_rightly_refused},
}};

[[noreturn]] void refuse(const std::filesystem::path& file, const std::string& what) {
  throw Error(ErrorKind::bad_file, fmt::format("{}: {}", file.string(), what));
}

Ruling parse_ruling(const std::string& text) {
  for (const auto ruling : {Ruling::real, Ruling::overstated}) {
    if (text == to_string(ruling)) return ruling;
  }
  return Ruling::made_up;
}

TrialRecord from_json(const json& line) {
  TrialRecord record{.kind = line.at("kind"),
                     .seed = line.at("seed"),
                     .model = line.at("model"),
                     .noise = line.at("noise"),
                     .cpu_seconds = line.at("cpu_seconds")};
  TrialScore& score = record.score;
  score.verdict = line.at("verdict");
  score.verdict_right = line.at("verdict_right");
  for (const auto& [name, member] : counts) score.*member = line.at(name);
  score.missed = line.at("missed");
  score.made_up = line.at("made_up");
  for (const auto& found : line.at("unwired")) {
    score.unwired.push_back(
        {.what = found.at("what"),
         .claimed = found.at("claimed"),
         .effect = {found.at("effect")[0], found.at("effect")[1], found.at("effect")[2]},
         .ruling = parse_ruling(found.at("ruling")),
         .node = found.at("node")});
  }
  return record;
}

std::string whole_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// P(X <= k) of a binomial.
double at_most(std::int64_t k, std::int64_t n, double p) {
  double sum = 0.0;
  const auto count = static_cast<double>(n);
  for (std::int64_t i = 0; i <= k; ++i) {
    const auto x = static_cast<double>(i);
    sum += std::exp(std::lgamma(count + 1) - std::lgamma(x + 1) - std::lgamma(count - x + 1) +
                    x * std::log(p) + (count - x) * std::log1p(-p));
  }
  return sum;
}

// What the rows add up.
struct Sum {
  int models = 0;
  int verdicts = 0;
  int clean = 0;
  int with_false_claims = 0;
  TrialScore score = {};
  std::map<std::string, int> unwired = {};  // "raising", "lowering", "nodes"
  double strongest = 0;
  double cpu_seconds = 0;

  void add(const TrialRecord& record) {
    const TrialScore& one = record.score;
    ++models;
    verdicts += one.verdict_right ? 1 : 0;
    clean += one.clean() ? 1 : 0;
    with_false_claims += one.made_up.empty() ? 0 : 1;
    cpu_seconds += record.cpu_seconds;
    for (const auto& [name, member] : counts) score.*member += one.*member;
    score.made_up.insert(score.made_up.end(), one.made_up.begin(), one.made_up.end());
    for (const auto& found : one.unwired) {
      if (found.ruling == Ruling::made_up) continue;
      if (found.ruling == Ruling::overstated) ++unwired["overstated"];
      ++unwired[found.node ? "nodes" : found.claimed < 0.0 ? "lowering" : "raising"];
      if (!found.node) strongest = std::max(strongest, found.effect.mean);
    }
  }

  std::int64_t planted() const { return score.waves + score.nodes + score.edges + score.extras; }
  std::int64_t found() const {
    return score.waves_found + score.nodes_found + score.edges_found + score.extras_found;
  }
};

std::string count_of(const Sum& sum, const char* name) {
  const auto found = sum.unwired.find(name);
  return std::to_string(found == sum.unwired.end() ? 0 : found->second);
}

std::string row(const std::string& kind, const Sum& sum) {
  const auto of = [](std::int64_t found, std::int64_t all) {
    return all == 0 ? std::string("-") : fmt::format("{}/{}", found, all);
  };
  const TrialScore& s = sum.score;
  std::string rungs = of(s.rungs_held, s.rungs);
  if (s.rungs_rightly_refused > 0)
    rungs += fmt::format(" ({} rightly refused)", s.rungs_rightly_refused);
  const std::string recall =
      sum.planted() == 0 ? "-" : fmt::format("{:.2f}", 100 * exact_low(sum.found(), sum.planted()));
  return fmt::format(
      "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.2f} | {} |\n", kind, sum.models,
      of(sum.verdicts, sum.models), of(s.waves_found, s.waves), of(s.nodes_found, s.nodes),
      of(s.edges_found, s.edges), of(s.extras_found, s.extras), recall, rungs, s.made_up.size(),
      of(sum.with_false_claims, sum.models), 100 * exact_high(sum.with_false_claims, sum.models),
      of(sum.clean, sum.models));
}

}  // namespace

std::string to_line(const TrialRecord& record) {
  const TrialScore& score = record.score;
  json line{{"kind", record.kind},
            {"seed", record.seed},
            {"model", record.model},
            {"noise", record.noise},
            {"cpu_seconds", record.cpu_seconds},
            {"verdict", score.verdict},
            {"verdict_right", score.verdict_right},
            {"missed", score.missed},
            {"made_up", score.made_up},
            {"unwired", json::array()}};
  for (const auto& [name, member] : counts) line[name] = score.*member;
  for (const auto& found : score.unwired) {
    line["unwired"].push_back({{"what", found.what},
                               {"claimed", found.claimed},
                               {"effect", {found.effect.mean, found.effect.low, found.effect.high}},
                               {"ruling", to_string(found.ruling)},
                               {"node", found.node}});
  }
  return line.dump();
}

std::vector<TrialRecord> read_records(const std::filesystem::path& file) {
  std::vector<TrialRecord> records;
  const std::string text = whole_text(file);
  std::size_t number = 1;
  for (std::size_t first = 0; first < text.size(); ++number) {
    const std::size_t end = text.find('\n', first);
    if (end == std::string::npos) break;
    const json line = json::parse(text.begin() + static_cast<std::ptrdiff_t>(first),
                                  text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    first = end + 1;
    if (line.is_discarded()) refuse(file, fmt::format("line {} is no JSON", number));
    try {
      records.push_back(from_json(line));
    } catch (const json::exception& error) {
      refuse(file, fmt::format("line {} is no record of a trial: {}", number, error.what()));
    }
  }
  return records;
}

void append_record(const std::filesystem::path& file, const TrialRecord& record) {
  const std::string text = whole_text(file);
  if (!text.empty() && text.back() != '\n')
    std::filesystem::resize_file(file, text.rfind('\n') + 1);
  std::ofstream out(file, std::ios::binary | std::ios::app);
  out << to_line(record) << '\n' << std::flush;
  if (!out) refuse(file, "cannot be written");
}

double exact_low(std::int64_t successes, std::int64_t trials) {
  return trials == 0 ? 0.0 : 1.0 - exact_high(trials - successes, trials);
}

double exact_high(std::int64_t successes, std::int64_t trials) {
  constexpr double tail = 0.025;
  constexpr int halvings = 60;  // beyond the precision of a double
  if (successes >= trials) return 1.0;
  double low = 0.0;
  double high = 1.0;
  for (int i = 0; i < halvings; ++i) {
    const double middle = (low + high) / 2;
    (at_most(successes, trials, middle) > tail ? low : high) = middle;
  }
  return high;
}

std::string tables(const std::vector<TrialRecord>& records) {
  std::map<std::string, Sum> by_kind;
  std::map<double, Sum> by_noise;
  Sum all;
  for (const auto& record : records) {
    by_kind[record.kind].add(record);
    if (!record.score.waves) continue;
    by_noise[record.noise].add(record);
  }
  for (const auto& record : records) all.add(record);
  std::string text =
      "| kind | models | verdict | waves | nodes | edges | erasers, backups, moves | found, % at "
      "least | L1-L6 | made up | models with a false claim | %, at most | without a fault |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (const auto& kind : trial_kinds()) {
    if (by_kind.contains(kind)) text += row(kind, by_kind.at(kind));
  }
  text += row("all", all);
  text +=
      "\n| noise | models with a wave | edges nobody wired that raise | strongest | that lower | "
      "components | of these overstated |\n|---|---|---|---|---|---|---|\n";
  for (const auto& [noise, sum] : by_noise) {
    text += fmt::format("| {} | {} | {} | {:.3f} | {} | {} | {} |\n", noise, sum.models,
                        count_of(sum, "raising"), sum.strongest, count_of(sum, "lowering"),
                        count_of(sum, "nodes"), count_of(sum, "overstated"));
  }
  text += "\n";
  for (const auto& record : records) {
    for (const auto& [what, faults] :
         {std::pair{"missed", &record.score.missed}, {"made up", &record.score.made_up}}) {
      for (const auto& fault : *faults)
        text += fmt::format("{} {}: {} [{}]\n", record.kind, what, fault, record.model);
    }
  }
  text += fmt::format("\n{:.0f} CPU seconds, {:.2f} a model\n", all.cpu_seconds,
                      all.cpu_seconds / std::max(1, all.models));
  return text;
}

}  // namespace plumb::test
