// What a patched site becomes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "plumb/site.h"

namespace plumb {

/// Means and resampled values come from the unpatched run. Means are taken over valid positions,
/// padding left out.
enum class ReplacementKind {
  other,          ///< the value in the other run of the pair
  zero,           ///< 0
  mean,           ///< mean over examples and positions
  mean_batch,     ///< mean over examples, at each position
  mean_position,  ///< mean over positions, of each example
  resample,       ///< the value in another example: a permutation without fixed points, drawn from
                  ///< the seed, among examples of the same length
  put,            ///< a given vector
  add,            ///< plus a given vector
  scale,          ///< times a factor
  project_out,    ///< without the component along a given vector
  clamp_norm,     ///< rescaled along the last axis to a given length
  hide,           ///< of scores: the key is not seen, unless it is the query's own
};

struct Replacement {
  ReplacementKind kind = ReplacementKind::other;
  double number = 1.0;  ///< of scale and clamp_norm
  /// Of put, add and project_out: [width of the site's last axis], or [layers, width].
  at::Tensor vector = {};
  std::string vector_name = {};  ///< where it came from
  std::uint64_t seed = 0;        ///< of resample
};

/// "mean-batch", "scale:0.5", "add:FILE".
std::string to_string(const Replacement& replacement);

/// Reads a vector [width] or [layers, width] from a JSON file of numbers or lists of them. Throws
/// bad_file.
at::Tensor read_vector(const std::string& file);

/// The reverse of to_string; `vector` reads what stands behind add:, put: and project-out:.
/// Throws bad_argument, saying what there is.
Replacement parse_replacement(
    const std::string& text, std::uint64_t seed = 0,
    const std::function<at::Tensor(const std::string&)>& vector = read_vector);

/// One edit that is made in every run of an experiment.
struct FixedEdit {
  SlicedSite at = {};
  Replacement replacement = {};
};

/// "L0-2.z[h=*;t=0]=zero", "L3.mlp_out=scale:0.5 L4.z[h=1]=mean". `layers` resolves "*". Throws
/// bad_argument.
std::vector<FixedEdit> parse_fixed_edits(
    const std::string& text, int layers, std::uint64_t seed = 0,
    const std::function<at::Tensor(const std::string&)>& vector = read_vector);

}  // namespace plumb
