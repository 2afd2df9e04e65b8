// The document of `plumb attribute` for nodes.
#include <ATen/ATen.h>

#include "plumb/report_nodes.h"
#include "report/json_pieces.h"
#include "report/node_pieces.h"

namespace plumb {
namespace {

using report::Json;

Json check_json(const NodeReport& found) {
  const NodeCheck& check = *found.check;
  Json json = {{"verified", Json::array()}};
  for (const CheckedNode& node : check.nodes)
    json["verified"].push_back({{"node", node_name(found, node.node)},
                                {"as", report::name_of(node.as)},
                                {"score", node.score},
                                {"exact", node.exact}});
  json["spearman"] = check.spearman;
  json["pearson"] = check.pearson;
  json["spearman_sampled"] = check.spearman_sampled;
  json["missed"] = Json();
  if (check.missed)
    json["missed"] = {{"node", node_name(found, check.missed->node)},
                      {"as", report::name_of(check.missed->as)},
                      {"score", check.missed->score},
                      {"exact", check.missed->exact},
                      {"rank", check.missed_rank}};
  json["nodes_seen"] = check.nodes_seen;
  json["rest"] = check.rest;
  json["largest_sampled"] = check.largest_sampled;
  json["may_exceed"] = check.may_exceed;
  json["confidence"] = check.options.confidence;
  json["seed"] = check.options.seed;
  json["sets"] = Json::array();
  for (const SetBound& bound : check.sets)
    json["sets"].push_back({{"nodes", to_string(found.sweeps[bound.sweep].spec)},
                            {"count", bound.nodes},
                            {"deviation", bound.deviation},
                            {"bound", bound.bound}});
  if (!check.sets.empty()) json["sets_rest_on"] = report::set_bound_words(check.options);
  json["evaluations"] = check.evaluations;
  return json;
}

}  // namespace

std::string nodes_json(const RunInfo& run, const Pairs& pairs, const NodeReport& found,
                       std::int64_t top) {
  Json json = report::document(run);
  json["inputs"] = report::inputs_json(pairs);
  json["conventions"] = Json::object();
  for (const auto& [name, words] : report::node_conventions(found))
    json["conventions"][name] = words;
  json["method"] = to_string(found.options.method);
  json["direction"] = to_string(found.options.direction);
  json["metric"] = {{"name", to_string(found.metric)},
                    {"clean", found.clean_mean.mean},
                    {"corrupt", found.corrupt_mean.mean},
                    {"clean_interval", {found.clean_mean.low, found.clean_mean.high}},
                    {"corrupt_interval", {found.corrupt_mean.low, found.corrupt_mean.high}}};
  const report::NodeTotal total = report::total_of(found);
  json["nodes"] = Json::array();
  for (const NodeRef& node : strongest_nodes(found, top > 0 ? top : total.nodes))
    json["nodes"].push_back({node_name(found, node), node_score(found, node)});
  json["total"] = {{"nodes", total.nodes}, {"abs_sum", total.sizes}};
  json["sweeps"] = Json::array();
  for (const NodeSweep& sweep : found.sweeps) {
    Json axes = Json::array();
    for (const SweepAxis axis : sweep.spec.axes) axes.push_back(to_string(axis));
    json["sweeps"].push_back({{"site", std::string(to_string(sweep.spec.part))},
                              {"axes", axes},
                              {"scores", report::to_json(sweep.scores)},
                              {"absent", sweep.absent}});
  }
  if (found.check) json["check"] = check_json(found);
  json["evaluations"] = found.evaluations;
  json["backwards"] = found.backwards;
  report::put_end(json, run);
  return report::print(json);
}

}  // namespace plumb
