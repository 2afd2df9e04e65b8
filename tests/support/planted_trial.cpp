#include "support/planted_trial.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/random.h"
#include "support/token_lists.h"

namespace plumb::test {

namespace {

// The survey is cheap, and its linear detector learns from half of the sequences.
constexpr std::int64_t surveyed = 32;
constexpr int deepest_write = 11;

template <typename T, std::size_t n>
T one_of(Random& random, const std::array<T, n>& values) {
  return values[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(n)))];
}

}  // namespace

const std::vector<std::string>& trial_kinds() {
  static const std::vector<std::string> kinds{
      "positional", "backup",   "two_waves",        "erased",      "mixture",
      "bos_too",    "token",    "learned_position", "sink_logits", "none",
      "norm_only",  "no_spike", "second_position",  "moved"};
  return kinds;
}

PlantOptions draw_trial(const std::string& kind, std::uint64_t seed) {
  Random random = Random(seed).fork(500);
  PlantOptions options{.seed = seed};
  const bool waves = kind == "two_waves" || kind == "erased";
  // Any depth, the shallow ones more often: a search costs the square of it.
  const int deepest = waves ? deepest_write - 4 : deepest_write;
  options.write = 1 + static_cast<int>(std::min(random.below(deepest), random.below(deepest)));
  options.detect = static_cast<int>(random.below(options.write));
  options.heads = one_of(random, std::array{2, 4, 8});
  options.kv_heads = options.heads / one_of(random, std::array{1, 2});
  options.d_mlp = one_of(random, std::array{64, 96, 128});
  options.norm = one_of(random, std::array{Norm::rms, Norm::layer});
  options.d_model = one_of(random, std::array{136, 160, 192});
  options.positions = one_of(random, std::array{Positions::rope, Positions::rope, Positions::none,
                                                Positions::alibi, Positions::learned});
  options.noise = one_of(random, std::array{0.0, 0.003, 0.006});
  const bool variant = kind == "backup" || waves || kind == "mixture" || kind == "bos_too";
  options.route = variant ? Route::positional : parse_route(kind);
  options.backup = kind == "backup";
  options.bos_too = kind == "bos_too";
  options.erase = kind == "erased";
  if (kind == "mixture") options.experts = one_of(random, std::array{2, 4, 8});
  const int readers = 2 + static_cast<int>(random.below(3));
  int last = options.write + (options.backup ? 1 : 0) + readers;
  if (waves) {
    options.second = options.write + 2 + static_cast<int>(random.below(3));
    last = options.second + readers;
  }
  options.layers = last + 1;
  return options;
}

std::string describe(const PlantOptions& o) {
  constexpr std::array positions{"rope", "learned", "alibi", "no positions"};
  return fmt::format(
      "{} seed {}: {} layers, {}/{} heads, width {}, {} norm, {}, detect {}, write "
      "{}{}{}{}{}, noise {}",
      to_string(o.route), o.seed, o.layers, o.heads, o.kv_heads, o.d_model,
      o.norm == Norm::rms ? "rms" : "layer", positions[static_cast<std::size_t>(o.positions)],
      o.detect, o.write, o.second != 0 ? fmt::format(", second {}", o.second) : "",
      o.erase ? ", erased" : "", o.backup ? ", backup" : "",
      o.experts != 0 ? fmt::format(", {} experts", o.experts) : "", o.noise);
}

at::Tensor trial_tokens(const Planted& planted) {
  return plant_tokens(planted, planted.options.seed + 5, surveyed, trial_length);
}

P0Report locate_trial(const Planted& planted, const Progress& progress) {
  const PlantOptions& options = planted.options;
  const Model model = to_model(planted, {.threads = 1});
  const auto ids = as_lists(trial_tokens(planted));
  P0Inputs inputs;
  inputs.plain = make_inputs(ids, trial_length, {}, "tokens");
  if (options.route == Route::token || options.bos_too)
    inputs.native = make_inputs(ids, trial_length, planted.bos, "tokens");
  inputs.random =
      make_inputs(random_ids(trial_sequences, trial_length, planted.bos, nullptr, options.seed + 9),
                  trial_length, {}, "random");
  P0Options p0;
  p0.causal_sequences = trial_sequences;
  p0.causal_length = trial_length;
  p0.self_mask_position = trial_masked_position;
  p0.seed = options.seed;
  return locate_p0(model, inputs, p0, progress);
}

}  // namespace plumb::test
