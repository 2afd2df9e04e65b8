// What an edit changed: as text, JSON and an archive.
#pragma once

#include <filesystem>
#include <string>

#include "plumb/edit.h"
#include "plumb/inputs.h"
#include "plumb/run_info.h"

namespace plumb {

/// What the command did beside measuring.
struct EditDone {
  std::string direction = {};          ///< where it comes from, "" = none
  std::string written = {};            ///< directory of the edited checkpoint, "" = none
  std::string tokenizer_problem = {};  ///< why no tokenizer is beside it
};

std::string edit_text(const RunInfo& run, const Inputs& inputs, const EditReport& report,
                      const EditedModel& edited, const EditDone& done);
std::string edit_json(const RunInfo& run, const Inputs& inputs, const EditReport& report,
                      const EditedModel& edited, const EditDone& done);

/// Writes the whole file or none. Throws bad_file if that cannot be done.
void write_archive(const std::filesystem::path& path, const RunInfo& run, const Inputs& inputs,
                   const EditReport& report, const EditedModel& edited, const EditDone& done);

}  // namespace plumb
