// Circuits as JSON documents.
#include "plumb/report_circuit.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "plumb/version.h"
#include "report/circuit_pieces.h"
#include "report/json_pieces.h"
#include "report/patch_pieces.h"

namespace plumb {

namespace report {

std::string outside_words(const Replacement& outside) {
  switch (outside.kind) {
    case ReplacementKind::zero: return "edges outside carry 0";
    case ReplacementKind::mean:
      return "edges outside carry the sender's mean over clean prompts and positions";
    case ReplacementKind::mean_batch:
      return "edges outside carry the sender's mean over clean prompts, at each position";
    case ReplacementKind::mean_position:
      return "edges outside carry the sender's mean over positions, of each clean prompt";
    case ReplacementKind::resample:
      return fmt::format(
          "edges outside carry what the sender writes in another clean prompt (seed "
          "{})",
          outside.seed);
    default: return "edges outside carry what the sender writes in the corrupt run";
  }
}

std::string faithfulness_words() {
  return "(m(circuit) - m(no edge)) / (m(model) - m(no edge)) of means over pairs: 1 = as the "
         "model, "
         "0 = as with every edge replaced; 95 % bootstrap over pairs, all runs drawn alike";
}

// Where the edges of a circuit end (`edge_ends`).
std::string end_words(const Metric& metric) {
  if (!reads_block(metric)) return "logits";
  if (metric.kind == MetricKind::attention)
    return fmt::format("the queries and keys of {}", to_string(metric.site));
  return fmt::format("the read-out of {}", to_string(metric.site));
}

std::map<std::string, std::string> evaluation_words(const EvaluationOptions& options) {
  return {{"faithfulness", faithfulness_words()},
          {"metric", metric_words(options.run.metric)},
          {"outside", outside_words(options.run.outside)},
          {"pruning", options.prune
                          ? fmt::format("circuits are pruned to what lies between input and {}",
                                        end_words(options.run.metric))
                          : "circuits are run as they are"}};
}

}  // namespace report

namespace {

using report::Json;

Json space_json(const EdgeCircuit& circuit) {
  const EdgeSpace& space = circuit.space;
  return {{"layers", space.layers()},      {"heads", space.heads()}, {"kv_heads", space.kv_heads()},
          {"parallel", space.parallel()},  {"edges", space.edges()}, {"senders", space.senders()},
          {"receivers", space.receivers()}};
}

Json value_json(const CircuitValue& value) {
  return {{"name", value.name},
          {"edges", value.edges},
          {"nodes", value.nodes},
          {"metric", report::to_json(value.metric)},
          {"faithfulness", report::to_json(value.faithfulness)}};
}

Json curve_json(const Curve& curve) {
  Json points = Json::array();
  for (const CurvePoint& point : curve.points) {
    Json each = value_json(point.value);
    each.erase("name");
    each["fraction"] = point.fraction;
    each["chosen"] = point.chosen;
    points.push_back(std::move(each));
  }
  return {{"name", curve.name},
          {"cpr", report::to_json(curve.cpr)},
          {"cmd", report::to_json(curve.cmd)},
          {"points", std::move(points)}};
}

Json overlap_json(const Overlap& found) {
  return {{"edges", {found.a, found.b}},    {"both", found.both},
          {"jaccard", found.jaccard},       {"nodes", {found.nodes_a, found.nodes_b}},
          {"nodes_both", found.nodes_both}, {"nodes_jaccard", found.nodes_jaccard},
          {"pearson", found.pearson},       {"spearman", found.spearman}};
}

Json start(const std::string& command) {
  return {{"plumb", std::string(version())}, {"command", command}};
}

}  // namespace

std::string circuit_json(const RunInfo& run, const Pairs& pairs, const CircuitReport& found) {
  const Evaluation& plain = found.evaluation ? *found.evaluation : found.curve->plain;
  Json json = report::document(run);
  json["inputs"] = report::inputs_json(pairs);
  json["conventions"] = Json::object();
  for (const auto& [name, words] : report::evaluation_words(plain.options))
    json["conventions"][name] = words;
  json["conventions"]["cpr"] = "area under faithfulness over the fractions, by trapezoids";
  json["conventions"]["cmd"] = "area of |1 - faithfulness| over the fractions, by trapezoids";
  json["metric"] = {{"name", to_string(plain.options.run.metric)},
                    {"clean", plain.clean_mean.mean},
                    {"corrupt", plain.corrupt_mean.mean},
                    {"empty", plain.empty_mean.mean},
                    {"clean_each", report::to_json(plain.clean)},
                    {"corrupt_each", report::to_json(plain.corrupt)},
                    {"empty_each", report::to_json(plain.empty)}};
  json["outside"] = plain.options.run.outside.kind == ReplacementKind::other
                        ? std::string("patching")
                        : to_string(plain.options.run.outside);
  if (found.evaluation) {
    json["circuits"] = Json::array();
    for (const CircuitValue& value : found.evaluation->circuits) {
      Json each = value_json(value);
      each["each"] = report::to_json(value.each);
      if (plain.options.complements) each["completeness"] = report::to_json(value.completeness);
      json["circuits"].push_back(std::move(each));
    }
  }
  if (found.curve) {
    json["curves"] = Json::array();
    for (const Curve& curve : found.curve->curves) json["curves"].push_back(curve_json(curve));
  }
  if (!found.needs.empty()) {
    json["minimality"] = Json::array();
    for (const EdgeNeed& need : found.needs) {
      json["minimality"].push_back(
          {{"edge", found.space.edge_name(need.edge)}, {"loss", report::to_json(need.loss)}});
    }
  }
  json["evaluations"] = plain.evaluations;
  const double forward = static_cast<double>(pairs.count() * pairs.length() * run.config.layers);
  json["forwards"] = {{"made", static_cast<double>(plain.evaluations) / forward},
                      {"plain", static_cast<double>(plain.plain_evaluations) / forward},
                      {"circuits", plain.runs},
                      {"one_each", plain.runs + 2},
                      {"eap_ig", 2 * plain.runs + 2}};
  report::put_end(json, run);
  return report::print(json);
}

std::string comparison_json(const std::vector<NamedCircuit>& circuits) {
  Json json = start("circuit compare");
  json["conventions"] = {{"jaccard", "edges of both / edges of either"},
                         {"pearson, spearman", "of the scores of all edges"}};
  json["comparisons"] = Json::array();
  for (std::size_t i = 0; i < circuits.size(); ++i) {
    for (std::size_t j = i + 1; j < circuits.size(); ++j) {
      Json each = overlap_json(compare(circuits[i].circuit, circuits[j].circuit));
      each["circuits"] = {circuits[i].name, circuits[j].name};
      json["comparisons"].push_back(std::move(each));
    }
  }
  return report::print(json);
}

std::string paths_json(const EdgeCircuit& circuit, std::int64_t k, const PathEffects* effects) {
  const EdgeCircuit whole = pruned(circuit);
  Json json = start("circuit paths");
  json["conventions"] = {
      {"share", "product over a path's edges of |score| / sum of |score| into the same component"},
      {"circuit", whole.convention}};
  json["graph"] = space_json(whole);
  json["edges"] = count_edges(whole);
  json["nodes"] = count_nodes(whole);
  json["bottlenecks"] = bottlenecks(whole);
  const auto cut = smallest_cut(whole);
  json["cut"] = cut ? Json(*cut) : Json();
  const bool some = count_edges(whole) > 0;
  json["count"] = some ? count_paths(whole) : 0.0;
  json["paths"] = Json::array();
  for (const EdgePath& path : some ? strongest_paths(whole, k) : std::vector<EdgePath>()) {
    Json edges = Json::array();
    for (const std::int64_t edge : path.edges) edges.push_back(whole.space.edge_name(edge));
    json["paths"].push_back({{"path", path_name(whole.space, path)},
                             {"edges", std::move(edges)},
                             {"share", path.share},
                             {"sign", path.sign},
                             {"weakest", path.weakest}});
    if (effects == nullptr) continue;
    const PathEffect& run = effects->paths.at(json["paths"].size() - 1);
    json["paths"].back()["effect"] = report::to_json(run.effect);
    json["paths"].back()["of_total"] = report::to_json(run.share);
  }
  if (effects != nullptr) {
    json["conventions"]["effect"] =
        "metric of the clean run less that of the run in which the path alone carries what the "
        "corrupt prompt makes of it";
    json["metric"] = {{"name", to_string(effects->metric)},
                      {"total", report::to_json(effects->total)}};
    json["evaluations"] = effects->evaluations;
  }
  return report::print(json);
}

std::string search_json(const CircuitSearch& found, const Metric& metric, double threshold,
                        const std::string& file) {
  Json json = Json::parse(summary_json(found.circuit, "circuit search", file));
  json["metric"] = to_string(metric);
  json["threshold"] = threshold;
  json["loss"] = {{"start", found.start_loss}, {"end", found.loss}};
  json["tried"] = found.tried;
  json["evaluations"] = found.evaluations;
  json["naive_evaluations"] = found.naive_evaluations;
  return report::print(json);
}

std::string summary_json(const EdgeCircuit& circuit, const std::string& command,
                         const std::string& file) {
  Json json = start(command);
  json["title"] = circuit.title;
  json["conventions"] = {{"score", circuit.convention}};
  json["graph"] = space_json(circuit);
  json["edges"] = count_edges(circuit);
  json["nodes"] = count_nodes(circuit);
  json["files"] = {{"circuit", file}};
  return report::print(json);
}

}  // namespace plumb
