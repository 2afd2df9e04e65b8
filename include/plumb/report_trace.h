// A trace as text, JSON, a table, a picture and an archive that a later call goes on from.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "plumb/inputs.h"
#include "plumb/run_info.h"
#include "plumb/trace.h"

namespace plumb {

std::string trace_text(const RunInfo& run, const Trace& trace, const TraceSummary& summary);
std::string trace_json(const RunInfo& run, const Inputs& inputs, const Trace& trace,
                       const TraceSummary& summary);
/// A line for each checkpoint: step, name, then `Trace::columns`. Empty where not measured.
std::string trace_csv(const Trace& trace);
/// An SVG picture: sink and norm of position 0 by layer, and loss, along the steps; change points
/// are dashed lines, their intervals bands.
std::string trace_svg(const Trace& trace, const TraceSummary& summary);

/// Writes the whole file or none. Throws bad_file if that cannot be done.
void write_archive(const std::filesystem::path& path, const RunInfo& run, const Inputs& inputs,
                   const Trace& trace);
/// What such an archive holds, for `trace_checkpoints` to go on from. Nothing where there is no
/// file, or other options or inputs made it. Throws bad_file where the file is damaged.
std::optional<Trace> read_trace(const std::filesystem::path& path, const Inputs& inputs,
                                const TraceOptions& options);

}  // namespace plumb
