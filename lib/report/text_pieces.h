// Pieces that the text reports share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plumb/metrics.h"
#include "plumb/run_info.h"
#include "plumb/sink.h"
#include "plumb/tokenizer.h"

namespace plumb::report {

inline constexpr std::size_t kPageWidth = 110;

/// A table, indented. Columns whose title starts with '<' stand to the left (the mark is not
/// printed), others to the right. What does not fit the page has its widest left column cut.
std::string columns(const std::vector<std::string>& titles,
                    const std::vector<std::vector<std::string>>& rows);
/// Every line two columns further right.
std::string indented(const std::string& lines);

/// Paragraph broken at spaces, later lines indented by `hang`.
std::string wrap(std::string_view text, std::size_t indent = 2, std::size_t hang = 2);

/// "WAVE 1" underlined.
std::string heading(const std::string& text);

std::string show_count(std::int64_t value);                  ///< "1,234,567"
std::string show_norm(double value);                         ///< "22644", "53.1", "2.07"
std::string show_share(double value);                        ///< "94 %"
std::string show_value(double value);                        ///< "0.349"
std::string show_change(double value);                       ///< "+0.387"
std::string show_interval(double low, double high);          ///< "[0.303, 0.404]"
std::string show_estimate(const Estimate& value);            ///< "0.349 [0.303, 0.404]"
std::string show_layers(int first, int last);                ///< "layers 3-9", "layer 3"
std::string list_of(const std::vector<std::string>& names);  ///< "m1, m2 and m3"
/// The token's text in quotes, or "token 17" without a tokenizer.
std::string show_token(std::int64_t id, const Tokenizer* tokenizer);

/// Model, arithmetic and inputs, in two lines.
std::string show_run(const RunInfo& run, const SinkSurvey* survey);
/// Files, time and memory, at the end of a report.
std::string show_end(const RunInfo& run, std::int64_t evaluations);

/// One line a layer: its wave, a mark for every head, means and norms.
std::string layer_table(const SinkSurvey& survey);
/// Waves, rates, steps, secondary sinks and loss.
std::string survey_notes(const SinkSurvey& survey, const Tokenizer* tokenizer);
/// "64 sequences of 128 tokens of text, without BOS".
std::string show_inputs(const SinkSurvey& survey);

}  // namespace plumb::report
