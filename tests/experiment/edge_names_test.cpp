// Edges by name and pattern.
#include "plumb/edge_names.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "plumb/error.h"

namespace plumb {
namespace {

std::set<std::string> names(const EdgeSpace& space, const std::vector<std::int64_t>& edges) {
  std::set<std::string> made;
  for (const std::int64_t edge : edges) made.insert(space.edge_name(edge));
  EXPECT_EQ(made.size(), edges.size());
  EXPECT_TRUE(std::ranges::is_sorted(edges));
  return made;
}

TEST(EdgeNames, StarsStandForAnyCharacters) {
  const EdgeSpace space(2, 2, 1);
  const auto found = [&](const char* words) { return names(space, edges_named(space, words)); };
  EXPECT_EQ(found("a0.h1->m1"), (std::set<std::string>{"a0.h1->m1"}));
  EXPECT_EQ(found("a0.*->a1.h0<q>, m0->logits"),
            (std::set<std::string>{"a0.h0->a1.h0<q>", "a0.h1->a1.h0<q>", "m0->logits"}));
  EXPECT_EQ(found("input->a0.h*<*>"),
            (std::set<std::string>{"input->a0.h0<q>", "input->a0.h1<q>", "input->a0.h0<k>",
                                   "input->a0.h0<v>"}));
  // Of m0: 2 queries, a key, a value and the MLP of block 1, and the logits; of m1 the logits.
  EXPECT_EQ(found("m*->*").size(), 7U);
  EXPECT_EQ(std::ssize(edges_named(space, "*->*")), space.edges());
  EXPECT_EQ(found("*h1->*1  *h1->*1"), found("*h1->*1"));
}

TEST(EdgeNames, RefuseWordsThatNameNone) {
  const EdgeSpace space(2, 2, 1);
  for (const char* words : {"a0.h1", "m1->m0", "a9.*->logits", "input->a0.h1<k>", "->", "*"})
    EXPECT_THROW((void)edges_named(space, words), Error) << words;
  EXPECT_TRUE(edges_named(space, " ,").empty());
}

TEST(EdgeNames, SamplesAreDrawnFromTheEdgesGiven) {
  std::vector<std::int64_t> edges;
  for (std::int64_t edge = 0; edge < 300; edge += 3) edges.push_back(edge);
  const auto drawn = sample_of(edges, 20, 4);
  EXPECT_EQ(drawn.size(), 20U);
  EXPECT_TRUE(std::ranges::includes(edges, drawn));
  EXPECT_EQ(drawn, sample_of(edges, 20, 4));
  EXPECT_NE(drawn, sample_of(edges, 20, 5));
  EXPECT_EQ(sample_of(edges, 1000, 4), edges);
  EXPECT_THROW((void)sample_of(edges, 0, 4), Error);
}

}  // namespace
}  // namespace plumb
