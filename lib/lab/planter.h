// Wires a planted model, block by block.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "lab/wiring.h"
#include "plumb/plant.h"

namespace plumb::lab {

inline constexpr std::int64_t planted_vocab = 257;
inline constexpr std::int64_t planted_bos = 256;
inline constexpr int planted_context = 512;

// Lengths in the stream. The embedding's parts have norms 4 (code), 4 (content) and 3 (one).
inline constexpr double code_length = 4.0;
inline constexpr double content_length = 4.0;
inline constexpr double one_length = 3.0;
inline constexpr double flag_length = 4.0;   ///< flag at full agreement
inline constexpr double threshold = 0.72;    ///< agreement that counts as position 0
inline constexpr double rival_length = 6.0;  ///< of the weaker mark of position 1

/// Which of the mechanism's parts a route has.
struct RouteParts {
  bool detector = false;    ///< the detecting MLP's output reaches the flag
  bool bos_flag = false;    ///< the beginning-of-sequence token's embedding has the flag
  int flagged_row = -1;     ///< row of the position table that has it
  bool rival_row = false;   ///< row 1 has the weaker mark
  bool writes = true;       ///< the amplifier's output reaches the stream
  bool reads = true;        ///< keys read the written direction
  bool reads_flag = false;  ///< keys read the flag instead
  bool table = false;       ///< needs a learned position table
  bool sink_logits = false;
};
RouteParts parts_of(const PlantOptions& options);

class Planter {
 public:
  explicit Planter(const PlantOptions& options);
  Planted plant();

 private:
  // plant_stream.cpp
  void configure();
  void make_basis();
  void vocabulary();
  void position_table();
  /// Root mean square of what a block's attention, or with `mlp` its MLP, reads at position 0, or
  /// on average at the others, over the plain coordinates; of the model wired so far.
  double measured_rms(int layer, bool mlp, bool first) const;
  void put(Weight weight, int layer, const at::Tensor& value);
  at::Tensor noise(Random& random, std::int64_t rows, std::int64_t columns) const;
  /// A matrix that reads the stream after a norm with this gain, from plain coordinates.
  at::Tensor reader(const at::Tensor& plain, const at::Tensor& gain) const;
  at::Tensor writer(const at::Tensor& plain) const { return basis_.matmul(plain); }
  at::Tensor gain(Random& random) const;

  // plant_attention.cpp
  void attention(int layer);
  std::vector<std::int64_t> detecting_heads(Random& random) const;
  void distract(Random& random, at::Tensor query, at::Tensor write, const at::Tensor& likeness,
                bool detects) const;
  /// Channel that the keys of a layer read, or -1; and the weight of it.
  std::int64_t read_channel(int layer) const;
  bool reads(int layer) const;
  double unlike_length() const;

  // plant_mlp.cpp
  void mlp(int layer);
  void detector(Random& random, at::Tensor gate, at::Tensor up, at::Tensor down) const;
  void amplifier(int layer, at::Tensor gate, at::Tensor up, at::Tensor down);
  void relay(at::Tensor gate, at::Tensor up, at::Tensor down, double length, std::int64_t to) const;
  void mixture(int layer);

  // plant_truth.cpp
  void tell();

  PlantOptions options_;
  RouteParts parts_;
  Random random_;
  bool deep_ = false;          ///< lengths are measured, not taken from the shallow default
  double embed_rms_ = 0.5660;  ///< sqrt((16 + 16 + 9) / 128): what the detecting norm divides by
  double detect_rms_ = 0.69;   ///< after attention brought a code of norm 4 to position 0
  double write_rms_ = 0.0;     ///< at position 0, as the first amplifier reads it
  at::Tensor basis_ = {};
  std::vector<std::string> readers_ = {};
  Planted planted_ = {};
};

}  // namespace plumb::lab
