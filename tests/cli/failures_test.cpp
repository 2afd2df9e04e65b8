// Bad files and bad places: one clear line and the right exit code.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

#include "cli/program.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

/// Exit code as stated, one line of error that holds every one of the parts, nothing printed.
void expect_failure(const Outcome& outcome, int code, const std::vector<std::string>& parts) {
  EXPECT_EQ(outcome.code, code) << outcome.err;
  EXPECT_TRUE(outcome.err.starts_with("plumb: error: ")) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  for (const std::string& part : parts) {
    EXPECT_NE(outcome.err.find(part), std::string::npos) << part << " in " << outcome.err;
  }
  EXPECT_EQ(outcome.out, "");
}

fs::path file_with(const std::string& text) {
  const fs::path path = scratch_dir() / "file";
  std::ofstream(path) << text;
  return path;
}

/// A planted model's directory, to be damaged.
fs::path planted_directory() {
  const fs::path directory = scratch_dir() / "model";
  const Outcome made = run_plumb({"plant", "--out", directory.string()});
  EXPECT_EQ(made.code, 0) << made.err;
  return directory;
}

TEST(Failures, AModelThatIsNotThere) {
  expect_failure(run_plumb({"sink", "no/such/model"}), 3, {"no model 'no/such/model'"});
  expect_failure(run_plumb({"sink", "plated"}), 3, {"did you mean 'planted'?"});
  expect_failure(run_plumb({"sink", "planted:sideways"}), 2, {"sideways"});
  const fs::path empty = scratch_dir();
  expect_failure(run_plumb({"p0", "smollm2-135m", "--out", scratch_dir().string()},
                           {{"PLUMB_MODELS", empty.string()}}),
                 3, {"smollm2-135m", "data/models/get smollm2-135m"});
}

TEST(Failures, ATruncatedWeightFile) {
  const fs::path directory = planted_directory();
  const fs::path weights = directory / "model.safetensors";
  fs::resize_file(weights, fs::file_size(weights) / 2);
  expect_failure(run_plumb({"sink", directory.string()}), 3, {"model.safetensors"});
}

/// Changes the header of a safetensors file, or its bytes.
void change_weights(const fs::path& file,
                    const std::function<void(nlohmann::json& header, std::string& data)>& change) {
  std::ifstream in(file, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  in.close();
  std::uint64_t size = 0;
  std::memcpy(&size, bytes.data(), sizeof size);
  nlohmann::json header = nlohmann::json::parse(bytes.substr(sizeof size, size));
  std::string data = bytes.substr(sizeof size + size);
  change(header, data);
  const std::string text = header.dump();
  size = text.size();
  std::ofstream out(file, std::ios::binary);
  out.write(reinterpret_cast<const char*>(&size), sizeof size);
  out << text << data;
}

constexpr const char* damaged = "model.layers.1.self_attn.q_proj.weight";

TEST(Failures, AMissingShard) {
  const fs::path directory = scratch_dir() / "sharded";
  const Outcome made =
      run_plumb({"convert", "planted", "--out", directory.string(), "--shard-size", "100K"});
  ASSERT_EQ(made.code, 0) << made.err;
  fs::path shard;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().filename().string().starts_with("model-00002-of-")) shard = entry.path();
  }
  ASSERT_FALSE(shard.empty());
  fs::remove(shard);
  for (const char* command : {"sink", "inspect"}) {
    expect_failure(run_plumb({command, directory.string()}), 3,
                   {"model.safetensors.index.json", shard.filename().string(), "missing"});
  }
}

TEST(Failures, AWeightOfAnotherShape) {
  const fs::path directory = planted_directory();
  change_weights(directory / "model.safetensors", [](nlohmann::json& header, std::string&) {
    auto& shape = header.at(damaged).at("shape");
    const auto elements = shape[0].get<std::int64_t>() * shape[1].get<std::int64_t>();
    shape = {2, elements / 2};
  });
  for (const char* command : {"sink", "inspect"}) {
    expect_failure(run_plumb({command, directory.string()}), 3, {damaged, "[2, ", "config says"});
  }
}

TEST(Failures, AWeightThatIsNotANumberIsNamedWithItsLayer) {
  for (const float wrong : {std::nanf(""), -std::numeric_limits<float>::infinity()}) {
    const fs::path directory = planted_directory();
    change_weights(directory / "model.safetensors", [&](nlohmann::json& header, std::string& data) {
      ASSERT_EQ(header.at(damaged).at("dtype"), "F32");
      const auto begin = header.at(damaged).at("data_offsets").at(0).get<std::size_t>();
      std::memcpy(data.data() + begin + 3 * sizeof wrong, &wrong, sizeof wrong);
    });
    for (const std::string dtype : {"f32", "f64", "bf16"}) {
      expect_failure(run_plumb({"sink", directory.string(), "--random", "2,8", "--dtype", dtype}),
                     3, {damaged, std::isnan(wrong) ? "nan" : "-inf", "[0, 3] of L1.q"});
    }
    fs::remove_all(directory);
  }
}

TEST(Failures, AWeightOfAnUnknownType) {
  const auto fails = [](const std::string& dtype, int code) {
    const fs::path directory = planted_directory();
    change_weights(directory / "model.safetensors", [&](nlohmann::json& header, std::string&) {
      header.at(damaged).at("dtype") = dtype;
    });
    expect_failure(run_plumb({"sink", directory.string(), "--random", "2,8"}), code,
                   {damaged, dtype});
    fs::remove_all(directory);
  };
  fails("I32", 4);  // known, but no weights
  fails("Z32", 4);
}

TEST(Failures, AnUnknownModelType) {
  const fs::path directory = planted_directory();
  std::ofstream(directory / "config.json") << R"({"model_type": "perceptron"})";
  expect_failure(run_plumb({"sink", directory.string()}), 4, {"perceptron"});
}

TEST(Failures, AModelWithoutATokenizerNeedsIds) {
  const fs::path directory = planted_directory();
  fs::remove(directory / "tokenizer.json");
  expect_failure(run_plumb({"sink", directory.string()}), 3, {"--tokens or --random"});
  EXPECT_EQ(run_plumb({"sink", directory.string(), "--random", "2,8"}).code, 0);
}

TEST(Failures, TextsThatAreNot) {
  expect_failure(run_plumb({"sink", "planted", "--text", ""}), 2, {"text"});
  expect_failure(run_plumb({"sink", "planted", "--text-file", "no/such/file"}), 3,
                 {"no/such/file"});
  expect_failure(run_plumb({"sink", "planted", "--text-file", file_with("\n\n").string()}), 3, {});
  expect_failure(run_plumb({"sink", "planted", "--text", "a"}), 2, {"one token"});
}

TEST(Failures, TokenFilesThatAreNot) {
  const auto sink = [](const std::string& tokens) {
    return run_plumb({"sink", "planted", "--tokens", file_with(tokens).string()});
  };
  expect_failure(sink("[[1, 2, 3"), 3, {});
  expect_failure(sink(R"([[1, "two", 3]])"), 3, {});
  expect_failure(sink(R"({"tokens": 1})"), 3, {});
  expect_failure(sink("[[1, 2], []]"), 3, {});
  expect_failure(sink("[[1, 2], [3, 257]]"), 2, {"257", "sequence 1, position 1"});
  expect_failure(run_plumb({"sink", "planted", "--random", "2,4", "--bos", "257"}), 2, {"257"});
  expect_failure(run_plumb({"sink", "planted", "--random", "2,4", "--bos", "maybe"}), 2, {"maybe"});
}

TEST(Failures, APlaceThatCannotBeWrittenIsFoundBeforeTheWork) {
  const fs::path file = file_with("in the way");
  const std::string below = (file / "out").string();
  expect_failure(run_plumb({"p0", "planted", "--out", below}), 3, {below});
  expect_failure(run_plumb({"sink", "planted", "--out", below}), 3, {below});
  expect_failure(run_plumb({"plant", "--out", below}), 3, {below});
}

TEST(Failures, AFullDiskIsReported) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "/dev/full";
  const Outcome outcome =
      run_plumb({"sink", "planted", "--random", "2,8", "--json"}, {}, "/dev/full");
  expect_failure(outcome, 3, {"standard output", "No space left on device"});
}

TEST(Failures, CudaIsRefusedWhereThereIsNone) {
  if (fs::exists("/dev/nvidiactl")) GTEST_SKIP() << "there is a CUDA device here";
  expect_failure(run_plumb({"sink", "planted", "--device", "cuda", "--random", "2,8"}), 4,
                 {"cuda"});
}

}  // namespace
}  // namespace plumb::test
