// From evidence to a verdict.
#pragma once

#include "sink/p0_graph.h"

namespace plumb {

/// What the ladder knows beyond the wave's own report.
struct LadderEvidence {
  const SinkSurvey* plain =
      nullptr;  ///< natural text without BOS; nullptr if the wave is not there
  const SinkSurvey* native = nullptr;
  const SinkSurvey* random = nullptr;
  double position_shift_change = 0;
  bool shift_tested = false;
  double learned_position_share =
      0;  ///< of the sink that follows the position row; learned positions only
  GraphEvidence graph = {};
};

/// Wilson's 95 % interval of a share of `count` trials.
Estimate wilson(double share, double count);

/// Fills report.ladder and report.verdict.
void climb(const P0Context& context, std::size_t wave, const LadderEvidence& evidence,
           WaveReport& report);

/// The ladder of a wave that only the condition with BOS has: the token route.
void climb_token_route(const SinkSurvey& native, const SinkSurvey& plain, WaveReport& report);

}  // namespace plumb
