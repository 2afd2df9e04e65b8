// What `plumb record` says.
#include <fmt/format.h>

#include "plumb/report_json.h"
#include "plumb/report_text.h"
#include "report/json_pieces.h"
#include "report/record_pieces.h"
#include "report/text_pieces.h"

namespace plumb {

std::string record_json(const RunInfo& run, const Inputs& inputs, const Recording& recording) {
  using report::Json;
  Json json = report::document(run);
  json["inputs"] = report::inputs_json(inputs);
  json["conventions"] = {
      {"sites", "the tensor as the rest of the model saw it; layers are counted from 0"},
      {"padding", "entries of positions from a sequence's length on hold what the padding makes"},
      {"store", "values are rounded to this type, to nearest"}};
  json["store"] = report::show_store(recording.options.store);
  json["sites"] = Json::array();
  for (const RecordedSite& site : recording.sites) {
    json["sites"].push_back({{"site", report::show_site(site.site)},
                             {"dataset", site.dataset},
                             {"axes", site.axes},
                             {"shape", site.shape}});
  }
  json["bytes"] = recording.bytes;
  json["evaluations"] = recording.evaluations;
  report::put_end(json, run);
  return report::print(json);
}

std::string record_text(const RunInfo& run, const Inputs& inputs, const Recording& recording) {
  using namespace report;
  std::string text = show_run(run, nullptr);
  text += fmt::format("{} sequences of {} tokens; {} on {}, stored as {}\n",
                      show_count(recording.sequences), show_count(inputs.length()), run.dtype,
                      run.device, show_store(recording.options.store));
  text += heading("Recorded");
  std::vector<std::vector<std::string>> rows;
  for (const RecordedSite& site : recording.sites) {
    std::vector<std::string> shape;
    for (std::size_t i = 0; i < site.shape.size(); ++i) {
      shape.push_back(fmt::format("{} {}", site.axes[i], site.shape[i]));
    }
    rows.push_back(
        {show_site(site.site), fmt::format("[{}]", fmt::join(shape, ", ")), site.dataset});
  }
  text += columns({"<site", "<axes", "<dataset"}, rows);
  text +=
      fmt::format("\n{} of values; {} of the weights' files read\n", show_bytes(recording.bytes),
                  show_bytes(static_cast<std::int64_t>(run.bytes_read)));
  return text + show_end(run, recording.evaluations);
}

}  // namespace plumb
