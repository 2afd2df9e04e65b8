// The numbering of edges, against counts of the published graphs and its own inverse.
#include "plumb/edges.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "plumb/error.h"

namespace plumb {
namespace {

TEST(EdgeSpace, CountsOfPublishedGraphs) {
  EXPECT_EQ(EdgeSpace(12, 12, 12).edges(), 32491);    // GPT-2 small
  EXPECT_EQ(EdgeSpace(5, 8, 8).edges(), 2461);        // stories260K, heads ungrouped
  EXPECT_EQ(EdgeSpace(32, 32, 32).edges(), 1592881);  // Llama-3.1-8B, ungrouped
  EXPECT_EQ(EdgeSpace(12, 12, 12).senders(), 157);
  EXPECT_EQ(EdgeSpace(12, 12, 12).receivers(), 445);
}

TEST(EdgeSpace, NumberAndNameOfEveryEdgeAreInverse) {
  for (const EdgeSpace& space :
       {EdgeSpace(3, 4, 2), EdgeSpace(2, 3, 3), EdgeSpace(2, 4, 1, true)}) {
    std::set<std::string> names;
    std::int64_t edge = 0;
    for (std::int64_t r = 0; r < space.receivers(); ++r) {
      EXPECT_EQ(space.index_of(space.receiver(r)), r);
      EXPECT_EQ(space.find_receiver(space.receiver_name(r)), r);
      ASSERT_EQ(space.first_edge(r), edge);
      for (std::int64_t s = 0; s < space.seen_by(r); ++s, ++edge) {
        EXPECT_EQ(space.ends(edge).sender, s);
        EXPECT_EQ(space.ends(edge).receiver, r);
        EXPECT_EQ(space.find_edge(space.edge_name(edge)), edge);
        names.insert(space.edge_name(edge));
      }
    }
    EXPECT_EQ(edge, space.edges());
    EXPECT_EQ(static_cast<std::int64_t>(names.size()), space.edges());
    for (std::int64_t s = 0; s < space.senders(); ++s) {
      EXPECT_EQ(space.index_of(space.sender(s)), s);
      EXPECT_EQ(space.find_sender(space.sender_name(s)), s);
    }
  }
}

TEST(EdgeSpace, OrderOfTheForwardPass) {
  const EdgeSpace space(3, 4, 2);
  EXPECT_TRUE(space.find_edge("input->a0.h3<q>"));
  EXPECT_TRUE(space.find_edge("a0.h1->a2.h1<k>"));
  EXPECT_TRUE(space.find_edge("a1.h1->m1"));
  EXPECT_FALSE(EdgeSpace(3, 4, 2, true).find_edge("a1.h1->m1"));
  EXPECT_TRUE(space.find_edge("m2->logits"));
  for (const char* wrong : {"a1.h1->a1.h0<q>", "m1->m1", "a0.h1->a2.h2<k>", "a0.h4->m0",
                            "m3->logits", "a0.h1->m01", "a0.h1", "->", "a0.h1->a1.h0", "input->m-1",
                            "input->input", "a0.h1 ->m1", "a0h1->m1", "input->m99999999999"})
    EXPECT_FALSE(space.find_edge(wrong)) << wrong;
}

TEST(EdgeSpace, RefusesWhatIsNoModel) {
  EXPECT_THROW(EdgeSpace(0, 4, 2), Error);
  EXPECT_THROW(EdgeSpace(2, 4, 3), Error);
}

}  // namespace
}  // namespace plumb
