// The catalogue of measurements and interventions on a sink at position zero, each by its
// identifier (A: what arXiv:2603.06591 measures, B: what its reviewers asked for, C: plumb's own;
// docs/p0_identifiers.md says which is where).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plumb/p0.h"

namespace plumb {

struct P0Entry {
  std::string id = {};       ///< "B3"
  std::string name = {};     ///< "direction_removal"
  std::string summary = {};  ///< one line
  bool per_wave = false;     ///< run for each wave; else once, on the model
};

/// Every identifier that `run_p0_experiments` takes, in order.
const std::vector<P0Entry>& p0_catalogue();

/// "B3,C7", names as well as identifiers, "all" for every one. Throws bad_argument, naming the one
/// that is not in the catalogue.
std::vector<std::string> parse_p0_identifiers(std::string_view text);

/// One run of an intervention and everything read after it. L layers.
struct P0Reading {
  /// What was edited, and the read-outs of `P0Report`; `kind` is the role: "edit", or which
  /// control: "other position", "random position", "random vector".
  Effect effect = {};
  std::int64_t column = 0;              ///< the key whose sink is read
  std::vector<Estimate> by_layer = {};  ///< [L] mean sink of the column, over heads
  std::vector<double> rate = {};        ///< [L] share of heads above epsilon
  int onset = -1;                       ///< first layer whose mean sink reaches the wave threshold
  Estimate removed = {};  ///< share of column 0's excess over the null that is gone; NaN at others
  std::optional<Estimate> kl =
      {};  ///< nats, KL(clean || edited) over up to 16 positions a sequence
};

/// A measured tensor.
struct P0Array {
  std::string name = {};
  std::vector<std::string> axes = {};
  at::Tensor values = {};
  std::string note = {};
};

struct P0Experiment {
  std::string id = {};
  std::string name = {};
  int wave = -1;  ///< index of the wave; -1 = of the model
  std::vector<P0Reading> readings = {};
  std::vector<P0Array> arrays = {};
  std::vector<std::string> findings = {};  ///< sentences with their numbers
  std::string not_run = {};                ///< why it could not be run; empty if it was
  /// The reading of a name and role. Throws bad_argument, naming those there are.
  const P0Reading& at(std::string_view name, std::string_view role = "edit") const;
  /// Throws bad_argument, naming those there are.
  const P0Array& array(std::string_view name) const;
};

struct P0Experiments {
  P0Options options = {};
  SinkSurvey survey = {};  ///< of the inputs without BOS
  std::vector<P0Experiment> experiments = {};
  std::int64_t evaluations = 0;
  double seconds = 0;
};

/// Runs the experiments of the identifiers, those of waves for every wave of the inputs without
/// BOS. Interventions come with their controls and intervals over sequences. Throws as `locate_p0`
/// does, and bad_argument for an identifier that is not in the catalogue.
P0Experiments run_p0_experiments(const Model& model, const P0Inputs& inputs,
                                 const std::vector<std::string>& identifiers,
                                 const P0Options& options = {}, const Progress& progress = {});

}  // namespace plumb
