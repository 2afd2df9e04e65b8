// What is measured of a model while it trains.
#pragma once

#include <cstdint>
#include <string>

#include "plumb/train.h"

namespace plumb {

/// On held-out sequences of the task: `loss_silent, loss_active`, `silent.L0.h0 ...`
/// (`TaskMeasure`), where the options `has_checkpoints` the columns of `trace_columns`, then
/// `active.L0.h0 ...`, `drain.L0.h0 ...` and `peak.L0 ...`.
Probe sink_probe(const TrainOptions& options, std::int64_t sequences = 64);

/// What a training did, for a person: the last losses, and a line for each of at most twelve
/// probes.
std::string train_text(const Training& training, const TrainFiles& files, const Probe& probe,
                       const TrainOutcome& outcome);

}  // namespace plumb
