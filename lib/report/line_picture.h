// Lines over the steps of trainings, in panels one below another.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plumb/trace.h"

namespace plumb::report {

struct Line {
  std::string name = {};
  std::vector<std::int64_t> steps = {};
  std::vector<double> values = {};  ///< one for each step; a gap where it is not finite
};

struct Panel {
  std::string title = {};
  std::vector<Line> lines = {};
  const ChangePoint* change = nullptr;  ///< a dashed line and a band, where found
};

/// An SVG picture. The axis of steps is logarithmic where most of them come early. Panels of
/// the same lines one below another share a legend, which is as long as they are high. Empty if
/// there is nothing to draw.
std::string line_picture(const std::vector<Panel>& panels);

}  // namespace plumb::report
