// The report of `plumb convert`.
#include <fmt/format.h>

#include "plumb/report_json.h"
#include "plumb/report_text.h"
#include "report/json_pieces.h"
#include "report/text_pieces.h"

namespace plumb {

std::string convert_json(const RunInfo& run, const Conversion& conversion) {
  using report::Json;
  Json json = report::document(run);
  json["directory"] = conversion.directory.string();
  json["dtype"] = conversion.dtype;
  json["written"] = conversion.files;
  json["parameters"] = conversion.parameters;
  json["weight_bytes"] = conversion.weight_bytes;
  json["rounded"] = conversion.rounded;
  json["tokenizer"] = conversion.tokenizer_problem.empty();
  json["tokenizer_problem"] =
      conversion.tokenizer_problem.empty() ? Json() : Json(conversion.tokenizer_problem);
  json["inputs"] = nullptr;
  json["conventions"] = {
      {"rounded", "weights that the dtype does not hold exactly; with 0 the conversion is exact"},
      {"weight_bytes", "of the tensors written, without headers"}};
  report::put_end(json, run);
  return report::print(json);
}

std::string convert_text(const RunInfo& run, const Conversion& conversion) {
  using namespace report;
  std::string text = show_run(run, nullptr);
  text += fmt::format("  written      {}: {}\n", conversion.directory.string(),
                      fmt::join(conversion.files, ", "));
  text += fmt::format("  weights      {} parameters in {}, {}\n", show_count(conversion.parameters),
                      conversion.dtype, show_bytes(conversion.weight_bytes));
  text += conversion.rounded == 0
              ? std::string("  exact        every weight reads back equal to its source\n")
              : fmt::format("  rounded      {} weights are not exact in {}\n",
                            show_count(conversion.rounded), conversion.dtype);
  if (!conversion.tokenizer_problem.empty()) {
    text +=
        fmt::format("  warning      no tokenizer was written: {}\n", conversion.tokenizer_problem);
  }
  return text;
}

}  // namespace plumb
