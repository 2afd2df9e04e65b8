// What the reports of patching share.
#pragma once

#include <string>
#include <vector>

#include "plumb/patch.h"

namespace plumb::report {

/// Which run is patched, what with, and where the metric is read.
std::string direction_words(const PatchReport& found);
std::string metric_words(const Metric& metric);
/// What a value of the sweeps is.
std::string values_words(const PatchReport& found);
std::string with_words(const PatchReport& found);
/// "L9.q[h=6] L10.mlp_in"
std::string sites_words(const std::vector<SlicedSite>& sites);
/// Where what is sent goes.
std::string path_words(const Paths& paths);
/// All of these as sentences.
std::vector<std::string> patch_conventions(const PatchReport& found);

}  // namespace plumb::report
