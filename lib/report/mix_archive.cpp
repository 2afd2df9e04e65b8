// The archive of `plumb mix`.
#include <ATen/ATen.h>

#include "plumb/report_mix.h"
#include "report/archive_pieces.h"
#include "report/json_pieces.h"

namespace plumb {
namespace {

void put_state(ArchiveWriter& file, const std::string& group, const MixState& state) {
  file.attribute(group, "position", state.position);
  const auto tensor = [&](const char* name, const at::Tensor& value, std::vector<std::string> axes,
                          const char* unit, const char* note) {
    file.dataset(group + "/" + name, value.contiguous(), {std::move(axes), unit, note});
  };
  const auto estimate = [&](const char* name, const Estimate& value, const char* unit) {
    report::put_column(file, group + "/" + name,
                       std::vector<double>{value.mean, value.low, value.high}, "mean_low_high",
                       unit, "mean and its 95 % bootstrap interval");
  };
  estimate("loss", state.loss, "nats per predicted token");
  estimate("loss_change", state.loss_change, "nats per predicted token");
  estimate("spread", state.spread, "length");
  estimate("relative_spread", state.relative_spread, "share of the norm");
  estimate("spread_change", state.spread_change, "share of the norm");
  tensor("sink", state.sink, {"layer"}, "share of attention", "to position 0");
  tensor("rival", state.rival, {"layer"}, "share of attention",
         "to the later position of the first half that draws most");
  tensor("entropy", state.entropy, {"layer"}, "nats", "of a query's attention");
  tensor("rank_distance", state.rank_distance, {"entry"}, "length", "of V - its mean row");
  tensor("rank_collapse", state.rank_collapse, {"entry"}, "share", "the same over the length of V");
  tensor("last_distance", state.last_distance, {"entry"}, "length", "of v_n - v_(n-1)");
  tensor("last_relative", state.last_relative, {"entry"}, "share", "over the mean of their norms");
  tensor("change", state.change, {"entry", "position"}, "length",
         "of the state's change when the token at `position` is another");
  tensor("relative", state.relative, {"entry", "position"}, "share", "the same over the norm");
  tensor("value_drain", state.value_drain, {"layer", "head"}, "ratio",
         "norm of W_O v at position 0 over its mean");
  tensor("value_ratio", state.value_ratio, {"layer", "head"}, "ratio",
         "norm of v at position 0 over its mean");
  tensor("honor", state.honor, {"layer", "head"}, "ratio",
         "mean norm of z over positions, over its mean over heads");
  tensor("factors", state.factors, {"layer", "head", "factor"}, "",
         "query_norm, first_key_norm, key_norm, first_cosine, cosine, first_logit, logit");
  tensor("energy", state.energy, {"entry", "first_or_others", "band"}, "share",
         "of the squared norm in bands of the unembedding's singular vectors, largest first");
  for (std::size_t i = 0; i < state.reach.size(); ++i) {
    const std::string at = "reach" + std::to_string(i);
    tensor((at + "_jacobian").c_str(), state.reach[i].jacobian, {"position"}, "norm",
           "Frobenius norm of d h_last / d h_i");
    tensor((at + "_path").c_str(), state.reach[i].path, {"position"}, "weight",
           "last row of the product of effective attentions");
    file.attribute(group + "/" + at + "_path", "constant", state.reach[i].constant);
    file.attribute(group + "/" + at + "_path", "correlation", state.reach[i].correlation);
  }
}

}  // namespace

void write_archive(const std::filesystem::path& path, const RunInfo& run, const Inputs& inputs,
                   const MixReport& report) {
  ArchiveWriter file(path);
  const MixOptions& options = report.options;
  report::put_provenance(
      file, run,
      report::dump(report::Json{{"knock_outs", options.knock_outs},
                                {"position", options.position},
                                {"bands", options.bands},
                                {"jacobian_sequences", options.jacobian_sequences},
                                {"jacobian_length", options.jacobian_length},
                                {"probes", options.probes}}));
  report::put_inputs(file, "/inputs", inputs);
  for (const MixState& state : report.states)
    put_state(file, "/mix/" + report::group_name(state.name), state);
  file.close();
}

}  // namespace plumb
