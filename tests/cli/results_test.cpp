// What the commands print and write on planted models, whose truth is known.
#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/program.h"
#include "plumb/archive.h"
#include "plumb/version.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

Json document(const std::vector<std::string>& arguments) {
  const Outcome outcome = run_plumb(arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  Json json = Json::parse(outcome.out, nullptr, /*allow_exceptions=*/false);
  EXPECT_TRUE(json.is_object()) << outcome.out.substr(0, 200);
  return json;
}

std::string first_lines(const std::string& text, int count) {
  std::size_t end = 0;
  for (int i = 0; i < count && end != std::string::npos; ++i) end = text.find('\n', end + 1);
  return text.substr(0, end);
}

/// The keys that every document promises.
void expect_frame(const Json& json, const std::string& command) {
  EXPECT_EQ(json.at("plumb"), version());
  EXPECT_EQ(json.at("command"), command);
  const Json& model = json.at("model");
  EXPECT_EQ(model.at("name"), "planted-positional-0");
  EXPECT_EQ(model.at("sha256").get<std::string>().size(), 64U);
  for (const char* key : {"family", "layers", "heads", "kv_heads", "d_model", "vocab"}) {
    EXPECT_TRUE(model.contains(key)) << key;
  }
  EXPECT_TRUE(json.at("conventions").is_object());
  EXPECT_TRUE(json.at("files").is_object());
}

void expect_inputs(const Json& inputs, int sequences, int length) {
  EXPECT_EQ(inputs.at("sequences"), sequences);
  EXPECT_EQ(inputs.at("length"), length);
  EXPECT_TRUE(inputs.at("bos").is_null());
  EXPECT_EQ(inputs.at("sha256").get<std::string>().size(), 64U);
}

TEST(Results, InspectPrintsTheSameEveryTime) {
  const Outcome outcome = run_plumb({"inspect", "planted", "--quiet"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "");
  EXPECT_EQ(first_lines(outcome.out, 1),
            std::string("plumb ") + version() +
                " inspect: planted-positional-0 (llama, 6 layers of 4 heads, width 128)");
  EXPECT_NE(outcome.out.find("4 query heads, 2 key heads of width 32"), std::string::npos);
  EXPECT_EQ(outcome.out, run_plumb({"inspect", "planted", "--quiet"}).out);
}

TEST(Results, InspectKeepsItsContract) {
  const Json json = document({"inspect", "planted", "--json"});
  expect_frame(json, "inspect");
  EXPECT_GT(json.at("parameters").get<std::int64_t>(), 0);
  EXPECT_GT(json.at("bytes_per_block").get<std::int64_t>(), 0);
  EXPECT_EQ(json.at("tokenizer").at("size"), 257);
  EXPECT_EQ(json.at("sites").at(0).at("name"), "embed");
}

TEST(Results, ConvertWritesAModelThatIsTheSame) {
  const fs::path out = scratch_dir() / "converted";
  const Json json = document({"convert", "planted", "--out", out.string(), "--json"});
  expect_frame(json, "convert");
  EXPECT_EQ(json.at("rounded"), 0);
  EXPECT_EQ(json.at("tokenizer"), true);
  EXPECT_EQ(json.at("written").size(), 4U);
  const Json again = document({"inspect", out.string(), "--json"});
  EXPECT_EQ(again.at("parameters"), json.at("parameters"));
  EXPECT_EQ(again.at("tokenizer").at("size"), 257);

  const Outcome twice = run_plumb({"convert", "planted", "--out", out.string(), "--quiet"});
  EXPECT_EQ(twice.code, 2);
  EXPECT_NE(twice.err.find("already; convert into a directory without a model"), std::string::npos)
      << twice.err;
}

TEST(Results, SinkKeepsItsContractAndSeesThePlantedSink) {
  const Json json = document({"sink", "planted", "--random", "4,32", "--json", "--threads", "1"});
  expect_frame(json, "sink");
  expect_inputs(json.at("inputs"), 4, 32);
  const Json& sink = json.at("sink");
  ASSERT_EQ(sink.at("mean").size(), 6U);
  EXPECT_EQ(sink.at("mean").at(0).size(), 4U);
  EXPECT_EQ(sink.at("rate").size(), 6U);
  EXPECT_EQ(sink.at("epsilon"), 0.3);
  EXPECT_EQ(sink.at("queries"), "no_self");
  EXPECT_EQ(sink.at("pool"), "per_sample");
  ASSERT_EQ(json.at("norm").at("index").size(), 13U);
  EXPECT_EQ(json.at("norm").at("index").at(1), 0.5);
  EXPECT_EQ(json.at("norm").at("p0").size(), 13U);
  EXPECT_EQ(json.at("norm").at("median").size(), 13U);
  EXPECT_GT(json.at("loss").get<double>(), 0.0);
  ASSERT_EQ(json.at("waves").size(), 1U);
  EXPECT_EQ(json.at("waves").at(0).at("onset"), 2);  // the layer after the planted write
  EXPECT_EQ(json.at("waves").at(0).at("last"), 5);
}

TEST(Results, SinkIsNotSeenWhereNoneWasPlanted) {
  for (const char* model : {"planted:none", "planted:norm_only", "planted:token"}) {
    const Json json = document({"sink", model, "--random", "4,32", "--json"});
    EXPECT_TRUE(json.at("waves").empty()) << model;
  }
  const Json token =
      document({"sink", "planted:token", "--random", "4,32", "--bos", "256", "--json"});
  EXPECT_EQ(token.at("waves").size(), 1U);
  EXPECT_EQ(token.at("inputs").at("bos"), 256);
}

TEST(Results, SinkWritesWhatItPrints) {
  const fs::path out = scratch_dir() / "made" / "here";
  const Outcome outcome =
      run_plumb({"sink", "planted", "--random", "4,16", "--out", out.string(), "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::ifstream file(out / "sink.json");
  const std::string written{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(written, outcome.out);
  const Archive archive(out / "sink.h5");
  EXPECT_TRUE(archive.has("/inputs/tokens"));
  EXPECT_EQ(archive.tensor("/sink/none/mean").sizes(), at::IntArrayRef({6, 4}));
  EXPECT_EQ(archive.attribute("/provenance", "command"), "sink");
}

TEST(Results, FlagsMayStandBeforeTheCommand) {
  const Json json = document({"--json", "--seed", "3", "sink", "planted", "--random", "2,8"});
  EXPECT_EQ(json.at("model").at("name"), "planted-positional-3");
}

TEST(Results, ThreadsDoNotChangeTheNumbers) {
  const std::vector<std::string> line = {"sink", "planted", "--random", "4,32", "--json"};
  auto one = line;
  auto two = line;
  one.insert(one.end(), {"--threads", "1"});
  two.insert(two.end(), {"--threads", "2"});
  EXPECT_EQ(document(one).at("sink"), document(two).at("sink"));
}

TEST(Results, P0FindsThePlantedCircuitAndWritesEverything) {
  const fs::path out = scratch_dir() / "p0";
  const Json json =
      document({"p0", "planted", "--random", "12,48", "--out", out.string(), "--json",
                "--causal-length", "48", "--causal-sequences", "8", "--self-mask-position", "20"});
  expect_frame(json, "p0");
  expect_inputs(json.at("inputs"), 12, 48);
  EXPECT_EQ(json.at("verdict"), "positional");
  ASSERT_EQ(json.at("waves").size(), 1U);
  const Json& wave = json.at("waves").at(0);
  EXPECT_EQ(wave.at("onset"), 2);
  EXPECT_EQ(wave.at("last"), 5);
  EXPECT_EQ(wave.at("verdict"), "positional");
  EXPECT_FALSE(wave.at("blocks").empty());
  ASSERT_FALSE(wave.at("ladder").empty());
  for (const Json& rung : wave.at("ladder")) {
    EXPECT_TRUE(rung.at("level").get<std::string>().starts_with("L"));
    EXPECT_TRUE(rung.contains("value") && rung.contains("null"));
    EXPECT_EQ(rung.at("interval").size(), 2U);
    const std::string holds = rung.at("holds");
    EXPECT_TRUE(holds == "yes" || holds == "no" || holds == "untested") << holds;
  }
  EXPECT_FALSE(json.at("circuit").at("nodes").empty());
  EXPECT_FALSE(json.at("circuit").at("edges").empty());
  for (const char* name : {"p0.h5", "p0.json", "p0.txt", "p0.dot"}) {
    EXPECT_TRUE(fs::exists(out / name)) << name;
  }
  const Archive archive(out / "p0.h5");
  for (const char* path : {"/inputs/tokens", "/p0/wave1/direction", "/p0/wave1/knockouts/removed",
                           "/p0/wave1/ledger/components/p0", "/p0/wave1/ladder/value",
                           "/circuit/nodes/name", "/circuit/edges/score"}) {
    EXPECT_TRUE(archive.has(path)) << path;
  }
}

TEST(Results, P0SaysWhereThereIsNoCircuit) {
  const fs::path out = scratch_dir();
  const Json json = document({"p0", "planted:none", "--random", "8,48", "--out", out.string(),
                              "--json", "--causal-length", "48"});
  EXPECT_EQ(json.at("verdict"), "none");
  EXPECT_TRUE(json.at("waves").empty());
}

TEST(Results, PatchKeepsItsContract) {
  const fs::path out = scratch_dir();
  const fs::path pairs = out / "pairs.jsonl";
  std::ofstream(pairs)
      << "{\"clean\": [3, 5, 7, 9], \"corrupt\": [3, 6, 7, 9], \"answers\": [1, 2]}\n"
      << "{\"clean\": [4, 5, 8], \"corrupt\": [4, 6, 8], \"answers\": [2, 1]}\n";
  const Json json = document({"patch", "planted", "--pairs", pairs.string(), "--sweep",
                              "resid_pre:layer,position", "--sweep", "z:layer,head", "--dtype",
                              "f64", "--json", "--out", out.string()});
  expect_frame(json, "patch");
  EXPECT_EQ(json.at("inputs").at("sequences"), 2);
  EXPECT_EQ(json.at("inputs").at("length"), 4);
  EXPECT_TRUE(json.at("metric").at("clean").is_number());
  EXPECT_TRUE(json.at("metric").at("corrupt").is_number());
  const Json& sweeps = json.at("sweeps");
  ASSERT_EQ(sweeps.size(), 2U);
  EXPECT_EQ(sweeps[0].at("site"), "resid_pre");
  EXPECT_EQ(sweeps[0].at("axes"), Json::array({"layer", "position"}));
  const auto layers = json.at("model").at("layers").get<std::size_t>();
  ASSERT_EQ(sweeps[0].at("values").size(), layers);
  ASSERT_EQ(sweeps[0].at("values")[0].size(), 4U);
  // The one token that differs, pasted where it enters, gives the clean run.
  EXPECT_NEAR(sweeps[0].at("values")[0][1].get<double>(), 1.0, 1e-9);
  EXPECT_NEAR(sweeps[0].at("values")[0][0].get<double>(), 0.0, 1e-9);
  EXPECT_EQ(sweeps[1].at("values")[0].size(), json.at("model").at("heads").get<std::size_t>());
  const Archive archive(out / "patch.h5");
  EXPECT_EQ(archive.tensor("/sweep/z_layer_head/each").dim(), 3);
  EXPECT_TRUE(fs::exists(out / "patch.txt"));
  EXPECT_TRUE(fs::exists(out / "patch.svg"));

  EXPECT_EQ(run_plumb({"patch", "planted", "--sweep", "z:layer"}).code, 2);
  EXPECT_EQ(run_plumb({"patch", "planted", "--pairs", pairs.string()}).code, 2);
  EXPECT_EQ(run_plumb({"patch", "planted", "--pairs", pairs.string(), "--sweep", "z:up"}).code, 2);
  EXPECT_EQ(run_plumb({"patch", "planted", "--pairs", "/nowhere", "--sweep", "z:layer"}).code, 3);
}

TEST(Results, AttributeKeepsItsContract) {
  const fs::path out = scratch_dir();
  const fs::path pairs = out / "pairs.jsonl";
  std::ofstream(pairs) << R"({"clean": [1, 2, 3, 4], "corrupt": [1, 7, 3, 4], "answers": [5, 6]})"
                       << "\n"
                       << R"({"clean": [4, 3, 2], "corrupt": [4, 9, 2], "answers": [8, 5]})"
                       << "\n";
  const std::vector<std::string> call = {"attribute", "planted", "--pairs", pairs.string(),
                                         "--quiet"};
  const auto with = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), call.begin(), call.end());
    return flags;
  };
  const Json json = document(with({"--method", "eap-ig", "--steps", "2", "--check", "6",
                                   "--by-position", "--json", "--out", out.string()}));
  expect_frame(json, "attribute");
  expect_inputs(json.at("inputs"), 2, 4);
  EXPECT_EQ(json.at("method"), "eap-ig");
  EXPECT_TRUE(json.at("conventions").at("score").get<std::string>().find("positive = ") !=
              std::string::npos);
  const Json& edges = json.at("edges");
  EXPECT_EQ(json.at("total").at("edges"), edges.size());
  double sum = 0.0;
  double last = INFINITY;
  for (const Json& edge : edges) {
    const double size = std::abs(edge.at(1).get<double>());
    EXPECT_NE(edge.at(0).get<std::string>().find("->"), std::string::npos);
    EXPECT_LE(size, last);
    last = size;
    sum += size;
  }
  EXPECT_NEAR(json.at("total").at("abs_sum").get<double>(), sum, 1e-9 * sum);
  EXPECT_EQ(json.at("agreement").at("edges"), 6);
  const Archive archive(out / "attribute.h5");
  const at::Tensor scores = archive.tensor("/attribution/scores");
  ASSERT_EQ(scores.dim(), 2);
  EXPECT_EQ(scores.size(0), 4);
  EXPECT_EQ(scores.size(1), static_cast<std::int64_t>(edges.size()));
  EXPECT_EQ(archive.strings("/attribution/senders").front(), "input");
  EXPECT_TRUE(fs::exists(out / "attribute.txt"));

  const std::string best = edges.at(0).at(0);
  const Json one = document(with({"--method", "exact", "--edges", best, "--json"}));
  ASSERT_EQ(one.at("edges").size(), 1U);
  EXPECT_EQ(one.at("edges").at(0).at(0), best);
  EXPECT_EQ(document(with({"--method", "direct", "--top", "3", "--json"})).at("edges").size(), 3U);
  const Json some = document(with(
      {"--method", "direct", "--edges", "*->logits", "--sample", "4", "--seed", "3", "--json"}));
  ASSERT_EQ(some.at("edges").size(), 4U);
  EXPECT_TRUE(some.at("edges").at(3).at(0).get<std::string>().ends_with("->logits"));
  const Json stable = document(with({"--method", "eap", "--stability", "5", "--json"}));
  EXPECT_EQ(stable.at("stability").at("top"), 5);
  EXPECT_GT(stable.at("stability").at("jaccard"), 0.0);
  EXPECT_LE(stable.at("stability").at("jaccard"), 1.0);
  EXPECT_EQ(run_plumb(with({"--method", "eap", "--stability", "99999999"})).code, 2);
  EXPECT_EQ(run_plumb(with({"--method", "eap", "--sample", "4"})).code, 2);
  EXPECT_EQ(run_plumb(with({"--method", "exact", "--resume"})).code, 2);
  EXPECT_EQ(run_plumb(with({"--method", "eap", "--metric", "rank"})).code, 2);
  EXPECT_EQ(run_plumb(with({"--method", "eapp"})).code, 2);
  EXPECT_EQ(run_plumb(with({"--method", "exact", "--edges", "m9->m1"})).code, 2);
  EXPECT_EQ(run_plumb(with({})).code, 2);
}

TEST(Results, PatchAblatesSetsPathsAndMadePairs) {
  const fs::path out = scratch_dir();
  const fs::path pairs = out / "pairs.jsonl";
  const Outcome made = run_plumb({"pairs", "induction", "planted", "-n", "3", "--length", "4"});
  ASSERT_EQ(made.code, 0) << made.err;
  std::ofstream(pairs) << made.out;
  const Json ablated =
      document({"patch",       "planted",    "--pairs",     pairs.string(),
                "--sweep",     "every-head", "--set",       "L0-1.z[h=*;t=0] L1.mlp_out",
                "--ablate",    "mean-batch", "--with",      "L0.z[h=0]=scale:0.5",
                "--direction", "noising",    "--intervals", "--dtype",
                "f64",         "--json",     "--out",       out.string()});
  ASSERT_EQ(ablated.at("sweeps").size(), 6U);
  const Json& sets = ablated.at("sweeps").at(5);
  EXPECT_TRUE(sets.at("site").is_null());
  EXPECT_EQ(sets.at("axes"), Json::array({"set"}));
  EXPECT_EQ(sets.at("values").size(), 1U);
  EXPECT_LE(sets.at("low").at(0), sets.at("high").at(0));
  EXPECT_EQ(sets.at("each").at(0).size(), 3U);
  EXPECT_EQ(ablated.at("ablation"), "mean-batch");
  EXPECT_EQ(ablated.at("with"), "L0.z[h=0]=scale:0.5");
  EXPECT_EQ(Archive(out / "patch.h5").tensor("/sweep/sets/each").dim(), 2);

  const Json paths =
      document({"patch", "planted", "--pairs", pairs.string(), "--paths", "z:layer,head", "--paths",
                "embed[t=1]", "--receivers", "L1.q[h=0] L1.mlp_in", "--via", "L0.mlp_in", "--mlps",
                "recomputed", "--raw", "--json"});
  EXPECT_EQ(paths.at("sweeps").size(), 2U);
  EXPECT_EQ(paths.at("paths").at("receivers"), "L1.q[h=0] L1.mlp_in");
  EXPECT_EQ(paths.at("paths").at("via"), Json::array({"L0.mlp_in"}));

  // Prompts by themselves, and a metric inside the model.
  std::ofstream(out / "prompts.jsonl") << "{\"clean\": [3, 5, 7]}\n{\"clean\": [4, 6, 7]}\n";
  const Json sink =
      document({"patch", "planted", "--pairs", (out / "prompts.jsonl").string(), "--sweep",
                "mlp_out:layer", "--ablate", "zero", "--metric", "sink:2", "--json"});
  EXPECT_EQ(sink.at("inputs").at("kind"), "prompts");
  EXPECT_EQ(sink.at("sweeps").at(0).at("values").back(), 0.0);  // behind the metric

  const auto refused = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"patch", "planted", "--pairs", pairs.string()});
    return run_plumb(flags).code;
  };
  EXPECT_EQ(refused({"--sweep", "z:layer", "--ablate", "twice"}), 2);
  EXPECT_EQ(refused({"--sweep", "z:layer", "--paths", "z:layer", "--receivers", "logits"}), 2);
  EXPECT_EQ(refused({"--paths", "z:layer"}), 2);
  EXPECT_EQ(refused({"--set", "L0.z[h=99]"}), 2);
  EXPECT_EQ(refused({"--sweep", "z:layer", "--with", "L0.z"}), 2);
  EXPECT_EQ(refused({"--sweep", "z:layer", "--ablate", "add:/nowhere.json"}), 3);
  EXPECT_EQ(run_plumb({"pairs", "planted"}).code, 2);
  EXPECT_EQ(run_plumb({"pairs"}).code, 2);
}

TEST(Results, ASignalEndsTheRunWithOneLineAndLosesNothingFound) {
  const fs::path out = scratch_dir() / "results";
  Started job({"p0", "planted", "--out", out.string(), "--threads", "1"});
  // The directory is made once signals are caught. The rest takes longer than the pause, so that
  // the signal meets the run before its end: before or after the first finding, as fast as the
  // machine is.
  for (int i = 0; i < 600 && !fs::exists(out); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const Outcome outcome = job.stop(SIGINT);
  EXPECT_EQ(outcome.code, 130) << outcome.err;
  if (!fs::exists(out / "p0.json")) {
    EXPECT_EQ(outcome.err, "plumb: error: interrupted; nothing was saved\n");
    return;
  }
  EXPECT_EQ(outcome.err,
            "plumb: error: interrupted; what was found by then is in " + out.string() + "\n");
  std::ifstream file(out / "p0.json");
  const Json json = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json.at("complete"), false);
  EXPECT_TRUE(json.at("verdict").is_null());
  EXPECT_EQ(Archive(out / "p0.h5").attribute("/p0", "complete"), "0");
}

}  // namespace
}  // namespace plumb::test
