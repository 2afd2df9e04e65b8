#include "report/archive_view.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "plumb/error.h"
#include "report/json_pieces.h"

namespace plumb::report {
namespace {

constexpr std::int64_t most_layers = 100'000;

int small(const ArchiveReader& archive, const std::string& path, double value) {
  if (!(std::abs(value) <= static_cast<double>(most_layers))) {
    archive.refuse(path, fmt::format("{} is no number of a layer", value));
  }
  return static_cast<int>(value);
}

std::vector<Wave> read_survey_waves(const ArchiveReader& archive, const std::string& group) {
  const auto onset = archive.list(group + "/onset");
  const auto last = archive.list(group + "/last");
  const auto peak = archive.list(group + "/peak");
  const auto mean = archive.list(group + "/mean");
  if (onset.size() != last.size() || onset.size() != peak.size() || onset.size() != mean.size()) {
    archive.refuse(group, "its columns differ in length");
  }
  std::vector<Wave> waves;
  for (std::size_t i = 0; i < onset.size(); ++i) {
    waves.push_back({.onset = small(archive, group, onset[i]),
                     .last = small(archive, group, last[i]),
                     .peak = small(archive, group, peak[i]),
                     .mean = mean[i]});
  }
  return waves;
}

SinkSurvey read_survey(const ArchiveReader& archive, const std::string& group) {
  SinkSurvey survey;
  survey.inputs_sha256 = archive.attribute(group, "inputs_sha256");
  survey.options.epsilon = archive.number(group, "epsilon");
  const std::string queries = archive.attribute(group, "queries");
  const std::string pool = archive.attribute(group, "pool");
  try {
    if (!queries.empty()) survey.options.queries = parse_queries(queries);
    if (!pool.empty()) survey.options.pool = parse_pool(pool);
  } catch (const Error& error) {
    archive.refuse(group, error.what());
  }
  survey.null = archive.number(group, "null");
  survey.inputs_kind = archive.attribute(group, "inputs_kind");
  const std::string bos = archive.attribute(group, "bos");
  if (!bos.empty() && bos != "none") survey.bos = std::strtoll(bos.c_str(), nullptr, 10);
  const double sequences = archive.number(group, "sequences");
  const double length = archive.number(group, "length");
  if (sequences >= 0 && sequences < 1e15) survey.sequences = static_cast<std::int64_t>(sequences);
  if (length >= 0 && length < 1e15) survey.length = static_cast<std::int64_t>(length);

  survey.mean = archive.numbers(group + "/mean", {-1, -1});
  const std::int64_t layers = survey.mean.defined() ? survey.mean.size(0) : -1;
  const std::int64_t halves = layers < 0 ? -1 : 2 * layers + 1;
  survey.layer_mean = archive.numbers(group + "/layer_mean", {layers});
  survey.rate = archive.numbers(group + "/rate", {layers});
  survey.p0_norm = archive.numbers(group + "/p0_norm", {halves});
  survey.median_norm = archive.numbers(group + "/median_norm", {halves});
  survey.p0_cosine = archive.numbers(group + "/p0_cosine", {halves});
  survey.separability = archive.numbers(group + "/separability", {halves});
  const at::Tensor loss = archive.numbers(group + "/loss", {3});
  survey.loss = {std::nan(""), std::nan(""), std::nan("")};
  if (loss.defined()) {
    survey.loss = {loss[0].item<double>(), loss[1].item<double>(), loss[2].item<double>()};
  }
  survey.waves = read_survey_waves(archive, group + "/waves");

  const auto site = archive.strings(group + "/steps/site");
  const auto ratio = archive.list(group + "/steps/ratio");
  const auto median = archive.list(group + "/steps/median_ratio");
  if (site.size() != ratio.size() || site.size() != median.size())
    archive.refuse(group + "/steps", "its columns differ in length");
  for (std::size_t i = 0; i < site.size(); ++i)
    survey.steps.push_back({.site = site[i], .ratio = ratio[i], .median_ratio = median[i]});

  const std::string rivals = group + "/secondary";
  const auto layer = archive.list(rivals + "/layer");
  const auto token = archive.whole(rivals + "/token");
  const auto count = archive.whole(rivals + "/count");
  const auto sink = archive.list(rivals + "/sink");
  const auto norm = archive.list(rivals + "/norm_ratio");
  if (layer.size() != token.size() || layer.size() != count.size() || layer.size() != sink.size() ||
      layer.size() != norm.size()) {
    archive.refuse(rivals, "its columns differ in length");
  }
  for (std::size_t i = 0; i < layer.size(); ++i) {
    survey.secondary.push_back({.layer = small(archive, rivals, layer[i]),
                                .token = token[i],
                                .count = count[i],
                                .sink = sink[i],
                                .norm_ratio = norm[i]});
  }
  return survey;
}

std::vector<std::pair<std::string, SinkSurvey>> read_surveys(const ArchiveReader& archive) {
  std::vector<std::pair<std::string, SinkSurvey>> surveys;
  const std::string root = "/sink/";
  for (const std::string& path : archive.file().datasets()) {
    if (!path.starts_with(root)) continue;
    const std::size_t end = path.find('/', root.size());
    if (end == std::string::npos) continue;
    const std::string name = path.substr(root.size(), end - root.size());
    const bool known =
        std::ranges::any_of(surveys, [&](const auto& survey) { return survey.first == name; });
    if (!known) surveys.emplace_back(name, read_survey(archive, root + name));
  }
  const std::string main = archive.attribute("/inputs", "sha256");
  std::ranges::stable_partition(
      surveys, [&](const auto& survey) { return survey.second.inputs_sha256 == main; });
  return surveys;
}

std::optional<Circuit> read_circuit(const ArchiveReader& archive) {
  if (!archive.has("/circuit/nodes")) return {};
  Circuit circuit;
  circuit.title = archive.attribute("/circuit", "title");
  circuit.convention = archive.attribute("/circuit", "convention");
  const auto name = archive.strings("/circuit/nodes/name");
  const auto kind = archive.strings("/circuit/nodes/kind");
  const auto layer = archive.list("/circuit/nodes/layer");
  const auto score = archive.list("/circuit/nodes/score");
  const auto notes = archive.strings("/circuit/nodes/notes");
  if (name.size() != kind.size() || name.size() != layer.size() || name.size() != score.size() ||
      name.size() != notes.size()) {
    archive.refuse("/circuit/nodes", "its columns differ in length");
  }
  for (std::size_t i = 0; i < name.size(); ++i) {
    CircuitNode node{.name = name[i],
                     .kind = kind[i],
                     .layer = small(archive, "/circuit/nodes", layer[i]),
                     .score = score[i]};
    const Json said = Json::parse(notes[i], nullptr, /*allow_exceptions=*/false);
    if (!said.is_object()) archive.refuse("/circuit/nodes/notes", "not JSON objects");
    for (const auto& [key, value] : said.items()) {
      if (value.is_string()) node.notes[key] = value.get<std::string>();
    }
    circuit.nodes.push_back(std::move(node));
  }
  const auto from = archive.strings("/circuit/edges/from");
  const auto to = archive.strings("/circuit/edges/to");
  const auto edge_kind = archive.strings("/circuit/edges/kind");
  const auto edge_score = archive.list("/circuit/edges/score");
  if (from.size() != to.size() || from.size() != edge_kind.size() ||
      from.size() != edge_score.size()) {
    archive.refuse("/circuit/edges", "its columns differ in length");
  }
  for (std::size_t i = 0; i < from.size(); ++i)
    circuit.edges.push_back(
        {.from = from[i], .to = to[i], .score = edge_score[i], .kind = edge_kind[i]});
  if (archive.has("/circuit/edges/low")) {
    const auto low = archive.list("/circuit/edges/low");
    const auto high = archive.list("/circuit/edges/high");
    if (low.size() != from.size() || high.size() != from.size())
      archive.refuse("/circuit/edges", "its columns differ in length");
    for (std::size_t i = 0; i < from.size(); ++i) {
      if (!std::isnan(low[i]) || !std::isnan(high[i]))
        circuit.edges[i].interval = ScoreInterval{low[i], high[i]};
    }
  }
  try {
    check(circuit);
  } catch (const Error& error) {
    archive.refuse("/circuit", error.what());
  }
  return circuit;
}

std::optional<AttentionView> read_attention(const ArchiveReader& archive) {
  AttentionView view;
  view.pattern = archive.numbers("/attention/pattern", {-1, -1, -1, -1});
  if (!view.pattern.defined()) return {};
  const std::int64_t sequences = view.pattern.size(0);
  const std::int64_t length = view.pattern.size(3);
  if (view.pattern.size(2) != length) archive.refuse("/attention/pattern", "it is not square");
  const at::Tensor heads = archive.numbers("/attention/heads", {view.pattern.size(1), 2});
  const at::Tensor tokens = archive.numbers("/inputs/tokens", {-1, -1});
  if (!heads.defined() || !tokens.defined() || tokens.size(0) < sequences ||
      tokens.size(1) < length) {
    archive.refuse("/attention", "its heads or tokens are not in the file");
  }
  for (std::int64_t m = 0; m < heads.size(0); ++m) {
    view.heads.emplace_back(small(archive, "/attention/heads", heads[m][0].item<double>()),
                            small(archive, "/attention/heads", heads[m][1].item<double>()));
  }
  const at::Tensor lengths = archive.numbers("/inputs/lengths", {tokens.size(0)});
  for (std::int64_t b = 0; b < sequences; ++b) {
    const double valid =
        lengths.defined() ? lengths[b].item<double>() : static_cast<double>(length);
    view.tokens.emplace_back();
    for (std::int64_t t = 0; t < length && static_cast<double>(t) < valid; ++t)
      view.tokens.back().push_back(static_cast<std::int64_t>(tokens[b][t].item<double>()));
  }
  return view;
}

}  // namespace

at::Tensor ArchiveReader::numbers(const std::string& path,
                                  const std::vector<std::int64_t>& shape) const {
  if (!has(path)) return {};
  at::Tensor value = file_.tensor(path).to(at::kDouble).contiguous();
  bool fits = value.dim() == static_cast<std::int64_t>(shape.size());
  for (std::size_t i = 0; fits && i < shape.size(); ++i)
    fits = shape[i] < 0 || value.size(static_cast<std::int64_t>(i)) == shape[i];
  if (!fits) {
    refuse(path, fmt::format("its shape is [{}], expected [{}] (-1: any)",
                             fmt::join(value.sizes(), ", "), fmt::join(shape, ", ")));
  }
  return value;
}

std::vector<double> ArchiveReader::list(const std::string& path) const {
  const at::Tensor value = numbers(path, {-1});
  if (!value.defined()) return {};
  const double* first = value.data_ptr<double>();
  return {first, first + value.numel()};
}

std::vector<std::int64_t> ArchiveReader::whole(const std::string& path) const {
  if (!has(path)) return {};
  const at::Tensor value = file_.tensor(path).contiguous();
  if (value.dim() != 1 || value.scalar_type() != at::kLong)
    refuse(path, "no list of whole numbers");
  const auto* first = value.data_ptr<std::int64_t>();
  return {first, first + value.numel()};
}

std::vector<std::string> ArchiveReader::strings(const std::string& path) const {
  return has(path) ? file_.strings(path) : std::vector<std::string>{};
}

std::map<std::string, std::string> ArchiveReader::attributes(const std::string& path) const {
  return has(path) ? file_.attributes(path) : std::map<std::string, std::string>{};
}

std::string ArchiveReader::attribute(const std::string& path, const std::string& name) const {
  const auto all = attributes(path);
  const auto found = all.find(name);
  return found == all.end() ? std::string() : found->second;
}

double ArchiveReader::number(const std::string& path, const std::string& name) const {
  const std::string text = attribute(path, name);
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return text.empty() || *end != '\0' ? std::nan("") : value;
}

void ArchiveReader::refuse(const std::string& path, const std::string& what) const {
  throw Error(ErrorKind::bad_file, fmt::format("cannot read '{}': {}: {}; make the archive anew",
                                               path_.string(), path, what));
}

ArchiveView read_view(const std::filesystem::path& path) {
  const ArchiveReader archive(path);
  ArchiveView view;
  view.provenance = archive.attributes("/provenance");
  view.surveys = read_surveys(archive);
  view.located = archive.has("/p0");
  if (view.surveys.empty() && !view.located) {
    const std::string command = archive.attribute("/provenance", "command");
    throw Error(
        ErrorKind::unsupported,
        fmt::format("'{}' is an archive of {}; plumb report reads those of plumb p0 and "
                    "plumb sink",
                    path.string(), command.empty() ? "an unknown command" : "plumb " + command));
  }
  if (view.located) {
    view.complete = archive.attribute("/p0", "complete") == "1";
    view.verdict = archive.attribute("/p0", "verdict");
    view.position_shift_change = archive.number("/p0", "position_shift_change");
    view.notes = archive.strings("/p0/notes");
    view.waves = read_waves(archive);
    view.circuit = read_circuit(archive);
  }
  view.attention = read_attention(archive);
  const auto ids = archive.whole("/inputs/shown/id");
  const auto texts = archive.strings("/inputs/shown/text");
  if (ids.size() != texts.size()) archive.refuse("/inputs/shown", "its columns differ in length");
  for (std::size_t i = 0; i < ids.size(); ++i) view.texts[ids[i]] = texts[i];
  return view;
}

}  // namespace plumb::report
