// Small decoders whose weights wire a P0 sink circuit, or a near miss of one, by construction.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plumb/checkpoint.h"
#include "plumb/config.h"
#include "plumb/model.h"

namespace plumb {

/// What a planted model does at position 0. All routes of one seed share the same random draws.
enum class Route {
  positional,  ///< a sink at position 0 whatever the token: the circuit proper
  token,       ///< a sink at the beginning-of-sequence token, wherever it stands; none without
  learned_position,  ///< row 0 of a learned position table marks position 0
  sink_logits,       ///< learned sink logits take the attention; nothing at position 0
  none,              ///< the same weights with the detector's output cut: no high norm, no sink
  // Near misses.
  norm_only,        ///< the same high-norm vector at position 0, but no head's keys read it
  no_spike,         ///< a sink at position 0 whatever the token, and no high norm
  second_position,  ///< row 1 of a position table marks position 1: the sink is there
  moved,            ///< positional; position 1 has a weaker mark, and the sink once 0 has none
};

const char* to_string(Route route) noexcept;
const std::vector<Route>& all_routes();
/// "positional", ... Throws bad_argument, listing the routes.
Route parse_route(std::string_view text);

/// Sizes and places. d_head (32) and the vocabulary (257) are fixed by the wiring.
struct PlantOptions {
  Route route = Route::positional;
  std::uint64_t seed = 0;
  int layers = 6;
  int heads = 4;
  int kv_heads = 2;  ///< divides heads
  int d_mlp = 96;    ///< at least 40
  int detect = 0;    ///< block whose attention and MLP recognise position 0
  int write = 1;     ///< later block whose MLP writes the high norm; heads after it read it
  /// Standard deviation of the noise on every weight. Above 0.009 some tokens miss the threshold.
  double noise = 0.006;
  int d_model = 128;      ///< at least 128; with LayerNorm 129
  Norm norm = Norm::rms;  ///< LayerNorm without biases
  /// Learned tables, where the route needs none, hold noise. Routes that need one have it anyway.
  Positions positions = Positions::rope;
  int experts = 0;  ///< the MLP of block `write` is a mixture of so many, 2 to a token; 0 = dense
  /// Block whose MLP writes a second direction, ten times as long, where it finds the first: no
  /// head reads in this layer, and those after it read the second. 0 = one wave. At least `write`
  /// + 2.
  int second = 0;
  /// The MLP of block `second` - 1 takes two fifths of the first direction away.
  bool erase = false;
  /// The MLP of block `write` + 1 writes the same where that of `write` did not.
  bool backup = false;
  bool bos_too = false;  ///< the beginning-of-sequence token has the mark as well: two routes
};

/// How the positional circuit works. Every token carries a unit code c of its own in the stream.
/// In block `detect` some heads attend to tokens with *unlike* codes and copy the codes found, r,
/// to other channels. Position 0 has only itself to look at, so r = c there; later <c, r> stays
/// below 0.72. The same block's MLP computes <c, r> (a gated MLP is bilinear) and writes it to a
/// flag channel; the MLP of block `write` lets only a high flag pass and writes a fixed direction
/// u, some 30 times as long as the rest of the stream. In later blocks the reading heads' queries
/// hold a constant that meets u in the keys, and u has no value. Other heads (local,
/// content-matching, idle) and neurons are distractors; the basis of the stream, the norm gains and
/// the order of neurons are random, so that nothing lies along an axis.
///
/// What is true of it, at position 0: replacing the attention output of block `detect`, its MLP's
/// output or that of block `write` by zero, by a mean over t > 0 or by another position's removes
/// sink and norm, and no other column takes them over; no other component up to the onset is
/// needed. A token that sees only itself in block `detect` becomes a second sink. A prefix of equal
/// tokens is a sink throughout (its positions cannot differ in any model without absolute
/// positions).
struct Planted {
  PlantOptions options = {};
  ModelConfig config = {};
  std::map<std::pair<Weight, int>, at::Tensor> weights = {};  ///< float32, canonical shapes
  std::vector<std::string> circuit_nodes = {};  ///< "a0@0", "m0@0", "m1@0": what makes the norm
  std::vector<std::string> circuit_edges = {};  ///< "a0->m0", "m0->m1", "m1->sink"
  std::vector<std::string> erasers = {};        ///< "m3@0"
  std::vector<std::string> backups = {};        ///< "m2@0": writes only where a writer does not
  std::vector<std::string> circuit_parts = {};  ///< their heads and neurons: "a0.h1@0", "m1.n17@0"
  std::vector<std::string> readers = {};        ///< "sink[l=2,h=3]": heads with a sink
  int onset = -1;                               ///< first layer with a sink; -1 = none
  std::vector<std::pair<int, int>> waves = {};  ///< first and last layer of each
  std::string verdict = "none";  ///< what a locator should say of it; see `Verdict` in p0.h
  std::int64_t bos = 256;        ///< the one id that is no byte
  at::Tensor bigram = {};  ///< [vocab, vocab] float64 log-probabilities that the unembedding states
};

/// Makes the model. The same options give the same weights on every platform.
/// Throws bad_argument, naming the option.
Planted plant(const PlantOptions& options = {});

/// "planted-positional-0", ...
std::string planted_name(const PlantOptions& options);

Model to_model(const Planted& planted, const LoadOptions& options = {});

/// [n, length] byte ids (0..255) drawn from the planted bigram table: text of the model's own kind.
/// The second id of a sequence differs from the first.
at::Tensor plant_tokens(const Planted& planted, std::uint64_t seed, std::int64_t n,
                        std::int64_t length);

/// Writes a Hugging Face directory: config.json, model.safetensors, tokenizer.json (one token for
/// each byte, then `<|bos|>`), tokenizer_config.json (adds `<|bos|>` where the token is marked) and
/// planted.json (options and ground truth). Throws bad_file when the place is not writable.
void write_planted(const Planted& planted, const std::filesystem::path& directory);

}  // namespace plumb
