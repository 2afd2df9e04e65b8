// The archive of `plumb attribute`.
#include <ATen/ATen.h>

#include "plumb/attribute.h"
#include "plumb/report_archive.h"
#include "report/archive_pieces.h"
#include "report/edge_pieces.h"
#include "report/json_pieces.h"

namespace plumb {

void write_archive(const std::filesystem::path& path, const RunInfo& run, const Pairs& pairs,
                   const EdgeReport& found) {
  using report::Json;
  const EdgeScores& scores = found.scores;
  const EdgeSpace& space = scores.space;
  ArchiveWriter file(path);
  Json options = {{"method", scores.method},
                  {"rules", to_string(found.options.rules)},
                  {"metric", to_string(found.metric)},
                  {"steps", found.options.steps},
                  {"points", found.options.points ? to_string(*found.options.points) : ""},
                  {"by_position", found.options.by_position}};
  report::put_provenance(file, run, report::dump(options));
  report::put_pairs(file, pairs);
  const std::string group = "/attribution";
  std::vector<std::string> axes = {"edge"};
  if (scores.values.dim() == 2) axes.insert(axes.begin(), "position");
  file.dataset(group + "/scores", scores.values.contiguous(), {axes, "", scores.convention});
  if (found.each.defined())
    file.dataset(group + "/each", found.each.contiguous(), {{"pair", "edge"}, "", "of each pair"});
  file.dataset(group + "/clean", found.clean, {{"pair"}, "", "metric of the clean run"});
  file.dataset(group + "/corrupt", found.corrupt, {{"pair"}, "", "metric of the corrupt run"});
  std::vector<std::string> senders;
  std::vector<std::string> receivers;
  std::vector<std::int64_t> first;
  for (std::int64_t s = 0; s < space.senders(); ++s) senders.push_back(space.sender_name(s));
  for (std::int64_t r = 0; r < space.receivers(); ++r) {
    receivers.push_back(space.receiver_name(r));
    first.push_back(space.first_edge(r));
  }
  report::put_column(file, group + "/senders", senders, "sender", "what writes, in order");
  report::put_column(file, group + "/receivers", receivers, "receiver", "what reads, in order");
  report::put_column(file, group + "/first_edge", first, "receiver", "",
                     "the edge from sender 0; those from the next senders follow");
  file.attribute(group, "method", scores.method);
  file.attribute(group, "metric", to_string(found.metric));
  file.attribute(group, "convention", scores.convention);
  file.attribute(group, "layers", std::int64_t{space.layers()});
  file.attribute(group, "heads", std::int64_t{space.heads()});
  file.attribute(group, "kv_heads", std::int64_t{space.kv_heads()});
  file.attribute(group, "parallel", std::int64_t{space.parallel() ? 1 : 0});
  file.close();
}

}  // namespace plumb
