// The archive of `plumb attribute` for nodes.
#include <ATen/ATen.h>

#include <map>

#include "plumb/report_nodes.h"
#include "report/archive_pieces.h"
#include "report/json_pieces.h"
#include "report/node_pieces.h"

namespace plumb {
namespace {

void put_check(ArchiveWriter& file, const NodeReport& found) {
  const NodeCheck& check = *found.check;
  const std::string group = "/attribution/check";
  std::vector<std::string> names;
  std::vector<std::string> as;
  std::vector<double> scores;
  std::vector<double> exact;
  for (const CheckedNode& node : check.nodes) {
    names.push_back(node_name(found, node.node));
    as.emplace_back(report::name_of(node.as));
    scores.push_back(node.score);
    exact.push_back(node.exact);
  }
  report::put_column(file, group + "/nodes", names, "verified", "nodes patched in truth");
  report::put_column(file, group + "/as", as, "verified", "why they were chosen");
  report::put_column(file, group + "/score", scores, "verified", "", "the estimate");
  report::put_column(file, group + "/exact", exact, "verified", "", "what it estimates");
  file.attribute(group, "rest", check.rest);
  file.attribute(group, "may_exceed", check.may_exceed);
}

}  // namespace

void write_archive(const std::filesystem::path& path, const RunInfo& run, const Pairs& pairs,
                   const NodeReport& found) {
  using report::Json;
  ArchiveWriter file(path);
  report::put_provenance(file, run,
                         report::dump(Json{{"method", to_string(found.options.method)},
                                           {"metric", to_string(found.metric)},
                                           {"direction", to_string(found.options.direction)},
                                           {"steps", found.options.steps},
                                           {"points", to_string(found.options.points)}}));
  report::put_pairs(file, pairs);
  file.dataset("/attribution/clean", found.clean, {{"pair"}, "", "metric of the clean run"});
  file.dataset("/attribution/corrupt", found.corrupt, {{"pair"}, "", "metric of the corrupt run"});
  std::map<std::string, int> used;
  for (const NodeSweep& sweep : found.sweeps) {
    std::vector<std::string> axes;
    for (const SweepAxis axis : sweep.spec.axes) axes.emplace_back(to_string(axis));
    std::string group = "/attribution/nodes/" + report::group_name(to_string(sweep.spec));
    if (const int before = used[group]++; before > 0) group += "_" + std::to_string(before + 1);
    const auto put = [&](const std::string& name, const at::Tensor& value,
                         const std::string& note) {
      file.dataset(group + "/" + name, value.contiguous(), {axes, "", note});
    };
    put("scores", sweep.scores, found.convention);
    put("effects", sweep.effects, "mean estimate with its sign, without GradDrop");
    put("magnitudes", sweep.magnitudes,
        "mean absolute estimate, by GradDrop where the method has it");
    put("doubts", sweep.doubts, "mean range of a node's estimates");
    if (sweep.each.defined()) {
      axes.emplace_back("pair");
      put("each", sweep.each, "of effects, each pair's");
    }
    file.attribute(group, "site", std::string(to_string(sweep.spec.part)));
  }
  if (found.check) put_check(file, found);
  file.attribute("/attribution", "method", std::string(to_string(found.options.method)));
  file.attribute("/attribution", "metric", to_string(found.metric));
  file.attribute("/attribution", "convention", found.convention);
  file.close();
}

}  // namespace plumb
