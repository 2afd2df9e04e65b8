// plumb circuit, as a user's shell runs it.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/program.h"
#include "plumb/circuit_files.h"
#include "plumb/edge_circuit.h"
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

void expect_refusal(const std::vector<std::string>& arguments, int code, const std::string& part) {
  const Outcome outcome = run_plumb(arguments);
  EXPECT_EQ(outcome.code, code) << outcome.err;
  EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
}

/// Scores of a model of these sizes, in plumb's own file.
fs::path scores_file(const fs::path& path, const EdgeSpace& space) {
  EdgeCircuit made = empty_circuit(space);
  for (std::size_t edge = 0; edge < made.scores.size(); ++edge)
    made.scores[edge] = static_cast<double>((edge * 7919) % 1009) / 500.0 - 1.0;
  write_circuit(made, path, format_of(path));
  return path;
}

TEST(CircuitProgram, PrunesConvertsComparesAndListsPaths) {
  const fs::path dir = scratch_dir();
  const std::string scores = scores_file(dir / "scores.json", EdgeSpace(3, 4, 2)).string();
  const std::string top = (dir / "top.json").string();
  const Json made = document({"circuit", "prune", scores, "--top", "60", "--to", top, "--json"});
  const EdgeCircuit circuit = read_circuit(top);
  EXPECT_EQ(circuit.in, pruned(top_edges(read_circuit(scores), 60, true)).in);
  EXPECT_EQ(made.at("edges"), count_edges(circuit));
  EXPECT_EQ(made.at("files").at("circuit"), top);
  for (const char* name : {"c.safetensors", "c.graphml", "c.h5", "eap.json"}) {
    const std::string file = (dir / name).string();
    std::vector<std::string> call = {"circuit", "convert", top, "--to", file};
    if (std::string(name) == "eap.json") call.insert(call.end(), {"--format", "eap-ig"});
    const Outcome outcome = run_plumb(call);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    const EdgeCircuit back = read_circuit(file);
    EXPECT_EQ(back.in, circuit.in) << name;
    EXPECT_EQ(back.scores, circuit.scores) << name;
  }
  const Json alike =
      document({"circuit", "compare", top, (dir / "c.h5").string(), scores, "--json"});
  ASSERT_EQ(alike.at("comparisons").size(), 3U);
  EXPECT_EQ(alike.at("comparisons")[0].at("jaccard"), 1.0);
  EXPECT_EQ(alike.at("comparisons")[1].at("both"), 0);
  const Json paths = document({"circuit", "paths", top, "--count", "3", "--json"});
  EXPECT_EQ(paths.at("paths").size(), 3U);
  EXPECT_GT(paths.at("paths")[0].at("share"), 0.0);
  EXPECT_NE(run_plumb({"circuit", "paths", top}).out.find("input -> "), std::string::npos);
  const Outcome drawn = run_plumb({"circuit", "draw", top, "--to", (dir / "c.dot").string()});
  EXPECT_EQ(drawn.code, 0) << drawn.err;
  EXPECT_EQ(count_edges(read_circuit(dir / "c.dot")), count_edges(circuit));
}

TEST(CircuitProgram, EvaluatesCircuitsAndCurves) {
  const fs::path dir = scratch_dir();
  const Json model = document({"inspect", "planted", "--json"}).at("model");
  const EdgeSpace space(model.at("layers"), model.at("heads"), model.at("kv_heads"));
  const std::string scores = scores_file(dir / "scores.json", space).string();
  const std::string whole = (dir / "whole.json").string();
  write_circuit(full_circuit(space), whole, CircuitFormat::eap_ig);
  const std::string pairs = (dir / "pairs.jsonl").string();
  std::ofstream(pairs) << R"({"clean": [1, 2, 3, 4], "corrupt": [1, 5, 3, 4], "answers": [2, 7]})"
                       << "\n"
                       << R"({"clean": [8, 2, 3, 6], "corrupt": [8, 9, 3, 6], "answers": [3, 1]})"
                       << "\n";
  const Json json = document({"circuit", "evaluate", "planted", "--circuit", whole, "--circuit",
                              scores, "--pairs", pairs, "--completeness", "--out",
                              (dir / "out").string(), "--json", "--quiet"});
  EXPECT_EQ(json.at("command"), "circuit evaluate");
  ASSERT_EQ(json.at("circuits").size(), 2U);
  EXPECT_EQ(json.at("circuits")[0].at("faithfulness").at("mean"), 1.0);
  EXPECT_EQ(json.at("circuits")[0].at("edges"), space.edges());
  EXPECT_EQ(json.at("circuits")[1].at("faithfulness").at("mean"), 0.0);
  EXPECT_EQ(json.at("circuits")[1].at("edges"), 0);
  EXPECT_TRUE(fs::exists(dir / "out" / "circuit.txt"));
  const std::vector<std::string> call = {"circuit",     "evaluate", "planted",     "--circuit",
                                         scores,        "--pairs",  pairs,         "--curve",
                                         "--baselines", "1",        "--fractions", "0.1,0.5,1",
                                         "--outside",   "zero",     "--json",      "--quiet"};
  const Json curve = document(call);
  ASSERT_EQ(curve.at("curves").size(), 5U);
  EXPECT_EQ(curve.at("curves")[0].at("points").size(), 3U);
  EXPECT_EQ(curve.at("curves")[1].at("points")[2].at("faithfulness").at("mean"), 1.0);
  EXPECT_EQ(curve.at("outside"), "zero");
}

fs::path pairs_file(const fs::path& path) {
  std::ofstream(path) << R"({"clean": [1, 2, 3, 4], "corrupt": [1, 5, 3, 4], "answers": [2, 7]})"
                      << "\n"
                      << R"({"clean": [8, 2, 3, 6], "corrupt": [8, 9, 3, 6], "answers": [3, 1]})"
                      << "\n";
  return path;
}

TEST(CircuitProgram, SearchesConfirmsPathsAndReadsSinks) {
  const fs::path dir = scratch_dir();
  const Json model = document({"inspect", "planted", "--json"}).at("model");
  const EdgeSpace space(model.at("layers"), model.at("heads"), model.at("kv_heads"));
  const std::string scores = scores_file(dir / "scores.json", space).string();
  const std::string pairs = pairs_file(dir / "pairs.jsonl").string();
  const std::string top = (dir / "top.json").string();
  document({"circuit", "prune", scores, "--top", "120", "--to", top, "--json"});
  const std::string found = (dir / "found.json").string();
  const Json search = document({"circuit", "search", "planted", "--pairs", pairs, "--start", top,
                                "--threshold", "0.001", "--to", found, "--json", "--quiet"});
  EXPECT_EQ(search.at("command"), "circuit search");
  EXPECT_EQ(search.at("metric"), "kl");
  EXPECT_LT(search.at("evaluations"), search.at("naive_evaluations"));
  const EdgeCircuit circuit = read_circuit(found);
  EXPECT_EQ(search.at("edges"), count_edges(circuit));
  EXPECT_EQ(count_edges(shared(circuit, read_circuit(top))), count_edges(circuit));
  expect_refusal({"circuit", "search", "planted", "--pairs", pairs, "--start", scores}, 2,
                 "choose edges first");

  const Json paths = document({"circuit", "paths", top, "--count", "3", "--confirm", "--model",
                               "planted", "--pairs", pairs, "--json", "--quiet"});
  ASSERT_EQ(paths.at("paths").size(), 3U);
  EXPECT_TRUE(paths.at("paths")[0].at("effect").at("mean").is_number());
  EXPECT_TRUE(paths.at("paths")[2].at("of_total").at("mean").is_number());
  EXPECT_EQ(paths.at("metric").at("name"), "logit_diff");
  const Outcome text = run_plumb(
      {"circuit", "paths", top, "--confirm", "--model", "planted", "--pairs", pairs, "--quiet"});
  EXPECT_NE(text.out.find("effect, run"), std::string::npos) << text.out << text.err;
  expect_refusal({"circuit", "paths", top, "--confirm"}, 2, "--pairs");

  const std::string whole = (dir / "whole.json").string();
  write_circuit(full_circuit(space), whole, CircuitFormat::plumb);
  const Json sink =
      document({"circuit", "evaluate", "planted", "--circuit", whole, "--circuit", top, "--pairs",
                pairs, "--metric", "sink:4", "--outside", "mean", "--json", "--quiet"});
  EXPECT_NEAR(sink.at("circuits")[0].at("faithfulness").at("mean").get<double>(), 1.0, 1e-4);
  EXPECT_LT(sink.at("circuits")[0].at("edges"), space.edges());
  EXPECT_EQ(sink.at("forwards").at("circuits"), 2);
  EXPECT_LT(sink.at("forwards").at("made"), sink.at("forwards").at("eap_ig"));
  const auto pruning = [&](const std::string& metric) {
    return document({"circuit", "evaluate", "planted", "--circuit", top, "--pairs", pairs,
                     "--metric", metric, "--outside", "zero", "--json", "--quiet"})
        .at("conventions")
        .at("pruning")
        .get<std::string>();
  };
  EXPECT_EQ(sink.at("conventions").at("pruning"),
            "circuits are pruned to what lies between input and the queries and keys of "
            "L4.pattern[k=0]");
  EXPECT_EQ(pruning("norm:L3.resid_mid[t=1]"),
            "circuits are pruned to what lies between input and the read-out of L3.resid_mid[t=1]");
  EXPECT_EQ(pruning("logit_diff"), "circuits are pruned to what lies between input and logits");
}

TEST(CircuitProgram, RefusesInOneLine) {
  const fs::path dir = scratch_dir();
  const std::string scores = scores_file(dir / "scores.json", EdgeSpace(2, 2, 2)).string();
  expect_refusal({"circuit"}, 2, "needs a group");
  expect_refusal({"circuit", "prun"}, 2, "did you mean 'prune'?");
  expect_refusal({"circuit", "prune", scores, "--top", "3", "--greedy", "3"}, 2, "give one of");
  expect_refusal({"circuit", "prune", scores, "--top", "100000"}, 2, "the model has");
  expect_refusal({"circuit", "convert", scores, "--to", (dir / "a.txt").string()}, 2, "no format");
  expect_refusal({"circuit", "convert", "/nowhere.json", "--to", "a.json"}, 3, "/nowhere.json");
  expect_refusal({"circuit", "convert", scores, "--to", "a.json", "--format", "png"}, 2, "png");
  std::ofstream(dir / "graph.pt") << "x";
  expect_refusal({"circuit", "paths", (dir / "graph.pt").string()}, 4, "pickle");
  std::ofstream(dir / "list.json") << R"([["m0", "m1"]])";
  expect_refusal({"circuit", "paths", (dir / "list.json").string()}, 2, "which model");
  expect_refusal({"circuit", "compare", scores}, 2, "at least two");
  expect_refusal({"circuit", "evaluate", "planted"}, 2, "--pairs");
  expect_refusal({"circuit", "evaluate", "planted", "--circuit", scores, "--pairs", "/nowhere"}, 3,
                 "/nowhere");
  const Outcome help = run_plumb({"circuit", "--help"});
  EXPECT_EQ(help.code, 0);
  for (const char* group : {"compare", "convert", "draw", "evaluate", "paths", "prune", "search"}) {
    EXPECT_NE(help.out.find(std::string("\n  ") + group), std::string::npos) << group;
    const Outcome own = run_plumb({"circuit", group, "--help"});
    EXPECT_EQ(own.code, 0) << group;
    EXPECT_NE(own.out.find(std::string("plumb circuit ") + group), std::string::npos) << own.out;
  }
}

}  // namespace
}  // namespace plumb::test
