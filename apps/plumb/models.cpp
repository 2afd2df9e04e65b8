// The choice of a model: a path, the name of a fetched one, or one planted here and now.
#include <ATen/Context.h>
#include <fmt/format.h>
#include <malloc.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "output.h"
#include "plumb/error.h"
#include "plumb/plant.h"
#include "shared.h"
#include "usage.h"

namespace plumb::app {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFetched = "smollm2-135m";
constexpr const char* kPlanted = "planted";

/// Where data/models/get puts a fetched model.
fs::path fetched_path(const std::string& name) {
  const auto variable = [](const char* key) -> std::string {
    const char* value = std::getenv(key);
    return value == nullptr ? "" : value;
  };
  fs::path directory = variable("PLUMB_MODELS");
  if (directory.empty()) {
    const std::string cache = variable("XDG_CACHE_HOME");
    directory = (cache.empty() ? fs::path(variable("HOME")) / ".cache" : fs::path(cache)) /
                "plumb" / "models";
  }
  return directory / (name + ".gguf");
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

LoadOptions load_options(const Common& common) {
  LoadOptions options;
  options.dtype = scalar_type(common.dtype);
  options.threads = common.threads;
  options.layers = common.layers;
  options.memory = common.memory;
  // Under a bound the allocator must not keep what was freed: blocks from here on are the system's.
  constexpr int own_pages_from = 1 << 20;
  // Without one it keeps what the next operation will ask for again: pages that the system takes
  // back and clears anew cost a short run a fifth of its time.
  constexpr int own_pages_unbound = 32 << 20;
  constexpr int kept_free = 1 << 30;
  mallopt(M_MMAP_THRESHOLD, common.memory > 0 ? own_pages_from : own_pages_unbound);
  if (common.memory == 0) mallopt(M_TRIM_THRESHOLD, kept_free);
  if (common.device == "cuda") {
    if (!at::hasCUDA()) {
      throw Error(ErrorKind::unsupported,
                  "--device cuda: this LibTorch finds no CUDA device; use --device cpu");
    }
    options.device = at::Device(at::kCUDA);
  }
  return options;
}

Chosen open_path(const fs::path& path, const Common& common) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  Chosen chosen{checkpoint, Model(checkpoint, load_options(common))};
  try {
    chosen.tokenizer = Tokenizer::open(path);
  } catch (const Error& error) {
    // Only who wants to read text has to know.
    chosen.tokenizer_error = error.what();
  }
  return chosen;
}

/// "planted" or "planted:ROUTE". Written to a directory, so that it goes the way of every other
/// model: the same reader, a checksum, a tokenizer.
Chosen open_planted(const std::string& name, const Common& common) {
  PlantOptions options;
  options.seed = common.seed;
  const std::size_t colon = name.find(':');
  if (colon != std::string::npos) options.route = parse_route(name.substr(colon + 1));
  const auto scratch = std::make_shared<ScratchDirectory>();
  const fs::path directory = scratch->path() / planted_name(options);
  write_planted(plant(options), directory);
  Chosen chosen = open_path(directory, common);
  chosen.scratch = scratch;
  return chosen;
}

std::string default_model(const Common& common) {
  if (is_file(fetched_path(kFetched))) return kFetched;
  if (!common.quiet) {
    std::cerr << fmt::format(
        "plumb: {} is not there (data/models/get {} fetches it); running on a "
        "small model with a planted circuit\n",
        kFetched, kFetched);
  }
  return kPlanted;
}

}  // namespace

void offer_model(CLI::App& app, ModelFlags& flags) {
  app.add_option("MODEL", flags.model,
                 "Hugging Face directory, .gguf file, or a name: smollm2-135m, planted, "
                 "planted:token, planted:norm_only, planted:none (smollm2-135m if it was fetched, "
                 "else planted)")
      ->type_name("");
}

Chosen open_model(const ModelFlags& flags, const Common& common) {
  const std::string name = flags.model.empty() ? default_model(common) : flags.model;
  if (name == kPlanted || name.starts_with(std::string(kPlanted) + ":")) {
    return open_planted(name, common);
  }
  if (name == kFetched) {
    const fs::path path = fetched_path(name);
    if (!is_file(path)) {
      throw Error(ErrorKind::bad_file,
                  fmt::format("the model {} was not fetched: {} is missing; run data/models/get {}",
                              name, path.string(), name));
    }
    return open_path(path, common);
  }
  std::error_code ignored;
  if (!fs::exists(name, ignored)) {
    throw Error(ErrorKind::bad_file,
                fmt::format("no model '{}': it is no directory, no file, and no name of a model "
                            "(smollm2-135m, planted, planted:ROUTE){}",
                            name, did_you_mean(name, {kFetched, kPlanted})));
  }
  return open_path(name, common);
}

}  // namespace plumb::app
