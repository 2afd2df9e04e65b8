// The engine's forward pass against its plain twin, over small random models of many kinds.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/random.h"
#include "plumb/checkpoint.h"
#include "plumb/model.h"
#include "plumb/plant.h"
#include "plumb/run.h"
#include "support/naive_decoder.h"
#include "support/toy_model.h"

namespace plumb::test {
namespace {

// Both sides compute in float64; sums are taken in another order.
constexpr double rounding = 1e-9;

ModelConfig base() {
  ModelConfig c;
  c.family = "llama";
  c.layers = 3;
  c.heads = 4;
  c.kv_heads = 2;
  c.d_model = 24;
  c.d_head = 8;
  c.d_mlp = 20;
  c.vocab = 31;
  c.context = 64;
  c.rope.theta = 100.0;
  c.rope.dims = 8;
  return c;
}

std::map<std::string, ModelConfig> kinds() {
  std::map<std::string, ModelConfig> all;
  all["plain"] = base();
  all["untied"] = base();
  all["untied"].tied = false;
  all["biases"] = base();
  all["biases"].qkv_bias = all["biases"].out_bias = all["biases"].mlp_bias = true;
  all["qk_norm"] = base();
  all["qk_norm"].qk_norm = QkNorm::head;
  all["windows"] = base();
  all["windows"].windows = {0, 3, 5};
  all["no_rope_layer"] = base();
  all["no_rope_layer"].rope_layers = {1, 0, 1};
  all["no_positions"] = base();
  all["no_positions"].positions = Positions::none;
  all["linear"] = base();
  all["linear"].rope.scaling = RopeScaling::linear;
  all["linear"].rope.factor = 4.0;
  all["llama3"] = base();
  all["llama3"].rope.scaling = RopeScaling::llama3;
  all["llama3"].rope.factor = 8.0;
  all["llama3"].rope.original_context = 32;
  all["dynamic"] = base();
  all["dynamic"].rope.scaling = RopeScaling::dynamic;
  all["dynamic"].rope.factor = 2.0;
  all["dynamic"].rope.original_context = 8;
  all["yarn"] = base();
  all["yarn"].rope.scaling = RopeScaling::yarn;
  all["yarn"].rope.factor = 4.0;
  all["yarn"].rope.attention_factor = 1.1;
  all["yarn"].rope.original_context = 64;
  all["longrope"] = base();
  all["longrope"].rope.scaling = RopeScaling::longrope;
  all["longrope"].rope.attention_factor = 1.2;
  all["longrope"].rope.original_context = 16;  // the inputs are longer
  all["longrope"].rope.short_factors = {1.0, 1.0, 1.5, 2.0};
  all["longrope"].rope.long_factors = {1.0, 2.0, 3.0, 5.0};
  for (const ModelConfig& config : unusual_configs())
    all[config.family + std::to_string(config.heads)] = config;
  ModelConfig experts = base();
  experts.experts = {.count = 6, .per_token = 2, .width = 10};
  all["experts"] = experts;
  all["experts_normalised"] = experts;
  all["experts_normalised"].experts.normalise = true;
  all["experts_some_layers"] = experts;
  all["experts_some_layers"].experts.layers = {0, 1, 1};
  all["experts_shared"] = experts;
  all["experts_shared"].experts.shared_width = 14;
  all["experts_clamped"] = experts;
  all["experts_clamped"].experts.router_bias = all["experts_clamped"].experts.biases = true;
  all["experts_clamped"].experts.limit = 0.7;
  all["experts_all_visited"] = experts;
  all["experts_all_visited"].experts.per_token = 6;
  ModelConfig gpt2 = base();
  gpt2.family = "gpt2";
  gpt2.kv_heads = 4;
  gpt2.norm = Norm::layer;
  gpt2.positions = Positions::learned;
  gpt2.rope = {};
  gpt2.gated_mlp = false;
  gpt2.qkv_bias = gpt2.out_bias = gpt2.mlp_bias = true;
  for (const auto& [name, activation] : {std::pair("gpt2_gelu", Activation::gelu),
                                         std::pair("gpt2_gelu_tanh", Activation::gelu_tanh),
                                         std::pair("gpt2_relu", Activation::relu)}) {
    all[name] = gpt2;
    all[name].activation = activation;
  }
  return all;
}

Model::Source random_weights(const ModelConfig& config) {
  return [config](Weight weight, int layer) {
    const std::vector<std::int64_t> shape = weight_shape(config, weight, layer);
    if (shape.empty()) return at::Tensor();
    Random random = Random(17).fork(static_cast<std::uint64_t>(weight) * 100U +
                                    static_cast<std::uint64_t>(layer));
    at::Tensor value = at::empty(shape, at::kDouble);
    for (std::int64_t i = 0; i < value.numel(); ++i) {
      value.data_ptr<double>()[i] = (shape.size() == 1 ? 0.5 : 0.3) * random.normal();
    }
    return value;
  };
}

at::Tensor some_ids(const ModelConfig& config, std::int64_t count, std::int64_t length) {
  Random random(5);
  at::Tensor ids = at::empty({count, length}, at::kLong);
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    ids.data_ptr<std::int64_t>()[i] = random.below(config.vocab);
  }
  return ids;
}

void expect_close(const at::Tensor& engine, const at::Tensor& plain, const std::string& what) {
  ASSERT_EQ(engine.sizes(), plain.sizes()) << what;
  const double scale = 1.0 + plain.abs().max().item<double>();
  EXPECT_LT((engine - plain).abs().max().item<double>(), rounding * scale) << what;
}

void expect_twins(const ModelConfig& config, const Model::Source& weights,
                  const std::string& name) {
  const at::Tensor ids = some_ids(config, 3, 20);
  const Model model(config, weights, name, {.dtype = at::kDouble, .threads = 1});
  Plan plan;
  for (int layer = 0; layer < config.layers; ++layer) {
    for (const Part part : {Part::pattern, Part::attn_out, Part::mlp_post, Part::router,
                            Part::expert_out, Part::resid_post}) {
      if (has_part(config, part, layer)) plan.record.emplace_back(Site{part, layer});
    }
  }
  const Run engine = run(model, Tokens{ids}, plan);
  const NaiveRun plain = naive_forward(config, weights, ids);
  expect_close(engine.logits, plain.logits, name + " logits");
  for (int layer = 0; layer < config.layers; ++layer) {
    const auto i = static_cast<std::size_t>(layer);
    const std::string where = name + " layer " + std::to_string(layer);
    expect_close(engine.cache.at({Part::pattern, layer}), plain.patterns[i], where);
    expect_close(engine.cache.at({Part::attn_out, layer}), plain.attn_out[i], where);
    if (is_sparse(config, layer)) {
      expect_close(engine.cache.at({Part::router, layer}), plain.router[i], where);
      expect_close(engine.cache.at({Part::expert_out, layer}), plain.expert_out[i], where);
    } else {
      expect_close(engine.cache.at({Part::mlp_post, layer}), plain.mlp_post[i], where);
    }
    expect_close(engine.cache.at({Part::resid_post, layer}), plain.resid_post[i], where);
  }
}

TEST(NaiveTwin, AgreesWithTheEngineForEverySwitch) {
  for (const auto& [name, config] : kinds()) expect_twins(config, random_weights(config), name);
}

TEST(NaiveTwin, AgreesWithTheEngineOnPlantedModels) {
  const Planted planted = plant();
  const auto weights = [&planted](Weight weight, int layer) {
    const auto found = planted.weights.find({weight, layer});
    return found == planted.weights.end() ? at::Tensor() : found->second;
  };
  expect_twins(planted.config, weights, "planted");
}

TEST(NaiveTwin, AgreesWithTheEngineUnderAnEdit) {
  const ModelConfig config = base();
  const at::Tensor ids = some_ids(config, 2, 12);
  const Model::Source weights = random_weights(config);
  const Model model(config, weights, "edited", {.dtype = at::kDouble, .threads = 1});
  Plan plan;
  plan.interventions.push_back({Site{Part::attn_out, 1}, Slice{.positions = {0}}, Zero{}});
  const NaiveHook zero = [](const Site& site, at::Tensor& value) {
    if (site != Site{Part::attn_out, 1}) return;
    value = value.clone();
    value.select(1, 0).zero_();
  };
  const at::Tensor edited = naive_forward(config, weights, ids, {.hook = zero}).logits;
  expect_close(run(model, Tokens{ids}, plan).logits, edited, "edited");
  EXPECT_GT((edited - naive_forward(config, weights, ids).logits).abs().max().item<double>(), 1e-3);
}

}  // namespace
}  // namespace plumb::test
