// Results as JSON documents. What is stable in them is stated in docs/formats.md.
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

// Each document ends with a newline. A number that is not finite becomes null.

/// The surveys by the name of their condition; the first one is the document's main one.
/// Throws bad_argument if there is none.
std::string sink_json(const RunInfo& run,
                      const std::vector<std::pair<std::string, SinkSurvey>>& surveys);

std::string patch_json(const RunInfo& run, const Pairs& pairs, const PatchReport& report);

/// `top`: so many edges at most are listed, those of the largest absolute score; 0 = all.
std::string edges_json(const RunInfo& run, const Pairs& pairs, const EdgeReport& report,
                       std::int64_t top = 0);

std::string p0_json(const RunInfo& run, const P0Report& report);

/// What a checkpoint holds, and what a planned experiment will cost. `tokenizer` and `work` may be
/// null.
std::string inspect_json(const RunInfo& run, const Checkpoint& checkpoint,
                         const Tokenizer* tokenizer, const PlannedWork* work = nullptr);

std::string record_json(const RunInfo& run, const Inputs& inputs, const Recording& recording);

/// What a conversion wrote.
std::string convert_json(const RunInfo& run, const Conversion& conversion);

}  // namespace plumb
