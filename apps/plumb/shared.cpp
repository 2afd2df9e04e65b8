#include "shared.h"

#include "plumb/error.h"
#include "usage.h"

namespace plumb::app {

CLI::Option* offer(CLI::App& app, const std::string& flag, const std::string& value_name,
                   const std::string& help, std::function<void(const std::string&)> take) {
  return app.add_option_function<std::string>(flag, std::move(take), help)
      ->type_name(value_name)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

const std::vector<std::string>& global_flags_with_value() {
  static const std::vector<std::string> flags = {"--device", "--dtype",  "--threads", "--seed",
                                                 "--out",    "--layers", "--memory"};
  return flags;
}

const std::vector<std::string>& global_switches() {
  static const std::vector<std::string> flags = {"--json", "--quiet"};
  return flags;
}

void offer_device(CLI::App& app, Common& common) {
  offer(app, "--device", "cpu|cuda", "Where the arithmetic is done (cpu)",
        [&common](const std::string& text) {
          common.device = one_of("--device", text, {"cpu", "cuda"});
        });
}

void offer_dtype(CLI::App& app, Common& common) {
  offer(app, "--dtype", "f32|f64|bf16|f16", "Precision of the arithmetic (f32)",
        [&common](const std::string& text) {
          common.dtype = one_of("--dtype", text, {"f32", "f64", "bf16", "f16"});
        });
}

at::ScalarType scalar_type(const std::string& dtype) {
  if (dtype == "f64") return at::kDouble;
  if (dtype == "bf16") return at::kBFloat16;
  return dtype == "f16" ? at::kHalf : at::kFloat;
}

void offer_threads(CLI::App& app, Common& common) {
  offer(app, "--threads", "N", "Threads (one per physical core); results do not depend on it",
        [&common](const std::string& text) {
          common.threads = static_cast<int>(whole("--threads", text, 1, 1024));
        });
}

void offer_layers(CLI::App& app, Common& common) {
  offer(app, "--layers", "A-B",
        "Load these blocks only and stop after the last of them (all); others are never read",
        [&common](const std::string& text) {
          const std::size_t dash = text.find('-');
          constexpr std::int64_t most = 1'000'000;
          LayerRange range;
          range.first = static_cast<int>(whole("--layers A-B: A", text.substr(0, dash), 0, most));
          range.last = dash == std::string::npos
                           ? range.first
                           : static_cast<int>(whole("--layers A-B: B", text.substr(dash + 1),
                                                    range.first, most));
          if (range.first != 0) {
            throw Error(ErrorKind::bad_argument,
                        "--layers begins with 0, as every run begins with block 0; got " + text);
          }
          common.layers = range;
        });
}

void offer_memory(CLI::App& app, Common& common) {
  offer(app, "--memory", "SIZE",
        "Memory to keep to, say 8G: weights that do not fit are read block by block (all kept); "
        "results do not depend on it",
        [&common](const std::string& text) { common.memory = byte_size("--memory", text); });
}

void offer_seed(CLI::App& app, Common& common, const std::string& what_for) {
  offer(app, "--seed", "N", what_for + " (0)",
        [&common](const std::string& text) { common.seed = seed_number("--seed", text); });
}

void offer_out(CLI::App& app, Common& common, const std::string& what_for) {
  offer(app, "--out", "DIR", what_for, [&common](const std::string& text) {
    if (text.empty()) one_of("--out", text, {"a directory"});
    common.out = text;
  });
}

void offer_json(CLI::App& app, Common& common) {
  app.add_flag("--json", common.json, "One JSON document on standard output instead of text");
}

void offer_quiet(CLI::App& app, Common& common) {
  app.add_flag("--quiet", common.quiet, "No progress, time or memory on standard error");
}

void offer_sink_options(CLI::App& app, SinkOptions& options) {
  offer(app, "--epsilon", "E", "A head is a sink head above this (0.3)",
        [&options](const std::string& text) {
          options.epsilon = number("--epsilon", text, 0.0, 1.0);
        });
  offer(app, "--queries", "WHICH",
        "Queries that count: all, no_self, second_half or last (no_self)",
        [&options](const std::string& text) { options.queries = parse_queries(text); });
  offer(app, "--pool", "HOW", "Compare with epsilon per_sample or pooled (per_sample)",
        [&options](const std::string& text) { options.pool = parse_pool(text); });
  offer(app, "--wave-threshold", "S", "Mean sink from which a layer belongs to a wave (0.15)",
        [&options](const std::string& text) {
          options.wave_threshold = number("--wave-threshold", text, 0.0, 1.0);
        });
}

}  // namespace plumb::app
