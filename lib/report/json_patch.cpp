// The document of `plumb patch`.
#include <ATen/ATen.h>

#include "plumb/report_json.h"
#include "report/json_pieces.h"

namespace plumb {

std::string patch_json(const RunInfo& run, const Pairs& pairs, const PatchReport& found) {
  using report::Json;
  const bool denoising = found.options.direction == Direction::denoising;
  Json json = report::document(run);
  json["inputs"] = {{"kind", "pairs"},
                    {"sequences", pairs.count()},
                    {"length", pairs.length()},
                    {"bos", nullptr},
                    {"sha256", pairs.sha256}};
  json["conventions"] = {
      {"direction", denoising ? "denoising: the corrupt run is patched with clean values"
                              : "noising: the clean run is patched with corrupt values"},
      {"metric", to_string(found.options.metric) + " at the last position of each prompt"},
      {"values", found.options.raw
                     ? "mean metric over pairs"
                     : "(patched - unpatched) / (pasted from - unpatched) of the mean metric over "
                       "pairs: 0 = the unpatched run, 1 = the run pasted from"},
      {"layers", "counted from 0"},
      {"heads", "of k and v: key heads"},
      {"q, k", "after QK-norm and rotation"},
      {"interval", "95 %, percentile bootstrap over pairs"}};
  json["direction"] = to_string(found.options.direction);
  json["metric"] = {{"name", to_string(found.options.metric)},
                    {"clean", found.clean_mean.mean},
                    {"corrupt", found.corrupt_mean.mean},
                    {"clean_interval", {found.clean_mean.low, found.clean_mean.high}},
                    {"corrupt_interval", {found.corrupt_mean.low, found.corrupt_mean.high}},
                    {"clean_each", report::to_json(found.clean)},
                    {"corrupt_each", report::to_json(found.corrupt)}};
  json["sweeps"] = Json::array();
  for (const Sweep& sweep : found.sweeps) {
    Json axes = Json::array();
    for (const SweepAxis axis : sweep.spec.axes) axes.push_back(to_string(axis));
    json["sweeps"].push_back({{"site", std::string(to_string(sweep.spec.part))},
                              {"axes", axes},
                              {"values", report::to_json(sweep.values)},
                              {"not_finite", sweep.not_finite}});
  }
  json["evaluations"] = found.evaluations;
  json["naive_evaluations"] = found.naive_evaluations;
  report::put_end(json, run);
  return report::print(json);
}

}  // namespace plumb
