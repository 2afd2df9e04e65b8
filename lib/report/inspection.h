// What `plumb inspect` shows of a checkpoint, in plain values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "plumb/checkpoint.h"

namespace plumb::report {

struct SiteShape {
  std::string name = {};     ///< "resid_pre"
  std::string tl_name = {};  ///< of block 0; empty where TransformerLens has none
  bool per_layer = false;
  std::vector<std::string> axes = {};
  std::vector<std::int64_t> shape = {};  ///< 0 where the inputs decide (batch, positions)
};

struct Inspection {
  std::vector<std::pair<std::string, std::string>> switches =
      {};                                 ///< "norm" to "rms, epsilon 1e-05"
  std::vector<SiteShape> sites = {};      ///< those that this decoder has
  std::int64_t parameters_per_block = 0;  ///< of the largest
  /// "embedding", "attention", "mlp", "norms", "unembedding", ... to elements, of all blocks
  std::vector<std::pair<std::string, std::int64_t>> parameters = {};
  std::map<std::string, std::uint64_t> stored = {};  ///< bytes in the file by stored type
};

Inspection look_at(const Checkpoint& checkpoint);

}  // namespace plumb::report
