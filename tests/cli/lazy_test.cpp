// Recording, and commands on a model of which only the first blocks are touched.
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/program.h"
#include "plumb/archive.h"
#include "support/paths.h"
#include "support/sparse_model.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

Json document(std::vector<std::string> arguments) {
  arguments.emplace_back("--json");
  const Outcome outcome = run_plumb(arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  Json json = Json::parse(outcome.out, nullptr, /*allow_exceptions=*/false);
  EXPECT_TRUE(json.is_object()) << outcome.out.substr(0, 200);
  return json;
}

void expect_refusal(const std::vector<std::string>& arguments, int code, const std::string& part) {
  const Outcome outcome = run_plumb(arguments);
  EXPECT_EQ(outcome.code, code) << outcome.err;
  EXPECT_TRUE(outcome.err.starts_with("plumb: error: ")) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
}

TEST(RecordCommand, WritesEverySiteThatWasAskedFor) {
  const fs::path out = scratch_dir() / "out";
  const Json json =
      document({"record", "planted", "--random", "6,12", "--sites", "L0-1.z[h=*;t=0], attn_out",
                "--sites", "logits", "--positions", "3,5-7", "--out", out.string()});
  EXPECT_EQ(json.at("command"), "record");
  EXPECT_EQ(json.at("inputs").at("sequences"), 6);
  EXPECT_EQ(json.at("sites").size(), 2U + 6U + 1U);
  EXPECT_EQ(json.at("sites").at(0).at("shape"), Json({6, 1, 4, 32}));
  EXPECT_EQ(json.at("sites").at(2).at("site"), "L0.attn_out[t=3,5-7]");
  const Archive archive(json.at("files").at("archive").get<std::string>());
  EXPECT_EQ(archive.tensor("/activations/L0.z").sizes(), (c10::IntArrayRef{6, 1, 4, 32}));
  EXPECT_EQ(archive.tensor("/activations/L5.attn_out").sizes(), (c10::IntArrayRef{6, 4, 128}));
  EXPECT_EQ(archive.tensor("/activations/logits").size(1), 4);
  EXPECT_EQ(archive.tensor("/inputs/tokens").sizes(), (c10::IntArrayRef{6, 12}));
}

TEST(RecordCommand, FewerLayersAndLessMemoryChangeNoBit) {
  const auto values = [](const std::vector<std::string>& flags) {
    const fs::path out = scratch_dir() / "out";
    std::vector<std::string> arguments = {"record",  "planted",         "--random", "40,50",
                                          "--sites", "L0-1.resid_post", "--out",    out.string()};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const Json json = document(arguments);
    return std::pair(Archive(out / "record.h5").tensor("/activations/L1.resid_post"), json);
  };
  const auto [expected, whole] = values({});
  const auto [came, part] = values({"--layers", "0-1", "--batch", "7", "--threads", "1"});
  EXPECT_TRUE(at::equal(came, expected));
  EXPECT_EQ(part.at("model").at("layers"), 6);
  EXPECT_EQ(part.at("model").at("loaded"), Json({0, 1}));
  EXPECT_TRUE(part.at("model").at("sha256").is_null());
  EXPECT_EQ(part.at("run").at("bytes_read"), whole.at("run").at("bytes_read"));
}

TEST(RecordCommand, SaysWhatIsMissing) {
  const std::string out = (scratch_dir() / "out").string();
  expect_refusal({"record", "planted", "--sites", "logits"}, 2, "needs --out DIR");
  expect_refusal({"record", "planted", "--out", out}, 2, "needs --sites");
  expect_refusal({"record", "planted", "--out", out, "--sites", "L9.z"}, 2, "layers 0-5");
  expect_refusal({"record", "planted", "--out", out, "--sites", "z", "--positions", "x"}, 2,
                 "--positions expects");
  expect_refusal({"record", "planted", "--out", out, "--sites", "z", "--store", "f8"}, 2,
                 "--store expects one of f32, f16, f64");
  expect_refusal({"record", "planted", "--layers", "0-1", "--out", out, "--sites", "logits",
                  "--random", "2,4"},
                 2, "layers 0-5, of which 0-1 were loaded");
  expect_refusal({"p0", "planted", "--layers", "0-1"}, 2, "plumb p0 needs every layer");
  expect_refusal({"sink", "planted", "--layers", "2-3"}, 2, "--layers begins with 0");
  expect_refusal({"sink", "planted", "--layers", "0-6"}, 2, "expected layers of 0-5, got 0-6");
}

TEST(RecordCommand, AnInterruptedRecordingCanBeRead) {
  const fs::path out = scratch_dir() / "out";
  Started started({"record", "planted", "--random", "2000,300", "--batch", "2", "--sites",
                   "resid_post", "--positions", "0-99", "--out", out.string()});
  while (!fs::exists(out / "record.h5.part") || fs::file_size(out / "record.h5.part") < 200'000) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const Outcome outcome = started.stop(SIGINT);
  EXPECT_EQ(outcome.code, 130) << outcome.err;
  const Archive archive(out / "record.h5");
  const at::Tensor kept = archive.tensor("/activations/L5.resid_post");
  EXPECT_GT(kept.size(0), 0);
  EXPECT_LT(kept.size(0), 2000);
  EXPECT_NE(outcome.err.find("holds the first " + std::to_string(kept.size(0)) + " of 2000"),
            std::string::npos)
      << outcome.err;
}

// What allocators keep back, and what no formula for the temporaries of a block foresees.
constexpr double slack_of_peak = 0.3;

TEST(RecordCommand, TakesTheMemoryThatWasForeseen) {
  for (const char* sites : {"pattern", "resid_post logits"}) {
    const std::vector<std::string> flags = {"planted", "--sites", sites, "--random", "48,300"};
    std::vector<std::string> plan = {"inspect", "--plan", "record"};
    plan.insert(plan.end(), flags.begin(), flags.end());
    std::vector<std::string> record = {"record", "--out", (scratch_dir() / "out").string()};
    record.insert(record.end(), flags.begin(), flags.end());
    const auto foreseen = document(plan).at("plan").at("peak_bytes").get<double>();
    const auto measured = document(record).at("run").at("peak_bytes").get<double>();
    EXPECT_NEAR(foreseen / measured, 1.0, slack_of_peak) << sites;
  }
}

// What is foreseen holds so much to spare, for the temporaries of two workers and what allocators
// keep back, whatever the model's size; this one's weights are 2 MB.
constexpr double margins_of_workers = 1e8;

TEST(PatchCommand, DoesAndTakesWhatWasForeseenInAnyMemory) {
  const fs::path out = scratch_dir();
  const fs::path pairs = out / "pairs.jsonl";
  std::ofstream(pairs)
      << "{\"clean\": [3, 5, 7, 9], \"corrupt\": [3, 6, 7, 9], \"answers\": [1, 2]}\n";
  const auto values = [&](std::vector<std::string> flags, const std::string& memory) {
    flags.insert(flags.begin(), {"planted", "--threads", "2", "--pairs", pairs.string()});
    if (!memory.empty()) flags.insert(flags.end(), {"--memory", memory});
    std::vector<std::string> plan = {"inspect", "--plan", "patch"};
    plan.insert(plan.end(), flags.begin(), flags.end());
    std::vector<std::string> run = {"patch", "--raw"};
    run.insert(run.end(), flags.begin(), flags.end());
    const Json foreseen = document(plan).at("plan");
    const Json json = document(run);
    EXPECT_EQ(foreseen.at("command"), "patch");
    EXPECT_EQ(foreseen.at("evaluations"), json.at("evaluations"));
    EXPECT_NEAR(foreseen.at("peak_bytes").get<double>(),
                json.at("run").at("peak_bytes").get<double>(), margins_of_workers);
    return json.at("sweeps");
  };
  for (const std::vector<std::string>& flags :
       {std::vector<std::string>{"--sweep", "z:layer,head", "--sweep", "mlp_out:layer,position"},
        std::vector<std::string>{"--paths", "z:layer,head", "--receivers", "L3.q", "--metric",
                                 "kl"}})
    EXPECT_EQ(values(flags, ""), values(flags, "2G"));
  expect_refusal(
      {"patch", "planted", "--pairs", pairs.string(), "--sweep", "z:layer,head", "--memory", "30M"},
      5, "0.03 GB of memory are too few, at least");
  expect_refusal({"inspect", "planted", "--plan", "patch"}, 2,
                 "plumb inspect --plan patch needs --pairs FILE");
  expect_refusal({"inspect", "planted", "--pairs", pairs.string()}, 2,
                 "--pairs belongs to --plan patch and --plan attribute");
}

TEST(AttributeCommand, DoesAndTakesWhatWasForeseen) {
  const fs::path out = scratch_dir();
  const fs::path pairs = out / "pairs.jsonl";
  std::ofstream file(pairs);
  for (int i = 0; i < 40; ++i)
    file << "{\"clean\": [3, 5, 7, 9, 4], \"corrupt\": [3, 6, 7, 9, 4], \"answers\": [1, 2]}\n";
  file.close();
  for (const std::vector<std::string>& own :
       {std::vector<std::string>{"--method", "eap"},
        std::vector<std::string>{"--method", "eap-ig", "--steps", "3", "--points", "trapezoid"},
        std::vector<std::string>{"--method", "eap-ig-activations", "--steps", "2", "--metric",
                                 "kl"},
        std::vector<std::string>{"--method", "eap-ig-activations", "--metric", "sink:2"},
        std::vector<std::string>{"--method", "clean-corrupted", "--by-position"}}) {
    SCOPED_TRACE(own[1]);
    std::vector<std::string> flags = {"planted", "--threads", "2", "--pairs", pairs.string()};
    flags.insert(flags.end(), own.begin(), own.end());
    std::vector<std::string> plan = {"inspect", "--plan", "attribute"};
    plan.insert(plan.end(), flags.begin(), flags.end());
    std::vector<std::string> run = {"attribute", "--top", "3"};
    run.insert(run.end(), flags.begin(), flags.end());
    const Json foreseen = document(plan).at("plan");
    const Json json = document(run);
    EXPECT_EQ(foreseen.at("command"), "attribute");
    EXPECT_EQ(foreseen.at("evaluations"), json.at("evaluations"));
    EXPECT_NEAR(foreseen.at("peak_bytes").get<double>(),
                json.at("run").at("peak_bytes").get<double>(), margins_of_workers);
  }
  expect_refusal({"inspect", "planted", "--plan", "attribute", "--pairs", pairs.string()}, 2,
                 "needs --pairs FILE and --method NAME");
  expect_refusal(
      {"inspect", "planted", "--plan", "attribute", "--pairs", pairs.string(), "--method", "exact"},
      4, "plan eap or eap-ig");
  expect_refusal({"inspect", "planted", "--method", "eap"}, 2, "--method belongs to");
}

// The estimate does not know how many sets will be tried: none where one component suffices.
constexpr double slack_of_search = 0.5;

TEST(P0Command, TakesAboutWhatWasForeseen) {
  const std::vector<std::string> flags = {"planted", "--random", "16,48"};
  std::vector<std::string> p0 = {"p0", "--out", (scratch_dir() / "out").string()};
  p0.insert(p0.end(), flags.begin(), flags.end());
  const Json found = document(p0);
  ASSERT_EQ(found.at("waves").size(), 1);
  const Json& wave = found.at("waves").at(0);
  std::vector<std::string> plan = {"inspect", "--plan", "p0", "--waves",
                                   std::to_string(wave.at("onset").get<int>()) + "-" +
                                       std::to_string(wave.at("last").get<int>())};
  plan.insert(plan.end(), flags.begin(), flags.end());
  const Json foreseen = document(plan).at("plan");
  EXPECT_NE(foreseen.at("assuming").get<std::string>().find("waves "), std::string::npos);
  EXPECT_NEAR(foreseen.at("evaluations").get<double>() / found.at("evaluations").get<double>(), 1.0,
              slack_of_search);
  EXPECT_NEAR(foreseen.at("peak_bytes").get<double>(),
              found.at("run").at("peak_bytes").get<double>(), margins_of_workers);
  plan[4] = "3-900";
  expect_refusal(plan, 2, "no range of the layers");
  plan[4] = "3";
  expect_refusal(plan, 2, "--waves expects FIRST-LAST");
  expect_refusal({"inspect", "planted", "--waves", "2-3"}, 2, "belong to --plan p0");
}

class GiantCommand : public testing::Test {
 protected:
  void SetUp() override {
    if (!write_llama_405b(directory_)) GTEST_SKIP() << "no files of 6 GB with holes here";
  }
  const fs::path directory_ = scratch_dir();
};

TEST_F(GiantCommand, IsInspectedWithoutReadingIt) {
  const Json json = document({"inspect", directory_.string()});
  EXPECT_EQ(json.at("parameters"), 405'853'388'800);
  EXPECT_EQ(json.at("bytes_per_block"), 4 * 3'187'703'808);
  EXPECT_EQ(json.at("parameters_by_part").at("embedding"), 128'256LL * 16'384);
  EXPECT_EQ(json.at("model").at("layers"), 126);
  EXPECT_EQ(json.at("run").at("bytes_read"), 0);
  // Headers and the program itself.
  EXPECT_LT(json.at("run").at("peak_bytes"), 1'000'000'000);
}

TEST_F(GiantCommand, TellsWhatTwoBlocksCost) {
  const Json json = document({"inspect", directory_.string(), "--layers", "0-1", "--plan", "record",
                              "--sites", "L1.resid_post", "--random", "4,32", "--memory", "20G"});
  const Json& plan = json.at("plan");
  EXPECT_EQ(plan.at("evaluations"), 4 * 32 * 2);
  EXPECT_EQ(plan.at("written_bytes"), 4LL * 32 * 16'384 * 4);
  EXPECT_GT(plan.at("weight_bytes"), 8 * 3'187'703'808);
  EXPECT_LE(plan.at("peak_bytes"), 20'000'000'000);
  EXPECT_EQ(json.at("run").at("bytes_read"), 0);
}

TEST_F(GiantCommand, EmbeddingsAreRecordedFromTheirRows) {
  const fs::path out = scratch_dir() / "out";
  const Json json = document({"record", directory_.string(), "--layers", "0-1", "--random", "4,32",
                              "--sites", "embed", "--out", out.string()});
  EXPECT_LE(json.at("run").at("bytes_read"), 4 * 32 * 16'384 * 2);
  EXPECT_LT(json.at("run").at("peak_bytes"), 1'000'000'000);
}

TEST_F(GiantCommand, MemoryThatHoldsNoWeightIsRefused) {
  expect_refusal({"record", directory_.string(), "--layers", "0-1", "--random", "4,32", "--sites",
                  "L1.z", "--memory", "2G", "--out", (scratch_dir() / "out").string()},
                 5, "2.00 GB of memory are too few: the largest weight takes 3.49 GB");
}

}  // namespace
}  // namespace plumb::test
