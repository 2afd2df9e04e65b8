#include "plumb/p0_cost.h"

#include <fmt/format.h>

#include <algorithm>

#include "plumb/error.h"

namespace plumb {

namespace {

// As many as the search runs where it finds a circuit of two writers.
constexpr std::int64_t kinds_of_singles = 3;
constexpr std::int64_t kinds_of_sets = 2;
constexpr std::int64_t pairs_and_all = 7;
constexpr std::int64_t read_in_full = 10;  // of a late wave: four components, by two or three kinds
constexpr std::int64_t controls = 3;
constexpr std::int64_t paths_cut = 12;  // of the graph, in the full model
constexpr std::int64_t whole_runs = 2;  // with the loss, of the set that removes most
constexpr std::int64_t state_edits = 5;
constexpr std::int64_t uses = 2;
constexpr std::int64_t signals = 5;
constexpr std::int64_t pasted = 8;  // between the displaced run and the clean one
constexpr std::int64_t shifted_sequences = 4;

void check_waves(const Model& model, const std::vector<Wave>& waves) {
  int before = -1;
  for (const Wave& wave : waves) {
    if (wave.onset <= before || wave.last < wave.onset || wave.last >= model.config().layers) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("waves {}-{} is no range of the layers 0-{} after the wave before it",
                              wave.onset, wave.last, model.config().layers - 1));
    }
    before = wave.onset;
  }
}

// Blocks run from an edit in each component before the onset, up to a layer.
std::int64_t blocks_of_singles(int onset, int until) {
  std::int64_t blocks = 0;
  for (int layer = 0; layer < onset; ++layer) blocks += 2 * (until - layer);
  return blocks;
}

// Blocks run by the experiments on one wave, on all causal sequences.
std::int64_t blocks_of_wave(const Wave& wave, bool first, int layers) {
  const std::int64_t onset = wave.onset;
  const std::int64_t late = std::min(wave.last + 1, wave.onset + 4);
  const std::int64_t early = std::min(wave.last + 1, wave.onset + 2);
  const std::int64_t after = layers - onset;
  std::int64_t blocks = uses * after;
  if (onset == 0) return blocks;
  blocks += pairs_and_all * kinds_of_sets * late + whole_runs * layers + controls * late;
  if (!first) {
    blocks += read_in_full * (wave.last + 1);   // the strongest
    blocks += kinds_of_sets * (layers + late);  // without the earlier circuit, and its route
  }
  blocks += (onset + 1) * early;  // self-masks, halving
  blocks += pasted * early + state_edits * after + paths_cut * (late - onset);
  if (first) blocks += signals * late + 1;
  return blocks;
}

}  // namespace

std::vector<Wave> expected_waves(const Model& model) {
  const int last = model.config().layers - 1;
  return {{.onset = std::min(2, last), .last = last}};
}

RunCost foresee_p0(const Model& model, const P0Inputs& inputs, const P0Options& options,
                   const std::vector<Wave>& waves) {
  check_waves(model, waves);
  const ModelConfig& config = model.config();
  RunCost cost;
  std::int64_t kept = 0;  // what the surveys leave
  const auto survey = [&](const Inputs& condition) {
    const RunCost one = foresee_survey(model, condition.tokens.batch(), condition.length());
    const std::int64_t evaluations = cost.evaluations + one.evaluations;
    if (one.activation_bytes + one.result_bytes > cost.activation_bytes + cost.result_bytes)
      cost = one;
    cost.evaluations = evaluations;
    kept += one.result_bytes;
  };
  survey(inputs.plain);
  if (inputs.native) survey(*inputs.native);
  if (inputs.random) survey(*inputs.random);
  cost.result_bytes = std::max(cost.result_bytes, kept);
  if (waves.empty()) return cost;

  const std::int64_t batch = std::min(inputs.plain.tokens.batch(), options.causal_sequences);
  const std::int64_t length = std::min(inputs.plain.length(), options.causal_length);
  const int deepest = waves.back().onset;
  Plan clean{.record = {}, .logits = Logits::none};
  for (int layer = 0; layer <= deepest; ++layer)
    clean.record.push_back({Site{Part::resid_pre, layer}});
  clean.record.push_back(record_loss(0));
  const RunCost run = foresee(model, batch, length, clean);
  cost.activation_bytes = std::max(cost.activation_bytes, run.activation_bytes);
  cost.weight_bytes = std::max(cost.weight_bytes, run.weight_bytes);
  cost.block_bytes = std::max(cost.block_bytes, run.block_bytes);
  cost.tensor_bytes = std::max(cost.tensor_bytes, run.tensor_bytes);
  cost.result_bytes += run.result_bytes;

  const std::int64_t pass = batch * length;
  const std::int64_t prefix = std::min(options.prefix, length / 2);
  int until = waves.front().last + 1;  // singles are read in all of the first wave's layers
  for (const Wave& wave : waves) until = std::max(until, wave.onset + 1);
  std::int64_t blocks = config.layers + kinds_of_singles * blocks_of_singles(deepest, until);
  for (std::size_t w = 0; w < waves.size(); ++w)
    blocks += blocks_of_wave(waves[w], w == 0, config.layers);
  cost.evaluations += pass * blocks + batch * (prefix + 1) * config.layers;
  cost.evaluations += config.vocab * std::max(1, deepest);
  if (config.positions != Positions::learned) {
    cost.evaluations +=
        2 * std::min(shifted_sequences, batch) * length * std::min(config.layers, deepest + 2);
  }
  return cost;
}

}  // namespace plumb
