// Position 0 of a planted model by plain float64 arithmetic on the planted weights, on sequences
// that no search has seen: what decides whether an effect nobody wired is nevertheless one of these
// weights.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "plumb/metrics.h"
#include "plumb/p0.h"
#include "plumb/plant.h"

namespace plumb::test {

/// Attention (2 l) and MLP (2 l + 1) of block l; 2 l is also the read-out of the state entering it.
using Place = int;
/// "a3" -> 6, "m3@0" -> 7; -1 for what is neither.
Place place_of(const std::string& name);
/// The sink, or the junction through which alternatives lead into it.
bool is_end(const std::string& node);

/// Position 0 sees only itself, so its attention output is out(value(x)) whatever the scores are,
/// and its state a function of its token. The means over t > 0, which need all positions, are
/// recorded in one run of the model.
class PlantedP0 {
 public:
  /// With sequences of so many tokens. Throws `plumb::Error` for models with learned sink logits,
  /// whose position 0 does not attend to itself alone.
  PlantedP0(const Planted& planted, const Model& model, std::int64_t length);

  /// Whether what the sender hands the reader is the sender's mean over t > 0.
  using Cut = std::function<bool(Place sender, Place reader)>;

  /// State entering block `depth` [B, d_model]; `replaced` components write their mean over t > 0,
  /// or with `zero` nothing.
  at::Tensor state(int depth, const Cut& cut = {}, const std::vector<Place>& replaced = {},
                   bool zero = false) const;

  /// State entering block `depth` of tokens [n] that see themselves alone at a position,
  /// [n, d_model].
  at::Tensor alone(const at::Tensor& tokens, std::int64_t position, int depth) const;

  /// Largest deviation of the components' writes from those that the model's run recorded, over the
  /// largest write.
  double apart() const { return apart_; }

  const at::Tensor& ids() const { return ids_; }  ///< [B, length]

 private:
  at::Tensor embedded(const at::Tensor& tokens, std::int64_t position) const;
  at::Tensor write(Place place, const at::Tensor& x) const;
  at::Tensor weight(Weight weight, int layer) const;
  at::Tensor normed(const at::Tensor& x, Weight gain, int layer) const;

  const Planted& planted_;
  at::Tensor ids_ = {};
  at::Tensor input_ = {};
  std::map<Place, at::Tensor> mean_ = {};
  double apart_ = 0;
};

/// Share of the projection of position 0 on the wave's direction that is lost when the sender
/// hands the reader its mean over t > 0, all paths that the wave's circuit does not draw carrying
/// that already: what the circuit says of an edge, on sequences of its own.
Estimate edge_effect(const PlantedP0& system, const WaveReport& wave, Place sender, Place reader);

/// Share of the projection that is lost when the component writes its mean over t > 0, everything
/// else being whole.
Estimate node_effect(const PlantedP0& system, const WaveReport& wave, Place component);

/// Largest share of the length of the state entering the wave that is lost when the component
/// writes its mean over t > 0, or nothing.
double norm_effect(const PlantedP0& system, const WaveReport& wave, Place component);

/// Share of the vocabulary that draws at least half of the sink's excess over uniform attention
/// when put first, in the wave's first layers. Measured on attention alone.
double drawing_share(const Planted& planted, const Model& model, const at::Tensor& ids,
                     const Wave& wave);

}  // namespace plumb::test
