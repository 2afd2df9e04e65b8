// Results as text for a person: at most 110 columns, UTF-8.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "plumb/checkpoint.h"
#include "plumb/checkpoint_write.h"
#include "plumb/p0.h"
#include "plumb/patch.h"
#include "plumb/planned_work.h"
#include "plumb/record.h"
#include "plumb/run_info.h"
#include "plumb/sink.h"
#include "plumb/tokenizer.h"

namespace plumb {

struct EdgeReport;

// `tokenizer` may be null: tokens are then shown by their ids.

std::string sink_text(const RunInfo& run,
                      const std::vector<std::pair<std::string, SinkSurvey>>& surveys,
                      const Tokenizer* tokenizer);

std::string p0_text(const RunInfo& run, const P0Report& report, const Tokenizer* tokenizer);

std::string patch_text(const RunInfo& run, const Pairs& pairs, const PatchReport& report);

std::string edges_text(const RunInfo& run, const Pairs& pairs, const EdgeReport& report,
                       std::int64_t top = 20);

std::string inspect_text(const RunInfo& run, const Checkpoint& checkpoint,
                         const Tokenizer* tokenizer, const PlannedWork* work = nullptr);

std::string record_text(const RunInfo& run, const Inputs& inputs, const Recording& recording);

std::string convert_text(const RunInfo& run, const Conversion& conversion);

/// One sentence about a wave: "Layers 3-9: positional sink, written by m1 and m2 ...".
std::string wave_sentence(const WaveReport& wave);

}  // namespace plumb
