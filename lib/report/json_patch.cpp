// The document of `plumb patch`.
#include <ATen/ATen.h>

#include "plumb/report_json.h"
#include "report/json_pieces.h"
#include "report/patch_pieces.h"

namespace plumb {

std::string patch_json(const RunInfo& run, const Pairs& pairs, const PatchReport& found) {
  using report::Json;
  Json json = report::document(run);
  json["inputs"] = report::inputs_json(pairs);
  json["conventions"] = {
      {"direction", report::direction_words(found)},
      {"metric", report::metric_words(found.options.metric)},
      {"values", report::values_words(found)},
      {"layers", "counted from 0"},
      {"heads", "of k and v: key heads"},
      {"q, k", "after QK-norm and rotation"},
      {"position", "of pattern and scores: the query"},
      {"interval", "95 %, percentile bootstrap over pairs, all runs drawn alike"}};
  json["direction"] = to_string(found.options.direction);
  json["ablation"] = to_string(found.options.replacement);
  json["with"] = report::with_words(found);
  if (found.paths) {
    Json via = Json::array();
    for (const auto& hop : found.paths->via) via.push_back(report::sites_words(hop));
    json["conventions"]["paths"] = report::path_words(*found.paths);
    json["paths"] = {{"receivers", report::sites_words(found.paths->receivers)},
                     {"via", via},
                     {"mlps", to_string(found.paths->mlps)}};
  }
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
    Json entry = {
        {"site", sweep.spec.sets.empty() ? Json(std::string(to_string(sweep.spec.part))) : Json()},
        {"axes", axes},
        {"values", report::to_json(sweep.values)},
        {"not_finite", sweep.not_finite},
        {"absent", sweep.absent}};
    if (!sweep.spec.sets.empty()) {
      entry["sets"] = Json::array();
      for (const SiteSet& set : sweep.spec.sets) entry["sets"].push_back(set.name);
    }
    if (sweep.low.defined()) {
      entry["low"] = report::to_json(sweep.low);
      entry["high"] = report::to_json(sweep.high);
      entry["each"] = report::to_json(sweep.each);
    }
    json["sweeps"].push_back(std::move(entry));
  }
  json["evaluations"] = found.evaluations;
  json["naive_evaluations"] = found.naive_evaluations;
  report::put_end(json, run);
  return report::print(json);
}

}  // namespace plumb
