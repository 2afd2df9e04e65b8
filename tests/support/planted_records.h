// Trials on planted models as lines of a file, and the tables made of them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "plumb/plant.h"
#include "support/planted_score.h"

namespace plumb::test {

/// One trial: what was drawn, what was counted, what it cost.
struct TrialRecord {
  std::string kind = {};
  std::uint64_t seed = 0;
  std::string model = {};  ///< what `describe` says of it
  double noise = 0;
  TrialScore score = {};
  double cpu_seconds = 0;
};

/// One line of JSON, without its end.
std::string to_line(const TrialRecord& record);

/// The records of a file, none where there is no such file. A last line without its end is what a
/// stopped run left of one: it is passed over. Throws bad_file, naming the line, for others that
/// are no record.
std::vector<TrialRecord> read_records(const std::filesystem::path& file);

/// Appends a line, after one that a stopped run left unfinished as well. Throws bad_file.
void append_record(const std::filesystem::path& file, const TrialRecord& record);

/// Two-sided 95 % bounds of a probability from `successes` of `trials` (Clopper and Pearson 1934).
double exact_low(std::int64_t successes, std::int64_t trials);
double exact_high(std::int64_t successes, std::int64_t trials);

/// Markdown: a row for each kind and one for all; then, for each level of noise, what nobody wired
/// and every fault, each with its model.
std::string tables(const std::vector<TrialRecord>& records);

}  // namespace plumb::test
