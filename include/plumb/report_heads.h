// The reports of `plumb sink` with how each head attends, one `HeadAttention` for each survey.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "plumb/head_attention.h"
#include "plumb/report_archive.h"
#include "plumb/run_info.h"
#include "plumb/tokenizer.h"

namespace plumb {

std::string sink_json(const RunInfo& run,
                      const std::vector<std::pair<std::string, SinkSurvey>>& surveys,
                      const std::vector<HeadAttention>& heads);
std::string sink_text(const RunInfo& run,
                      const std::vector<std::pair<std::string, SinkSurvey>>& surveys,
                      const std::vector<HeadAttention>& heads, const Tokenizer* tokenizer);
void write_archive(const std::filesystem::path& path, const RunInfo& run,
                   const std::vector<Condition>& conditions, const Illustration& shown,
                   const std::vector<HeadAttention>& heads);

}  // namespace plumb
