// What the reports about circuits share.
#pragma once

#include <map>
#include <string>

#include "plumb/evaluate.h"

namespace plumb::report {

/// What edges outside a circuit carry.
std::string outside_words(const Replacement& outside);
/// The conventions of an evaluation, by name.
std::map<std::string, std::string> evaluation_words(const EvaluationOptions& options);
std::string faithfulness_words();

}  // namespace plumb::report
