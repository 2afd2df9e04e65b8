#include "plumb/report_edit.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <utility>
#include <vector>

#include "plumb/report.h"
#include "report/json_pieces.h"
#include "report/text_pieces.h"

namespace plumb {
namespace {

using namespace report;

struct Quantity {
  const char* key;
  const char* title;
  Estimate EditState::*value;
};

constexpr Quantity quantities[] = {
    {"loss", "loss", &EditState::loss},
    {"sink_rate", "sink rate", &EditState::sink_rate},
    {"sink_mass", "sink mass", &EditState::sink_mass},
    {"slot_mass", "slot mass", &EditState::slot_mass},
    {"largest", "max |h|", &EditState::largest},
    {"ratio", "max |h| / median", &EditState::ratio},
};

std::string show(const Estimate& value) {
  return std::isnan(value.mean) ? "-" : show_estimate(value);
}

std::string parts(const std::string& text) { return text.empty() ? "every component" : text; }

// What was edited, in the weights and while the model runs.
std::pair<std::vector<std::string>, std::vector<std::string>> edits_of(const EditOptions& options,
                                                                       const EditDone& done) {
  std::pair<std::vector<std::string>, std::vector<std::string>> lists;
  if (options.direction.defined()) {
    lists.first.push_back(fmt::format("{} taken out of what is written by {}", done.direction,
                                      parts(options.writers)));
  }
  if (!options.silence.empty())
    lists.first.push_back(fmt::format("{} write nothing at any position", options.silence));
  if (options.sink_slot) {
    lists.first.push_back(fmt::format(
        "a slot of score {} and value 0 beside the keys of every head", *options.sink_slot));
  }
  if (!options.knock_out.empty()) {
    lists.second.push_back(fmt::format(
        "what {} write at position 0 replaced by the mean of later positions", options.knock_out));
  }
  if (options.window > 0) {
    lists.second.push_back(fmt::format("queries see their last {} keys and the first {}",
                                       options.window, options.keep));
  }
  return lists;
}

std::string changes_table(const EditReport& report) {
  std::vector<std::vector<std::string>> rows;
  for (const Quantity& one : quantities) {
    const Estimate& before = report.before.*one.value;
    const Estimate& after = report.after.*one.value;
    if (std::isnan(before.mean) && std::isnan(after.mean)) continue;
    rows.push_back({one.title, show(before), show(after), show(report.change.*one.value)});
  }
  return columns({"<", "before", "after", "change"}, rows);
}

std::string rounding_table(const EditReport& report) {
  std::vector<std::vector<std::string>> rows;
  for (std::size_t i = 0; i < report.before.rounded.size(); ++i) {
    for (const auto& [name, state] :
         {std::pair{"before", &report.before}, std::pair{"after", &report.after}}) {
      const RoundedState& one = state->rounded[i];
      rows.push_back({fmt::format("{}-bit, {}", one.bits,
                                  one.rounding == Rounding::per_token ? "token" : "sequence"),
                      name, show(one.first_error), show(one.others_error), show(one.loss),
                      show(one.loss_change)});
    }
  }
  return columns(
      {"<rounding, scale of a", "<model", "error at 0", "error later", "loss", "its cost"}, rows);
}

}  // namespace

std::string edit_text(const RunInfo& run, const Inputs& inputs, const EditReport& report,
                      const EditedModel& edited, const EditDone& done) {
  std::string text = show_run(run, nullptr);
  text += wrap(fmt::format("{} sequences of {} positions, {}", inputs.tokens.batch(),
                           inputs.length(), inputs.kind),
               0, 0);
  text += heading("Edits");
  const auto [in_weights, at_run_time] = edits_of(report.options, done);
  for (const std::string& line : in_weights) text += wrap("in the weights: " + line, 2, 4);
  for (const std::string& line : at_run_time) text += wrap("while it runs: " + line, 2, 4);
  if (in_weights.empty() && at_run_time.empty()) text += wrap("none: both columns are the same");
  if (!done.written.empty()) {
    text += wrap(
        fmt::format("written to {}: {} tensors changed{}", done.written, edited.changed.size(),
                    done.tokenizer_problem.empty() ? std::string()
                                                   : "; no tokenizer: " + done.tokenizer_problem),
        2, 4);
  } else if (!edited.not_written.empty()) {
    text += wrap("measured alone, as no checkpoint can hold it: " + edited.not_written, 2, 4);
  }
  text += heading("Before and after") + changes_table(report);
  text += wrap(fmt::format(
      "Means over sequences with 95 % intervals; change: sequence by sequence. Loss: nats per "
      "predicted token; sink rate: share of heads whose mean attention to position 0 exceeds {}; "
      "sink mass: that attention, mean over later queries, heads and layers (uniform attention: "
      "{}); slot mass: attention to learned sink logits; h: what blocks leave.",
      report.options.epsilon, show_value(report.null)));
  if (!report.before.rounded.empty()) {
    text += heading("Rounded activations") + rounding_table(report);
    text += wrap(
        "Symmetric, the largest magnitude of a token (of a sequence) on the largest level. Error: "
        "|rounded - h| / |h| of the streams that blocks read, at position 0 and later ones. Loss: "
        "with all inputs of matrices rounded (streams before their norms, what heads mix, neurons "
        "of dense MLPs); its cost: against the same model unrounded.");
  }
  return text + show_end(run, report.evaluations);
}

std::string edit_json(const RunInfo& run, const Inputs& inputs, const EditReport& report,
                      const EditedModel& edited, const EditDone& done) {
  Json json = document(run);
  json["inputs"] = inputs_json(inputs);
  json["conventions"] = {
      {"loss", "nats per predicted token"},
      {"sink_rate", "share of heads whose mean attention to position 0 exceeds epsilon"},
      {"sink_mass", "attention to position 0, mean over later queries, heads and layers"},
      {"slot_mass", "attention to learned sink logits, likewise"},
      {"largest", "max |h| over positions, channels and outputs of blocks"},
      {"ratio", "max |h| over the median |h| of the same output, largest over blocks"},
      {"error", "|rounded - h| / |h| of the streams that blocks read, mean over blocks"},
      {"interval", "95 %, percentile bootstrap over sequences"}};
  const EditOptions& o = report.options;
  const auto text_or_null = [](const std::string& text) {
    return text.empty() ? Json() : Json(text);
  };
  json["edits"] = {{"direction", o.direction.defined() ? Json(done.direction) : Json()},
                   {"writers", o.direction.defined() ? Json(parts(o.writers)) : Json()},
                   {"silence", text_or_null(o.silence)},
                   {"sink_slot", o.sink_slot ? Json(*o.sink_slot) : Json()},
                   {"knock_out", text_or_null(o.knock_out)},
                   {"window", o.window > 0 ? Json(o.window) : Json()},
                   {"keep", o.window > 0 ? Json(o.keep) : Json()},
                   {"changed", edited.changed},
                   {"written", text_or_null(done.written)},
                   {"not_written", text_or_null(edited.not_written)},
                   {"tokenizer_problem", text_or_null(done.tokenizer_problem)}};
  json["epsilon"] = o.epsilon;
  json["null"] = report.null;
  for (const auto& [name, state] :
       {std::pair{"before", &report.before}, std::pair{"after", &report.after},
        std::pair{"change", &report.change}}) {
    Json one;
    for (const Quantity& quantity : quantities) {
      const Estimate& value = state->*quantity.value;
      one[quantity.key] = std::isnan(value.mean) ? Json() : to_json(value);
    }
    one["rounded"] = Json::array();
    for (const RoundedState& rounded : state->rounded) {
      one["rounded"].push_back({{"bits", rounded.bits},
                                {"rounding", to_string(rounded.rounding)},
                                {"first_error", to_json(rounded.first_error)},
                                {"others_error", to_json(rounded.others_error)},
                                {"loss", to_json(rounded.loss)},
                                {"loss_change", to_json(rounded.loss_change)}});
    }
    json[name] = one;
  }
  json["evaluations"] = report.evaluations;
  put_end(json, run);
  return print(json);
}

}  // namespace plumb
