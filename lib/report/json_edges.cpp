// The document of `plumb attribute`.
#include <ATen/ATen.h>

#include "plumb/attribute.h"
#include "plumb/report_json.h"
#include "report/edge_pieces.h"
#include "report/json_pieces.h"

namespace plumb {

std::string edges_json(const RunInfo& run, const Pairs& pairs, const EdgeReport& found,
                       std::int64_t top) {
  using report::Json;
  Json json = report::document(run);
  json["inputs"] = report::inputs_json(pairs);
  json["conventions"] = Json::object();
  for (const auto& [name, words] : report::edge_conventions(found))
    json["conventions"][name] = words;
  json["method"] = found.scores.method;
  json["rules"] = to_string(found.options.rules);
  json["metric"] = {{"name", to_string(found.metric)},
                    {"clean", found.clean_mean.mean},
                    {"corrupt", found.corrupt_mean.mean},
                    {"clean_interval", {found.clean_mean.low, found.clean_mean.high}},
                    {"corrupt_interval", {found.corrupt_mean.low, found.corrupt_mean.high}}};
  json["edges"] = Json::array();
  for (const auto& [name, score] : report::leading_edges(found.scores, top))
    json["edges"].push_back({name, score});
  const at::Tensor whole = report::whole_scores(found.scores).abs();
  json["total"] = {{"edges", whole.isfinite().sum().item<std::int64_t>()},
                   {"abs_sum", whole.nan_to_num().sum().item<double>()}};
  if (found.agreement) {
    json["agreement"] = {{"edges", found.agreement->edges},
                         {"pearson", found.agreement->pearson},
                         {"spearman", found.agreement->spearman},
                         {"top", found.agreement->top},
                         {"overlap", found.agreement->overlap}};
  }
  if (found.stability) {
    json["stability"] = {
        {"top", found.stability->top},
        {"draws", found.stability->draws},
        {"jaccard", found.stability->overlap.mean},
        {"interval", {found.stability->overlap.low, found.stability->overlap.high}}};
  }
  json["evaluations"] = found.evaluations;
  json["backwards"] = found.backwards;
  report::put_end(json, run);
  return report::print(json);
}

}  // namespace plumb
