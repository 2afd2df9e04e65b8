// plumb plant: a small model with a known circuit, or without one.
#include "plumb/plant.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "output.h"
#include "plumb/error.h"
#include "shared.h"
#include "usage.h"

namespace plumb::app {
namespace {

struct PlantFlags {
  Common common = {};
  PlantOptions options = {};
};

int run_plant(const PlantFlags& flags) {
  const Common& common = flags.common;
  if (common.out.empty()) {
    throw Error(ErrorKind::bad_argument, "plumb plant needs --out DIR to write the model to");
  }
  PlantOptions options = flags.options;
  options.seed = common.seed;
  const Planted planted = plant(options);
  prepare_directory(common.out);
  write_planted(planted, common.out);
  const auto list = [](const std::vector<std::string>& names) {
    return names.empty() ? std::string("none") : fmt::format("{}", fmt::join(names, ", "));
  };
  std::string text =
      fmt::format("Planted {} in {}: {} layers of {} heads, width {}\n", planted_name(options),
                  common.out, planted.config.layers, planted.config.heads, planted.config.d_model);
  text += fmt::format("  circuit  {}\n  parts    {}\n", list(planted.circuit_nodes),
                      list(planted.circuit_parts));
  text +=
      fmt::format("  onset    {}\n  readers  {}\n",
                  planted.onset < 0 ? std::string("none") : fmt::format("layer {}", planted.onset),
                  list(planted.readers));
  print(text);
  return 0;
}

}  // namespace

Command plant_command() {
  return {"plant", "Make a small model with a planted sink circuit, or a near miss of one",
          [](CLI::App& app, const std::string&) {
            const auto flags = std::make_shared<PlantFlags>();
            PlantOptions& options = flags->options;
            offer(app, "--route", "ROUTE",
                  "positional, token, none, norm_only or no_spike (positional)",
                  [&options](const std::string& text) { options.route = parse_route(text); });
            const auto size = [&](const std::string& flag, const std::string& help, int& value) {
              offer(app, flag, "N", fmt::format("{} ({})", help, value),
                    [flag, &value](const std::string& text) {
                      value = static_cast<int>(whole(flag, text, 0, 4096));
                    });
            };
            size("--layers", "Blocks", options.layers);
            size("--heads", "Query heads", options.heads);
            size("--kv-heads", "Key heads", options.kv_heads);
            size("--d-mlp", "Neurons of a block", options.d_mlp);
            size("--detect", "Block that recognises position 0", options.detect);
            size("--write", "Block that writes the high norm", options.write);
            size("--d-model", "Width of the stream", options.d_model);
            size("--second", "Block that writes a second wave; 0: one wave", options.second);
            app.add_flag("--erase", options.erase,
                         "The block before --second erases the first wave");
            app.add_flag("--backup", options.backup, "The block after --write steps in for it");
            app.add_flag("--bos-too", options.bos_too, "The BOS token makes the sink as well");
            offer(app, "--noise", "S", "Standard deviation of the noise on every weight (0.01)",
                  [&options](const std::string& text) {
                    options.noise = number("--noise", text, 0.0, 1.0);
                  });
            offer_seed(app, flags->common, "Of every random choice");
            offer_out(app, flags->common, "Where the Hugging Face directory goes (needed)");
            return [flags] { return run_plant(*flags); };
          }};
}

}  // namespace plumb::app
