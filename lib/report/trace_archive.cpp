// The archive of `plumb trace`, written and read.
#include <ATen/ATen.h>

#include <system_error>

#include "plumb/error.h"
#include "plumb/report_trace.h"
#include "report/archive_pieces.h"
#include "report/json_pieces.h"

namespace plumb {
namespace {

std::string options_words(const TraceOptions& options) {
  const SinkOptions& sink = options.sink;
  return report::dump(report::Json{{"epsilon", sink.epsilon},
                                   {"queries", to_string(sink.queries)},
                                   {"pool", to_string(sink.pool)},
                                   {"wave_threshold", sink.wave_threshold},
                                   {"onset_rate", options.onset_rate}});
}

}  // namespace

void write_archive(const std::filesystem::path& path, const RunInfo& run, const Inputs& inputs,
                   const Trace& trace) {
  ArchiveWriter file(path);
  report::put_provenance(file, run, options_words(trace.options));
  report::put_inputs(file, "/inputs", inputs);
  file.attribute("/trace", "options", options_words(trace.options));
  file.attribute("/trace", "inputs_sha256", trace.inputs_sha256);
  std::vector<std::int64_t> steps;
  std::vector<std::string> names;
  std::vector<std::string> stamps;
  std::vector<double> flat;
  for (std::size_t i = 0; i < trace.entries.size(); ++i) {
    steps.push_back(trace.entries[i].step);
    names.push_back(trace.entries[i].name);
    stamps.push_back(trace.entries[i].stamp);
    flat.insert(flat.end(), trace.values[i].begin(), trace.values[i].end());
  }
  report::put_column(file, "/trace/step", steps, "checkpoint", "step", "of the training");
  report::put_column(file, "/trace/name", names, "checkpoint", "name in the directory");
  report::put_column(file, "/trace/stamp", stamps, "checkpoint",
                     "sizes and times of the weight files");
  report::put_column(file, "/trace/column", trace.columns, "column", "what a column holds");
  file.dataset("/trace/values",
               at::tensor(flat, at::kDouble).view({static_cast<std::int64_t>(steps.size()), -1}),
               {{"checkpoint", "column"}, "", "NaN = nothing to measure"});
  file.close();
}

std::optional<Trace> read_trace(const std::filesystem::path& path, const Inputs& inputs,
                                const TraceOptions& options) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  const Archive file(path);
  if (!file.has("/trace") || file.attribute("/trace", "options") != options_words(options) ||
      file.attribute("/trace", "inputs_sha256") != inputs.sha256) {
    return {};
  }
  Trace trace{.options = options, .inputs_sha256 = inputs.sha256};
  trace.columns = file.strings("/trace/column");
  const std::vector<std::string> names = file.strings("/trace/name");
  const std::vector<std::string> stamps = file.strings("/trace/stamp");
  const at::Tensor steps = file.tensor("/trace/step");
  const at::Tensor values = file.tensor("/trace/values").to(at::kDouble).contiguous();
  const auto count = static_cast<std::int64_t>(names.size());
  if (steps.dim() != 1 || steps.size(0) != count || steps.scalar_type() != at::kLong ||
      std::ssize(stamps) != count || values.dim() != 2 || values.size(0) != count ||
      values.size(1) != std::ssize(trace.columns)) {
    throw Error(ErrorKind::bad_file,
                path.string() + ": the datasets of /trace do not belong together; remove the file");
  }
  const double* value = values.data_ptr<double>();
  for (std::int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    trace.entries.push_back({steps[i].item<std::int64_t>(), names[at], stamps[at], {}});
    trace.values.emplace_back(value, value + values.size(1));
    value += values.size(1);
  }
  return trace;
}

}  // namespace plumb
