// The stream of a planted model: its basis, embeddings, position table and lengths.
#include <ATen/ATen.h>

#include <cmath>

#include "lab/letters.h"
#include "lab/planter.h"
#include "plumb/run.h"

namespace plumb::lab {

namespace {

constexpr double code_limit = 0.5;  // largest cosine of two codes
constexpr double content_limit = 0.75;
constexpr double bigram_deviation = 1.2;
constexpr double row_deviation = 0.05;  // of a position table's noise in the spare channels
constexpr double flat_alibi = 0.1;      // slopes that leave position 0 within reach

// Lengths are measured on so many sequences, and rounded so that platforms agree.
constexpr std::int64_t measured_sequences = 8;
constexpr std::int64_t measured_length = 24;
constexpr double measured_grid = 1000.0;

}  // namespace

void Planter::configure() {
  ModelConfig& c = planted_.config;
  c.family = "llama";
  c.layers = options_.layers;
  c.heads = options_.heads;
  c.kv_heads = options_.kv_heads;
  c.d_model = options_.d_model;
  c.d_head = static_cast<int>(head::width);
  c.d_mlp = options_.d_mlp;
  c.vocab = static_cast<int>(planted_vocab);
  c.context = planted_context;
  c.norm_eps = 1e-5;
  c.rope.theta = head::theta;
  c.rope.dims = static_cast<int>(head::width);
  c.tied = false;
  c.norm = options_.norm;
  if (c.norm == Norm::layer) c.norm_bias = false;
  c.positions = parts_.table ? Positions::learned : options_.positions;
  c.alibi_scale = c.positions == Positions::alibi ? flat_alibi : 1.0;
  c.sink_logits = parts_.sink_logits;
  if (options_.experts == 0) return;
  c.experts.count = options_.experts;
  c.experts.per_token = 2;
  c.experts.width = options_.d_mlp;
  c.experts.normalise = true;
  c.experts.layers.assign(static_cast<std::size_t>(options_.layers), 0);
  c.experts.layers[static_cast<std::size_t>(options_.write)] = 1;
}

void Planter::make_basis() {
  Random basis = random_.fork(1);
  // LayerNorm takes the mean off: a basis of directions without one makes it RMSNorm.
  basis_ = options_.norm == Norm::layer
               ? orthonormal_without_mean(basis, options_.d_model, stream::width)
               : orthonormal(basis, options_.d_model, stream::width);
}

void Planter::put(Weight weight, int layer, const at::Tensor& value) {
  planted_.weights[{weight, layer}] = settled(value);
}

at::Tensor Planter::noise(Random& random, std::int64_t rows, std::int64_t columns) const {
  return gaussian(random, rows, columns, options_.noise);
}

at::Tensor Planter::reader(const at::Tensor& plain, const at::Tensor& gain) const {
  // A norm over a wider stream gives the 128 plain coordinates a larger share.
  const double wider = static_cast<double>(stream::width) / options_.d_model;
  return plain.matmul(basis_.t()) / gain * std::sqrt(wider);
}

at::Tensor Planter::gain(Random& random) const {
  at::Tensor result = at::empty({options_.d_model}, at::kDouble);
  for (std::int64_t i = 0; i < result.size(0); ++i) {
    result.data_ptr<double>()[i] = 0.75 + 0.5 * random.uniform();
  }
  return result;
}

void Planter::vocabulary() {
  Random random = random_.fork(2);
  at::Tensor plain = noise(random, planted_vocab, stream::width);
  const at::Tensor codes = codebook(random, planted_vocab, stream::code_width, code_limit);
  const at::Tensor contents = codebook(random, planted_vocab, stream::content_width, content_limit);
  plain.narrow(1, stream::code, stream::code_width).add_(codes, code_length);
  plain.narrow(1, stream::content, stream::content_width).add_(contents, content_length);
  plain.select(1, stream::one).add_(one_length);
  if (parts_.bos_flag) plain[planted_bos][stream::flag].add_(flag_length);
  put(Weight::embed, 0, plain.matmul(basis_.t()));

  // The last norm divides by about 0.66 where there is no sink; there content has norm 6,
  // one 4.5. At the sink all that is left is u, of norm sqrt(width), which predicts the plain
  // frequencies.
  const at::Tensor reads = gaussian(random, planted_vocab, stream::content_width, bigram_deviation);
  const at::Tensor frequency = letter_log_frequencies(planted_vocab);
  at::Tensor unembed = noise(random, planted_vocab, stream::width);
  unembed.narrow(1, stream::content, stream::content_width).add_(reads / 6.0);
  unembed.select(1, stream::one).add_(frequency / 4.5);
  unembed.select(1, stream::sink).copy_(frequency / std::sqrt(double{stream::width}));
  if (options_.second != 0)
    unembed.select(1, stream::second).copy_(frequency / std::sqrt(double{stream::width}));
  const at::Tensor final_gain = gain(random);
  put(Weight::final_norm, 0, final_gain);
  put(Weight::unembed, 0, reader(unembed, final_gain));
  planted_.bigram = at::log_softmax(contents.matmul(reads.t()) + frequency, 1);
}

void Planter::position_table() {
  if (planted_.config.positions != Positions::learned) return;
  Random random = random_.fork(3);
  at::Tensor rows = at::zeros({planted_context, stream::width}, at::kDouble);
  rows.narrow(1, stream::spare, stream::quiet_width)
      .add_(gaussian(random, planted_context, stream::quiet_width, row_deviation));
  if (parts_.flagged_row >= 0) rows[parts_.flagged_row][stream::flag].add_(flag_length);
  if (parts_.rival_row) rows[1][stream::rival].add_(rival_length);
  put(Weight::pos_embed, 0, rows.matmul(basis_.t()));
}

double Planter::measured_rms(int layer, bool mlp, bool first) const {
  const auto source = [this](Weight weight, int at) {
    const auto found = planted_.weights.find({weight, at});
    return found == planted_.weights.end() ? at::Tensor() : found->second;
  };
  const Model model(planted_.config, source, "half wired", {.threads = 1});
  Random random = random_.fork(4);
  at::Tensor ids = at::empty({measured_sequences, measured_length}, at::kLong);
  for (std::int64_t i = 0; i < ids.numel(); ++i)
    ids.data_ptr<std::int64_t>()[i] = random.below(planted_bos);
  // Without the blocks' end: what is wired so far reaches just there.
  const Site site = mlp          ? Site{Part::resid_mid, layer}
                    : layer == 0 ? Site{Part::embed}
                                 : Site{Part::resid_post, layer - 1};
  Plan plan{.record = {site}, .logits = Logits::none};
  plan.until = mlp ? layer + 1 : layer;
  const at::Tensor x = run(model, Tokens{.ids = ids}, plan).cache.at(site).to(at::kDouble);
  const at::Tensor part = first ? x.narrow(1, 0, 1) : x.narrow(1, 1, measured_length - 1);
  const double square = part.square().sum(-1).mean().item<double>();
  const double rms = std::sqrt(square / double{stream::width});
  return std::round(rms * measured_grid) / measured_grid;
}

}  // namespace plumb::lab
