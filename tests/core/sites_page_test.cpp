// docs/sites.md against the code.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "plumb/site.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

// Cells of the rows of the page's first table, without back quotes.
std::vector<std::vector<std::string>> rows_of_page() {
  std::ifstream page(source_dir() / "docs" / "sites.md");
  std::vector<std::vector<std::string>> rows;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("## ")) break;
    if (!line.starts_with("| `")) continue;
    std::erase(line, '`');
    std::vector<std::string> cells;
    std::istringstream rest(line.substr(1));
    for (std::string cell; std::getline(rest, cell, '|');) {
      const std::size_t begin = cell.find_first_not_of(' ');
      cells.push_back(begin == std::string::npos
                          ? ""
                          : cell.substr(begin, cell.find_last_not_of(' ') - begin + 1));
    }
    rows.push_back(cells);
  }
  return rows;
}

std::string with_layer(std::string text, const std::string& zero, const std::string& any) {
  const std::size_t at = text.find(zero);
  return at == std::string::npos ? text : text.replace(at, zero.size(), any);
}

TEST(SitesPage, ListsEverySiteAsTheCodeHasIt) {
  const auto rows = rows_of_page();
  ASSERT_EQ(rows.size(), static_cast<std::size_t>(part_count));
  for (int i = 0; i < part_count; ++i) {
    const auto part = static_cast<Part>(i);
    const auto& row = rows[static_cast<std::size_t>(i)];
    ASSERT_EQ(row.size(), 4U) << i;
    EXPECT_EQ(row[0], with_layer(to_string(Site{part, 0}), "L0.", "L<l>."));
    std::string names;
    for (const Axis axis : axes(part)) {
      names += (names.empty() ? "" : ", ") + std::string(to_string(axis));
    }
    EXPECT_EQ(row[1], "[" + names + "]") << row[0];
    EXPECT_FALSE(row[2].empty()) << row[0];
    EXPECT_EQ(row[3], with_layer(tl_name({part, 0}), "blocks.0.", "blocks.<l>.")) << row[0];
  }
}

}  // namespace
}  // namespace plumb::test
