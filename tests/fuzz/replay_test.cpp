// Every kept input of the fuzzers: seeds, and what once broke a promise.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "fuzz/checks.h"
#include "fuzz/mutators.h"
#include "fuzz/targets.h"
#include "support/paths.h"

namespace plumb::fuzz {
namespace {

namespace fs = std::filesystem;

fs::path corpus() { return test::source_dir() / "tests" / "fuzz" / "corpus"; }

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void replay(const char* name) {
  const Target& each = target(name);
  int files = 0;
  for (const auto& entry : fs::directory_iterator(corpus() / name)) {
    SCOPED_TRACE(entry.path().string());
    EXPECT_NO_THROW(run_checked(each, bytes_of(entry.path())));
    ++files;
  }
  EXPECT_GT(files, 1);
}

TEST(Replay, Config) { replay("config"); }
TEST(Replay, Index) { replay("index"); }
TEST(Replay, Safetensors) { replay("safetensors"); }
TEST(Replay, Gguf) { replay("gguf"); }
TEST(Replay, TokenizerJson) { replay("tokenizer_json"); }
TEST(Replay, TokenizerModel) { replay("tokenizer_model"); }
TEST(Replay, CircuitJson) { replay("circuit_json"); }
TEST(Replay, EapIg) { replay("eap_ig"); }
TEST(Replay, Neuronpedia) { replay("neuronpedia"); }
TEST(Replay, EdgePruning) { replay("edge_pruning"); }
TEST(Replay, Dot) { replay("dot"); }
TEST(Replay, Graphml) { replay("graphml"); }
TEST(Replay, PairsJsonl) { replay("pairs_jsonl"); }
TEST(Replay, PairsCsv) { replay("pairs_csv"); }
TEST(Replay, Expressions) { replay("expressions"); }

TEST(Replay, CoversEveryTarget) {
  for (const auto& entry : fs::directory_iterator(corpus())) {
    EXPECT_NO_THROW(target(entry.path().filename().string()));
  }
  for (const Target& each : targets()) EXPECT_TRUE(fs::is_directory(corpus() / each.name));
}

/// Changed as the fuzzers change them, though blindly. $PLUMB_MUTANTS says how many of each file;
/// one that breaks a promise is left in the working directory.
void run_mutants(const char* name) {
  const char* wanted = std::getenv("PLUMB_MUTANTS");
  const int mutants = wanted != nullptr ? std::atoi(wanted) : 60;
  const Target& each = target(name);
  Random random(7);
  const MutateBytes plainly = [&](std::string_view text, std::size_t limit) {
    return mutate_plainly(text, limit, random);
  };
  constexpr std::size_t longest = 32768;
  for (const auto& entry : fs::directory_iterator(corpus() / name)) {
    SCOPED_TRACE(entry.path().string());
    const std::string whole = bytes_of(entry.path());
    std::string mutant = whole;
    for (int i = 0; i < mutants; ++i) {
      // A chain of up to eight changes.
      if (i % 8 == 0) mutant = whole;
      mutant = mutate(name, mutant, {random, plainly});
      mutant.resize(std::min(mutant.size(), longest));
      try {
        run_checked(each, mutant);
      } catch (const std::exception& error) {
        const std::string kept = std::string(name) + ".mutant";
        std::ofstream(kept, std::ios::binary) << mutant;
        FAIL() << error.what() << "; the file is " << fs::absolute(kept);
      }
    }
  }
}

TEST(Mutants, OfConfig) { run_mutants("config"); }
TEST(Mutants, OfIndex) { run_mutants("index"); }
TEST(Mutants, OfSafetensors) { run_mutants("safetensors"); }
TEST(Mutants, OfGguf) { run_mutants("gguf"); }
TEST(Mutants, OfTokenizerJson) { run_mutants("tokenizer_json"); }
TEST(Mutants, OfTokenizerModel) { run_mutants("tokenizer_model"); }
TEST(Mutants, OfCircuitJson) { run_mutants("circuit_json"); }
TEST(Mutants, OfEapIg) { run_mutants("eap_ig"); }
TEST(Mutants, OfNeuronpedia) { run_mutants("neuronpedia"); }
TEST(Mutants, OfEdgePruning) { run_mutants("edge_pruning"); }
TEST(Mutants, OfDot) { run_mutants("dot"); }
TEST(Mutants, OfGraphml) { run_mutants("graphml"); }
TEST(Mutants, OfPairsJsonl) { run_mutants("pairs_jsonl"); }
TEST(Mutants, OfPairsCsv) { run_mutants("pairs_csv"); }
TEST(Mutants, OfExpressions) { run_mutants("expressions"); }

TEST(Promises, TooMuchMemoryIsNoticed) {
  const auto greedy = [](std::string_view input) {
    const auto memory = std::make_unique<std::string>(100 * input.size(), 'a');
    if (memory->back() != 'a') throw std::runtime_error("not reached");
  };
  EXPECT_NO_THROW(run_checked({"generous", greedy, 4096, 101}, std::string(10'000, 'x')));
  EXPECT_THROW(run_checked({"tight", greedy, 4096, 99}, std::string(10'000, 'x')),
               std::logic_error);
}

TEST(Promises, AnErrorOfTheWrongKindOrOfTwoLinesIsNoticed) {
  const auto throws = [](ErrorKind kind, const char* message) {
    return [=] { throw Error(kind, message); };
  };
  EXPECT_FALSE(reads(throws(ErrorKind::bad_file, "a.json: is damaged")));
  EXPECT_THROW(reads(throws(ErrorKind::internal, "a.json: is damaged")), std::logic_error);
  EXPECT_THROW(reads(throws(ErrorKind::bad_file, "a.json:\nis damaged")), std::logic_error);
  EXPECT_THROW(reads([] { throw std::out_of_range("vector"); }), std::out_of_range);
}

}  // namespace
}  // namespace plumb::fuzz
