// Bootstrap intervals at other levels than 95 %.
#pragma once

#include <cstdint>
#include <vector>

#include "plumb/metrics.h"

namespace plumb {

/// `bootstrap` with a share `tail` of the resampled means on either side of the interval: 0.025 for
/// one of 95 %, 0.025 / n for n intervals that hold together with 95 % (Dunn, "Multiple comparisons
/// among means", 1961). As many resamples as leave ten beyond each bound, at least 2,000 and at
/// most 100,000. The same seed gives the same resamples whatever the values are, so that intervals
/// of several effects on the same sequences are paired.
Estimate bootstrap_at(double tail, const std::vector<double>& values, std::uint64_t seed);

}  // namespace plumb
