// Of a deep model only what a run touches is read.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/files.h"
#include "checkpoint/models.h"
#include "plumb/checkpoint_write.h"
#include "plumb/error.h"
#include "plumb/run.h"
#include "plumb/sink.h"
#include "support/paths.h"
#include "support/toy_model.h"

namespace plumb::test {
namespace {

constexpr int layers = 40;

ModelConfig deep_config(bool tied) {
  ModelConfig config;
  config.family = "llama";
  config.layers = layers;
  config.heads = 4;
  config.kv_heads = 2;
  config.d_model = 32;
  config.d_head = 8;
  config.d_mlp = 48;
  config.vocab = 5000;
  config.context = 64;
  config.rope.dims = 8;
  config.tied = tied;
  return config;
}

// From block `poisoned` on every stored weight is NaN, which reading refuses.
std::filesystem::path deep_model(int poisoned, bool tied = false) {
  const ModelConfig config = deep_config(tied);
  const std::filesystem::path directory = scratch_dir();
  write_checkpoint(directory, config, random_weights(config, 1, at::kBFloat16));
  const std::filesystem::path file = directory / "model.safetensors";
  std::string bytes = read_bytes(file);
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  const auto header = nlohmann::json::parse(bytes.substr(sizeof length, length));
  const std::string prefix = "model.layers.";
  for (const auto& [name, tensor] : header.items()) {
    if (!name.starts_with(prefix) || std::stoi(name.substr(prefix.size())) < poisoned) continue;
    const auto begin = tensor.at("data_offsets").at(0).get<std::uint64_t>();
    const auto end = tensor.at("data_offsets").at(1).get<std::uint64_t>();
    std::memset(bytes.data() + sizeof length + length + begin, 0xff, end - begin);
  }
  write_bytes(file, bytes);
  return directory;
}

std::uint64_t bytes_of_blocks(const Checkpoint& checkpoint, const std::set<int>& blocks) {
  std::uint64_t bytes = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    for (const int block : blocks) {
      if (tensor.name.starts_with("model.layers." + std::to_string(block) + ".")) {
        bytes += tensor.bytes;
      }
    }
  }
  return bytes;
}

std::uint64_t bytes_of_rows(const Tokens& tokens) {
  const auto* ids = tokens.ids.data_ptr<std::int64_t>();
  return std::set<std::int64_t>(ids, ids + tokens.ids.numel()).size() * 32 * 2;
}

Plan record_two_blocks() {
  return {.record = {Site{Part::embed}, Site{Part::pattern, 0}, Site{Part::z, 1},
                     Site{Part::resid_post, 1}},
          .logits = Logits::none};
}

TEST(Lazy, ReadsTwoBlocksAndTheRowsOfTheTokens) {
  const Model model = load(deep_model(2), {.layers = LayerRange{0, 1}});
  const Tokens tokens = toy_tokens(model.config(), 4, 20, 1);
  run(model, tokens, record_two_blocks());
  const Checkpoint checkpoint = Checkpoint::open(deep_model(2));
  EXPECT_EQ(model.bytes_read(), bytes_of_blocks(checkpoint, {0, 1}) + bytes_of_rows(tokens));
  // Everything is there now: another run reads nothing.
  const std::uint64_t before = model.bytes_read();
  run(model, tokens, record_two_blocks());
  EXPECT_EQ(model.bytes_read(), before);
}

TEST(Lazy, AWholeModelIsReadNoFurtherThanAPlanRuns) {
  const Model model = load(deep_model(2));
  const Tokens tokens = toy_tokens(model.config(), 2, 10, 1);
  Plan plan = record_two_blocks();
  plan.until = 2;
  run(model, tokens, plan);
  const Checkpoint checkpoint = Checkpoint::open(deep_model(2));
  EXPECT_EQ(model.bytes_read(), bytes_of_blocks(checkpoint, {0, 1}) + bytes_of_rows(tokens));
  expect_error([&] { run(model, tokens, {.logits = Logits::none}); }, ErrorKind::bad_file,
               {"model.layers.2.", "nan"});
}

TEST(Lazy, AModelOfSomeBlocksGivesTheBitsOfTheWhole) {
  const std::filesystem::path path = deep_model(layers);
  const Model whole = load(path);
  const Model part = load(path, {.layers = LayerRange{0, 1}});
  const Tokens tokens = toy_tokens(whole.config(), 5, 12, 2);
  const plumb::Run expected = run(whole, tokens, record_two_blocks());
  const plumb::Run came = run(part, tokens, record_two_blocks());
  for (const auto& [key, value] : expected.cache.entries()) {
    EXPECT_TRUE(at::equal(came.cache.at(key.first), value)) << to_string(key.first);
  }
  EXPECT_EQ(came.evaluations, 2 * 5 * 12);
  EXPECT_EQ(part.config().layers, 2);
  EXPECT_EQ(part.all_layers(), layers);
  EXPECT_EQ(part.sha256(), "");
  EXPECT_EQ(part.headers_sha256(), whole.headers_sha256());
}

TEST(Lazy, TheLastBlockBringsTheLogits) {
  const std::filesystem::path path = deep_model(layers, /*tied=*/true);
  const Model all = load(path, {.layers = LayerRange{0, layers - 1}});
  const Tokens tokens = toy_tokens(all.config(), 2, 8, 3);
  EXPECT_TRUE(all.whole());
  // The first run embeds by rows, the second from the table that the unembedding needed.
  const at::Tensor first = run(all, tokens).logits;
  EXPECT_TRUE(at::equal(run(all, tokens).logits, first));
  EXPECT_TRUE(at::equal(run(load(path), tokens).logits, first));
}

TEST(Lazy, RefusesWhatLiesBehindTheLastLoadedBlock) {
  const Model model = load(deep_model(2), {.layers = LayerRange{0, 1}});
  const Tokens tokens = toy_tokens(model.config(), 1, 4, 1);
  expect_error([&] { run(model, tokens); }, ErrorKind::bad_argument,
               {"no logits without the last block", "layers 0-39, of which 0-1 were loaded"});
  for (const Part part : {Part::logits, Part::resid_final, Part::final_scale}) {
    const Plan plan{.record = {Site{part}}, .logits = Logits::none};
    expect_error([&] { run(model, tokens, plan); }, ErrorKind::bad_argument,
                 {"never reached", "of which 0-1 were loaded"});
  }
  const Plan later{.record = {Site{Part::z, 2}}, .logits = Logits::none};
  expect_error([&] { run(model, tokens, later); }, ErrorKind::bad_argument,
               {"L2.z does not exist", "layers 0-39, of which 0-1 were loaded"});
  EXPECT_EQ(model.bytes_read(), 0U);
}

TEST(Lazy, AModelOfLaterBlocksRunsFromARestart) {
  const std::filesystem::path path = deep_model(layers);
  const Model whole = load(path);
  const Model later = load(path, {.layers = LayerRange{38, 39}});
  const Tokens tokens = toy_tokens(whole.config(), 2, 8, 4);
  const plumb::Run all = run(whole, tokens, {.record = {Site{Part::resid_pre, 38}}});
  Plan plan;
  plan.restart = Restart{.layer = 38, .resid_pre = all.cache.at({Part::resid_pre, 38})};
  EXPECT_TRUE(at::equal(run(later, tokens, plan).logits, all.logits));
  expect_error([&] { run(later, tokens); }, ErrorKind::bad_argument,
               {"a run from block 0", "of which 38-39 were loaded"});
}

TEST(Lazy, RefusesLayersThatAreNotThere) {
  const std::filesystem::path path = deep_model(2);
  for (const LayerRange range : {LayerRange{0, 40}, LayerRange{3, 2}, LayerRange{-1, 2}}) {
    expect_error([&] { load(path, {.layers = range}); }, ErrorKind::bad_argument,
                 {"expected layers of 0-39"});
  }
}

TEST(Lazy, TheSinkOfTheFirstBlocksIsMeasuredWithoutTheRest) {
  const Model model = load(deep_model(2), {.layers = LayerRange{0, 1}});
  const Inputs inputs{.tokens = toy_tokens(model.config(), 4, 16, 5)};
  const SinkSurvey survey = survey_sink(model, inputs);
  EXPECT_EQ(survey.layer_mean.size(0), 2);
  EXPECT_EQ(survey.norm.size(1), 5);
  EXPECT_TRUE(std::isnan(survey.loss.mean));
}

}  // namespace
}  // namespace plumb::test
