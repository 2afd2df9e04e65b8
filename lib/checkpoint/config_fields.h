// A ModelConfig as named values, to compare and to print.
#pragma once

#include <string>

#include "checkpoint/json.h"
#include "plumb/config.h"

namespace plumb {

/// The switches that matter for this config, by their names; those that no part of the forward pass
/// reads are left out, so that two configs are the same model exactly when these are equal.
Json config_fields(const ModelConfig& config);

/// "kv_heads is 2 against 4" for the first switch in which they differ; empty when none does.
std::string first_difference(const ModelConfig& a, const ModelConfig& b);

}  // namespace plumb
