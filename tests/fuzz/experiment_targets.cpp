// What an experiment is asked by: pairs of prompts, and expressions for sites, edits and metrics.
#include <ATen/ATen.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/checks.h"
#include "fuzz/targets.h"
#include "plumb/pairs.h"
#include "plumb/patch.h"
#include "plumb/replacement.h"
#include "plumb/tokenizer.h"

namespace plumb::fuzz {
namespace {

// Padded, prompts take the length of the longest.
constexpr std::size_t most_padded = std::size_t{1} << 18U;

// Of a few letters; everything else is unknown.
constexpr std::string_view letters =
    R"({"model": {"type": "BPE", "unk_token": "<unk>", "merges": ["a b"],)"
    R"( "vocab": {"<unk>": 0, "a": 1, "b": 2, "ab": 3, " ": 4}}})";

const Tokenizer& tokenizer() {
  static const ScratchDirectory directory;
  static const Tokenizer made = [] {
    directory.write("tokenizer.json", letters);
    return Tokenizer::open(directory.path());
  }();
  return made;
}

// The ids of texts are the tokenizer's, and every prompt is one of the file's.
void read_and_pad(const std::filesystem::path& file) {
  std::vector<PairIds> list;
  const auto kinds = {ErrorKind::bad_file, ErrorKind::bad_argument};
  if (!succeeds([&] { list = read_pairs(file, &tokenizer(), 1); }, kinds)) return;
  std::size_t longest = 0;
  for (const PairIds& pair : list)
    longest = std::max({longest, pair.clean.size(), pair.corrupt.size()});
  if (longest * list.size() > most_padded) return;
  Pairs pairs;
  if (!succeeds([&] { pairs = make_pairs(list); }, kinds)) return;
  require(pairs.count() == static_cast<std::int64_t>(list.size()), "every pair is there");
  require(pairs.sha256.size() == 64, "the hash has 64 digits");
  for (std::int64_t b = 0; b < pairs.count(); ++b) {
    const PairIds& own = list[static_cast<std::size_t>(b)];
    const at::Tensor row =
        pairs.clean.ids[b].narrow(0, 0, static_cast<std::int64_t>(own.clean.size()));
    require(at::equal(row, at::tensor(own.clean, at::kLong)), "ids are those of the file");
    const auto last = pairs.reads[b].item<std::int64_t>();
    require(last == static_cast<std::int64_t>(own.clean.size()) - 1, "the last position is read");
  }
}

bool parses(const std::function<void()>& action) {
  return succeeds(action, {ErrorKind::bad_argument});
}

}  // namespace

/// `input` is a file of JSON lines.
void run_pairs_jsonl(std::string_view input) {
  static const ScratchDirectory directory;
  read_and_pad(directory.write("pairs.jsonl", input));
}

/// `input` is a file of EAP-IG's columns.
void run_pairs_csv(std::string_view input) {
  static const ScratchDirectory directory;
  read_and_pad(directory.write("pairs.csv", input));
}

/// `input` is what stands behind --sites, --patch, --with, --metric or --replace.
void run_expressions(std::string_view input) {
  constexpr int layers = 4;
  const std::string text(input);
  const auto vector = [](const std::string&) { return at::ones({4}, at::kDouble); };
  SlicedSite site;
  if (parses([&] { site = parse_site(text); }))
    require(parse_site(to_string(site)) == site, "a site is printed as it is parsed");
  std::vector<SlicedSite> sites;
  if (parses([&] { sites = parse_sites(text, layers); })) {
    require(!sites.empty(), "a set of sites names one");
    for (const SlicedSite& each : sites) {
      require(each.site.layer < layers || !per_layer(each.site.part), "layers are the model's");
      require(parse_site(to_string(each)) == each, "a site of a set is printed as it is parsed");
    }
  }
  std::vector<FixedEdit> edits;
  if (parses([&] { edits = parse_fixed_edits(text, layers, 0, vector); })) {
    for (const FixedEdit& edit : edits) {
      const Replacement& own = edit.replacement;
      require(parse_replacement(to_string(own), 0, vector).kind == own.kind,
              "an edit is printed as it is parsed");
    }
  }
  parses([&] { parse_replacement(text, 0, vector); });
  SweepSpec sweep;
  if (parses([&] { sweep = parse_sweep(text); }))
    require(parse_sweep(to_string(sweep)) == sweep, "a sweep is printed as it is parsed");
  Metric metric;
  if (parses([&] { metric = parse_metric(text, vector); }))
    require(to_string(parse_metric(to_string(metric), vector)) == to_string(metric),
            "a metric is printed as it is parsed");
}

}  // namespace plumb::fuzz
