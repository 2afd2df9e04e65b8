// What the subcommands share: flags, the choice of a model and of inputs.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "plumb/checkpoint.h"
#include "plumb/inputs.h"
#include "plumb/model.h"
#include "plumb/run_info.h"
#include "plumb/sink.h"
#include "plumb/tokenizer.h"

namespace plumb::app {

/// A subcommand. `set_up` declares its flags and returns what runs it once they are parsed.
struct Command {
  std::string name = {};
  std::string summary = {};
  std::function<std::function<int()>(CLI::App& app, const std::string& command_line)> set_up = {};
};

Command attribute_command();
Command convert_command();
Command inspect_command();
Command p0_command();
Command pairs_command();
Command patch_command();
Command plant_command();
Command record_command();
Command sink_command();
Command trace_command();
Command train_command();

/// Flags that mean the same wherever they are offered.
struct Common {
  std::string device = "cpu";
  std::string dtype = "f32";
  int threads = 0;  ///< 0 = one per physical core
  std::optional<LayerRange> layers = {};
  std::int64_t memory = 0;  ///< bytes; 0 = as many as needed
  std::uint64_t seed = 0;
  std::string out = {};
  bool json = false;
  bool quiet = false;
};

// Each declares a flag that a command offers only if it has a meaning there.
void offer_device(CLI::App& app, Common& common);
void offer_dtype(CLI::App& app, Common& common);
/// Of "f32", "f64", "bf16" and "f16".
at::ScalarType scalar_type(const std::string& dtype);
void offer_threads(CLI::App& app, Common& common);
void offer_layers(CLI::App& app, Common& common);
void offer_memory(CLI::App& app, Common& common);
void offer_seed(CLI::App& app, Common& common, const std::string& what_for);
void offer_out(CLI::App& app, Common& common, const std::string& what_for);
void offer_json(CLI::App& app, Common& common);
void offer_quiet(CLI::App& app, Common& common);

/// A flag whose value is handed, as text, to `take`, which throws plumb::Error if it is wrong.
CLI::Option* offer(CLI::App& app, const std::string& flag, const std::string& value_name,
                   const std::string& help, std::function<void(const std::string&)> take);

/// Flags that may also stand before the subcommand: with a value, and without.
const std::vector<std::string>& global_flags_with_value();
const std::vector<std::string>& global_switches();

struct ModelFlags {
  std::string model = {};
};
void offer_model(CLI::App& app, ModelFlags& flags);

/// A model that was asked for, opened.
struct Chosen {
  Checkpoint checkpoint;
  Model model;
  std::optional<Tokenizer> tokenizer = {};
  std::string tokenizer_error = {};    ///< why there is none
  std::shared_ptr<void> scratch = {};  ///< keeps the directory of a planted model
  const Tokenizer* tokens() const { return tokenizer ? &*tokenizer : nullptr; }
};

/// A path, or the name of a model: throws bad_file with one line if it is not there.
Chosen open_model(const ModelFlags& flags, const Common& common);

struct InputFlags {
  std::vector<std::string> text = {};
  std::optional<std::string> text_file = {};
  std::optional<std::string> token_file = {};
  std::optional<std::pair<std::int64_t, std::int64_t>> random = {};  ///< sequences, length
  std::optional<Bos> bos = {};
  std::optional<std::int64_t> length = {};
  std::optional<std::int64_t> sequences = {};
};
void offer_inputs(CLI::App& app, InputFlags& flags, const std::string& bos_help);

/// The sequences that were asked for, before any BOS.
struct Content {
  std::vector<std::vector<std::int64_t>> sequences = {};
  std::int64_t length = 0;
  std::string kind = {};
};
Content read_content(const InputFlags& flags, const Chosen& chosen, std::uint64_t seed);
/// The content with a BOS, or without. Throws bad_argument if an id is none of the model's.
Inputs with_bos(const Content& content, std::optional<std::int64_t> bos, const Model& model);
/// Random ids of the same number and length.
Inputs random_twin(const Content& content, std::optional<std::int64_t> bos, const Chosen& chosen,
                   std::uint64_t seed);

/// The inputs of a command that runs them in one condition: text with the tokenizer's own BOS, if
/// it adds one, ids as they are.
Inputs read_inputs(const InputFlags& flags, const Chosen& chosen, std::uint64_t seed);

/// A condition that `plumb sink` surveys.
struct SinkCondition {
  std::string name = {};
  std::optional<std::int64_t> bos = {};
  bool random = false;  ///< random ids in place of the content
};
/// The main one first. An explicit --bos, or ids given as they are to be run, ask for one only.
std::vector<SinkCondition> sink_conditions(const InputFlags& flags, const std::string& kind,
                                           const Chosen& chosen);

struct SiteFlags {
  std::vector<std::string> sites = {};
  std::vector<std::int64_t> positions = {};  ///< empty = all
};
/// --sites and --positions.
void offer_sites(CLI::App& app, SiteFlags& flags);
/// The sites of this model that were asked for. Throws bad_argument.
std::vector<SlicedSite> read_sites(const SiteFlags& flags, const Model& model);

/// --epsilon, --queries, --pool and --wave-threshold.
void offer_sink_options(CLI::App& app, SinkOptions& options);

/// A vector from a JSON file, or from a dataset of an archive: "p0.h5:/p0/wave1/direction".
at::Tensor vector_from(const std::string& text);

}  // namespace plumb::app
