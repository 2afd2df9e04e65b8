// Correlations of two lists of numbers.
#pragma once

#include <vector>

namespace plumb {

/// Pearson's; NaN where one of the two does not vary.
double correlation(const std::vector<double>& a, const std::vector<double>& b);

/// Ranks from 0; equal values share their mean rank.
std::vector<double> ranks(const std::vector<double>& values);

}  // namespace plumb
