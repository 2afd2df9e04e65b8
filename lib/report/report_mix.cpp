#include "plumb/report_mix.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "plumb/report.h"
#include "report/json_pieces.h"
#include "report/text_pieces.h"

namespace plumb {
namespace {

using namespace report;

double mean_of(const at::Tensor& value) { return value.mean().item<double>(); }

double last(const at::Tensor& of_layers) {
  return of_layers.select(0, of_layers.size(0) - 1).item<double>();
}

// Shares of the total over positions, mean over sequences.
double share_at(const std::vector<Reach>& reach, at::Tensor Reach::*what, std::int64_t position) {
  double sum = 0.0;
  for (const Reach& one : reach) {
    const at::Tensor& values = one.*what;
    if (position >= values.size(0)) return std::nan("");
    sum += (values[position] / values.sum()).item<double>();
  }
  return reach.empty() ? std::nan("") : sum / static_cast<double>(reach.size());
}

double over_reach(const std::vector<Reach>& reach, double Reach::*what) {
  double sum = 0.0;
  for (const Reach& one : reach) sum += one.*what;
  return reach.empty() ? std::nan("") : sum / static_cast<double>(reach.size());
}

std::string explain(const MixState& state) {
  if (state.name == "plain") return "the inputs as they are";
  if (state.name == "no_bos") return "the inputs without their BOS";
  if (state.name == "column0") return "no later query sees position 0, in any layer";
  return fmt::format("{} at position 0 replaced by the mean over later positions of the plain run",
                     state.name);
}

std::string summary_table(const MixReport& report) {
  std::vector<std::vector<std::string>> rows;
  for (const MixState& state : report.states) {
    rows.push_back({state.name, show_value(mean_of(state.sink)),
                    show_value(state.rival.max().item<double>()),
                    show_value(mean_of(state.entropy)), show_value(last(state.rank_collapse)),
                    show_value(last(state.last_relative)), show_estimate(state.relative_spread),
                    show_estimate(state.spread_change), show_estimate(state.loss),
                    show_estimate(state.loss_change)});
  }
  return columns({"<condition", "sink", "rival", "entropy", "rank", "last two", "spread", "change",
                  "loss", "change"},
                 rows);
}

std::string layer_rows(const MixState& state) {
  std::vector<std::vector<std::string>> rows;
  const std::int64_t layers = state.sink.size(0);
  const std::int64_t after = state.relative.size(1) - state.position - 1;
  const std::int64_t dark = state.energy.size(2) - 1;
  for (std::int64_t l = 0; l <= layers; ++l) {
    const bool in = l < layers;
    const auto of_block = [&](const at::Tensor& x) { return in ? x[l].item<double>() : NAN; };
    const auto heads = [&](const at::Tensor& x) { return in ? mean_of(x[l]) : NAN; };
    const auto cosine = [&](LogitFactor which) {
      return in ? mean_of(state.factors[l].select(1, static_cast<std::int64_t>(which))) : NAN;
    };
    rows.push_back(
        {std::to_string(l), show_value(of_block(state.sink)), show_value(of_block(state.rival)),
         show_value(of_block(state.entropy)), show_value(state.rank_collapse[l].item<double>()),
         show_value(state.last_relative[l].item<double>()),
         show_value(state.relative[l][state.position].item<double>()),
         show_value(
             state.relative[l].narrow(0, state.position + 1, after).nanmean().item<double>()),
         show_value(heads(state.value_drain)), show_value(cosine(LogitFactor::first_cosine)),
         show_value(cosine(LogitFactor::cosine)),
         show_share(state.energy[l][0][dark].item<double>()),
         show_share(state.energy[l][1][dark].item<double>())});
  }
  return columns({"layer", "sink", "rival", "entropy", "rank", "last two", "token", "after",
                  "drain", "cos k0", "cos k>0", "dark P0", "dark t>0"},
                 rows);
}

std::string reach_lines(const MixReport& report) {
  std::vector<std::vector<std::string>> rows;
  for (const MixState& state : report.states) {
    if (state.reach.empty()) continue;
    rows.push_back({state.name, show_share(share_at(state.reach, &Reach::path, 0)),
                    show_share(share_at(state.reach, &Reach::jacobian, 0)),
                    show_share(share_at(state.reach, &Reach::path, state.position)),
                    show_share(share_at(state.reach, &Reach::jacobian, state.position)),
                    show_value(over_reach(state.reach, &Reach::correlation)),
                    show_norm(over_reach(state.reach, &Reach::constant))});
  }
  if (rows.empty()) return "";
  return heading("What reaches the last position") +
         columns({"<condition", "paths from P0", "Jacobian", "paths from the token", "Jacobian",
                  "correlation", "constant"},
                 rows) +
         wrap(fmt::format(
             "Paths: share of the last row of the product of effective attentions (patterns summed "
             "over heads, and 1/H on the diagonal) that leads to position 0 or to the changed "
             "token; Jacobian: the same share of the Frobenius norms of d h_last / d h_i, {}; "
             "correlation: Spearman's, of the two over positions; constant: the smallest C for "
             "which C^L times the paths bounds the norms.",
             report.options.probes > 0
                 ? fmt::format("estimated from {} random probes", report.options.probes)
                 : std::string("exact")));
}

}  // namespace

std::string mix_text(const RunInfo& run, const Inputs& inputs, const MixReport& report) {
  std::string text = show_run(run, nullptr);
  const MixState& plain = report.states.front();
  text += wrap(fmt::format("{} sequences of {} positions; the token at position {} is changed into "
                           "another one drawn at random.",
                           inputs.tokens.batch(), inputs.length(), plain.position),
               0, 0);
  text += heading("Conditions") + summary_table(report);
  text += wrap(
      "sink, entropy: of attention, mean over layers, heads and later queries; rival: the most "
      "that "
      "another position of the first half draws, in the layer where it draws most; rank: distance "
      "of the states from their mean over positions, over their norm, after the last block (0 = "
      "rank "
      "collapse); last two: distance of the last two states over their norm (0 = representational "
      "collapse); spread: mean over positions after the changed token of the change of the last "
      "state over its norm, and its change against plain; loss: nats per predicted token.");
  for (const MixState& state : report.states)
    text += wrap(fmt::format("{}: {}.", state.name, explain(state)), 2, 4);
  text += reach_lines(report);
  for (const MixState& state : report.states) {
    text += heading(state.name) + layer_rows(state);
  }
  text += wrap(
      "token, after: change of the state over its norm at the changed token and after it; drain: "
      "norm of W_O v at position 0 over its mean; cos: of queries with key 0 and with later keys; "
      "dark: share of the state's energy in the smallest singular directions of the unembedding. "
      "Layers as they are entered; the last line is after the last block.");
  return text + show_end(run, report.evaluations);
}

std::string mix_json(const RunInfo& run, const Inputs& inputs, const MixReport& report) {
  Json json = document(run);
  json["inputs"] = inputs_json(inputs);
  json["conventions"] = {
      {"change", "norm of the difference of the state when the token at `position` is another"},
      {"spread", "mean of it over later positions after the last block; relative: over the norm"},
      {"rival", "the most that a later position of the first half draws, mean over heads"},
      {"rank_collapse", "Frobenius norm of V - its mean row, over that of V"},
      {"last_two", "norm of v_n - v_(n-1), over the mean of their norms"},
      {"path",
       "last row of the product of A_l = sum over heads of the pattern + 1/H on the diagonal"},
      {"jacobian", "Frobenius norm of d h_last[L] / d h_i[0]"},
      {"probes", report.options.probes},
      {"value_drain", "norm of W_O v at position 0 over its mean over positions"},
      {"honor", "mean norm of z over positions, over its mean over heads"},
      {"factors", "query_norm, first_key_norm, key_norm, first_cosine, cosine, first_logit, logit"},
      {"energy", "[layer][position 0, mean of others][band], largest singular values first"},
      {"interval", "95 %, percentile bootstrap over sequences"}};
  json["conditions"] = Json::object();
  for (const MixState& state : report.states) {
    Json one;
    one["what"] = explain(state);
    one["length"] = state.length;
    one["position"] = state.position;
    one["loss"] = to_json(state.loss);
    one["loss_change"] = to_json(state.loss_change);
    one["spread"] = to_json(state.spread);
    one["relative_spread"] = to_json(state.relative_spread);
    one["spread_change"] = to_json(state.spread_change);
    one["sink"] = to_json(state.sink);
    one["rival"] = to_json(state.rival);
    one["entropy"] = to_json(state.entropy);
    one["rank_distance"] = to_json(state.rank_distance);
    one["rank_collapse"] = to_json(state.rank_collapse);
    one["last_distance"] = to_json(state.last_distance);
    one["last_relative"] = to_json(state.last_relative);
    one["change"] = to_json(state.change);
    one["relative"] = to_json(state.relative);
    one["value_drain"] = to_json(state.value_drain);
    one["value_ratio"] = to_json(state.value_ratio);
    one["honor"] = to_json(state.honor);
    one["factors"] = to_json(state.factors);
    one["energy"] = to_json(state.energy);
    one["reach"] = Json::array();
    for (const Reach& reach : state.reach) {
      one["reach"].push_back({{"jacobian", to_json(reach.jacobian)},
                              {"path", to_json(reach.path)},
                              {"constant", reach.constant},
                              {"correlation", reach.correlation}});
    }
    json["conditions"][state.name] = one;
  }
  json["evaluations"] = report.evaluations;
  put_end(json, run);
  return print(json);
}

}  // namespace plumb
