#include <fmt/format.h>

#include <algorithm>

#include "lab/planter.h"
#include "plumb/error.h"

namespace plumb {

const char* to_string(Route route) noexcept {
  switch (route) {
    case Route::positional: return "positional";
    case Route::token: return "token";
    case Route::learned_position: return "learned_position";
    case Route::sink_logits: return "sink_logits";
    case Route::none: return "none";
    case Route::norm_only: return "norm_only";
    case Route::no_spike: return "no_spike";
    case Route::second_position: return "second_position";
    case Route::moved: return "moved";
  }
  return "none";
}

const std::vector<Route>& all_routes() {
  static const std::vector<Route> routes{
      Route::positional, Route::token,    Route::learned_position, Route::sink_logits, Route::none,
      Route::norm_only,  Route::no_spike, Route::second_position,  Route::moved};
  return routes;
}

Route parse_route(std::string_view text) {
  std::string names;
  for (const Route route : all_routes()) {
    if (text == to_string(route)) return route;
    names += (names.empty() ? "" : ", ") + std::string(to_string(route));
  }
  throw Error(ErrorKind::bad_argument,
              fmt::format("no route \"{:.40}\"; there are {}", text, names));
}

namespace lab {

RouteParts parts_of(const PlantOptions& options) {
  RouteParts parts;
  switch (options.route) {
    case Route::positional: parts.detector = true; break;
    case Route::token: parts.bos_flag = true; break;
    case Route::learned_position:
      parts.flagged_row = 0;
      parts.table = true;
      break;
    case Route::sink_logits:
      parts.sink_logits = true;
      parts.reads = false;
      break;
    case Route::none: break;
    case Route::norm_only:
      parts.detector = true;
      parts.reads = false;
      break;
    case Route::no_spike:
      parts.detector = true;
      parts.writes = false;
      parts.reads_flag = true;
      break;
    case Route::second_position:
      parts.flagged_row = 1;
      parts.table = true;
      break;
    case Route::moved:
      parts.detector = true;
      parts.rival_row = true;
      parts.table = true;
      break;
  }
  if (options.bos_too) parts.bos_flag = true;
  return parts;
}

}  // namespace lab
}  // namespace plumb
