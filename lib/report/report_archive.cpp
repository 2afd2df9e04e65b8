#include "plumb/report_archive.h"

#include <ATen/ATen.h>

#include "plumb/report_heads.h"
#include "plumb/version.h"
#include "report/archive_pieces.h"
#include "report/heads_pieces.h"
#include "report/json_pieces.h"

namespace plumb {
namespace report {
namespace {

// A tensor as it is, on the CPU; nothing if it is undefined.
void put(ArchiveWriter& file, const std::string& path, const at::Tensor& value,
         std::vector<std::string> axes, const std::string& unit, const std::string& note) {
  if (!value.defined()) return;
  file.dataset(path, value.detach().to(at::kCPU).contiguous(), {std::move(axes), unit, note});
}

// One member of each entry of a list.
template <typename T, typename Range, typename Get>
std::vector<T> each(const Range& range, Get get) {
  std::vector<T> values;
  for (const auto& item : range) values.push_back(static_cast<T>(get(item)));
  return values;
}

void put_waves(ArchiveWriter& file, const std::string& group, const std::vector<Wave>& waves) {
  const auto ints = [&](const std::string& name, auto get, const std::string& note) {
    put_column(file, group + name, each<std::int64_t>(waves, get), "wave", "", note);
  };
  ints(
      "/onset", [](const Wave& w) { return w.onset; }, "first layer with a sink");
  ints(
      "/last", [](const Wave& w) { return w.last; }, "last layer with a sink");
  ints(
      "/peak", [](const Wave& w) { return w.peak; }, "layer with the largest mean sink");
  put_column(file, group + "/mean", each<double>(waves, [](const Wave& w) { return w.mean; }),
             "wave", "", "mean sink over the wave's layers and heads");
}

void put_steps(ArchiveWriter& file, const std::string& group, const std::vector<Step>& steps) {
  put_column(file, group + "/site", each<std::string>(steps, [](const Step& s) { return s.site; }),
             "step", "component whose write changes the norm of position 0");
  put_column(file, group + "/ratio", each<double>(steps, [](const Step& s) { return s.ratio; }),
             "step", "", "norm after over norm before, at position 0");
  put_column(file, group + "/median_ratio",
             each<double>(steps, [](const Step& s) { return s.median_ratio; }), "step", "",
             "the same at the median position");
}

void put_secondary(ArchiveWriter& file, const std::string& group,
                   const std::vector<SecondarySink>& sinks) {
  using S = SecondarySink;
  put_column(file, group + "/layer", each<std::int64_t>(sinks, [](const S& s) { return s.layer; }),
             "secondary", "", "first layer of the wave in which it was seen");
  put_column(file, group + "/token", each<std::int64_t>(sinks, [](const S& s) { return s.token; }),
             "secondary", "", "token id");
  put_column(file, group + "/count", each<std::int64_t>(sinks, [](const S& s) { return s.count; }),
             "secondary", "positions", "positions t > 0 with this token that are sinks");
  put_column(file, group + "/sink", each<double>(sinks, [](const S& s) { return s.sink; }),
             "secondary", "", "mean attention each draws in the wave's peak layer");
  put_column(file, group + "/norm_ratio",
             each<double>(sinks, [](const S& s) { return s.norm_ratio; }), "secondary", "",
             "norm over the median position's");
}

}  // namespace

std::string group_name(const std::string& name) {
  std::string result;
  for (const char c : name) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (plain) {
      result += c;
    } else if (!result.empty() && result.back() != '_') {
      result += '_';
    }
  }
  return result;
}

void put_column(ArchiveWriter& file, const std::string& path, const std::vector<double>& values,
                const std::string& axis, const std::string& unit, const std::string& note) {
  file.dataset(path, at::tensor(values, at::kDouble), {{axis}, unit, note});
}

void put_column(ArchiveWriter& file, const std::string& path,
                const std::vector<std::int64_t>& values, const std::string& axis,
                const std::string& unit, const std::string& note) {
  file.dataset(path, at::tensor(values, at::kLong), {{axis}, unit, note});
}

void put_column(ArchiveWriter& file, const std::string& path,
                const std::vector<std::string>& values, const std::string& axis,
                const std::string& note) {
  file.dataset(path, values, {{axis}, "", note});
}

void put_provenance(ArchiveWriter& file, const RunInfo& run, const std::string& options) {
  const std::string at = "/provenance";
  file.attribute(at, "plumb", std::string(version()));
  file.attribute(at, "command", run.command);
  file.attribute(at, "command_line", run.command_line);
  file.attribute(at, "options", options);
  file.attribute(at, "model", run.model);
  file.attribute(at, "model_sha256", run.sha256());
  file.attribute(at, "headers_sha256", run.headers_sha256);
  file.attribute(at, "family", run.config.family);
  file.attribute(at, "layers", std::int64_t{run.all_layers});
  file.attribute(at, "first_layer_loaded", std::int64_t{run.first_layer});
  file.attribute(at, "last_layer_loaded", std::int64_t{run.config.layers - 1});
  file.attribute(at, "heads", std::int64_t{run.config.heads});
  file.attribute(at, "kv_heads", std::int64_t{run.config.kv_heads});
  file.attribute(at, "d_model", std::int64_t{run.config.d_model});
  file.attribute(at, "vocab", std::int64_t{run.config.vocab});
  // A seed beyond the signed range would change its sign as a number.
  file.attribute(at, "seed", std::to_string(run.seed));
  file.attribute(at, "dtype", run.dtype);
  file.attribute(at, "device", run.device);
  file.attribute(at, "threads", std::int64_t{run.threads});
  file.attribute(at, "ranks", std::int64_t{run.ranks});
  file.attribute(at, "libtorch", run.torch);
  file.attribute(at, "start", run.started);
  file.attribute(at, "end", run.ended);
}

void put_inputs(ArchiveWriter& file, const std::string& group, const Inputs& inputs) {
  put(file, group + "/tokens", inputs.tokens.ids, {"batch", "position"}, "token id",
      "padded on the right; lengths tell what is valid");
  at::Tensor lengths = inputs.tokens.lengths;
  if (!lengths.defined() && inputs.tokens.ids.defined()) {
    lengths = at::full({inputs.tokens.batch()}, inputs.tokens.length(), at::kLong);
  }
  put(file, group + "/lengths", lengths, {"batch"}, "positions",
      "valid positions of each sequence");
  file.attribute(group, "kind", inputs.kind);
  file.attribute(group, "bos", inputs.bos ? std::to_string(*inputs.bos) : std::string("none"));
  file.attribute(group, "sha256", inputs.sha256);
}

void put_survey(ArchiveWriter& file, const std::string& group, const SinkSurvey& survey) {
  file.attribute(group, "inputs_sha256", survey.inputs_sha256);
  file.attribute(group, "epsilon", survey.options.epsilon);
  file.attribute(group, "queries", std::string(to_string(survey.options.queries)));
  file.attribute(group, "pool", std::string(to_string(survey.options.pool)));
  file.attribute(group, "null", survey.null);
  file.attribute(group, "inputs_kind", survey.inputs_kind);
  file.attribute(group, "bos", survey.bos ? std::to_string(*survey.bos) : std::string("none"));
  file.attribute(group, "sequences", survey.sequences);
  file.attribute(group, "length", survey.length);
  file.attribute(group, "evaluations", survey.evaluations);
  const std::string attention = "share of attention";
  const std::string half = "; index 2l enters block l, 2l + 1 lies between its attention and MLP";
  const auto tensor = [&](const char* name, const at::Tensor& value, std::vector<std::string> axes,
                          const std::string& unit, const std::string& note) {
    put(file, group + "/" + name, value, std::move(axes), unit, note);
  };
  tensor("per_sequence", survey.sink, {"batch", "layer", "head"}, attention,
         "attention to position 0, mean over the chosen queries");
  tensor("mean", survey.mean, {"layer", "head"}, attention, "the same, mean over sequences");
  tensor("layer_mean", survey.layer_mean, {"layer"}, attention, "the same, mean over heads");
  tensor("rate", survey.rate, {"layer"}, "share of heads", "heads whose sink exceeds epsilon");
  tensor("received", survey.received, {"batch", "layer", "key"}, attention,
         "mean attention that each key draws, over heads");
  tensor("norm", survey.norm, {"batch", "half_layer", "position"}, "length",
         "of the residual stream" + half);
  tensor("p0_norm", survey.p0_norm, {"half_layer"}, "length", "at position 0, mean" + half);
  tensor("median_norm", survey.median_norm, {"half_layer"}, "length", "median of t > 0" + half);
  tensor("p0_cosine", survey.p0_cosine, {"half_layer"}, "cosine",
         "of position 0's state to its mean over sequences" + half);
  tensor("profile_positions", survey.profile_positions, {"profile"}, "position",
         "positions of cosine and variance");
  tensor("cosine", survey.cosine, {"half_layer", "profile"}, "cosine",
         "of a position's state to its mean over sequences" + half);
  tensor("variance", survey.variance, {"half_layer", "profile"}, "squared length",
         "mean squared distance to the mean over sequences" + half);
  tensor("p0_mean_state", survey.p0_mean_state, {"half_layer", "d_model"}, "stream",
         "position 0's state, mean over sequences" + half);
  tensor("separability", survey.separability, {"half_layer"}, "area under the curve",
         "a linear detector of position 0, trained on every other sequence, tested on the rest" +
             half);
  put_column(file, group + "/loss",
             std::vector<double>{survey.loss.mean, survey.loss.low, survey.loss.high},
             "mean_low_high", "nats per predicted token", "mean and its 95 % bootstrap interval");
  put_waves(file, group + "/waves", survey.waves);
  put_steps(file, group + "/steps", survey.steps);
  put_secondary(file, group + "/secondary", survey.secondary);
}

void put_illustration(ArchiveWriter& file, const Illustration& shown) {
  if (!shown.ids.empty()) {
    put_column(file, "/inputs/shown/id", shown.ids, "token", "token id", "");
    put_column(file, "/inputs/shown/text", shown.texts, "token", "what it says, escaped");
  }
  put(file, "/attention/heads", shown.heads, {"map", "layer_head"}, "", "the heads shown");
  put(file, "/attention/pattern", shown.pattern, {"sequence", "map", "query", "key"},
      "share of attention",
      "of the first sequences of /inputs/tokens, cut to their first positions");
}

}  // namespace report

void write_archive(const std::filesystem::path& path, const RunInfo& run,
                   const std::vector<Condition>& conditions, const Illustration& shown) {
  write_archive(path, run, conditions, shown, {});
}

void write_archive(const std::filesystem::path& path, const RunInfo& run,
                   const std::vector<Condition>& conditions, const Illustration& shown,
                   const std::vector<HeadAttention>& heads) {
  ArchiveWriter file(path);
  report::Json options = report::Json::object();
  if (!conditions.empty()) options = report::sink_conventions(conditions.front().survey);
  report::put_provenance(file, run, report::dump(options));
  for (std::size_t i = 0; i < conditions.size(); ++i) {
    const Condition& condition = conditions[i];
    report::put_inputs(file, i == 0 ? "/inputs" : "/inputs/" + report::group_name(condition.name),
                       condition.inputs);
    const std::string group = "/sink/" + report::group_name(condition.name);
    report::put_survey(file, group, condition.survey);
    if (i < heads.size()) report::put_heads(file, group, heads[i]);
  }
  report::put_illustration(file, shown);
  file.close();
}

}  // namespace plumb
