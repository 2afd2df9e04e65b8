// The HTML report: what is in it, that it stays text, that it loads nothing, and how large it gets.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <regex>

#include "plumb/archive.h"
#include "plumb/error.h"
#include "plumb/report_archive.h"
#include "plumb/report_html.h"
#include "report/graph_layout.h"
#include "report/html_text.h"
#include "report/pages.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::size_t largest_page = 3'000'000;
constexpr int layers = 4;
constexpr int heads = 3;
constexpr int positions = 12;

fs::path p0_archive(const std::string& text = hostile_text) {
  const fs::path path = scratch_dir() / "p0.h5";
  write_archive(path, page_run(layers, heads, text), page_report(layers, heads, text),
                page_inputs(positions), page_attention(layers, heads, positions, text));
  return path;
}

/// The archive of `plumb sink`.
fs::path sink_archive(int layer_count, int head_count, const Illustration& shown) {
  const fs::path path = scratch_dir() / "sink.h5";
  RunInfo run = page_run(layer_count, head_count, "plain");
  run.command = "sink";
  run.command_line = "plumb sink toy";
  std::vector<Condition> conditions;
  for (const char* name : {"none", "native", "random"}) {
    conditions.push_back(
        {name, page_inputs(positions).plain, page_survey(layer_count, head_count)});
    // The first condition is that of the main inputs.
    conditions.back().survey.inputs_sha256 =
        conditions.size() == 1 ? conditions.back().inputs.sha256 : std::string(64, 'c');
  }
  write_archive(path, run, conditions, shown);
  return path;
}

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++count;
  return count;
}

bool says(const std::string& page, const std::string& part) {
  return page.find(part) != std::string::npos;
}

Json data_of(const std::string& page) {
  const std::string begin = "<script type=\"application/json\" id=\"data\">";
  const std::size_t from = page.find(begin) + begin.size();
  return Json::parse(page.substr(from, page.find("</script>", from) - from));
}

std::string refusal(const fs::path& path, ErrorKind kind) {
  try {
    html_report(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "accepted";
  return "";
}

TEST(HtmlReport, HoldsEveryPartInOrder) {
  const std::string page = html_report(p0_archive());
  keep_page("hostile", page);
  std::size_t last = 0;
  for (const char* name :
       {"verdict", "sink", "profiles", "attention", "effects", "circuit", "provenance", "repeat"}) {
    const std::size_t at = page.find(std::string("<section id=\"") + name);
    ASSERT_NE(at, std::string::npos) << name;
    EXPECT_GT(at, last) << name;
    last = at;
  }
  EXPECT_TRUE(says(page, "<p class=\"verdict\">positional</p>"));
  EXPECT_TRUE(says(page, "✓ holds"));
  EXPECT_TRUE(says(page, "✗ fails"));
  EXPECT_TRUE(says(page, "– not tested"));
  EXPECT_TRUE(says(page, "[0.600, 0.800]"));        // of the rung
  EXPECT_TRUE(says(page, "0.050 [0.045, 0.055]"));  // of the pair
  EXPECT_TRUE(says(page, "+0.865 [0.500, 1.300]"));
  EXPECT_TRUE(says(page, "{0, 1}"));
  EXPECT_TRUE(says(page, std::string(64, 'a')));
  EXPECT_TRUE(says(page, "Show the 15 edits that kept the sink as well"));
  EXPECT_EQ(page, html_report(p0_archive())) << "the same archive, another page";
}

TEST(HtmlReport, TheScriptIsHandedWhatTheArchiveHolds) {
  const Json data = data_of(html_report(p0_archive()));
  const Json& survey = data.at("surveys").at(0);
  EXPECT_EQ(survey.at("layers"), layers);
  EXPECT_EQ(survey.at("heads"), heads);
  EXPECT_EQ(survey.at("mean").size(), 12U);
  EXPECT_EQ(survey.at("mean").at(0), -1);  // not a number
  EXPECT_EQ(survey.at("mean").at(11), 1000);
  EXPECT_EQ(survey.at("waves"), Json::parse("[[2,3]]"));
  EXPECT_EQ(survey.at("norm").size(), 9U);
  const Json& attention = data.at("attention");
  EXPECT_EQ(attention.at("heads").size(), 12U);
  ASSERT_EQ(attention.at("sequences").size(), 2U);
  EXPECT_EQ(attention.at("sequences").at(0).at("tokens").size(), 12U);
  // The lower triangle of uniform attention: 1, then 1/2 and 1/2 of 255.
  const std::string map = attention.at("sequences").at(0).at("maps").at(0);
  EXPECT_TRUE(map.starts_with("/4CA")) << map;
  EXPECT_EQ(map.size(), 104U);  // 78 bytes
}

TEST(HtmlReport, TextStaysText) {
  const std::string page = html_report(p0_archive());
  EXPECT_FALSE(says(page, "<script>document.title"));
  EXPECT_FALSE(says(page, "<img"));
  EXPECT_FALSE(says(page, "<!--"));
  EXPECT_EQ(count_of(page, "<script"), 2U);
  EXPECT_EQ(count_of(page, "</script>"), 2U);
  EXPECT_EQ(data_of(page).at("attention").at("sequences").at(0).at("tokens").at(0),
            hostile_text.substr(0, 80));
  EXPECT_EQ(report::html("a<b>&\"'\x01\xff"), "a&lt;b&gt;&amp;&quot;&#39;\uFFFD\uFFFD");
  EXPECT_EQ(report::html("水槽", 3), "水…");
}

TEST(HtmlReport, LoadsNothingAndRunsOnlyItsOwnScript) {
  const std::string page = html_report(p0_archive("plain"));
  EXPECT_FALSE(says(page, "http:"));
  EXPECT_FALSE(says(page, "https:"));
  EXPECT_FALSE(says(page, "//cdn"));
  EXPECT_FALSE(says(page, " src="));
  EXPECT_FALSE(says(page, "@import"));
  EXPECT_FALSE(says(page, "url("));
  EXPECT_FALSE(says(page, "<link"));
  EXPECT_TRUE(says(page, "default-src 'none'"));
  EXPECT_TRUE(std::regex_search(page, std::regex("script-src 'sha256-[A-Za-z0-9+/]{43}='")));
  // Links lead within the page only.
  EXPECT_EQ(count_of(page, "href=\""), count_of(page, "href=\"#"));
}

TEST(HtmlReport, AMapOfALargeModelStaysUnderThreeMegabytes) {
  constexpr int many_layers = 126;
  constexpr int many_heads = 128;
  // As many maps as an illustration keeps: seven heads of each layer.
  Illustration shown = page_attention(many_layers, 7, 40, "token");
  shown.pattern = shown.pattern.narrow(0, 0, 1);
  const fs::path path = scratch_dir() / "large.h5";
  RunInfo run = page_run(many_layers, many_heads);
  run.command = "sink";
  run.model = "large";
  std::vector<Condition> conditions;
  for (const char* name : {"none", "native", "random"})
    conditions.push_back({name, page_inputs(40).plain, page_survey(many_layers, many_heads)});
  write_archive(path, run, conditions, shown);
  const std::string page = html_report(path);
  keep_page("large", page);
  EXPECT_LT(page.size(), largest_page);
  EXPECT_GT(page.size(), 500'000U);
  const Json data = data_of(page);
  EXPECT_EQ(data.at("surveys").size(), 3U);
  EXPECT_EQ(data.at("surveys").at(0).at("mean").size(), 126U * 128U);
  EXPECT_EQ(data.at("attention").at("heads").size(), 882U);
  EXPECT_TRUE(says(page, "the heads with the largest and the smallest sinks are shown"));
}

TEST(HtmlReport, WhatDoesNotFitIsLeftOutAndTold) {
  P0Report found = page_report(layers, heads);
  const Effect row = found.waves.front().sets.front();
  found.waves.front().sets.assign(3000, row);
  const fs::path path = scratch_dir() / "many.h5";
  write_archive(path, page_run(layers, heads), found, page_inputs(positions));
  const std::string page = html_report(path);
  EXPECT_LT(page.size(), largest_page);
  EXPECT_TRUE(says(page, "more rows are in the archive"));
}

TEST(HtmlReport, SaysWhatTheArchiveLacks) {
  const std::string sink = html_report(sink_archive(layers, heads, {}));
  keep_page("sink", sink);
  EXPECT_TRUE(says(sink, "there is no verdict and no ladder in it"));
  EXPECT_TRUE(says(sink, "The archive holds no attention patterns"));
  EXPECT_TRUE(says(sink, "plumb sink looks for no circuit"));
  EXPECT_TRUE(says(sink, "plumb sink cuts nothing"));
  EXPECT_TRUE(says(sink, "plumb sink toy"));
  EXPECT_TRUE(data_of(sink).at("attention").is_null());

  P0Report found = page_report(layers, heads);
  found.complete = false;
  found.waves.front().ladder.clear();
  found.circuit = {};
  const fs::path path = scratch_dir() / "early.h5";
  write_archive(path, page_run(layers, heads), found, page_inputs(positions));
  const std::string early = html_report(path);
  keep_page("early", early);
  EXPECT_TRUE(says(early, "<p class=\"verdict\">not reached</p>"));
  EXPECT_TRUE(says(early, "nothing follows from its absence"));
  EXPECT_TRUE(says(early, "The ladder of this wave is not in the archive"));
  EXPECT_TRUE(says(early, "the job ended before it was drawn up"));

  P0Report none;
  none.complete = true;
  none.surveys = {page_survey(layers, heads)};
  none.surveys.front().waves.clear();
  none.survey_names = {"plain"};
  write_archive(path, page_run(layers, heads), none, page_inputs(positions));
  const std::string empty = html_report(path);
  EXPECT_TRUE(says(empty, "<p class=\"verdict\">none</p>"));
  EXPECT_TRUE(says(empty, "there is no sink to explain here"));
}

TEST(HtmlReport, RefusesWhatIsNoneOfItsArchives) {
  EXPECT_TRUE(says(refusal(scratch_dir() / "no.h5", ErrorKind::bad_file), "no such file"));
  const fs::path text = scratch_dir() / "text.h5";
  std::ofstream(text) << "not an archive";
  EXPECT_TRUE(says(refusal(text, ErrorKind::bad_file), "not an HDF5 file"));
  const fs::path other = scratch_dir() / "other.h5";
  ArchiveWriter writer(other);
  writer.attribute("/provenance", "command", std::string("patch"));
  writer.close();
  EXPECT_TRUE(says(refusal(other, ErrorKind::unsupported), "an archive of plumb patch"));
}

TEST(HtmlReport, RefusesADamagedArchive) {
  const fs::path path = p0_archive();
  std::ifstream in(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  const fs::path damaged = scratch_dir() / "damaged.h5";
  // Cut short, and with a byte of its strings changed: a table's or the provenance's.
  std::ofstream(damaged, std::ios::binary) << bytes.substr(0, bytes.size() / 2);
  refusal(damaged, ErrorKind::bad_file);
  std::string changed = bytes;
  changed.at(changed.find("resample")) = 'R';
  std::ofstream(damaged, std::ios::binary) << changed;
  refusal(damaged, ErrorKind::bad_file);
}

TEST(HtmlReport, AByteChangedAnywhereGivesAPageOrOneLine) {
  constexpr int tries = 50;
  const fs::path path = p0_archive();
  std::ifstream in(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  const fs::path damaged = scratch_dir() / "damaged.h5";
  int refused = 0;
  for (std::size_t i = 0; i < tries; ++i) {
    std::string changed = bytes;
    changed[i * bytes.size() / tries + i % 7] ^= 0x55;
    std::ofstream(damaged, std::ios::binary) << changed;
    try {
      EXPECT_TRUE(says(html_report(damaged), "</html>"));
    } catch (const Error& error) {
      EXPECT_TRUE(error.kind() == ErrorKind::bad_file || error.kind() == ErrorKind::unsupported)
          << error.what();
      EXPECT_FALSE(says(error.what(), "\n")) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, tries / 2);
}

TEST(HtmlReport, RefusesTablesThatDoNotBelongTogether) {
  const auto refuse = [](const std::function<void(ArchiveWriter&)>& put) {
    const fs::path path = scratch_dir() / "odd.h5";
    ArchiveWriter writer(path);
    writer.attribute("/p0", "complete", std::int64_t{1});
    writer.attribute("/p0", "verdict", std::string("none"));
    put(writer);
    writer.close();
    return refusal(path, ErrorKind::bad_file);
  };
  EXPECT_TRUE(says(refuse([](ArchiveWriter& file) {
                     file.dataset("/sink/plain/mean", at::zeros({2, 3}, at::kDouble));
                     file.dataset("/sink/plain/rate", at::zeros({5}, at::kDouble));
                   }),
                   "/sink/plain/rate"));
  EXPECT_TRUE(says(refuse([](ArchiveWriter& file) {
                     file.dataset("/attention/pattern", at::zeros({1, 1, 4, 4}, at::kFloat));
                   }),
                   "/attention"));
  EXPECT_TRUE(says(refuse([](ArchiveWriter& file) {
                     file.attribute("/p0/wave1", "onset", std::string("late"));
                   }),
                   "/p0/wave1"));
  EXPECT_TRUE(says(refuse([](ArchiveWriter& file) {
                     file.dataset("/circuit/nodes/name", std::vector<std::string>{"m0", "m1"});
                     file.dataset("/circuit/nodes/kind", std::vector<std::string>{"mlp"});
                   }),
                   "/circuit/nodes"));
}

TEST(GraphLayout, RowsFollowTheForwardPassAndNothingOverlaps) {
  const Circuit circuit = page_report(layers, heads).circuit;
  const report::GraphLayout layout = report::lay_out(circuit);
  ASSERT_EQ(layout.nodes.size(), circuit.nodes.size());
  ASSERT_EQ(layout.edges.size(), circuit.edges.size());
  // input, a0, m0, m1, sink, m3: the sink stands below what writes it, its eraser below that.
  for (std::size_t i = 1; i < layout.nodes.size(); ++i)
    EXPECT_GT(layout.nodes[i].y, layout.nodes[i - 1].y) << circuit.nodes[i].name;
  for (std::size_t i = 0; i < layout.nodes.size(); ++i) {
    const auto& a = layout.nodes[i];
    EXPECT_GE(a.x - a.width / 2, 0.0);
    EXPECT_LE(a.x + a.width / 2, layout.width);
    EXPECT_LE(a.y + a.height / 2, layout.height);
  }
  for (const auto& edge : layout.edges) EXPECT_GE(edge.points.size(), 2U);
  // The long edge passes the rows of a0 and m0 beside their boxes.
  for (const auto& [x, y] : layout.edges[1].points) {
    for (const std::size_t node : {1U, 2U}) {
      const auto& box = layout.nodes[node];
      if (std::abs(y - box.y) <= box.height / 2 + 1) {
        EXPECT_GT(std::abs(x - box.x), box.width / 2) << circuit.nodes[node].name;
      }
    }
  }
}

TEST(GraphLayout, KeepsBoxesOfARowApartAndCrossesNothingItNeedNot) {
  Circuit circuit;
  circuit.nodes = {{.name = "input@0", .kind = "input"}};
  for (int layer = 0; layer < 3; ++layer) {
    for (int head = 0; head < 6; ++head) {
      circuit.nodes.push_back(
          {.name = "a" + std::to_string(layer) + ".h" + std::to_string(head) + "@0",
           .kind = "head",
           .layer = layer});
    }
  }
  // Chains that begin in the reverse order of their ends.
  for (int head = 0; head < 6; ++head) {
    const std::string own = ".h" + std::to_string(head) + "@0";
    const std::string other = ".h" + std::to_string(5 - head) + "@0";
    circuit.edges.push_back({.from = "input@0", .to = "a0" + own, .score = 1});
    circuit.edges.push_back({.from = "a0" + own, .to = "a1" + other, .score = 1});
    circuit.edges.push_back({.from = "a1" + other, .to = "a2" + own, .score = 1});
  }
  const report::GraphLayout layout = report::lay_out(circuit);
  for (std::size_t i = 0; i < layout.nodes.size(); ++i) {
    for (std::size_t j = i + 1; j < layout.nodes.size(); ++j) {
      const auto& a = layout.nodes[i];
      const auto& b = layout.nodes[j];
      if (a.row == b.row) {
        EXPECT_GE(std::abs(a.x - b.x), (a.width + b.width) / 2);
      }
    }
  }
  const auto crosses = [](const report::PlacedEdge& a, const report::PlacedEdge& b) {
    return a.points.front().second == b.points.front().second &&
           (a.points.front().first - b.points.front().first) *
                   (a.points.back().first - b.points.back().first) <
               0;
  };
  for (const auto& a : layout.edges) {
    for (const auto& b : layout.edges) EXPECT_FALSE(crosses(a, b));
  }
}

TEST(GraphLayout, TheStrongestPartHasTheNodesOfItsEdges) {
  Circuit circuit = page_report(layers, heads).circuit;
  const Circuit part = report::strongest_part(circuit, 2);
  ASSERT_EQ(part.edges.size(), 2U);
  EXPECT_EQ(part.edges[0].from, "a0@0");
  EXPECT_EQ(part.edges[1].from, "m1@0");
  EXPECT_EQ(part.nodes.size(), 4U);
  EXPECT_EQ(report::strongest_part(circuit, 6).nodes.size(), circuit.nodes.size());
}

}  // namespace
}  // namespace plumb::test
