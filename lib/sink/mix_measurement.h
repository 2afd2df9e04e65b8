// One condition of over-mixing, run and measured.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "plumb/inputs.h"
#include "plumb/mix.h"
#include "plumb/run.h"

namespace plumb {

/// Positions computed per call of `run`.
constexpr std::int64_t mix_positions_at_once = 2048;

/// Of each sequence.
std::vector<std::int64_t> token_counts(const Tokens& tokens);

/// Sequences [first, first + count).
Tokens tokens_between(const Tokens& tokens, std::int64_t first, std::int64_t count);

/// A condition before it is measured. `edits` are those for a run on sequences [first, first +
/// count) of so many positions.
struct MixSetting {
  std::string name = {};
  Inputs inputs = {};
  bool shifted = false;  // one position shorter than the plain inputs: they begin with a BOS
  std::function<std::vector<Intervention>(std::int64_t first, std::int64_t count, std::int64_t T)>
      edits = {};
};

/// Sums over sequences, in float64, and what is kept of each sequence.
class MixMeasurement {
 public:
  MixMeasurement(const Model& model, const MixSetting& setting, const MixOptions& options,
                 std::int64_t position, const std::vector<std::int64_t>& replacements,
                 const at::Tensor& directions);

  /// Returns the evaluations.
  std::int64_t run_all(const std::function<void(double)>& tell);

  MixState state() const;

  const std::vector<double>& relative_spreads() const { return relative_spreads_; }
  const std::vector<double>& losses() const { return losses_; }

 private:
  Site entered(int l) const;

  Plan plan(const std::vector<Intervention>& edits, bool everything) const;

  void keep(const Run& plain, const Run& moved, std::int64_t first, std::int64_t count);

  // Of one sequence, its valid positions.
  void keep_streams(const Run& plain, const Run& moved, std::int64_t b, std::int64_t n);

  const Model& model_;
  const MixSetting& setting_;
  const MixOptions& options_;
  const int layers_;
  const std::int64_t position_;
  const std::vector<std::int64_t>& replacements_;
  const at::Tensor& directions_;
  const std::vector<std::int64_t> lengths_;
  std::vector<at::Tensor> sink_;  // chunks [b, L, H]
  std::vector<at::Tensor> entropy_;
  std::vector<at::Tensor> drain_;
  std::vector<at::Tensor> honor_;
  std::vector<at::Tensor> factors_;
  std::vector<at::Tensor> collapses_;  // sequences [L + 1, 4]
  std::vector<at::Tensor> energies_;
  std::vector<at::Tensor> changes_;  // sequences [L + 1, T]
  std::vector<at::Tensor> relatives_;
  std::vector<double> spreads_;
  std::vector<double> relative_spreads_;
  std::vector<double> losses_;
};

}  // namespace plumb
