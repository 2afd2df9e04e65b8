// The archive of `plumb p0`.
#include "report/archive_p0.h"

#include <limits>

#include "plumb/report_archive.h"
#include "report/archive_table.h"
#include "report/json_pieces.h"
#include "report/p0_options.h"

namespace plumb {
namespace {

using report::Table;

void put_circuit(ArchiveWriter& file, const Circuit& circuit) {
  file.attribute("/circuit", "title", circuit.title);
  file.attribute("/circuit", "convention", circuit.convention);
  Table<CircuitNode> nodes(file, "/circuit/nodes", circuit.nodes, "node");
  nodes.strings(
      "name", [](const CircuitNode& n) { return n.name; }, "");
  nodes.strings(
      "kind", [](const CircuitNode& n) { return n.kind; }, "");
  nodes.whole(
      "layer", [](const CircuitNode& n) { return n.layer; }, "layer", "-1: before block 0");
  nodes.numbers(
      "score", [](const CircuitNode& n) { return n.score; }, "", circuit.convention);
  nodes.strings(
      "notes", [](const CircuitNode& n) { return report::dump(report::Json(n.notes)); },
      "JSON object");
  Table<CircuitEdge> edges(file, "/circuit/edges", circuit.edges, "edge");
  edges.strings(
      "from", [](const CircuitEdge& e) { return e.from; }, "");
  edges.strings(
      "to", [](const CircuitEdge& e) { return e.to; }, "");
  edges.strings(
      "kind", [](const CircuitEdge& e) { return e.kind; },
      "empty, or (into a junction: any one suffices), eraser");
  edges.numbers(
      "score", [](const CircuitEdge& e) { return e.score; }, "", circuit.convention);
  const double none = std::numeric_limits<double>::quiet_NaN();
  edges.numbers(
      "low", [&](const CircuitEdge& e) { return e.interval ? e.interval->low : none; }, "",
      "95 % bootstrap interval of the score over sequences; NaN: the score has none");
  edges.numbers(
      "high", [&](const CircuitEdge& e) { return e.interval ? e.interval->high : none; }, "",
      "its upper bound");
}

}  // namespace

void write_archive(const std::filesystem::path& path, const RunInfo& run, const P0Report& found,
                   const P0Inputs& inputs, const Illustration& shown) {
  ArchiveWriter file(path);
  report::put_provenance(file, run, report::dump(report::options_json(found.options)));
  report::put_inputs(file, "/inputs", inputs.plain);
  if (inputs.native) report::put_inputs(file, "/inputs/native", *inputs.native);
  if (inputs.random) report::put_inputs(file, "/inputs/random", *inputs.random);
  for (std::size_t i = 0; i < found.surveys.size(); ++i) {
    const std::string name =
        i < found.survey_names.size() ? found.survey_names[i] : std::to_string(i);
    report::put_survey(file, "/sink/" + report::group_name(name), found.surveys[i]);
  }
  file.attribute("/p0", "verdict",
                 std::string(found.complete ? to_string(found.verdict) : "not reached"));
  file.attribute("/p0", "complete", std::int64_t{found.complete ? 1 : 0});
  file.attribute("/p0", "position_shift_change", found.position_shift_change);
  file.attribute("/p0", "evaluations", found.evaluations);
  report::put_column(file, "/p0/notes", found.notes, "note", "what a reader must know");
  for (std::size_t i = 0; i < found.waves.size(); ++i) {
    report::put_wave(file, "/p0/wave" + std::to_string(i + 1), found.waves[i]);
  }
  put_circuit(file, found.circuit);
  report::put_illustration(file, shown);
  file.close();
}

}  // namespace plumb
