// The ladder's last rung: whether what was found in one model is found in others.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "plumb/p0.h"

namespace plumb {

/// What a finished `plumb p0` says of one model: its strongest wave.
struct P0Summary {
  std::string model = {};
  std::string file = {};
  Verdict verdict = Verdict::none;
  std::vector<std::pair<std::string, Holds>> rungs = {};  ///< "L1" ..., of the wave with most sink
};

/// Reads a p0.json. Throws bad_file where it is none, or the job had not finished.
P0Summary read_p0_summary(const std::filesystem::path& file);

struct P0Generality {
  std::vector<P0Summary> models = {};
  std::vector<Rung> rungs = {};  ///< L1 to L8: share of the models in which each holds
  Rung general = {};  ///< L9: share of models with a positional circuit in which L1 to L6 hold
};

/// L9 over models, seeds or checkpoints: holds where at least three were tried and the lower end of
/// Wilson's 95 % interval reaches `needed`. Throws bad_argument if there is none.
P0Generality generalise(const std::vector<P0Summary>& models, double needed = 0.5);

/// A row for each model and the shares beneath.
std::string p0_generality_text(const P0Generality& found);

}  // namespace plumb
