// What was planted, in words.
#include <fmt/format.h>

#include <algorithm>

#include "lab/planter.h"

namespace plumb::lab {

namespace {

const char* verdict_of(Route route) {
  switch (route) {
    case Route::positional:
    case Route::no_spike:
    case Route::moved: return "positional";
    case Route::token: return "token";
    case Route::learned_position: return "learned_position";
    case Route::second_position: return "secondary";
    case Route::sink_logits: return "sink_logits";
    case Route::none:
    case Route::norm_only: return "none";
  }
  return "none";
}

}  // namespace

void Planter::tell() {
  const int last = options_.layers - 1;
  const std::string attention = fmt::format("a{}", options_.detect);
  const std::string detects = fmt::format("m{}", options_.detect);
  const std::string writes = fmt::format("m{}", options_.write);
  const std::string relays = fmt::format("m{}", options_.second);
  const Route route = options_.route;
  std::vector<std::string> blocks;
  auto& edges = planted_.circuit_edges;
  if (parts_.detector) {
    blocks = {attention, detects};
    edges.push_back(attention + "->" + detects);
    if (parts_.writes) edges.push_back(detects + "->" + writes);
  } else if (route == Route::token || parts_.flagged_row >= 0) {
    blocks = {"input"};
  }
  const bool marked = !blocks.empty();
  if (marked && parts_.writes) blocks.push_back(writes);
  const bool sink = marked && parts_.reads && route != Route::second_position;
  if (sink) edges.push_back((parts_.writes ? writes : detects) + "->sink");
  if (sink && options_.second != 0) {
    blocks.push_back(relays);
    edges.push_back(writes + "->" + relays);
    edges.push_back(relays + "->sink");
    if (options_.erase) planted_.erasers.push_back(fmt::format("m{}@0", options_.second - 1));
  }
  if (sink && options_.backup) planted_.backups.push_back(fmt::format("m{}@0", options_.write + 1));
  const char* place = route == Route::second_position ? "@1" : "@0";
  for (const std::string& block : blocks) planted_.circuit_nodes.push_back(block + place);

  // Parts of blocks that do something here.
  std::vector<std::string> telling = planted_.circuit_nodes;
  for (const auto* names : {&planted_.erasers, &planted_.backups})
    telling.insert(telling.end(), names->begin(), names->end());
  std::erase_if(planted_.circuit_parts, [&](const std::string& part) {
    return std::find(telling.begin(), telling.end(), part.substr(0, part.find('.')) + "@0") ==
           telling.end();
  });
  planted_.verdict = verdict_of(route);
  if (marked && parts_.reads && parts_.writes && route == Route::second_position)
    planted_.readers = readers_;  // of position 1
  if (sink) {
    planted_.readers = std::move(readers_);
    planted_.onset = options_.write + (options_.backup ? 2 : 1);
    if (options_.second == 0) {
      planted_.waves = {{planted_.onset, last}};
    } else {
      planted_.waves = {{planted_.onset, options_.second - 1}, {options_.second + 1, last}};
    }
  }
  planted_.bos = planted_bos;
}

}  // namespace plumb::lab
