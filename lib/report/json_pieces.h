// Pieces that the JSON documents share.
#pragma once

#include <ATen/core/Tensor.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "plumb/metrics.h"
#include "plumb/pairs.h"
#include "plumb/run_info.h"
#include "plumb/sink.h"

namespace plumb::report {

using Json = nlohmann::ordered_json;

/// Nested lists, as deep as the tensor has axes; null if it is undefined.
Json to_json(const at::Tensor& value);
/// {"mean", "interval": [low, high]}
Json to_json(const Estimate& value);
Json to_json(const Wave& wave);
Json to_json(const Step& step);
Json to_json(const SecondarySink& sink);

/// The keys that every document starts with: plumb, command, model.
Json document(const RunInfo& run);
Json inputs_json(const SinkSurvey& survey);
Json inputs_json(const Inputs& inputs);
Json inputs_json(const Pairs& pairs);
/// "sink", "norm", "loss" and what else a survey holds.
void put_survey(Json& into, const SinkSurvey& survey);
/// What the numbers of a survey mean.
Json sink_conventions(const SinkSurvey& survey);
/// The keys that come last: files, run.
void put_end(Json& into, const RunInfo& run);

/// One line of text. Bytes that are not UTF-8 are replaced.
std::string dump(const Json& value);
/// The document as text, a line for each of its top-level keys.
std::string print(const Json& document);

}  // namespace plumb::report
