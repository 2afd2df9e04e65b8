// Training a small model: the very decoder that is analysed, its gradients, AdamW.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plumb/adamw.h"
#include "plumb/attention_kind.h"
#include "plumb/config.h"
#include "plumb/model.h"
#include "plumb/progress.h"
#include "plumb/train_task.h"

namespace plumb {

/// Kinds of small models, each one that the reference library reads.
enum class ModelStyle {
  llama,  ///< RMSNorm, rotary, gated SiLU, no biases; family llama
  nope,   ///< LayerNorm, no position encoding, ReLU, biases in the MLP alone; family gpt_neox
  gpt2,   ///< LayerNorm, learned positions, GELU, biases, tied unembedding; family gpt2
};
const char* to_string(ModelStyle style) noexcept;
/// "llama", "nope" or "gpt2". Throws bad_argument, listing them.
ModelStyle parse_model_style(std::string_view text);

struct ModelSizes {
  int layers = 3;
  int heads = 4;  ///< as many key heads
  int d_model = 128;
  int d_mlp = 256;
  int vocab = 128;
  int context = 48;
};
/// Throws bad_argument where the heads do not part the width evenly.
ModelConfig model_config(ModelStyle style, const ModelSizes& sizes = {});

struct TrainOptions {
  ModelConfig config = model_config(ModelStyle::nope);
  AttentionKind attention = AttentionKind::softmax;  ///< its switches must be those of `config`
  TaskOptions task = {};
  std::int64_t steps = 3000;
  std::int64_t batch = 32;  ///< sequences of a step
  double rate = 2e-3;       ///< peak learning rate
  std::int64_t warm_up = 50;
  double final_share = 0.1;  ///< of the peak rate, at the last step
  AdamwOptions adamw = {};
  double weight_decay = 0.3;  ///< of matrices; embeddings, norms and biases do not decay
  double clip = 1.0;          ///< largest norm of all gradients together
  std::uint64_t seed = 0;     ///< of the first weights
};
/// Throws bad_argument, naming the option.
void check(const TrainOptions& options);

/// Mean nats per token over every prediction of ids [B, T], with its graph: `backward` gives the
/// gradients of the weights that the model was made of (see `Model::Source`).
at::Tensor training_loss(const Model& model, const at::Tensor& ids,
                         const std::vector<Intervention>& edits = {});

/// First weights, float32, by `weight_name`: embeddings N(0, 1), or N(0, 0.02) where the
/// unembedding is tied, gains 1, biases of norms and sink logits 0, all else uniform within 1 /
/// sqrt(inputs), as PyTorch's layers begin. The same on every platform.
std::map<std::string, at::Tensor> first_weights(const ModelConfig& config, std::uint64_t seed);

/// What one step did.
struct StepRecord {
  double rate = 0;
  double loss = 0;           ///< of the step's sequences, before the step
  double gradient_norm = 0;  ///< before clipping
};

/// A model in training. Float32, one thread: the same options give the same bits on one machine.
class Training {
 public:
  explicit Training(const TrainOptions& options);
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;

  const TrainOptions& options() const { return options_; }
  const Task& task() const { return task_; }
  std::int64_t steps() const { return static_cast<std::int64_t>(history_.size()); }  ///< taken
  bool finished() const { return steps() >= options_.steps; }
  const std::vector<StepRecord>& history() const { return history_; }

  /// One step. Throws bad_argument when the loss is no longer finite, or the training has finished.
  void advance();

  /// The model as it is now; it shares the weights, and changes with them.
  const Model& model() const { return model_; }
  /// Copies of the weights, by `weight_name`.
  std::map<std::string, at::Tensor> weights() const;

  /// Everything that a stopped training needs to go on with the same bits: weights, moments,
  /// history, and tables of the caller's. One safetensors file, which appears whole or not at all.
  using Tables = std::map<std::string, at::Tensor>;  ///< float64
  void save(const std::filesystem::path& file, const Tables& tables = {}) const;
  /// Throws bad_file where the file is damaged, bad_argument where other options made it.
  Tables resume(const std::filesystem::path& file);

 private:
  struct Parameter {
    Weight weight = Weight::embed;
    int layer = 0;
    at::Tensor value = {};
  };
  static std::vector<Parameter> parameters_of(const TrainOptions& options);
  static Model model_of(const TrainOptions& options, const std::vector<Parameter>& parameters);
  static Adamw optimiser_of(const TrainOptions& options, const std::vector<Parameter>& parameters);

  TrainOptions options_;
  Task task_;
  std::vector<Parameter> parameters_;  ///< matrices that decay first, then the others
  Model model_;
  Adamw optimiser_;
  std::vector<StepRecord> history_ = {};
};

/// Whether a config.json can say what the model is: with softmax attention alone.
bool has_checkpoints(const TrainOptions& options);

/// All that the bits depend on, as one JSON line. Throws bad_argument where no config.json can say
/// what the model is, its kind of attention apart.
std::string describe(const TrainOptions& options);

/// Where a training leaves its files, and how often.
struct TrainFiles {
  std::filesystem::path directory = {};
  bool resume = false;                         ///< go on where a run into it stopped
  std::int64_t save_every = 50;                ///< steps that a kill may cost
  std::vector<std::int64_t> checkpoints = {};  ///< steps after which the model is written
  at::ScalarType store = at::kFloat;           ///< of written weights: kFloat, kBFloat16 or kHalf
  std::int64_t probe_every = 50;               ///< 0 = never
  std::int64_t held_out = 64;                  ///< sequences of `held_out.json`
};
/// Throws bad_argument, naming the option.
void check(const TrainFiles& files, const TrainOptions& options);

/// What a caller measures while a model trains: a name and a value for each column.
struct Probe {
  std::vector<std::string> columns = {};
  std::function<std::vector<double>(const Training& training)> measure = {};
};

/// What the probes gave: the step, then a value for each column.
struct TrainOutcome {
  bool finished_before = false;  ///< nothing was left to do, and nothing is told
  std::vector<std::vector<double>> probes = {};
};

/// Trains to the end. In the directory: `train.json` (the options), `train.csv` (a line for each
/// step), `probes.csv`, `held_out.json` (a JSON list of sequences of ids), `step-NNNNNN/`, a
/// Hugging Face directory for each checkpoint (where not `has_checkpoints`, a directory of a
/// `weights.safetensors` under `weight_name`s), and while it lasts `state.safetensors`. After a
/// kill at any moment, `resume` repeats at most `save_every` steps and ends with the same files,
/// bit by bit. If the progress callback throws `interrupted`, the state is saved before that leaves
/// here. Throws bad_argument where the directory holds a training of other options, or one at all
/// and `resume` is false.
TrainOutcome train(Training& training, const TrainFiles& files, const Probe& probe = {},
                   const Progress& progress = {});

}  // namespace plumb
