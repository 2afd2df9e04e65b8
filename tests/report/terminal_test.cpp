#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>

#include "plumb/error.h"
#include "plumb/report.h"
#include "report/progress_bar.h"

namespace plumb {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(ReportNumbers, HaveThreeSignificantDigits) {
  const std::pair<double, const char*> cases[] = {{0, "0"},           {-0.0, "0"},
                                                  {1, "1"},           {0.34912, "0.349"},
                                                  {-53.14, "-53.1"},  {999.6, "1000"},
                                                  {22644.3, "22644"}, {0.00123456, "0.00123"},
                                                  {1e-7, "1.00e-07"}, {123456789, "1.23e+08"},
                                                  {kNan, "nan"},      {-INFINITY, "-inf"}};
  for (const auto& [value, text] : cases) EXPECT_EQ(format_number(value), text);
}

TEST(ReportNumbers, HaveTheDecimalsOfTheirInterval) {
  EXPECT_EQ(format_interval(0.34912, 0.3029, 0.4041), "0.35 [0.30, 0.40]");
  EXPECT_EQ(format_interval(0.34912, 0.3429, 0.3541), "0.349 [0.343, 0.354]");
  EXPECT_EQ(format_interval(22644.2, 21000, 24000.4), "22644 [21000, 24000]");
  EXPECT_EQ(format_interval(-0.001, -0.2, 0.3), "0.00 [-0.20, 0.30]");
  EXPECT_EQ(format_interval(2.5, 2.5, 2.5), "2.50 [2.50, 2.50]");
  EXPECT_EQ(format_interval(1, kNan, kNan), "1 [nan, nan]");
}

TEST(ReportTable, AlignsByDisplayWidth) {
  Table table({{"component", Table::Align::left}, {"effect"}});
  table.add_row({"m2.n90", "0.74"});
  table.add_row({"水槽", "-12.5"});
  table.add_row({"e\u0301", ""});
  EXPECT_EQ(table.text(),
            "component  effect\n"
            "─────────  ──────\n"
            "m2.n90       0.74\n"
            "水槽        -12.5\n"
            "e\u0301\n");
  EXPECT_EQ(display_width("Größe 🚰"), 8U);
  EXPECT_EQ(display_width("\xff\xfe"), 2U);
}

TEST(ReportTable, RefusesRowsOfAnotherLengthAndKeepsToOneLineARow) {
  Table table({{"a"}, {"b"}});
  EXPECT_THROW(table.add_row({"1"}), Error);
  table.add_row({"x\ny", "\033[31m"});
  EXPECT_EQ(table.rows(), 1U);
  EXPECT_NE(table.text().find("x y"), std::string::npos);
  EXPECT_EQ(table.text().find('\033'), std::string::npos);
}

TEST(ReportHeatMap, ShowsOneCharacterAValue) {
  const at::Tensor values =
      at::tensor({0.0, 0.5, 1.0, -3.0, 7.0, kNan}, at::kDouble).reshape({2, 3});
  EXPECT_EQ(heat_map(values, {"0", "10"}, {"8", "9", "10"}),
            "      1\n"
            "    890\n"
            " 0 | +@|\n"
            "10 | @?|\n"
            "0 | .:-=+*#%@| 1\n");
  EXPECT_EQ(heat_map(at::zeros({1, 2})), "|  |\n0 | .:-=+*#%@| 1\n");
  EXPECT_THROW(heat_map(at::zeros({2})), Error);
  EXPECT_THROW(heat_map(at::zeros({2, 2}), {"a"}), Error);
}

TEST(ReportHeatMap, DrawsSparklines) {
  EXPECT_EQ(sparkline({0, 1, 2, 3, 4, 5, 6, 7}), "▁▂▃▄▅▆▇█");
  EXPECT_EQ(sparkline({-1e308, kNan, 1e308}), "▁ █");
  EXPECT_EQ(sparkline({2, 2}), "▅▅");
  EXPECT_EQ(sparkline({}), "");
}

// A progress bar on a temporary file, under a clock set by hand.
struct Watched {
  std::FILE* file = std::tmpfile();
  double now = 100.0;
  Progress show;

  explicit Watched(bool tty) : show(progress_bar(file, tty, [this] { return now; })) {}
  ~Watched() {
    show = nullptr;
    std::fclose(file);
  }
  std::string text() const {
    std::string all(static_cast<std::size_t>(std::ftell(file)), '\0');
    std::rewind(file);
    all.resize(std::fread(all.data(), 1, all.size(), file));
    std::fseek(file, 0, SEEK_END);
    return all;
  }
};

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++found;
  return found;
}

TEST(ReportProgress, SaysNothingAboutShortJobs) {
  for (const bool tty : {false, true}) {
    Watched watched(tty);
    for (int i = 0; i <= 10; ++i) {
      watched.show("job", i / 10.0);
      watched.now += 0.19;
    }
    EXPECT_EQ(watched.text(), "");
  }
}

TEST(ReportProgress, RedrawsAtMostEightTimesASecondAndWipesItselfOut) {
  Watched watched(true);
  for (int i = 0; i < 1000; ++i) {
    watched.show("wave 1", i / 1000.0);
    watched.now += 0.01;
  }
  std::string text = watched.text();
  EXPECT_LE(count(text, "\r"), 65U);
  EXPECT_GE(count(text, "\r"), 55U);
  EXPECT_NE(text.find("[############............]  51 %, 5 s left  wave 1"), std::string::npos)
      << text;
  EXPECT_EQ(text.find('\n'), std::string::npos);
  watched.show("wave 1", 1.0);
  text = watched.text();
  EXPECT_EQ(text.substr(text.size() - 4), "\r\033[K");
}

TEST(ReportProgress, WritesALineEveryTenSecondsWhereThereIsNoTerminal) {
  Watched watched(false);
  for (int i = 0; i < 400; ++i) {
    watched.show("sweep", i / 4000.0);
    watched.now += 0.1;
  }
  const std::string text = watched.text();
  EXPECT_EQ(count(text, "\n"), 4U) << text;
  EXPECT_NE(text.find("sweep: 3 %, 6 min 2"), std::string::npos) << text;
  EXPECT_EQ(text.find('\r'), std::string::npos);
}

TEST(ReportProgress, EstimatesEveryPhaseAnew) {
  Watched watched(true);
  watched.show("first", 0.9);
  watched.now += 100;
  watched.show("second", 0.0);
  watched.now += 1;
  watched.show("second", 0.5);
  const std::string text = watched.text();
  EXPECT_NE(text.find("50 %, 1 s left  second"), std::string::npos) << text;
}

}  // namespace
}  // namespace plumb
