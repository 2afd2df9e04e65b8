// A module of your own, its edges attributed: who tells whom what the answer is?
//
//   attribute_module
//
// The module is a toy of two blocks of attention that continues A B ... A with B. Head 0 of block 0
// writes at each position which token stood before it; head 1 of block 1 looks, by its keys, for
// the position behind an earlier A, and copies the token that stands there.
#include <ATen/ATen.h>
#include <plumb/attribute_tapped.h>
#include <plumb/error.h>

#include <cstdio>
#include <limits>

namespace {

constexpr int layers = 2;
constexpr int heads = 2;
constexpr int d_head = 16;
constexpr int vocab = d_head;
// The stream holds the token, the token before it, and what is predicted.
constexpr int d_model = 3 * d_head;
enum Room { token, before, predicted };

at::Tensor room(const at::Tensor& x, Room which) { return x.narrow(2, which * d_head, d_head); }

// A module as one has it. What plumb asks of it is the line `tap` where a tensor is made.
struct Module {
  plumb::SiteTap tap;

  at::Tensor attention(const at::Tensor& x, int layer) const {
    using plumb::Part;
    const auto T = x.size(1);
    const at::Tensor none = at::zeros_like(room(x, token));
    const bool matches = layer == 1;
    const at::Tensor q =
        tap({Part::q, layer}, at::stack({none, matches ? 6.0 * room(x, token) : none}, 2));
    const at::Tensor k =
        tap({Part::k, layer}, at::stack({none, matches ? room(x, before) : none}, 2));
    const at::Tensor v = tap({Part::v, layer}, at::stack({room(x, token), room(x, token)}, 2));
    const at::Tensor index = at::arange(T, at::kLong);
    const at::Tensor distance = index.unsqueeze(1) - index.unsqueeze(0);
    const at::Tensor hidden =
        at::zeros({T, T}, x.options())
            .masked_fill(distance < 0, -std::numeric_limits<double>::infinity());
    const at::Tensor previous = 20.0 * distance.eq(1).to(x.scalar_type());
    const at::Tensor products = at::einsum("bqhd,bkhd->bhqk", {q, k});
    const at::Tensor place = at::stack({hidden + previous, hidden});
    const at::Tensor pattern = at::softmax(products + place, -1);
    const at::Tensor z = tap({Part::z, layer}, at::einsum("bhqk,bkhd->bqhd", {pattern, v}));
    const at::Tensor written = layer == 0 ? at::cat({none, z.select(2, 0), none}, 2)
                                          : at::cat({none, none, z.select(2, 1)}, 2);
    return tap({Part::attn_out, layer}, written);
  }

  at::Tensor operator()(const at::Tensor& ids) const {
    using plumb::Part;
    const at::Tensor words = at::one_hot(ids, vocab).to(at::kFloat);
    const at::Tensor none = at::zeros_like(words);
    at::Tensor x = tap({Part::embed}, at::cat({words, none, none}, 2));
    for (int layer = 0; layer < layers; ++layer) {
      x = tap({Part::resid_pre, layer}, x);
      x = tap({Part::resid_post, layer}, x + attention(x, layer));
    }
    return 10.0 * room(x, predicted);
  }
};

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
  const plumb::TappedModel model(
      sizes,
      [](const plumb::Tokens& tokens, const plumb::SiteTap& tap) {
        return Module{tap}(tokens.ids);
      },
      "induction");

  // In the corrupt prompt no A stood before.
  const plumb::Pairs pairs =
      plumb::make_pairs({{.clean = {3, 7, 5, 3}, .corrupt = {4, 7, 5, 3}, .right = 7, .wrong = 5},
                         {.clean = {9, 2, 6, 9}, .corrupt = {8, 2, 6, 9}, .right = 2, .wrong = 6}});
  const plumb::EdgeReport report =
      plumb::edge_report(model, pairs, {}, {.method = plumb::EdgeMethod::eap_ig, .steps = 20});
  std::printf("logit_diff: clean %.2f, corrupt %.2f; %lld edges\n", report.clean_mean.mean,
              report.corrupt_mean.mean, static_cast<long long>(report.scores.space.edges()));
  for (const std::int64_t edge : plumb::strongest_edges(report.scores, 3)) {
    std::printf("%-18s %5.2f of %.2f\n", report.scores.space.edge_name(edge).c_str(),
                report.scores.values[edge].item<double>(),
                report.clean_mean.mean - report.corrupt_mean.mean);
  }
  return 0;
} catch (const plumb::Error& error) {
  std::fprintf(stderr, "attribute_module: %s\n", error.what());
  return plumb::exit_code(error.kind());
}
