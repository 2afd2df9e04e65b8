// plumb mix: how far tokens spread over positions, with the sink and without it.
#include "mix.h"

#include <fmt/format.h>

#include <cstdio>

#include "output.h"
#include "plumb/error.h"
#include "plumb/mix.h"
#include "plumb/report_mix.h"
#include "usage.h"

namespace plumb::app {
namespace {

struct MixFlags {
  Common common = {};
  ModelFlags model = {};
  InputFlags inputs = {};
  MixOptions options = {};
  std::string svg = {};
  std::vector<std::string> drawn = {};
};

int run_mix(const MixFlags& flags, const std::string& command_line) {
  const Common& common = flags.common;
  if (!common.out.empty()) prepare_directory(common.out);
  const Chosen chosen = open_model(flags.model, common);
  MixOptions options = flags.options;
  options.seed = common.seed;
  check(options, chosen.model);
  std::vector<std::string> conditions = {"plain", "no_bos", "column0"};
  conditions.insert(conditions.end(), options.knock_outs.begin(), options.knock_outs.end());
  for (const std::string& name : flags.drawn) one_of("--draw", name, conditions);
  const Inputs inputs = read_inputs(flags.inputs, chosen, common.seed);
  RunInfo run = start_run(chosen.model, "mix", command_line, common.seed);
  std::vector<std::int64_t> replacements;
  for (const auto& one : random_ids(inputs.tokens.batch(), 1, chosen.model.config().vocab,
                                    chosen.tokens(), common.seed)) {
    replacements.push_back(one.front());
  }
  if (!common.quiet) {
    fmt::print(stderr, "plumb: {:.2f} million token-layer evaluations to do\n",
               static_cast<double>(foresee_mix(chosen.model, inputs, options)) / 1e6);
  }
  const MixReport report =
      measure_mix(chosen.model, inputs, replacements, options, show_progress(common.quiet));
  end_run(run, chosen.model);
  if (!common.out.empty()) {
    const std::filesystem::path directory = common.out;
    run.files = {{"archive", (directory / "mix.h5").string()},
                 {"json", (directory / "mix.json").string()},
                 {"text", (directory / "mix.txt").string()},
                 {"picture", (directory / "mix.svg").string()}};
  }
  const std::string json = mix_json(run, inputs, report);
  const std::string text = mix_text(run, inputs, report);
  deliver(
      [&] {
        if (!flags.svg.empty()) write_file(flags.svg, mix_svg(report, flags.drawn));
        if (common.out.empty()) return;
        write_archive(run.files.at("archive"), run, inputs, report);
        write_file(run.files.at("json"), json);
        write_file(run.files.at("text"), text);
        write_file(run.files.at("picture"), mix_svg(report, flags.drawn));
      },
      common.json ? json : text);
  say_cost(run, common.quiet);
  return 0;
}

}  // namespace

Command mix_command() {
  return {
      "mix", "Measure how far tokens spread, with the sink and without it",
      [](CLI::App& app, const std::string& command_line) {
        const auto flags = std::make_shared<MixFlags>();
        MixOptions* options = &flags->options;
        constexpr std::int64_t kMost = 1'000'000;
        offer_model(app, flags->model);
        offer_inputs(app, flags->inputs,
                     "Token before every sequence (text: the tokenizer's own; others: none); "
                     "with one, sequences are measured without it too");
        app.add_option("--knock-out", options->knock_outs,
                       "Components like m1+m2 whose write at position 0 becomes ordinary; may "
                       "be repeated")
            ->type_name("SET")
            ->allow_extra_args(false);
        offer(app, "--position", "T", "Token that is changed (a quarter of the shortest)",
              [options](const std::string& text) {
                options->position = whole("--position", text, 0, kMost);
              });
        offer(app, "--bands", "N", "Bands of the unembedding's singular vectors (20)",
              [options](const std::string& text) {
                options->bands = whole("--bands", text, 1, kMost);
              });
        offer(app, "--jacobians", "N", "Sequences whose Jacobians are measured (2)",
              [options](const std::string& text) {
                options->jacobian_sequences = whole("--jacobians", text, 0, kMost);
              });
        offer(app, "--jacobian-length", "T", "Positions of them (64)",
              [options](const std::string& text) {
                options->jacobian_length = whole("--jacobian-length", text, 2, kMost);
              });
        offer(app, "--probes", "N",
              "Random vectors a Jacobian's norm is estimated from; 0 = exact, d_model of them (16)",
              [options](const std::string& text) {
                options->probes = whole("--probes", text, 0, kMost);
              });
        offer(app, "--draw", "CONDITIONS",
              "What the picture shows, like plain,column0,m1+m2 (all conditions)",
              [flags](const std::string& text) { flags->drawn = comma_list(text); });
        offer(app, "--svg", "FILE", "Also write the picture there",
              [flags](const std::string& text) { flags->svg = text; });
        offer_device(app, flags->common);
        offer_dtype(app, flags->common);
        offer_threads(app, flags->common);
        offer_layers(app, flags->common);
        offer_memory(app, flags->common);
        offer_seed(app, flags->common, "Of random ids, replacements and probes");
        offer_out(app, flags->common, "Also write mix.h5, .json, .txt and .svg there");
        offer_json(app, flags->common);
        offer_quiet(app, flags->common);
        return [flags, command_line] { return run_mix(*flags, command_line); };
      }};
}

}  // namespace plumb::app
