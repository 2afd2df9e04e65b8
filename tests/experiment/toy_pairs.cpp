#include "toy_pairs.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "plumb/patch_cost.h"
#include "support/naive_patch.h"
#include "support/toy_model.h"

namespace plumb::test {
namespace {

// Float64 throughout; the engine adds the same numbers in another order.
constexpr double tolerance = 1e-10;

}  // namespace

Pairs toy_pairs(const ModelConfig& config, std::int64_t count, std::int64_t length,
                std::uint64_t seed) {
  const at::Tensor ids = toy_tokens(config, count, length, seed).ids;
  std::vector<PairIds> pairs;
  for (std::int64_t b = 0; b < count; ++b) {
    PairIds pair;
    const std::int64_t own = b == 1 ? length - 2 : length;
    for (std::int64_t t = 0; t < own; ++t) pair.clean.push_back(ids[b][t].item<std::int64_t>());
    pair.corrupt = pair.clean;
    auto& changed = pair.corrupt[static_cast<std::size_t>(1 + b % 2)];
    changed = (changed + 1) % config.vocab;
    pair.right = b % config.vocab;
    pair.wrong = (b + 3) % config.vocab;
    pairs.push_back(pair);
  }
  return make_pairs(pairs);
}

void expect_as_naive(const Model& model, const Pairs& pairs, const SweepSpec& spec,
                     const PatchOptions& options) {
  SCOPED_TRACE(to_string(spec) + " " + to_string(options.replacement) + " " +
               to_string(options.metric));
  const PatchReport report = patch(model, pairs, {spec}, options);
  ASSERT_EQ(report.sweeps.size(), 1U);
  EXPECT_EQ(foresee_patch(model, pairs, {spec}, options).evaluations, report.evaluations);
  const at::Tensor naive = naive_patch(model, pairs, spec, options);
  const at::Tensor& found = report.sweeps.front().each;
  ASSERT_EQ(found.sizes(), naive.sizes());
  // NaN stands, on both sides, for layers without the site.
  EXPECT_TRUE(at::equal(found.isnan(), naive.isnan()));
  EXPECT_LT((found - naive).nan_to_num(0.0).abs().max().item<double>(), tolerance);
  EXPECT_LT(found.isnan().sum().item<std::int64_t>(), found.numel());
  EXPECT_TRUE(report.sweeps.front().not_finite.empty());
}

void expect_as_naive(const Model& model, const Pairs& pairs, const std::string& sweep,
                     const PatchOptions& options) {
  expect_as_naive(model, pairs, parse_sweep(sweep), options);
}

}  // namespace plumb::test
