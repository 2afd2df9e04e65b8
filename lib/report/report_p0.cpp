// The reports of `plumb p0 --only`.
#include "plumb/report_p0.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "report/archive_pieces.h"
#include "report/json_pieces.h"
#include "report/p0_options.h"
#include "report/text_pieces.h"

namespace plumb {

namespace {

using report::Json;
using report::to_json;

std::string wave_name(const P0Experiments& found, const P0Experiment& experiment) {
  if (experiment.wave < 0) return "whole model";
  const Wave& wave = found.survey.waves.at(static_cast<std::size_t>(experiment.wave));
  return fmt::format("wave {}, {}", experiment.wave + 1,
                     report::show_layers(wave.onset, wave.last));
}

std::string readings_table(const std::vector<P0Reading>& readings) {
  std::vector<std::vector<std::string>> rows;
  for (const P0Reading& reading : readings) {
    const Effect& effect = reading.effect;
    const auto maybe = [](const std::optional<Estimate>& value) {
      return value ? report::show_change(value->mean) : std::string("-");
    };
    const std::string control = effect.kind == "edit" ? "" : " (" + effect.kind + ")";
    rows.push_back({effect.name, effect.where + control, report::show_value(effect.value.mean),
                    std::isfinite(reading.removed.mean) ? report::show_share(reading.removed.mean)
                                                        : std::string("-"),
                    report::show_norm(effect.norm.mean), maybe(effect.loss_change),
                    reading.kl ? report::show_value(reading.kl->mean) : std::string("-"),
                    effect.outcome});
  }
  return report::columns({"<edit", "<where", "sink", "removed", "norm", "loss", "KL", "<outcome"},
                         rows);
}

Json reading_json(const P0Reading& reading) {
  const Effect& effect = reading.effect;
  Json by_layer = Json::array();
  for (const Estimate& estimate : reading.by_layer) by_layer.push_back(to_json(estimate));
  return {{"name", effect.name},
          {"role", effect.kind},
          {"where", effect.where},
          {"column", reading.column},
          {"value", to_json(effect.value)},
          {"removed", to_json(reading.removed)},
          {"onset", reading.onset < 0 ? Json() : Json(reading.onset)},
          {"norm", to_json(effect.norm)},
          {"loss_change", effect.loss_change ? to_json(*effect.loss_change) : Json()},
          {"kl", reading.kl ? to_json(*reading.kl) : Json()},
          {"outcome", effect.outcome},
          {"other_norm", effect.other_norm},
          {"other_position", effect.other_position},
          {"rival_share", effect.rival_share},
          {"rate", reading.rate},
          {"by_layer", by_layer},
          {"other_sink", effect.other_sink}};
}

Json experiment_json(const P0Experiment& experiment) {
  Json json = {{"id", experiment.id},
               {"name", experiment.name},
               {"wave", experiment.wave < 0 ? Json() : Json(experiment.wave + 1)},
               {"not_run", experiment.not_run},
               {"findings", experiment.findings},
               {"readings", Json::array()},
               {"arrays", Json::array()}};
  for (const P0Reading& reading : experiment.readings)
    json["readings"].push_back(reading_json(reading));
  for (const P0Array& array : experiment.arrays) {
    json["arrays"].push_back({{"name", array.name},
                              {"axes", array.axes},
                              {"shape", array.values.sizes().vec()},
                              {"note", array.note}});
  }
  return json;
}

// [readings, layers, 3], the layers that were not run being NaN.
at::Tensor by_layer(const std::vector<P0Reading>& readings) {
  std::size_t layers = 0;
  for (const auto& reading : readings) layers = std::max(layers, reading.by_layer.size());
  std::vector<double> values;
  for (const auto& reading : readings) {
    for (std::size_t l = 0; l < layers; ++l) {
      const bool there = l < reading.by_layer.size();
      const Estimate e = there ? reading.by_layer[l] : Estimate{NAN, NAN, NAN};
      values.insert(values.end(), {e.mean, e.low, e.high});
    }
  }
  return at::tensor(values, at::kDouble)
      .view({static_cast<std::int64_t>(readings.size()), static_cast<std::int64_t>(layers), 3});
}

void put_readings(ArchiveWriter& file, const std::string& group,
                  const std::vector<P0Reading>& readings) {
  if (readings.empty()) return;
  const auto strings = [&](const char* name, auto get, const char* note) {
    std::vector<std::string> column;
    for (const auto& reading : readings) column.push_back(get(reading));
    report::put_column(file, group + "/" + name, column, "reading", note);
  };
  const auto estimates = [&](const char* name, auto get, const char* unit, const char* note) {
    std::vector<double> column;
    for (const auto& reading : readings) {
      const Estimate estimate = get(reading);
      column.insert(column.end(), {estimate.mean, estimate.low, estimate.high});
    }
    file.dataset(
        group + "/" + name,
        at::tensor(column, at::kDouble).view({static_cast<std::int64_t>(readings.size()), 3}),
        {{"reading", "mean_low_high"}, unit, note});
  };
  const Estimate none{NAN, NAN, NAN};
  strings(
      "name", [](const P0Reading& r) { return r.effect.name; }, "what was edited");
  strings(
      "role", [](const P0Reading& r) { return r.effect.kind; }, "edit, or which control");
  strings(
      "where", [](const P0Reading& r) { return r.effect.where; }, "");
  strings(
      "outcome", [](const P0Reading& r) { return r.effect.outcome; }, "");
  estimates(
      "value", [](const P0Reading& r) { return r.effect.value; }, "share of attention",
      "mean sink of the column over the wave's layers");
  estimates(
      "removed", [](const P0Reading& r) { return r.removed; }, "share",
      "of the excess over the null");
  estimates(
      "norm_at_onset", [](const P0Reading& r) { return r.effect.norm; }, "length", "");
  estimates(
      "loss_change", [&](const P0Reading& r) { return r.effect.loss_change.value_or(none); },
      "nats per predicted token", "");
  estimates(
      "kl", [&](const P0Reading& r) { return r.kl.value_or(none); }, "nats", "KL(clean || edited)");
  file.dataset(group + "/sink_by_layer", by_layer(readings),
               {{"reading", "layer", "mean_low_high"}, "share of attention", ""});
}

}  // namespace

std::string p0_catalogue_text() {
  std::string text =
      "Experiments of plumb p0 --only (A: measured by arXiv:2603.06591, B: asked for by its "
      "reviewers,\nC: plumb's own):\n\n";
  for (const P0Entry& entry : p0_catalogue()) {
    text += fmt::format("  {:<4} {:<20} {}{}\n", entry.id, entry.name, entry.summary,
                        entry.per_wave ? "" : " (of the model)");
  }
  return text + "\nA9 and B13 are plumb trace.\n";
}

std::string p0_experiments_text(const RunInfo& run, const P0Experiments& found) {
  std::string text = report::show_run(run, &found.survey);
  for (const P0Experiment& experiment : found.experiments) {
    text += report::heading(
        fmt::format("{} {}: {}", experiment.id, experiment.name, wave_name(found, experiment)));
    if (!experiment.not_run.empty()) text += report::wrap("Not run: " + experiment.not_run);
    for (const std::string& finding : experiment.findings)
      text += report::wrap("- " + finding, 2, 4);
    if (!experiment.readings.empty()) text += "\n" + readings_table(experiment.readings);
    for (const P0Array& array : experiment.arrays) {
      text += report::wrap(
          fmt::format("{} [{}]{}{}", array.name, fmt::join(array.values.sizes().vec(), ", "),
                      array.note.empty() ? "" : ": ", array.note),
          2, 4);
    }
  }
  return text + report::show_end(run, found.evaluations);
}

std::string p0_experiments_json(const RunInfo& run, const P0Experiments& found) {
  Json json = report::document(run);
  json["inputs"] = report::inputs_json(found.survey);
  json["conventions"] = report::sink_conventions(found.survey);
  json["conventions"]["removed"] =
      "(clean sink - sink after the edit) / (clean sink - null); negative: it grew";
  json["conventions"]["kl"] = "KL(clean || edited) in nats, over up to 16 positions a sequence";
  json["options"] = report::options_json(found.options);
  json["waves"] = Json::array();
  for (const Wave& wave : found.survey.waves) json["waves"].push_back(to_json(wave));
  json["experiments"] = Json::array();
  for (const P0Experiment& experiment : found.experiments)
    json["experiments"].push_back(experiment_json(experiment));
  json["evaluations"] = found.evaluations;
  report::put_end(json, run);
  return report::print(json);
}

void write_archive(const std::filesystem::path& path, const RunInfo& run,
                   const P0Experiments& found, const P0Inputs& inputs) {
  ArchiveWriter file(path);
  report::put_provenance(file, run, report::dump(report::options_json(found.options)));
  report::put_inputs(file, "/inputs", inputs.plain);
  report::put_survey(file, "/sink", found.survey);
  for (const P0Experiment& experiment : found.experiments) {
    std::string group = "/experiments/" + experiment.id;
    if (experiment.wave >= 0) group += fmt::format("_wave{}", experiment.wave + 1);
    file.attribute(group, "name", experiment.name);
    if (!experiment.not_run.empty()) file.attribute(group, "not_run", experiment.not_run);
    if (!experiment.findings.empty())
      report::put_column(file, group + "/findings", experiment.findings, "finding", "");
    put_readings(file, group + "/readings", experiment.readings);
    for (const P0Array& array : experiment.arrays)
      file.dataset(group + "/arrays/" + array.name, array.values, {array.axes, "", array.note});
  }
  file.close();
}

}  // namespace plumb
