// A forward pass of your own, patched by a sweep: which head carries what differs?
//
//   tapped_model
//
// The model is a toy: two blocks of attention alone, in which head 1 of block 1 copies the token
// that stood at the position before. All that plumb needs of it is its sizes and a tap.
#include <ATen/ATen.h>
#include <plumb/error.h>
#include <plumb/patch_tapped.h>

#include <cmath>
#include <cstdio>
#include <limits>

namespace {

constexpr int layers = 2;
constexpr int heads = 2;
constexpr int d_head = 16;
constexpr int d_model = heads * d_head;
constexpr int vocab = d_head;

// What each head writes; only the last one writes to where the unembedding reads.
at::Tensor attention(const at::Tensor& x, int layer, const plumb::SiteTap& tap) {
  using plumb::Part;
  const auto T = x.size(1);
  // Every head reads the token, which the first half of the stream holds.
  const at::Tensor v =
      tap({Part::v, layer}, x.narrow(2, 0, d_head).unsqueeze(2).repeat({1, 1, heads, 1}));
  // Head 0 attends to all keys before it alike, head 1 to the one before.
  const at::Tensor index = at::arange(T, at::kLong);
  const at::Tensor distance = index.unsqueeze(1) - index.unsqueeze(0);
  const double hidden = -std::numeric_limits<double>::infinity();
  const at::Tensor even = at::zeros({T, T}).masked_fill(distance < 0, hidden);
  const at::Tensor previous = even + 20.0 * distance.eq(1).to(at::kFloat);
  const at::Tensor scores =
      tap({Part::scores, layer}, at::stack({even, previous}).expand({x.size(0), heads, T, T}));
  const at::Tensor pattern = tap({Part::pattern, layer}, at::softmax(scores, -1));
  const at::Tensor z =
      tap({Part::z, layer}, at::einsum("bhqk,bkhd->bqhd", {pattern, v}).contiguous());
  at::Tensor written = at::zeros_like(x);
  if (layer == layers - 1) written.narrow(2, d_head, d_head).add_(z.select(2, 1));
  return tap({Part::attn_out, layer}, written);
}

at::Tensor forward(const plumb::Tokens& tokens, const plumb::SiteTap& tap) {
  using plumb::Part;
  const at::Tensor token = at::one_hot(tokens.ids, vocab).to(at::kFloat);
  at::Tensor x = tap({Part::embed}, at::cat({token, at::zeros_like(token)}, 2));
  for (int layer = 0; layer < layers; ++layer) {
    x = tap({Part::resid_pre, layer}, x);
    x = tap({Part::resid_post, layer}, x + attention(x, layer, tap));
  }
  return x.narrow(2, d_head, vocab);
}

}  // namespace

int main() try {
  plumb::ModelConfig sizes;
  sizes.layers = layers;
  sizes.heads = sizes.kv_heads = heads;
  sizes.d_head = d_head;
  sizes.d_model = d_model;
  sizes.d_mlp = 1;
  sizes.vocab = vocab;
  sizes.context = 8;
  sizes.positions = plumb::Positions::none;
  const plumb::TappedModel model(sizes, forward, "copier");

  // The answer is the token before the last one, which differs.
  const plumb::Pairs pairs = plumb::make_pairs(
      {{.clean = {3, 5, 7, 1}, .corrupt = {3, 5, 9, 1}, .right = 7, .wrong = 9},
       {.clean = {2, 8, 4, 6}, .corrupt = {2, 8, 11, 6}, .right = 4, .wrong = 11}});
  const plumb::PatchReport report = plumb::patch(
      model, pairs,
      {plumb::parse_sweep("z:layer,head"), plumb::parse_sweep("v:layer,head,position")});
  std::printf("logit_diff: clean %.2f, corrupt %.2f\n", report.clean_mean.mean,
              report.corrupt_mean.mean);
  for (int layer = 0; layer < layers; ++layer) {
    for (int head = 0; head < heads; ++head) {
      std::printf("L%d.z[h=%d] restores %.2f, its value at position 2 alone %.2f\n", layer, head,
                  report.sweeps[0].values[layer][head].item<double>(),
                  report.sweeps[1].values[layer][head][2].item<double>());
    }
  }
  return 0;
} catch (const plumb::Error& error) {
  std::fprintf(stderr, "tapped_model: %s\n", error.what());
  return plumb::exit_code(error.kind());
}
