#include "plumb/report_json.h"

#include <ATen/ATen.h>

#include "plumb/version.h"
#include "report/json_pieces.h"

namespace plumb::report {
namespace {

template <typename T>
Json nested(const at::Tensor& value) {
  if (value.dim() == 0) return value.item<T>();
  Json list = Json::array();
  if (value.dim() == 1) {
    const auto view = value.accessor<T, 1>();
    for (std::int64_t i = 0; i < view.size(0); ++i) list.push_back(view[i]);
    return list;
  }
  for (std::int64_t i = 0; i < value.size(0); ++i) list.push_back(nested<T>(value.select(0, i)));
  return list;
}

// 0, 0.5, 1, ...: what the half layers of a profile are called.
Json half_layers(const at::Tensor& profile) {
  Json list = Json::array();
  for (std::int64_t j = 0; profile.defined() && j < profile.size(0); ++j) {
    if (j % 2 == 0) {
      list.push_back(j / 2);
    } else {
      list.push_back(static_cast<double>(j) / 2.0);
    }
  }
  return list;
}

}  // namespace

std::string dump(const Json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Json to_json(const at::Tensor& value) {
  if (!value.defined()) return nullptr;
  const at::Tensor local = value.detach().to(at::kCPU);
  if (at::isIntegralType(local.scalar_type(), /*includeBool=*/true)) {
    return nested<std::int64_t>(local.to(at::kLong));
  }
  return nested<double>(local.to(at::kDouble));
}

Json to_json(const Estimate& value) {
  return {{"mean", value.mean}, {"interval", Json::array({value.low, value.high})}};
}

Json to_json(const Wave& wave) {
  return {{"onset", wave.onset}, {"last", wave.last}, {"peak", wave.peak}, {"mean", wave.mean}};
}

Json to_json(const Step& step) {
  return {{"site", step.site},
          {"layer", step.layer},
          {"mlp", step.mlp},
          {"ratio", step.ratio},
          {"median_ratio", step.median_ratio}};
}

Json to_json(const SecondarySink& sink) {
  return {{"layer", sink.layer},
          {"token", sink.token},
          {"count", sink.count},
          {"sink", sink.sink},
          {"norm_ratio", sink.norm_ratio}};
}

Json document(const RunInfo& run) {
  const ModelConfig& config = run.config;
  Json json;
  json["plumb"] = version();
  json["command"] = run.command;
  const auto hash = [](const std::string& hex) { return hex.empty() ? Json() : Json(hex); };
  json["model"] = {{"name", run.model},
                   {"sha256", hash(run.sha256())},
                   {"headers_sha256", hash(run.headers_sha256)},
                   {"family", config.family},
                   {"layers", run.all_layers},
                   {"loaded", Json::array({run.first_layer, config.layers - 1})},
                   {"heads", config.heads},
                   {"kv_heads", config.kv_heads},
                   {"d_model", config.d_model},
                   {"d_head", config.d_head},
                   {"d_mlp", config.d_mlp},
                   {"vocab", config.vocab},
                   {"context", config.context}};
  return json;
}

Json inputs_json(const SinkSurvey& survey) {
  Json json;
  json["kind"] = survey.inputs_kind;
  json["sequences"] = survey.sequences;
  json["length"] = survey.length;
  json["bos"] = survey.bos ? Json(*survey.bos) : Json(nullptr);
  json["sha256"] = survey.inputs_sha256;
  return json;
}

Json inputs_json(const Pairs& pairs) {
  return {{"kind", pairs.paired ? "pairs" : "prompts"},
          {"sequences", pairs.count()},
          {"length", pairs.length()},
          {"bos", nullptr},
          {"sha256", pairs.sha256}};
}

Json inputs_json(const Inputs& inputs) {
  Json json;
  json["kind"] = inputs.kind;
  json["sequences"] = inputs.tokens.batch();
  json["length"] = inputs.length();
  json["bos"] = inputs.bos ? Json(*inputs.bos) : Json(nullptr);
  json["sha256"] = inputs.sha256;
  return json;
}

void put_survey(Json& into, const SinkSurvey& survey) {
  into["sink"] = {{"mean", to_json(survey.mean)},
                  {"rate", to_json(survey.rate)},
                  {"layer_mean", to_json(survey.layer_mean)},
                  {"null", survey.null},
                  {"epsilon", survey.options.epsilon},
                  {"queries", to_string(survey.options.queries)},
                  {"pool", to_string(survey.options.pool)}};
  into["norm"] = {{"index", half_layers(survey.p0_norm)},
                  {"p0", to_json(survey.p0_norm)},
                  {"median", to_json(survey.median_norm)},
                  {"p0_cosine", to_json(survey.p0_cosine)},
                  {"separability", to_json(survey.separability)}};
  into["loss"] = survey.loss.mean;
  into["loss_interval"] = Json::array({survey.loss.low, survey.loss.high});
  into["steps"] = Json::array();
  for (const Step& step : survey.steps) into["steps"].push_back(to_json(step));
  into["secondary"] = Json::array();
  for (const SecondarySink& sink : survey.secondary) into["secondary"].push_back(to_json(sink));
  into["evaluations"] = survey.evaluations;
}

Json sink_conventions(const SinkSurvey& survey) {
  Json json;
  json["layers"] =
      "counted from 0; index l of the norms enters block l, l + 0.5 lies between its "
      "attention and its MLP";
  json["sink"] =
      "attention of a query to key position 0, mean over the chosen queries of a "
      "sequence, then over sequences";
  json["queries"] = to_string(survey.options.queries);
  json["rate"] = "share of heads whose sink exceeds epsilon";
  json["epsilon"] = survey.options.epsilon;
  json["pool"] = to_string(survey.options.pool);
  json["null"] = "sink of uniform causal attention";
  json["length"] = survey.length;
  json["wave_threshold"] = survey.options.wave_threshold;
  json["loss"] = "mean nats per predicted token";
  json["interval"] = "95 %, percentile bootstrap over sequences";
  return json;
}

void put_end(Json& into, const RunInfo& run) {
  into["files"] = Json::object();
  for (const auto& [what, file] : run.files) into["files"][what] = file;
  into["run"] = {{"command_line", run.command_line},
                 {"dtype", run.dtype},
                 {"device", run.device},
                 {"threads", run.threads},
                 {"seed", run.seed},
                 {"libtorch", run.torch},
                 {"started", run.started},
                 {"ended", run.ended},
                 {"seconds", run.seconds},
                 {"peak_bytes", run.peak_bytes},
                 {"bytes_read", run.bytes_read}};
}

std::string print(const Json& document) {
  std::string text = "{";
  const char* separator = "\n ";
  for (const auto& [key, value] : document.items()) {
    text += separator + dump(Json(key)) + ": " + dump(value);
    separator = ",\n ";
  }
  return text + "\n}\n";
}

}  // namespace plumb::report
