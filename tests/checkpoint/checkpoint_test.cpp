#include "plumb/checkpoint.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/files.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/models.h"
#include "checkpoint/safetensors.h"
#include "plumb/hash.h"
#include "support/paths.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

using test::expect_error;
using test::PlainTensor;
using test::small_model;

/// The tensors of a directory, to be changed and written back.
std::vector<PlainTensor> tensors_of(const fs::path& directory) {
  const MappedFile file(directory / "model.safetensors");
  std::vector<PlainTensor> tensors;
  for (const StoredTensor& tensor : read_safetensors(file)) {
    tensors.push_back({tensor.info.name, tensor.info.dtype, tensor.info.shape,
                       std::string(reinterpret_cast<const char*>(tensor.data), tensor.info.bytes)});
  }
  return tensors;
}

void put(const fs::path& directory, const std::vector<PlainTensor>& tensors) {
  test::write_bytes(directory / "model.safetensors", test::safetensors(tensors));
}

PlainTensor& named(std::vector<PlainTensor>& tensors, const std::string& name) {
  for (PlainTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  throw std::runtime_error(name);
}

void refuses(const fs::path& path, ErrorKind kind, const std::vector<std::string>& parts) {
  std::vector<std::string> all = parts;
  all.push_back(path.string());
  expect_error([&] { Checkpoint::open(path); }, kind, all);
}

TEST(Checkpoint, RefusesPathsThatAreNoModel) {
  const fs::path directory = test::scratch_dir();
  refuses(directory / "absent", ErrorKind::bad_file, {"no such file"});
  refuses(directory, ErrorKind::bad_file, {"config.json"});
  test::write_bytes(directory / "notes.txt", "hello, this is a text");
  refuses(directory / "notes.txt", ErrorKind::bad_file, {"GGUF"});
  const fs::path model = small_model("llama");
  refuses(model / "model.safetensors", ErrorKind::bad_file, {"directory"});
  refuses(model / "config.json", ErrorKind::bad_file, {"GGUF"});
}

TEST(Checkpoint, RefusesAnUnknownModelTypeNamingTheKnownOnes) {
  const fs::path model = small_model("llama");
  test::set_field(model, "model_type", "\"mamba\"");
  expect_error([&] { Checkpoint::open(model); }, ErrorKind::unsupported,
               {"config.json", "\"mamba\"", "gemma, ", "gpt2", "llama", "qwen3", "smollm3"});
  test::set_field(model, "model_type", "null");
  expect_error([&] { Checkpoint::open(model); }, ErrorKind::bad_file, {"model_type", "missing"});
  test::write_bytes(model / "config.json", "[]");
  expect_error([&] { Checkpoint::open(model); }, ErrorKind::bad_file, {"config.json", "object"});
  test::write_bytes(model / "config.json", "");
  expect_error([&] { Checkpoint::open(model); }, ErrorKind::bad_file, {"config.json", "JSON"});
}

TEST(Checkpoint, RefusesMissingWeightFiles) {
  const fs::path model = small_model("llama");
  fs::remove(model / "model.safetensors");
  refuses(model, ErrorKind::bad_file, {"model.safetensors"});
  test::write_bytes(model / "pytorch_model.bin", "x");
  refuses(model, ErrorKind::unsupported, {"pytorch_model.bin"});
}

TEST(Checkpoint, RefusesTensorsThatContradictTheConfig) {
  const fs::path model = small_model("llama");
  const auto sound = tensors_of(model);
  auto tensors = sound;
  named(tensors, "model.norm.weight").name = "model.morn.weight";
  put(model, tensors);
  refuses(model, ErrorKind::bad_file, {"\"model.norm.weight\"", "missing"});

  tensors = sound;
  named(tensors, "model.layers.1.mlp.up_proj.weight").shape = {16, 24};
  put(model, tensors);
  refuses(model, ErrorKind::bad_file,
          {"\"model.layers.1.mlp.up_proj.weight\"", "[16, 24]", "[24, 16]"});

  tensors = sound;
  tensors.push_back({"model.layers.1.self_attn.sinks", "F32", {1}, test::floats({1})});
  put(model, tensors);
  refuses(model, ErrorKind::bad_file, {"\"model.layers.1.self_attn.sinks\"", "no place"});

  put(model, sound);
  test::set_field(model, "num_hidden_layers", "1");
  refuses(model, ErrorKind::bad_file, {"\"model.layers.1.", "1 layers"});
  test::set_field(model, "num_hidden_layers", "3");
  refuses(model, ErrorKind::bad_file, {"\"model.layers.2.", "missing"});
}

TEST(Checkpoint, IgnoresBuffersAndForeignHeads) {
  const fs::path model = small_model("qwen2");
  const Checkpoint before = Checkpoint::open(model);
  auto tensors = tensors_of(model);
  tensors.push_back(
      {"model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {2}, test::floats({1, 2})});
  tensors.push_back({"lm_head.weight", "F32", {1}, test::floats({1})});
  tensors.push_back({"score.weight", "I64", {1}, std::string(8, 'x')});
  put(model, tensors);
  const Checkpoint after = Checkpoint::open(model);
  EXPECT_EQ(after.parameters(), before.parameters());
  EXPECT_EQ(after.tensors().size(), before.tensors().size() + 3);
}

TEST(Checkpoint, ReadsFilesOfTheBareDecoder) {
  for (const auto& [family, prefix] :
       {std::pair("qwen2", "model."), std::pair("gpt2", "transformer.")}) {
    const fs::path model = small_model(family);
    const at::Tensor before = Checkpoint::open(model).read(Weight::k, 1);
    auto tensors = tensors_of(model);
    for (PlainTensor& tensor : tensors) tensor.name.erase(0, std::string(prefix).size());
    put(model, tensors);
    EXPECT_TRUE(at::equal(Checkpoint::open(model).read(Weight::k, 1), before)) << family;
  }
}

TEST(Checkpoint, SplitsAndTransposesTheFusedMatrixOfGpt2) {
  const fs::path model = small_model("gpt2");
  auto tensors = tensors_of(model);
  // The stored value at [input, output] says where it is.
  std::vector<float> fused;
  for (int input = 0; input < 16; ++input) {
    for (int output = 0; output < 48; ++output)
      fused.push_back(static_cast<float>(100 * input + output));
  }
  named(tensors, "transformer.h.1.attn.c_attn.weight").bytes = test::floats(fused);
  std::vector<float> bias;
  for (int output = 0; output < 48; ++output) bias.push_back(static_cast<float>(output));
  named(tensors, "transformer.h.1.attn.c_attn.bias").bytes = test::floats(bias);
  std::vector<float> up;
  for (int i = 0; i < 16 * 24; ++i) up.push_back(static_cast<float>(i));
  named(tensors, "transformer.h.1.mlp.c_fc.weight").bytes = test::floats(up);
  tensors.push_back({"transformer.h.1.attn.bias", "U8", {1, 1, 4, 4}, std::string(16, '\1')});
  put(model, tensors);

  const Checkpoint checkpoint = Checkpoint::open(model);
  const at::Tensor q = checkpoint.read(Weight::q, 1);
  const at::Tensor k = checkpoint.read(Weight::k, 1);
  const at::Tensor v = checkpoint.read(Weight::v, 1, at::kDouble);
  EXPECT_EQ(q[3][5].item<float>(), 503.0F);
  EXPECT_EQ(k[3][5].item<float>(), 519.0F);
  EXPECT_EQ(v[3][5].item<double>(), 535.0);
  EXPECT_EQ(checkpoint.read(Weight::k_bias, 1)[2].item<float>(), 18.0F);
  EXPECT_EQ(checkpoint.read(Weight::up, 1)[7][2].item<float>(), 2.0F * 24 + 7);
  EXPECT_EQ(checkpoint.read_rows(Weight::v, {3})[0][5].item<float>(),
            checkpoint.read(Weight::v)[3][5].item<float>());
}

TEST(Checkpoint, ReadsWhatIsAskedForAndNothingElse) {
  const Checkpoint checkpoint = Checkpoint::open(small_model("qwen3"));
  EXPECT_TRUE(checkpoint.has(Weight::q_norm, 1));
  EXPECT_FALSE(checkpoint.has(Weight::q_norm, 2));
  EXPECT_FALSE(checkpoint.has(Weight::q_norm, -1));
  EXPECT_FALSE(checkpoint.has(Weight::q_bias));
  EXPECT_FALSE(checkpoint.has(Weight::unembed));
  expect_error([&] { checkpoint.read(Weight::q_bias, 0); }, ErrorKind::bad_argument, {"L0.q_bias"});
  expect_error([&] { checkpoint.read(Weight::q, 2); }, ErrorKind::bad_argument, {"L2.q"});
  expect_error([&] { checkpoint.read(Weight::q, 0, at::kInt); }, ErrorKind::bad_argument,
               {"L0.q", "Int"});
  EXPECT_TRUE(at::equal(checkpoint.read(Weight::unembed), checkpoint.read(Weight::embed)));
}

TEST(Checkpoint, RowsEqualTheRowsOfTheWhole) {
  const Checkpoint checkpoint = Checkpoint::open(small_model("gpt2"));
  const std::vector<std::int64_t> rows = {10, 0, 3, 3};
  const at::Tensor index = at::tensor(rows);
  EXPECT_TRUE(at::equal(checkpoint.read_rows(Weight::embed, rows),
                        checkpoint.read(Weight::embed).index_select(0, index)));
  EXPECT_TRUE(at::equal(checkpoint.read_rows(Weight::pos_embed, rows, at::kDouble),
                        checkpoint.read(Weight::pos_embed, 0, at::kDouble).index_select(0, index)));
  EXPECT_TRUE(at::equal(checkpoint.read_rows(Weight::v, rows),
                        checkpoint.read(Weight::v).index_select(0, index)));
  EXPECT_EQ(checkpoint.read_rows(Weight::embed, {}).sizes(), (std::vector<std::int64_t>{0, 16}));
  expect_error([&] { checkpoint.read_rows(Weight::embed, {11}); }, ErrorKind::bad_argument,
               {"row 11", "embed", "11 rows"});
  expect_error([&] { checkpoint.read_rows(Weight::embed, {-1}); }, ErrorKind::bad_argument,
               {"row -1"});
  expect_error([&] { checkpoint.read_rows(Weight::final_norm, {0}); }, ErrorKind::bad_argument,
               {"final_norm"});
}

TEST(Checkpoint, NamesTheTensorAndPlaceOfANumberThatIsNotFinite) {
  const fs::path model = small_model("llama");
  auto tensors = tensors_of(model);
  const std::string nan = test::floats({std::numeric_limits<float>::quiet_NaN()});
  named(tensors, "model.layers.1.mlp.down_proj.weight").bytes.replace(4 * (24 * 3 + 7), 4, nan);
  named(tensors, "model.norm.weight")
      .bytes.replace(4 * 5, 4, test::floats({-std::numeric_limits<float>::infinity()}));
  named(tensors, "model.embed_tokens.weight").bytes.replace(4 * 16, 4, nan);
  put(model, tensors);
  const Checkpoint checkpoint = Checkpoint::open(model);
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    expect_error([&] { checkpoint.read(Weight::down, 1, dtype); }, ErrorKind::bad_file,
                 {model.string(), "\"model.layers.1.mlp.down_proj.weight\"", "nan", "[3, 7]"});
    expect_error([&] { checkpoint.read(Weight::final_norm, 0, dtype); }, ErrorKind::bad_file,
                 {"\"model.norm.weight\"", "-inf", "[5]"});
    expect_error(
        [&] {
          checkpoint.read_rows(Weight::embed, {4, 1}, dtype);
        },
        ErrorKind::bad_file, {"\"model.embed_tokens.weight\"", "[1, 0]"});
  }
  EXPECT_NO_THROW(checkpoint.read(Weight::down, 0));
  EXPECT_NO_THROW(checkpoint.read_rows(Weight::embed, {0, 2}));
}

TEST(Checkpoint, RefusesATypeItCannotReadWhenItIsAskedFor) {
  const fs::path model = small_model("llama");
  auto tensors = tensors_of(model);
  named(tensors, "model.norm.weight").dtype = "I32";
  put(model, tensors);
  const Checkpoint checkpoint = Checkpoint::open(model);
  EXPECT_NO_THROW(checkpoint.read(Weight::q, 0));
  expect_error([&] { checkpoint.read(Weight::final_norm); }, ErrorKind::unsupported,
               {"\"model.norm.weight\"", "I32"});
}

/// Splits model.safetensors into two shards with an index.
struct Sharded {
  fs::path directory = small_model("llama");
  std::vector<PlainTensor> first, second;
  nlohmann::json index = {{"metadata", {{"total_size", 1}}}};

  Sharded() {
    for (const PlainTensor& tensor : tensors_of(directory)) {
      (first.size() <= second.size() ? first : second).push_back(tensor);
    }
    for (const auto& tensor : first) index["weight_map"][tensor.name] = "model-1-of-2.safetensors";
    for (const auto& tensor : second) index["weight_map"][tensor.name] = "model-2-of-2.safetensors";
    fs::remove(directory / "model.safetensors");
  }
  void write() const {
    test::write_bytes(directory / "model-1-of-2.safetensors", test::safetensors(first));
    test::write_bytes(directory / "model-2-of-2.safetensors", test::safetensors(second));
    test::write_bytes(directory / "model.safetensors.index.json", index.dump());
  }
};

TEST(Shards, TogetherHoldTheWholeModel) {
  const Checkpoint whole = Checkpoint::open(small_model("llama"));
  const Sharded model;
  model.write();
  const Checkpoint sharded = Checkpoint::open(model.directory);
  EXPECT_EQ(sharded.parameters(), whole.parameters());
  EXPECT_EQ(sharded.tensors().size(), whole.tensors().size());
  for (const Weight weight : {Weight::q, Weight::down, Weight::ln2}) {
    EXPECT_TRUE(at::equal(sharded.read(weight, 1), whole.read(weight, 1)));
  }
}

TEST(Shards, MustAllBeThere) {
  const Sharded model;
  model.write();
  fs::remove(model.directory / "model-2-of-2.safetensors");
  refuses(model.directory, ErrorKind::bad_file, {"\"model-2-of-2.safetensors\"", "missing"});
}

TEST(Shards, MustHoldWhatTheIndexSays) {
  Sharded twice;
  twice.second.push_back(twice.first.front());
  twice.write();
  refuses(twice.directory, ErrorKind::bad_file,
          {twice.first.front().name, "model-2-of-2.safetensors", "model-1-of-2.safetensors"});
  Sharded unlisted;
  unlisted.second.push_back({"extra", "F32", {1}, test::floats({1})});
  unlisted.write();
  refuses(unlisted.directory, ErrorKind::bad_file, {"\"extra\"", "index does not name"});
  Sharded lacking;
  const std::string lost = lacking.first.back().name;
  lacking.first.pop_back();
  lacking.write();
  refuses(lacking.directory, ErrorKind::bad_file, {lost, "lacks"});
}

TEST(Shards, MustLieBesideTheIndex) {
  for (const char* shard : {"../model-1-of-2.safetensors", "/etc/passwd", "..", ""}) {
    Sharded model;
    model.index["weight_map"]["lm_head.weight"] = shard;
    model.write();
    refuses(model.directory, ErrorKind::bad_file, {"\"lm_head.weight\"", "file beside"});
  }
  Sharded model;
  model.index["weight_map"]["lm_head.weight"] = 3;
  model.write();
  refuses(model.directory, ErrorKind::bad_file, {"\"lm_head.weight\"", "string"});
  model.index["weight_map"] = nlohmann::json::object();
  model.write();
  refuses(model.directory, ErrorKind::bad_file, {"weight_map", "empty"});
  model.index.erase("weight_map");
  model.write();
  refuses(model.directory, ErrorKind::bad_file, {"weight_map", "missing"});
}

TEST(Checkpoint, HashIsWhatSha256sumWouldGive) {
  const fs::path model = small_model("mistral");
  const auto line = [&](const std::string& name) {
    const std::string bytes = test::read_bytes(model / name);
    return sha256_hex(bytes.data(), bytes.size()) + "  " + name + "\n";
  };
  const std::string lines = line("config.json") + line("model.safetensors");
  const Checkpoint checkpoint = Checkpoint::open(model);
  EXPECT_EQ(checkpoint.sha256(), sha256_hex(lines.data(), lines.size()));
  test::set_field(model, "sliding_window", "8");
  EXPECT_NE(Checkpoint::open(model).sha256(), checkpoint.sha256());
}

TEST(Checkpoint, TakesItsNameFromThePath) {
  const fs::path model = small_model("mistral");
  EXPECT_EQ(Checkpoint::open(model).name(), "mistral");
  EXPECT_EQ(Checkpoint::open(model / "").name(), "mistral");
  EXPECT_EQ(Checkpoint::open(model / ".." / "mistral").name(), "mistral");
}

TEST(Checkpoint, ManyThreadsReadTheSame) {
  const Checkpoint checkpoint = Checkpoint::open(small_model("llama"));
  const at::Tensor expected = checkpoint.read(Weight::q, 1);
  std::vector<std::thread> threads;
  std::vector<int> same(8, 0);
  std::vector<std::string> hashes(8);
  for (std::size_t i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const Checkpoint copy = checkpoint;
      same[i] = at::equal(copy.read(Weight::q, 1), expected) ? 1 : 0;
      hashes[i] = copy.sha256();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(same[i], 1);
    EXPECT_EQ(hashes[i], hashes[0]);
  }
}

TEST(Checkpoint, NoticesAFileShortenedSinceItWasOpened) {
  const fs::path model = small_model("llama");
  const Checkpoint checkpoint = Checkpoint::open(model);
  fs::resize_file(model / "model.safetensors", 4096);
  expect_error([&] { checkpoint.read(Weight::q, 1); }, ErrorKind::bad_file,
               {"changed while in use"});
}

TEST(Checkpoint, OpensStories260K) {
  const fs::path model = test::shared_dir() / "models/stories260K/derived-hf";
  if (!fs::exists(model)) GTEST_SKIP() << model;
  const Checkpoint checkpoint = Checkpoint::open(model);
  EXPECT_EQ(checkpoint.parameters(), 260032);
  EXPECT_EQ(checkpoint.tensors().size(), 47U);
  EXPECT_EQ(checkpoint.config().kv_heads, 4);
  EXPECT_EQ(checkpoint.config().d_head, 8);
  EXPECT_TRUE(checkpoint.config().tied);
  EXPECT_EQ(checkpoint.config().norm_eps, 1e-5);
}

}  // namespace
}  // namespace plumb
