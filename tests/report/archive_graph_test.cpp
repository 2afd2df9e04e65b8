// The circuit graph read back from the archive alone: as it was drawn, and told in the report.
#include <gtest/gtest.h>

#include "plumb/circuit.h"
#include "plumb/p0.h"
#include "plumb/plant.h"
#include "plumb/report_archive.h"
#include "plumb/report_html.h"
#include "report/archive_view.h"
#include "report/html_sections.h"
#include "report/html_text.h"
#include "report/p0_tables.h"
#include "report/pages.h"
#include "support/paths.h"
#include "support/token_lists.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t sequences = 8;
constexpr std::int64_t length = 32;

void expect_same(const Estimate& read, const Estimate& written) {
  EXPECT_EQ(read.mean, written.mean);
  EXPECT_EQ(read.low, written.low);
  EXPECT_EQ(read.high, written.high);
}

class ArchivedGraph : public testing::Test {
 protected:
  // Two waves, a backup and an eraser: junctions, alternatives and every kind of edge.
  static void SetUpTestSuite() {
    const Planted planted =
        plant({.seed = 2, .layers = 8, .second = 5, .erase = true, .backup = true});
    const Model model = to_model(planted);
    P0Inputs inputs;
    inputs.plain =
        make_inputs(as_lists(plant_tokens(planted, 5, sequences, length)), length, {}, "tokens");
    found = new P0Report(locate_p0(
        model, inputs,
        {.causal_sequences = sequences, .causal_length = length, .self_mask_position = 12}));
    path = new fs::path(scratch_dir() / "graph.h5");
    write_archive(*path, page_run(8, 4, "planted"), *found, inputs);
  }
  static void TearDownTestSuite() {
    delete found;
    delete path;
  }

  static P0Report* found;
  static fs::path* path;
};
P0Report* ArchivedGraph::found = nullptr;
fs::path* ArchivedGraph::path = nullptr;

TEST_F(ArchivedGraph, IsDrawnAsItWasDrawn) {
  ASSERT_FALSE(found->circuit.edges.empty());
  const report::ArchiveView view = report::read_view(*path);
  ASSERT_TRUE(view.circuit.has_value());
  EXPECT_EQ(to_dot(*view.circuit), to_dot(found->circuit)) << "p0.dot and p0.svg";
  EXPECT_EQ(to_json(*view.circuit), to_json(found->circuit)) << "scores to the last digit";
  const std::string page = html_report(*path);
  EXPECT_NE(page.find(report::graph_svg(found->circuit)), std::string::npos);
}

TEST_F(ArchivedGraph, IsReadBackWithItsChecks) {
  const report::ArchiveView view = report::read_view(*path);
  ASSERT_EQ(view.waves.size(), found->waves.size());
  ASSERT_EQ(view.waves.size(), 2U);
  bool alternatives = false;
  for (std::size_t w = 0; w < view.waves.size(); ++w) {
    const WaveReport& read = view.waves[w].found;
    const WaveReport& written = found->waves[w];
    ASSERT_GT(written.graph.edges, 0);
    EXPECT_EQ(read.graph.edges, written.graph.edges);
    EXPECT_EQ(read.graph.candidates, written.graph.candidates);
    expect_same(read.graph.faithfulness, written.graph.faithfulness);
    expect_same(read.graph.completeness, written.graph.completeness);
    EXPECT_DOUBLE_EQ(read.graph.least_needed, written.graph.least_needed);
    EXPECT_EQ(read.graph.least_edge, written.graph.least_edge);
    EXPECT_EQ(read.graph.minimal, written.graph.minimal);
    EXPECT_EQ(read.graph.random, written.graph.random);
    EXPECT_EQ(read.graph.random_completeness, written.graph.random_completeness);
    EXPECT_EQ(read.graph.matched, written.graph.matched);
    EXPECT_EQ(read.graph.matched_completeness, written.graph.matched_completeness);
    ASSERT_EQ(read.paths.size(), written.paths.size());
    for (std::size_t i = 0; i < read.paths.size(); ++i) {
      EXPECT_EQ(read.paths[i].name, written.paths[i].name);
      expect_same(read.paths[i].value, written.paths[i].value);
      EXPECT_EQ(read.paths[i].removed, written.paths[i].removed);
      EXPECT_EQ(read.paths[i].outcome, written.paths[i].outcome);
      EXPECT_EQ(read.paths[i].sequences, sequences);
    }
    ASSERT_EQ(read.alternatives.size(), written.alternatives.size());
    for (std::size_t i = 0; i < read.alternatives.size(); ++i) {
      alternatives = true;
      EXPECT_EQ(read.alternatives[i].routes, written.alternatives[i].routes);
      EXPECT_EQ(read.alternatives[i].shown_by, written.alternatives[i].shown_by);
    }
    ASSERT_EQ(read.contrasts.size(), written.contrasts.size());
    ASSERT_FALSE(read.contrasts.empty());
    for (std::size_t i = 0; i < read.contrasts.size(); ++i) {
      EXPECT_EQ(read.contrasts[i].rung, written.contrasts[i].rung);
      EXPECT_EQ(read.contrasts[i].name, written.contrasts[i].name);
      EXPECT_EQ(read.contrasts[i].control, written.contrasts[i].control);
      EXPECT_EQ(read.contrasts[i].effect, written.contrasts[i].effect);
      EXPECT_EQ(read.contrasts[i].by_control, written.contrasts[i].by_control);
      expect_same(read.contrasts[i].difference, written.contrasts[i].difference);
      EXPECT_EQ(read.contrasts[i].exceeds, written.contrasts[i].exceeds);
    }
    EXPECT_EQ(report::graph_sentences(read), report::graph_sentences(written));
  }
  EXPECT_TRUE(alternatives) << "the planted backup";
}

TEST_F(ArchivedGraph, IsToldInTheReport) {
  const std::string page = html_report(*path);
  keep_page("graph", page);
  for (const auto& wave : found->waves) {
    for (const auto& sentence : report::graph_sentences(wave))
      EXPECT_NE(page.find(report::html(sentence, 2000)), std::string::npos) << sentence;
    for (const auto& effect : wave.paths)
      EXPECT_NE(page.find(report::html(effect.name)), std::string::npos) << effect.name;
    for (const auto& beside : wave.contrasts)
      EXPECT_NE(page.find(report::html(beside.name)), std::string::npos) << beside.name;
  }
}

}  // namespace
}  // namespace plumb::test
