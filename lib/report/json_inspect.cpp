// The document of `plumb inspect`.
#include "plumb/report_json.h"
#include "report/inspection.h"
#include "report/json_pieces.h"

namespace plumb {

namespace {

report::Json to_json(const PlannedWork& work) {
  using report::Json;
  return {{"command", work.command},
          {"assuming", work.assuming.empty() ? Json() : Json(work.assuming)},
          {"sequences", work.sequences},
          {"length", work.length},
          {"evaluations", work.evaluations},
          {"weight_bytes", work.weight_bytes},
          {"activation_bytes", work.activation_bytes},
          {"result_bytes", work.result_bytes},
          {"peak_bytes", work.peak_bytes},
          {"written_bytes", work.written_bytes}};
}

}  // namespace

std::string inspect_json(const RunInfo& run, const Checkpoint& checkpoint,
                         const Tokenizer* tokenizer, const PlannedWork* work) {
  using report::Json;
  const report::Inspection found = report::look_at(checkpoint);

  Json json = report::document(run);
  json["format"] = checkpoint.format();
  json["parameters"] = checkpoint.parameters();
  json["parameters_by_part"] = Json::object();
  for (const auto& [name, elements] : found.parameters) json["parameters_by_part"][name] = elements;
  json["switches"] = Json::object();
  for (const auto& [name, value] : found.switches) json["switches"][name] = value;
  json["sites"] = Json::array();
  for (const report::SiteShape& site : found.sites) {
    Json shape = Json::array();
    for (const std::int64_t size : site.shape) shape.push_back(size > 0 ? Json(size) : Json());
    json["sites"].push_back({{"name", site.name},
                             {"tl_name", site.tl_name},
                             {"per_layer", site.per_layer},
                             {"axes", site.axes},
                             {"shape", shape}});
  }
  json["bytes_per_block"] = found.parameters_per_block * (run.dtype == "f64" ? 8 : 4);
  json["stored"] = Json::object();
  for (const auto& [dtype, bytes] : found.stored) json["stored"][dtype] = bytes;
  json["tokenizer"] = nullptr;
  if (tokenizer != nullptr) {
    const auto id = [](const std::optional<std::int64_t>& value) {
      return value ? Json(*value) : Json(nullptr);
    };
    json["tokenizer"] = {{"size", tokenizer->size()},
                         {"bos", id(tokenizer->bos())},
                         {"eos", id(tokenizer->eos())},
                         {"adds_bos", tokenizer->adds_bos()}};
  }
  json["plan"] = work == nullptr ? Json() : to_json(*work);
  json["inputs"] = nullptr;
  json["conventions"] = {
      {"parameters", "elements that the decoder uses, a tied matrix counted once"},
      {"bytes_per_block",
       "memory that the weights of the largest block take in the dtype of the arithmetic"},
      {"plan",
       "evaluations: positions run through one block each; memory in bytes: weights and "
       "activations in the dtype of the arithmetic, every expert counted; peak of the process; "
       "where something is assumed, an estimate"},
      {"sites", "block l's site prints as L<l>.<name>; null where the inputs decide the size"}};
  report::put_end(json, run);
  return report::print(json);
}

}  // namespace plumb
