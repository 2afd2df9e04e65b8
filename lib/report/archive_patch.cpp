// The archive of `plumb patch`.
#include <ATen/ATen.h>

#include "plumb/report_archive.h"
#include "report/archive_pieces.h"
#include "report/json_pieces.h"

namespace plumb {

void write_archive(const std::filesystem::path& path, const RunInfo& run, const Pairs& pairs,
                   const PatchReport& found) {
  using report::Json;
  ArchiveWriter file(path);
  report::put_provenance(file, run,
                         report::dump(Json{{"direction", to_string(found.options.direction)},
                                           {"metric", to_string(found.options.metric)},
                                           {"raw", found.options.raw}}));
  const auto put = [&](const std::string& name, const at::Tensor& value,
                       std::vector<std::string> axes, const std::string& note) {
    file.dataset(name, value.contiguous(), {std::move(axes), "", note});
  };
  put("/inputs/clean", pairs.clean.ids, {"pair", "position"}, "token ids, padded on the right");
  put("/inputs/corrupt", pairs.corrupt.ids, {"pair", "position"}, "token ids");
  put("/inputs/reads", pairs.reads, {"pair"}, "position at which the metric is read");
  put("/inputs/right", pairs.right, {"pair"}, "token id of the answer to the clean prompt");
  put("/inputs/wrong", pairs.wrong, {"pair"}, "token id of the answer to the corrupt prompt");
  put("/sweep/clean", found.clean, {"pair"}, "metric of the plain clean run");
  put("/sweep/corrupt", found.corrupt, {"pair"}, "metric of the plain corrupt run");
  for (const Sweep& sweep : found.sweeps) {
    std::vector<std::string> axes;
    for (const SweepAxis axis : sweep.spec.axes) axes.emplace_back(to_string(axis));
    const std::string group = "/sweep/" + report::group_name(to_string(sweep.spec));
    put(group + "/values", sweep.values, axes,
        found.options.raw ? "mean metric over pairs"
                          : "0 = the unpatched run, 1 = the run pasted from");
    axes.emplace_back("pair");
    put(group + "/each", sweep.each, axes, "metric of the patched run");
    file.attribute(group, "site", std::string(to_string(sweep.spec.part)));
  }
  file.close();
}

}  // namespace plumb
