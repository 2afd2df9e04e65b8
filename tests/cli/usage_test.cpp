// What the program says when it is asked for help, or asked wrongly.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "cli/program.h"
#include "plumb/version.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

/// The one line of an error, and nothing on standard output.
void expect_refusal(const std::vector<std::string>& arguments, int code, const std::string& line) {
  const Outcome outcome = run_plumb(arguments);
  EXPECT_EQ(outcome.code, code) << outcome.err;
  EXPECT_EQ(outcome.err, "plumb: error: " + line + "\n");
  EXPECT_EQ(outcome.out, "");
}

TEST(Usage, VersionIsOneLine) {
  const Outcome outcome = run_plumb({"--version"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, std::string("plumb ") + version() + "\n");
  EXPECT_EQ(outcome.err, "");
}

TEST(Usage, HelpListsEveryCommandAndEachCommandHasItsOwn) {
  const Outcome top = run_plumb({"--help"});
  EXPECT_EQ(top.code, 0);
  EXPECT_NE(top.out.find("\n  circuit "), std::string::npos);  // has groups: CircuitProgram
  for (const std::string command : {"attribute", "convert", "edit", "inspect", "mix", "p0", "pairs",
                                    "patch", "plant", "record", "sink", "trace", "train"}) {
    EXPECT_NE(top.out.find("\n  " + command + " "), std::string::npos) << command;
    const Outcome own = run_plumb({command, "--help"});
    EXPECT_EQ(own.code, 0);
    EXPECT_EQ(own.err, "");
    EXPECT_NE(own.out.find("plumb " + command), std::string::npos) << own.out;
    EXPECT_NE(own.out.find("--seed"), std::string::npos) << own.out;
  }
}

TEST(Usage, OffersOnlyFlagsThatMeanSomethingInTheCommand) {
  EXPECT_EQ(run_plumb({"plant", "--help"}).out.find("--threads"), std::string::npos);
  EXPECT_EQ(run_plumb({"convert", "--help"}).out.find("--bos"), std::string::npos);
  expect_refusal({"--threads", "2", "plant"}, 2, "--threads means nothing to plumb plant");
}

TEST(Usage, UnknownWordsComeWithTheNearestKnownOne) {
  expect_refusal({}, 2, "no command given; plumb --help lists them");
  expect_refusal({"snik"}, 2, "unknown command 'snik'; did you mean 'sink'?");
  expect_refusal({"frobnicate"}, 2, "unknown command 'frobnicate'");
  expect_refusal({"--sed", "1", "p0"}, 2,
                 "unknown flag '--sed' before the command; did you mean '--seed'?");
  expect_refusal({"sink", "planted", "--epsilom=0.2"}, 2,
                 "unknown flag '--epsilom' for plumb sink; did you mean '--epsilon'?");
  expect_refusal({"sink", "planted", "--xylophone"}, 2,
                 "unknown flag '--xylophone' for plumb sink");
  expect_refusal({"sink", "planted", "again"}, 2, "unexpected argument 'again' for plumb sink");
}

TEST(Usage, NumbersAreReadStrictlyAndInDecimal) {
  expect_refusal({"sink", "--threads", "-1"}, 2,
                 "--threads expects a whole number from 1 to 1024, not '-1'");
  expect_refusal({"sink", "--threads", "2x"}, 2,
                 "--threads expects a whole number from 1 to 1024, not '2x'");
  expect_refusal({"sink", "--threads", "99999999999999999999"}, 2,
                 "--threads expects a whole number from 1 to 1024, not '99999999999999999999'");
  expect_refusal({"sink", "--threads"}, 2, "--threads expects a value");
  expect_refusal({"sink", "--epsilon", "nan"}, 2,
                 "--epsilon expects a number from 0 to 1, not 'nan'");
  expect_refusal({"sink", "--dtype", "f8"}, 2,
                 "--dtype expects one of f32, f64, bf16, f16, not 'f8'");
  expect_refusal({"sink", "--random", "4"}, 2, "--random expects N,T (sequences, length), not '4'");
  expect_refusal({"sink", "--random", "4,1"}, 2,
                 "--random N,T: T expects a whole number from 2 to 10000000, not '1'");
  // 010 is ten, not eight: ten sequences, not eight, are asked for.
  const Outcome ten = run_plumb({"sink", "planted", "--random", "010,4", "--json", "--quiet"});
  EXPECT_NE(ten.out.find("\"sequences\":10"), std::string::npos) << ten.err;
}

TEST(Usage, InputsThatExcludeEachOtherAreRefused) {
  expect_refusal({"sink", "planted", "--text", "a b", "--random", "2,4"}, 2,
                 "give one of --text, --text-file, --tokens and --random, not several");
  expect_refusal({"sink", "planted", "--random", "2,4", "--length", "3"}, 2,
                 "--random N,T says how many and how long; leave out --length and --sequences");
  expect_refusal({"plant"}, 2, "plumb plant needs --out DIR to write the model to");
}

TEST(Usage, HugeInputsAreRefusedBeforeTheyAreMade) {
  expect_refusal({"sink", "planted", "--random", "1000000,1000000"}, 5,
                 "--random 1000000,1000000 asks for 1000000000000 tokens; at most 100000000 fit");
}

}  // namespace
}  // namespace plumb::test
