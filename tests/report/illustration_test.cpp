// What a report shows of the inputs, and heat maps for every terminal.
#include "plumb/illustration.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "plumb/error.h"
#include "plumb/plain_text.h"
#include "plumb/report.h"
#include "plumb/report_text.h"
#include "plumb/run.h"
#include "report/pages.h"
#include "support/toy_model.h"

namespace plumb::test {
namespace {

class Illustrations : public testing::Test {
 protected:
  Illustrations() {
    inputs_.tokens.lengths = at::full({4}, 24, at::kLong);
    inputs_.tokens.lengths[1] = 5;
    survey_ = survey_sink(model_, inputs_);
  }
  static ModelConfig four_heads() {
    ModelConfig config = random_config(4);
    config.heads = 4;
    config.kv_heads = 2;
    return config;
  }
  const ModelConfig config_ = four_heads();
  const Model model_ = toy_model(config_, 1);
  Inputs inputs_{.tokens = toy_tokens(config_, 4, 24, 1), .kind = "tokens"};
  SinkSurvey survey_ = {};
};

TEST_F(Illustrations, HoldThePatternsOfEveryHeadAndNothingOfThePadding) {
  const Illustration shown = illustrate(model_, inputs_, survey_, nullptr, {}, {.positions = 10});
  const std::int64_t all = std::int64_t{config_.layers} * config_.heads;
  ASSERT_EQ(shown.heads.sizes(), at::IntArrayRef({all, 2}));
  ASSERT_EQ(shown.pattern.sizes(), at::IntArrayRef({3, all, 10, 10}));
  const Inputs cut = head(inputs_, 3, 10);
  const Site site{Part::pattern, 1};
  const at::Tensor expected = run(model_, cut.tokens, {.record = {site}}).cache.at(site);
  // The heads of layer 1 follow those of layer 0.
  const at::Tensor found = shown.pattern.narrow(1, config_.heads, config_.heads);
  EXPECT_TRUE(at::equal(found[0], expected[0].to(at::kFloat)));
  EXPECT_TRUE(at::equal(found[1].narrow(1, 0, 5).narrow(2, 0, 5),
                        expected[1].narrow(1, 0, 5).narrow(2, 0, 5).to(at::kFloat)));
  EXPECT_EQ(found[1].narrow(1, 5, 5).abs().sum().item<float>(), 0.0F);
  EXPECT_TRUE(shown.texts.empty()) << "there is no tokenizer";
}

TEST_F(Illustrations, KeepTheStrongestAndTheWeakestHeadsWhereNotAllFit) {
  const std::int64_t kept = 3;
  const Illustration shown =
      illustrate(model_, inputs_, survey_, nullptr, {}, {.maps = kept * config_.layers});
  ASSERT_EQ(shown.heads.sizes(), at::IntArrayRef({kept * config_.layers, 2}));
  EXPECT_EQ(shown.pattern.size(0), 1) << "one sequence";
  for (std::int64_t layer = 0; layer < config_.layers; ++layer) {
    const at::Tensor sinks = survey_.mean[layer];
    std::vector<std::int64_t> chosen;
    for (std::int64_t i = 0; i < kept; ++i) {
      const at::Tensor place = shown.heads[layer * kept + i];
      EXPECT_EQ(place[0].item<std::int64_t>(), layer);
      chosen.push_back(place[1].item<std::int64_t>());
    }
    EXPECT_TRUE(std::ranges::is_sorted(chosen));
    const auto order = std::get<1>(sinks.sort(0, true));
    std::vector<std::int64_t> expected = {order[0].item<std::int64_t>(),
                                          order[1].item<std::int64_t>(),
                                          order[-1].item<std::int64_t>()};
    std::ranges::sort(expected);
    EXPECT_EQ(chosen, expected);
  }
}

TEST_F(Illustrations, RefuseTheSurveyOfAnotherModel) {
  SinkSurvey other = survey_;
  other.mean = at::zeros({config_.layers + 1, config_.heads});
  EXPECT_THROW(illustrate(model_, inputs_, other, nullptr), Error);
  EXPECT_THROW(illustrate(model_, inputs_, survey_, nullptr, {}, {.maps = 0}), Error);
}

TEST(TerminalMap, OfManyHeadsStillFitsThePage) {
  RunInfo run = page_run(126, 128, "plain");
  run.command = "sink";
  const std::string text = sink_text(run, {{"none", page_survey(126, 128)}}, nullptr);
  EXPECT_NE(text.find("(each mark: the mean of 3 heads)"), std::string::npos);
  std::istringstream lines(text);
  int full = 0;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(display_width(line), 110U) << line;
    std::size_t marks = 0;
    for (std::size_t at = line.find("█"); at != std::string::npos; at = line.find("█", at + 1))
      ++marks;
    if (marks == 43) ++full;  // 128 heads, three to a mark
  }
  EXPECT_GT(full, 10);
}

TEST(PlainText, KeepsTheShapeOfTables) {
  EXPECT_EQ(plain_text("·▁▂▃▄▅▆▇█ ── x… “a” 水 \xff"), ".12345678 -- x~ \"a\" ? ?");
  const std::string text =
      sink_text(page_run(3, 2, "plain"), {{"none", page_survey(3, 2)}}, nullptr);
  const std::string plain = plain_text(text);
  EXPECT_TRUE(
      std::ranges::all_of(plain, [](char c) { return static_cast<unsigned char>(c) < 0x80; }));
  EXPECT_EQ(std::ranges::count(plain, '\n'), std::ranges::count(text, '\n'));
  EXPECT_EQ(plain.find('?'), std::string::npos) << "every mark of ours has its likeness";
}

TEST(PlainText, TheFirstVariableThatSaysSomethingDecides) {
  EXPECT_TRUE(locale_has_utf8(nullptr, nullptr, "en_GB.UTF-8"));
  EXPECT_TRUE(locale_has_utf8("", nullptr, "C.utf8"));
  EXPECT_FALSE(locale_has_utf8("C", "en_GB.UTF-8", "en_GB.UTF-8"));
  EXPECT_FALSE(locale_has_utf8(nullptr, "POSIX", "en_GB.UTF-8"));
  EXPECT_FALSE(locale_has_utf8(nullptr, nullptr, "de_DE.ISO-8859-1"));
  EXPECT_FALSE(locale_has_utf8(nullptr, nullptr, nullptr));
}

}  // namespace
}  // namespace plumb::test
