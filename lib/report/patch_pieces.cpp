#include "report/patch_pieces.h"

#include <fmt/format.h>

namespace plumb::report {
namespace {

std::string ablation_words(const Replacement& replacement) {
  switch (replacement.kind) {
    case ReplacementKind::other: return "its value in the other run";
    case ReplacementKind::zero: return "0";
    case ReplacementKind::mean:
      return "its mean over examples and positions of the unpatched run, padding left out";
    case ReplacementKind::mean_batch:
      return "its mean over examples of the unpatched run, position by position";
    case ReplacementKind::mean_position:
      return "its mean over positions of the unpatched run, example by example";
    case ReplacementKind::resample:
      return fmt::format("its value in another example of the same length (permutation of seed {})",
                         replacement.seed);
    case ReplacementKind::put: return fmt::format("the vector {}", replacement.vector_name);
    case ReplacementKind::add:
      return fmt::format("itself plus the vector {}", replacement.vector_name);
    case ReplacementKind::scale: return fmt::format("itself times {}", replacement.number);
    case ReplacementKind::project_out:
      return fmt::format("itself without its component along {}", replacement.vector_name);
    case ReplacementKind::clamp_norm: return fmt::format("itself at length {}", replacement.number);
    case ReplacementKind::hide: return "hidden: the keys are not seen";
  }
  return "";
}

}  // namespace

std::string direction_words(const PatchReport& found) {
  if (found.options.replacement.kind != ReplacementKind::other) {
    const bool corrupt = found.paired && found.options.direction == Direction::denoising;
    return fmt::format("ablation of the {} run: a patched site becomes {}",
                       corrupt ? "corrupt" : "clean", ablation_words(found.options.replacement));
  }
  return found.options.direction == Direction::denoising
             ? "denoising: the corrupt run is patched with clean values"
             : "noising: the clean run is patched with corrupt values";
}

std::string sites_words(const std::vector<SlicedSite>& sites) {
  std::string words;
  for (const SlicedSite& site : sites) words += (words.empty() ? "" : " ") + to_string(site);
  return words;
}

std::string path_words(const Paths& paths) {
  std::string words = "from each sender along the stream";
  for (const auto& hop : paths.via) words += ", to " + sites_words(hop) + " and on";
  words += ", to " + sites_words(paths.receivers) + "; other heads keep their values, MLPs ";
  return words + (paths.mlps == PathMlps::frozen ? "too" : "on the way are recomputed");
}

std::string metric_words(const Metric& metric) {
  const std::string name = to_string(metric);
  switch (metric.kind) {
    case MetricKind::loss:
      return name + ": -ln p of the clean prompt's next token, nats, mean over positions";
    case MetricKind::attention:
      return name + ": attention on the keys, mean over heads and the queries " +
             (metric.site.slice.positions.empty() ? "after them" : "named");
    case MetricKind::norm: return name + ": length, mean over positions and heads";
    case MetricKind::projection:
      return name + ": component along the direction, mean over positions and heads";
    default: return name + " at the last position of each prompt";
  }
}

std::string values_words(const PatchReport& found) {
  if (found.options.raw) return "mean metric over pairs";
  if (!found.paired) return "patched - unpatched of the mean metric over prompts";
  return "(patched - unpatched) / (other run - unpatched) of the mean metric over pairs: 0 = the "
         "unpatched run, 1 = the other run";
}

std::string with_words(const PatchReport& found) {
  std::string words;
  for (const FixedEdit& edit : found.options.with)
    words += (words.empty() ? "" : " ") + to_string(edit.at) + "=" + to_string(edit.replacement);
  return words;
}

std::vector<std::string> patch_conventions(const PatchReport& found) {
  const auto sentence = [](std::string words) {
    words[0] =
        static_cast<char>(words[0] >= 'a' && words[0] <= 'z' ? words[0] - 'a' + 'A' : words[0]);
    return words + ".";
  };
  std::vector<std::string> lines = {sentence(direction_words(found)),
                                    "Metric: " + metric_words(found.options.metric) + ".",
                                    "Values: " + values_words(found) + "."};
  if (found.paths) lines.push_back("Paths: " + path_words(*found.paths) + ".");
  if (!found.options.with.empty()) lines.push_back("In every run: " + with_words(found) + ".");
  return lines;
}

}  // namespace plumb::report
