// Options and names of the P0 job.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "plumb/error.h"
#include "plumb/p0.h"

namespace plumb {

const char* to_string(Verdict verdict) noexcept {
  switch (verdict) {
    case Verdict::positional: return "positional";
    case Verdict::token: return "token";
    case Verdict::learned_position: return "learned_position";
    case Verdict::secondary: return "secondary";
    case Verdict::none: return "none";
    case Verdict::sink_logits: return "sink_logits";
  }
  return "none";
}

const char* to_string(Holds holds) noexcept {
  switch (holds) {
    case Holds::yes: return "yes";
    case Holds::no: return "no";
    case Holds::untested: return "untested";
  }
  return "untested";
}

const char* to_string(Ablation ablation) noexcept {
  switch (ablation) {
    case Ablation::zero: return "zero";
    case Ablation::mean: return "mean";
    case Ablation::resample: return "resample";
    case Ablation::displaced: return "displaced";
  }
  return "zero";
}

void check(const P0Options& options, const Model&) {
  check(options.sink);
  const auto positive = [](std::int64_t value, const char* what) {
    if (value < 1)
      throw Error(ErrorKind::bad_argument,
                  fmt::format("expected {} of at least 1, got {}", what, value));
  };
  const auto share = [](double value, const char* what) {
    if (!(value >= 0.0 && value <= 1.0))
      throw Error(ErrorKind::bad_argument,
                  fmt::format("expected a share of 0 to 1 as {}, got {}", what, value));
  };
  positive(options.causal_sequences - 1, "a number of causal sequences less one");
  positive(options.causal_length - 7, "a causal length less seven");
  positive(options.self_mask_position, "a position to mask");
  positive(options.prefix, "a prefix length");
  share(options.necessary, "necessary");
  share(options.control, "control");
  if (!(options.control_ratio >= 1.0 && options.control_ratio < 1e6)) {
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("expected a control_ratio of at least 1 (how many times its control's an "
                    "effect must be), got {}",
                    options.control_ratio));
  }
  share(options.sufficient, "sufficient");
  share(options.located, "located");
  share(options.vocabulary, "vocabulary");
  share(options.separable, "separable");
  share(options.recovered, "recovered");
  share(options.link, "link");
  share(options.signal, "signal");
  share(options.signal_margin, "signal_margin");
  share(options.learned, "learned");
  share(options.shift, "shift");
}

namespace {

const std::vector<std::pair<std::string, double P0Options::*>>& thresholds() {
  static const std::vector<std::pair<std::string, double P0Options::*>> all{
      {"necessary", &P0Options::necessary},
      {"control", &P0Options::control},
      {"control_ratio", &P0Options::control_ratio},
      {"sufficient", &P0Options::sufficient},
      {"located", &P0Options::located},
      {"vocabulary", &P0Options::vocabulary},
      {"separable", &P0Options::separable},
      {"recovered", &P0Options::recovered},
      {"link", &P0Options::link},
      {"signal", &P0Options::signal},
      {"signal_margin", &P0Options::signal_margin},
      {"learned", &P0Options::learned},
      {"shift", &P0Options::shift}};
  return all;
}

}  // namespace

const std::vector<std::string>& p0_thresholds() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const auto& [name, member] : thresholds()) list.push_back(name);
    return list;
  }();
  return names;
}

void set_threshold(P0Options& options, const std::string& name, double value) {
  const auto found =
      std::ranges::find_if(thresholds(), [&](const auto& entry) { return entry.first == name; });
  if (found == thresholds().end()) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("no threshold \"{:.40}\" in the ladder; there are {}", name,
                            fmt::join(p0_thresholds(), ", ")));
  }
  options.*(found->second) = value;
}

}  // namespace plumb
