// The flags that say what a patching experiment is: of `plumb patch`, and of what plans it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plumb/patch.h"
#include "shared.h"

namespace plumb::app {

/// As they were given.
struct ExperimentFlags {
  std::string pairs = {};
  std::vector<std::string> sweeps = {};
  std::vector<std::string> sets = {};
  std::vector<std::string> with = {};
  std::vector<std::string> senders = {};
  std::string receivers = {};
  std::vector<std::string> via = {};
  PathMlps mlps = PathMlps::frozen;
  std::string replacement = {};
  std::string metric = {};
  PatchOptions options = {};
};
void offer_experiment(CLI::App& app, ExperimentFlags& flags);

/// Throws bad_argument if something is missing or does not go together. `who` needs it.
void check(const ExperimentFlags& flags, const std::string& who);

/// What is to be run.
struct PatchAsked {
  std::vector<SweepSpec> sweeps = {};  ///< of the senders, where there are paths
  std::optional<Paths> paths = {};
  PatchOptions options = {};
};
/// The flags' words as sites of a model of so many layers. Throws bad_argument or bad_file.
PatchAsked read_experiment(const ExperimentFlags& flags, int layers, std::uint64_t seed);

/// The file of pairs. Texts have the tokenizer's own BOS unless `bos` says else.
Pairs read_pairs_of(const ExperimentFlags& flags, const std::optional<Bos>& bos,
                    const Chosen& chosen);

}  // namespace plumb::app
