// Pieces that the archives share.
#pragma once

#include <string>
#include <vector>

#include "plumb/archive.h"
#include "plumb/illustration.h"
#include "plumb/inputs.h"
#include "plumb/metrics.h"
#include "plumb/pairs.h"
#include "plumb/run_info.h"
#include "plumb/sink.h"

namespace plumb::report {

/// The attributes of /provenance. `options` is a JSON object.
void put_provenance(ArchiveWriter& file, const RunInfo& run, const std::string& options);
/// Prompts, positions and answers, under /inputs.
void put_pairs(ArchiveWriter& file, const Pairs& pairs);
/// <group>/tokens and <group>/lengths.
void put_inputs(ArchiveWriter& file, const std::string& group, const Inputs& inputs);
/// Everything a survey holds, under the group.
void put_survey(ArchiveWriter& file, const std::string& group, const SinkSurvey& survey);

/// What tokens say, under /inputs/shown, and where heads look, under /attention.
void put_illustration(ArchiveWriter& file, const Illustration& shown);

/// The name with everything but letters and digits as '_': "text, no BOS" to "text_no_BOS".
std::string group_name(const std::string& name);

/// A column of numbers or strings, one row for each entry along `axis`.
void put_column(ArchiveWriter& file, const std::string& path, const std::vector<double>& values,
                const std::string& axis, const std::string& unit, const std::string& note);
void put_column(ArchiveWriter& file, const std::string& path,
                const std::vector<std::int64_t>& values, const std::string& axis,
                const std::string& unit, const std::string& note);
void put_column(ArchiveWriter& file, const std::string& path,
                const std::vector<std::string>& values, const std::string& axis,
                const std::string& note);

}  // namespace plumb::report
