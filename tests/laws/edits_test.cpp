// What an edit must do, and what it must leave alone.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "plumb/error.h"
#include "support/naive_decoder.h"
#include "support/toy_model.h"

namespace plumb::test {
namespace {

constexpr double rounding = 1e-11;

class Edits : public testing::TestWithParam<int> {
 protected:
  std::uint64_t seed_ = static_cast<std::uint64_t>(GetParam());
  ModelConfig config_ = any_config(seed_);
  Model model_ = toy_model(config_, seed_ + 7);
  Tokens tokens_ = toy_tokens(config_, 11, 13, seed_ + 1);  // three tiles

  std::vector<Site> all_sites() const {
    std::vector<Site> sites;
    for (int part = 0; part < part_count; ++part) {
      const auto p = static_cast<Part>(part);
      for (int layer = 0; layer < (per_layer(p) ? config_.layers : 1); ++layer) {
        if (has_part(config_, p, layer)) sites.push_back({p, layer});
      }
    }
    return sites;
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, Edits,
                         testing::Values(0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 15, 17, 19, 20));

void expect_close(const at::Tensor& a, const at::Tensor& b, double tolerance = rounding) {
  EXPECT_LE((a - b).abs().max().item<double>(),
            tolerance * std::max(1.0, b.abs().max().item<double>()));
}

TEST_P(Edits, PuttingTheOwnValueBackChangesNothing) {
  Plan record;
  for (const Site site : all_sites()) record.record.push_back({site});
  const auto clean = plumb::run(model_, tokens_, record);
  for (const Site site : all_sites()) {
    const auto patched = plumb::run(
        model_, tokens_, {.interventions = {{.site = site, .edit = Put{clean.cache.at(site)}}}});
    // Editing these switches to another order of the same sum (heads or experts one by one).
    if (site.part == Part::head_out || site.part == Part::expert_out) {
      expect_close(patched.logits, clean.logits);
    } else {
      EXPECT_TRUE(at::equal(patched.logits, clean.logits)) << to_string(site);
    }
  }
}

TEST_P(Edits, EverySiteMattersAndIsReadAfterItsEdit) {
  const auto clean = plumb::run(model_, tokens_);
  for (const Site site : all_sites()) {
    const auto plain = plumb::run(model_, tokens_, {.record = {site}});
    const auto width = plain.cache.at(site).size(-1);
    // Scaled and moved: a norm ignores the one, a softmax over keys the other.
    const at::Tensor delta = 0.1 * at::arange(1, width + 1, at::kDouble);
    const Custom change{"change", [&](const at::Tensor& x) { return x * 1.5 + delta; }};
    const Plan plan{.record = {site}, .interventions = {{.site = site, .edit = change}}};
    const auto changed = plumb::run(model_, tokens_, plan);
    EXPECT_TRUE(at::equal(changed.cache.at(site), plain.cache.at(site) * 1.5 + delta))
        << to_string(site);
    EXPECT_GT((changed.logits - clean.logits).abs().max().item<double>(), 1e-9) << to_string(site);
  }
}

TEST_P(Edits, SlicedEditsAgreeWithTheNaiveTwin) {
  const auto source = [this](Weight w, int l) { return model_.weight(w, l); };
  const int layer = config_.layers - 1;
  const std::int64_t head = config_.heads - 1;
  const struct {
    Site site;
    Slice slice;
    std::function<void(at::Tensor&)> naive;
  } cases[] = {
      {{Part::z, layer},
       {.heads = {head}, .positions = {2}},
       [&](at::Tensor& v) { v.select(2, head).select(1, 2).zero_(); }},
      {{Part::attn_out, 0},
       {.positions = {0, 4, 5}},
       [](at::Tensor& v) {
         for (const int t : {0, 4, 5}) v.select(1, t).zero_();
       }},
      {{Part::q, 0}, {.heads = {0}}, [](at::Tensor& v) { v.select(2, 0).zero_(); }},
      {{Part::mlp_post, 0},
       {.positions = {3}, .units = {1, 7}},
       [](at::Tensor& v) {
         for (const int u : {1, 7}) v.select(2, u).select(1, 3).zero_();
       }},
      {{Part::pattern, layer},
       {.heads = {0}, .positions = {5, 8}, .keys = {1, 3}},
       [](at::Tensor& v) {
         for (const int t : {5, 8})
           for (const int k : {1, 3}) v.select(1, 0).select(1, t).select(1, k).zero_();
       }},
      {{Part::resid_mid, layer}, {.units = {2}}, [](at::Tensor& v) { v.select(2, 2).zero_(); }},
  };
  for (const auto& test : cases) {
    const auto run =
        plumb::run(model_, tokens_,
                   {.interventions = {{.site = test.site, .where = test.slice, .edit = Zero{}}}});
    NaiveOptions options;
    options.hook = [&](const Site& site, at::Tensor& value) {
      if (site != test.site) return;
      value = value.clone();
      test.naive(value);
    };
    expect_close(run.logits, naive_forward(config_, source, tokens_.ids, options).logits);
  }
}

TEST_P(Edits, PerSequenceValuesReachTheirSequence) {
  // A different value for each of the 11 sequences, which are run in several tiles.
  const at::Tensor value =
      at::arange(11, at::kDouble).view({11, 1, 1}).expand({11, 1, config_.d_model}).contiguous();
  const Plan plan{
      .record = {Site{Part::mlp_out, 0}},
      .interventions = {
          {.site = {Part::mlp_out, 0}, .where = {.positions = {6}}, .edit = Put{value}}}};
  const auto run = plumb::run(model_, tokens_, plan);
  EXPECT_TRUE(at::equal(run.cache.at({Part::mlp_out, 0}).select(1, 6), value.squeeze(1)));
}

TEST_P(Edits, ProjectingOutLeavesNothingAlongTheDirection) {
  const at::Tensor direction = at::arange(1, config_.d_model + 1, at::kDouble);
  const Plan plan{.record = {Site{Part::resid_mid, 0}},
                  .interventions = {{.site = {Part::resid_mid, 0}, .edit = ProjectOut{direction}}}};
  const at::Tensor along = plumb::run(model_, tokens_, plan)
                               .cache.at({Part::resid_mid, 0})
                               .matmul(direction / direction.norm());
  EXPECT_LT(along.abs().max().item<double>(), 1e-10);
}

TEST_P(Edits, ClampingTheNormLeavesTheNormalisedStateAlone) {
  if (config_.norm == Norm::layer) GTEST_SKIP() << "identity U11 is RMSNorm's";
  if (config_.norm_place == NormPlace::after) GTEST_SKIP() << "nothing normalises what is read";
  if (config_.parallel) GTEST_SKIP() << "the MLP does not read resid_mid";
  ModelConfig config = config_;
  config.norm_eps = 1e-30;  // the identity holds up to the norm's epsilon
  const Model model = toy_model(config, seed_);
  const Plan plain{.record = {Site{Part::resid_mid, 0}, Site{Part::mlp_pre, 0}}};
  Plan clamped = plain;
  clamped.interventions = {
      {.site = {Part::resid_mid, 0}, .edit = ClampNorm{at::full({1, 1, 1}, 3.0, at::kDouble)}}};
  const auto a = plumb::run(model, tokens_, plain);
  const auto b = plumb::run(model, tokens_, clamped);
  expect_close(b.cache.at({Part::resid_mid, 0}).norm(2, -1), at::full({11, 13}, 3.0, at::kDouble));
  expect_close(b.cache.at({Part::mlp_pre, 0}), a.cache.at({Part::mlp_pre, 0}));  // U11
}

TEST_P(Edits, HiddenKeysDrawNothingAndSelfStays) {
  std::vector<Intervention> hide;
  hide.push_back({.site = {Part::scores, 0}, .where = {.keys = {0, 3}}, .edit = Hide{}});
  const auto run =
      plumb::run(model_, tokens_, {.record = {Site{Part::pattern, 0}}, .interventions = hide});
  const at::Tensor& pattern = run.cache.at({Part::pattern, 0});
  EXPECT_EQ(pattern.select(-1, 0).narrow(2, 1, 12).abs().max().item<double>(), 0.0);
  EXPECT_EQ(pattern.select(-1, 3).narrow(2, 4, 9).abs().max().item<double>(), 0.0);
  if (!config_.sink_logits) {
    expect_close(pattern.sum(-1), at::ones_like(pattern.select(-1, 0)));
    EXPECT_TRUE(pattern.select(2, 0).select(2, 0).eq(1.0).all().item<bool>());
  }
  EXPECT_GT(pattern.select(2, 3).select(2, 3).min().item<double>(), 0.0);
}

TEST_P(Edits, ReadersCanBeEditedApart) {
  const at::Tensor delta = at::full({1, 1, config_.d_model}, 0.3, at::kDouble);
  const auto pattern_after = [&](Part part) {
    return plumb::run(
        model_, tokens_,
        {.record = {Site{Part::pattern, 0}, Site{Part::v, 0}},
         .interventions = {
             {.site = {part, 0}, .edit = Add{delta * at::arange(config_.d_model, at::kDouble)}}}});
  };
  const auto clean =
      plumb::run(model_, tokens_, {.record = {Site{Part::pattern, 0}, Site{Part::v, 0}}});
  const auto values = pattern_after(Part::v_in);
  EXPECT_TRUE(at::equal(values.cache.at({Part::pattern, 0}), clean.cache.at({Part::pattern, 0})));
  EXPECT_FALSE(at::equal(values.cache.at({Part::v, 0}), clean.cache.at({Part::v, 0})));
  for (const Part part : {Part::q_in, Part::k_in}) {
    const auto run = pattern_after(part);
    EXPECT_FALSE(at::equal(run.cache.at({Part::pattern, 0}), clean.cache.at({Part::pattern, 0})));
    EXPECT_TRUE(at::equal(run.cache.at({Part::v, 0}), clean.cache.at({Part::v, 0})));
  }
}

TEST_P(Edits, AThrowingEditLeavesTheNextRunUnchanged) {
  const at::Tensor before = plumb::run(model_, tokens_).logits;
  const Custom broken{"broken", [](const at::Tensor&) -> at::Tensor {
                        throw Error(ErrorKind::bad_argument, "no");
                      }};
  EXPECT_THROW(
      plumb::run(model_, tokens_, {.interventions = {{.site = {Part::z, 0}, .edit = broken}}}),
      Error);
  EXPECT_TRUE(at::equal(plumb::run(model_, tokens_).logits, before));
}

TEST_P(Edits, ReductionsAndSlicesAreOfTheRecordedTensor) {
  const Reduce last = [](const at::Tensor& value, const Tile&) { return value.sum(-1); };
  const Plan plan{.record = {Site{Part::mlp_out, 0},
                             {Site{Part::mlp_out, 0}, "sum", last, {.positions = {1, 5}}}}};
  const auto run = plumb::run(model_, tokens_, plan);
  const at::Tensor whole = run.cache.at({Part::mlp_out, 0});
  const at::Tensor expected = whole.index_select(1, at::tensor({1, 5}, at::kLong)).sum(-1);
  expect_close(run.cache.at({Part::mlp_out, 0}, "sum"), expected);
}

}  // namespace
}  // namespace plumb::test
