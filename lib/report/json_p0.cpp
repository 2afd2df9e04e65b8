// The document of `plumb p0`.
#include "plumb/report_json.h"
#include "plumb/report_text.h"
#include "report/json_pieces.h"
#include "report/p0_options.h"

namespace plumb {
namespace {

using report::Json;
using report::to_json;

Json row_json(const LedgerRow& row) {
  return {{"name", row.name}, {"p0", row.p0}, {"others", row.others}};
}

template <typename Range, typename Make>
Json list_of(const Range& range, Make make) {
  Json list = Json::array();
  for (const auto& item : range) list.push_back(make(item));
  return list;
}

Json ledger_json(const Ledger& ledger) {
  return {{"total", ledger.total},
          {"closing_error", ledger.closing_error},
          {"components", list_of(ledger.components, row_json)},
          {"heads", list_of(ledger.heads, row_json)},
          {"neurons", list_of(ledger.neurons, row_json)},
          {"erasers", list_of(ledger.erasers, row_json)}};
}

Json effect_json(const Effect& effect) {
  Json json;
  json["name"] = effect.name;
  json["kind"] = effect.kind;
  json["where"] = effect.where;
  json["value"] = to_json(effect.value);
  json["removed"] = effect.removed;
  json["norm"] = to_json(effect.norm);
  json["other_norm"] = effect.other_norm;
  json["other_position"] = effect.other_position;
  json["rival_share"] = effect.rival_share;
  json["outcome"] = effect.outcome;
  json["loss_change"] = effect.loss_change ? to_json(*effect.loss_change) : Json(nullptr);
  json["sequences"] = effect.sequences;
  json["sink"] = effect.sink;
  json["other_sink"] = effect.other_sink;
  return json;
}

Json contrast_json(const Contrast& contrast) {
  return {{"rung", contrast.rung},
          {"name", contrast.name},
          {"control", contrast.control},
          {"effect", contrast.effect},
          {"by_control", contrast.by_control},
          {"difference", to_json(contrast.difference)},
          {"exceeds", contrast.exceeds}};
}

Json self_mask_json(const SelfMask& mask) {
  return {{"layers", mask.layers},
          {"sink", to_json(mask.sink)},
          {"norm", to_json(mask.norm)},
          {"spiking", mask.spiking},
          {"sufficient", mask.sufficient}};
}

Json rung_json(const Rung& rung) {
  return {{"level", rung.level},
          {"name", rung.name},
          {"claim", rung.claim},
          {"value", rung.value},
          {"null", rung.null},
          {"interval", Json::array({rung.low, rung.high})},
          {"holds", to_string(rung.holds)}};
}

Json graph_json(const GraphCheck& graph) {
  return {{"edges", graph.edges},
          {"candidates", graph.candidates},
          {"faithfulness", to_json(graph.faithfulness)},
          {"completeness", to_json(graph.completeness)},
          {"minimal", graph.minimal},
          {"least_edge", graph.least_edge},
          {"least_needed", graph.least_needed},
          {"doubtful", list_of(graph.doubtful,
                               [](const DoubtfulPath& path) {
                                 return Json{{"path", path.name},
                                             {"score", to_json(path.score)},
                                             {"elsewhere", to_json(path.elsewhere)}};
                               })},
          {"random", {{"faithfulness", graph.random}, {"completeness", graph.random_completeness}}},
          {"score_matched",
           {{"faithfulness", graph.matched}, {"completeness", graph.matched_completeness}}}};
}

Json costs_json(const P0Report& report) {
  return list_of(report.costs, [](const P0Cost& cost) {
    return Json{{"rung", cost.rung},       {"step", cost.step},
                {"wave", cost.wave},       {"evaluations", cost.evaluations},
                {"seconds", cost.seconds}, {"cpu_seconds", cost.cpu_seconds}};
  });
}

Json circuit_json(const Circuit& circuit) {
  Json json;
  json["title"] = circuit.title;
  json["convention"] = circuit.convention;
  json["nodes"] = list_of(circuit.nodes, [](const CircuitNode& node) {
    return Json{{"name", node.name},
                {"kind", node.kind},
                {"layer", node.layer},
                {"score", node.score},
                {"notes", Json(node.notes)}};
  });
  json["edges"] = list_of(circuit.edges, [](const CircuitEdge& edge) {
    Json row{{"from", edge.from}, {"to", edge.to}, {"score", edge.score}, {"kind", edge.kind}};
    if (edge.interval) row["interval"] = Json::array({edge.interval->low, edge.interval->high});
    return row;
  });
  return json;
}

Json wave_json(const WaveReport& report) {
  Json json = to_json(report.wave);
  json["verdict"] = report.ladder.empty() ? Json() : Json(to_string(report.verdict));
  json["blocks"] = report.blocks;
  json["writers"] = report.writers;
  json["upstream"] = report.upstream;
  json["erasers"] = report.erasers;
  json["backups"] = report.backups;
  json["sentence"] = wave_sentence(report);
  json["ladder"] = list_of(report.ladder, rung_json);
  json["spike_norm"] = report.spike_norm;
  json["ledger"] = ledger_json(report.ledger);
  json["clean"] = effect_json(report.clean);
  json["knockouts"] = list_of(report.knockouts, effect_json);
  json["sets"] = list_of(report.sets, effect_json);
  json["controls"] = list_of(report.controls, effect_json);
  json["contrasts"] = list_of(report.contrasts, contrast_json);
  json["state"] = list_of(report.state, effect_json);
  json["use"] = list_of(report.use, effect_json);
  json["signal"] = list_of(report.signal, effect_json);
  json["self_masks"] = list_of(report.self_masks, self_mask_json);
  json["smallest_mask"] = report.smallest_mask;
  json["restored"] = list_of(report.restored, effect_json);
  json["vocabulary"] = {{"share", report.vocabulary_share},
                        {"norm_percentiles", report.vocabulary_norm},
                        {"exceptions", report.vocabulary_exceptions}};
  json["dependence"] = report.dependence;
  json["dependence_effects"] = list_of(report.dependence_effects, effect_json);
  json["alternatives"] = list_of(report.alternatives, [](const Alternatives& set) {
    return Json{{"routes", set.routes}, {"shown_by", set.shown_by}};
  });
  json["graph"] = graph_json(report.graph);
  json["paths"] = list_of(report.paths, effect_json);
  json["circuit"] = circuit_json(report.circuit);
  return json;
}

Json conventions(const P0Report& report) {
  Json json =
      report.surveys.empty() ? Json::object() : report::sink_conventions(report.surveys.front());
  json["edits"] =
      "replace a component's output at position 0 by zero, by the sequence's own mean "
      "over t > 0, by its value at one random t > 0, or by the same token's value "
      "behind a prefix (displaced)";
  json["removed"] = "(clean sink - sink after the edit) / (clean sink - null); negative: it grew";
  json["norm"] = "length of the residual stream entering the wave's first layer";
  json["rival_share"] = "share of sequences in which another position reaches spike_norm";
  json["loss_change"] = "edited - clean, nats per predicted token";
  json["contrasts"] =
      "mean shares of an effect and of its control in the layers that both were read in (L4: of "
      "the "
      "sink's excess that is gone; L6: of the projection that is kept, or lost by a cut); "
      "difference: paired by sequence; exceeds: its interval is above 0 and the effect is at least "
      "control_ratio times the control's";
  json["ledger"] =
      "projection on the wave's direction: the mean over sequences of position 0's "
      "state entering its first layer, made a unit vector";
  json["circuit"] = report.circuit.convention;
  json["graph"] =
      "(m - none) / (all - none) of position 0's projection on the sink direction: 1 = with all "
      "paths inside position 0, 0 = with every path carrying its sender's mean over t > 0; "
      "completeness: the same with all paths but the graph's; doubtful: paths that the search kept "
      "and the graph leaves out, with the share lost without them by the sequences' own first "
      "tokens (score) and by other tokens put first (elsewhere, its interval corrected for the "
      "number of paths); random: as many paths drawn alike; "
      "score_matched: as many others of the same tenths of all paths by the share of the reader's "
      "input that the cut changes";
  return json;
}

}  // namespace

namespace report {

Json options_json(const P0Options& options) {
  return {{"causal_sequences", options.causal_sequences},
          {"causal_length", options.causal_length},
          {"self_mask_position", options.self_mask_position},
          {"prefix", options.prefix},
          {"seed", options.seed},
          {"necessary", options.necessary},
          {"control", options.control},
          {"control_ratio", options.control_ratio},
          {"sufficient", options.sufficient},
          {"located", options.located},
          {"vocabulary", options.vocabulary},
          {"separable", options.separable},
          {"recovered", options.recovered},
          {"link", options.link},
          {"signal", options.signal},
          {"signal_margin", options.signal_margin},
          {"learned", options.learned},
          {"shift", options.shift}};
}

}  // namespace report

std::string p0_json(const RunInfo& run, const P0Report& report) {
  Json json = report::document(run);
  json["complete"] = report.complete;
  json["verdict"] = report.complete ? Json(to_string(report.verdict)) : Json();
  json["inputs"] =
      report.surveys.empty() ? Json(nullptr) : report::inputs_json(report.surveys.front());
  json["conventions"] = conventions(report);
  json["options"] = report::options_json(report.options);
  json["waves"] = list_of(report.waves, wave_json);
  json["circuit"] = circuit_json(report.circuit);
  json["surveys"] = Json::object();
  for (std::size_t i = 0; i < report.surveys.size(); ++i) {
    const std::string name =
        i < report.survey_names.size() ? report.survey_names[i] : std::to_string(i);
    Json& survey = json["surveys"][name];
    survey["inputs"] = report::inputs_json(report.surveys[i]);
    survey["waves"] = list_of(report.surveys[i].waves, [](const Wave& w) { return to_json(w); });
    report::put_survey(survey, report.surveys[i]);
  }
  json["position_shift_change"] = report.position_shift_change;
  json["notes"] = report.notes;
  json["evaluations"] = report.evaluations;
  report::put_end(json, run);
  json["run"]["costs"] = costs_json(report);
  return report::print(json);
}

}  // namespace plumb
