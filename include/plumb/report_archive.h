// Results as one HDF5 file each; its layout is stated in docs/formats.md.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "plumb/illustration.h"
#include "plumb/inputs.h"
#include "plumb/p0.h"
#include "plumb/patch.h"
#include "plumb/run_info.h"
#include "plumb/sink.h"

namespace plumb {

struct EdgeReport;

/// One measured condition: its name ("plain", "native", "random"), its inputs and what was found.
struct Condition {
  std::string name = {};
  Inputs inputs = {};
  SinkSurvey survey = {};
};

/// Each writes a whole file or none. Throws bad_file if that cannot be done. An illustration is of
/// the first condition, or of the inputs without BOS.
void write_archive(const std::filesystem::path& path, const RunInfo& run,
                   const std::vector<Condition>& conditions, const Illustration& shown = {});
void write_archive(const std::filesystem::path& path, const RunInfo& run, const P0Report& report,
                   const P0Inputs& inputs, const Illustration& shown = {});
void write_archive(const std::filesystem::path& path, const RunInfo& run, const Pairs& pairs,
                   const PatchReport& report);
void write_archive(const std::filesystem::path& path, const RunInfo& run, const Pairs& pairs,
                   const EdgeReport& report);

}  // namespace plumb
