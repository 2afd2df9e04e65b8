// The archive of `plumb patch`.
#include <ATen/ATen.h>

#include <map>

#include "plumb/report_archive.h"
#include "report/archive_pieces.h"
#include "report/json_pieces.h"
#include "report/patch_pieces.h"

namespace plumb {

void report::put_pairs(ArchiveWriter& file, const Pairs& pairs) {
  const auto put = [&](const std::string& name, const at::Tensor& value,
                       std::vector<std::string> axes, const std::string& note) {
    file.dataset(name, value.contiguous(), {std::move(axes), "", note});
  };
  put("/inputs/clean", pairs.clean.ids, {"pair", "position"}, "token ids, padded on the right");
  put("/inputs/corrupt", pairs.corrupt.ids, {"pair", "position"}, "token ids");
  put("/inputs/reads", pairs.reads, {"pair"}, "position at which the metric is read");
  put("/inputs/corrupt_reads", pairs.corrupt_reads, {"pair"}, "the same of the corrupt prompt");
  put("/inputs/right", pairs.right, {"pair"}, "token id of the answer to the clean prompt");
  put("/inputs/wrong", pairs.wrong, {"pair"}, "token id of the answer to the corrupt prompt");
  if (pairs.also_right.defined() && pairs.also_right.size(1) > 0)
    put("/inputs/also_right", pairs.also_right, {"pair", "answer"}, "further ones, -1 = no more");
  if (pairs.also_wrong.defined() && pairs.also_wrong.size(1) > 0)
    put("/inputs/also_wrong", pairs.also_wrong, {"pair", "answer"}, "further ones, -1 = no more");
  if (pairs.to_corrupt.defined()) {
    put("/inputs/to_corrupt", pairs.to_corrupt, {"pair", "position"},
        "the corrupt position that belongs to a clean one, -1 = none");
  }
}

void write_archive(const std::filesystem::path& path, const RunInfo& run, const Pairs& pairs,
                   const PatchReport& found) {
  using report::Json;
  ArchiveWriter file(path);
  report::put_provenance(
      file, run,
      report::dump(Json{{"direction", to_string(found.options.direction)},
                        {"metric", to_string(found.options.metric)},
                        {"ablation", to_string(found.options.replacement)},
                        {"with", report::with_words(found)},
                        {"paths", found.paths ? Json(report::path_words(*found.paths)) : Json()},
                        {"raw", found.options.raw}}));
  const auto put = [&](const std::string& name, const at::Tensor& value,
                       std::vector<std::string> axes, const std::string& note) {
    file.dataset(name, value.contiguous(), {std::move(axes), "", note});
  };
  report::put_pairs(file, pairs);
  put("/sweep/clean", found.clean, {"pair"}, "metric of the plain clean run");
  put("/sweep/corrupt", found.corrupt, {"pair"}, "metric of the plain corrupt run");
  std::map<std::string, int> used;
  for (const Sweep& sweep : found.sweeps) {
    std::vector<std::string> axes;
    for (const SweepAxis axis : sweep.spec.axes) axes.emplace_back(to_string(axis));
    std::string group = "/sweep/" + report::group_name(to_string(sweep.spec));
    const bool sets = !sweep.spec.sets.empty();
    if (const int before = used[group]++; before > 0) group += "_" + std::to_string(before + 1);
    put(group + "/values", sweep.values, axes, report::values_words(found));
    if (sweep.low.defined()) {
      put(group + "/low", sweep.low, axes, "lower bound of the 95 % interval over pairs");
      put(group + "/high", sweep.high, axes, "upper bound");
    }
    axes.emplace_back("pair");
    put(group + "/each", sweep.each, axes, "metric of the patched run");
    if (sets) {
      std::vector<std::string> names;
      for (const SiteSet& set : sweep.spec.sets) names.push_back(set.name);
      report::put_column(file, group + "/sets", names, "set", "sites patched together");
    } else {
      file.attribute(group, "site", std::string(to_string(sweep.spec.part)));
    }
  }
  file.close();
}

}  // namespace plumb
