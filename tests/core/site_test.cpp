#include "plumb/site.h"

#include <gtest/gtest.h>

#include <set>

#include "plumb/error.h"

namespace plumb {
namespace {

TEST(Site, EveryNameParsesBack) {
  for (int part = 0; part < part_count; ++part) {
    for (const int layer : {0, 3, 117}) {
      const Site site{static_cast<Part>(part), per_layer(static_cast<Part>(part)) ? layer : 0};
      EXPECT_EQ(parse_site(to_string(site)).site, site) << to_string(site);
      if (!tl_name(site).empty()) {
        EXPECT_EQ(parse_site(tl_name(site)).site, site) << tl_name(site);
      }
    }
  }
}

TEST(Site, NamesAreDistinct) {
  std::set<std::string> names;
  for (int part = 0; part < part_count; ++part)
    names.insert(to_string(Site{static_cast<Part>(part), 0}));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(part_count));
}

TEST(Site, SlicesParseBack) {
  const SlicedSite site{.site = {Part::pattern, 3},
                        .slice = {.heads = {1, 4}, .positions = {0}, .keys = {2, 3}}};
  EXPECT_EQ(to_string(site), "L3.pattern[h=1,4;t=0;k=2,3]");
  EXPECT_EQ(parse_site(to_string(site)), site);
  EXPECT_EQ(parse_site("L3.z[h=1-3]").slice.heads, (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_TRUE(parse_site("L3.z[h=*]").slice.whole());
  const SlicedSite experts{.site = {Part::expert_out, 2},
                           .slice = {.positions = {0}, .units = {5}, .experts = {3, 7}}};
  EXPECT_EQ(to_string(experts), "L2.expert_out[t=0;e=3,7;u=5]");
  EXPECT_EQ(parse_site(to_string(experts)), experts);
}

TEST(Site, SetsExpandLayers) {
  const auto sites = parse_sites("L0-2.z[h=*;t=0] L*.attn_out,resid_final", 4);
  ASSERT_EQ(sites.size(), 3U + 4U + 1U);
  EXPECT_EQ(to_string(sites[2]), "L2.z[t=0]");
  EXPECT_EQ(to_string(sites[6]), "L3.attn_out");
  EXPECT_EQ(to_string(sites[7]), "resid_final");
}

TEST(Site, RefusesWhatIsNoSite) {
  for (const char* text : {"",
                           "z",
                           "L3",
                           "L3.",
                           "Lx.z",
                           "L3.foo",
                           "L3.embed",
                           "L-1.z",
                           "L3.z[",
                           "L3.z[h]",
                           "L3.z[q=1]",
                           "L3.z[e=1]",
                           "L3.mlp_out[e=0]",
                           "L3.z[h=1;h=2]",
                           "L3.z[h=3-1]",
                           "L3.attn_out[h=1]",
                           "L3.z[k=0]",
                           "L3.z[h=99999999999999999999]",
                           "L0-1.z",
                           "L3.z[h=0-99999999999]"}) {
    try {
      parse_site(text);
      ADD_FAILURE() << text << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_argument) << text;
    }
  }
  EXPECT_THROW(parse_sites("L0-9.z", 4), Error);
  EXPECT_THROW(parse_sites("  ", 4), Error);
}

}  // namespace
}  // namespace plumb
