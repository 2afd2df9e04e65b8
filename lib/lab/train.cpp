#include "plumb/train.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/parallel.h"
#include "core/random.h"
#include "plumb/error.h"
#include "plumb/run.h"

namespace plumb {

namespace {

// Of GPT-2's embeddings: as an unembedding, N(0, 1) would begin with logits of sqrt(d_model).
constexpr double tied_deviation = 0.02;

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::bad_argument, "training: " + message);
}

bool is_embedding(Weight weight) { return weight == Weight::embed || weight == Weight::pos_embed; }

bool is_norm(Weight weight) {
  switch (weight) {
    case Weight::ln1:
    case Weight::ln1_bias:
    case Weight::ln2:
    case Weight::ln2_bias:
    case Weight::final_norm:
    case Weight::final_norm_bias:
    case Weight::q_norm:
    case Weight::k_norm:
    case Weight::ln1_post:
    case Weight::ln2_post: return true;
    default: return false;
  }
}

bool is_bias(Weight weight) { return std::string_view(to_string(weight)).ends_with("_bias"); }

bool decays(Weight weight) {
  return !is_embedding(weight) && !is_norm(weight) && !is_bias(weight) && weight != Weight::sinks;
}

// Inputs of the layer that the weight belongs to.
std::int64_t inputs_of(const ModelConfig& config, Weight weight, int layer) {
  switch (weight) {
    case Weight::out:
    case Weight::out_bias: return std::int64_t{config.heads} * config.d_head;
    case Weight::down:
    case Weight::down_bias: return config.d_mlp;
    default: break;
  }
  const std::vector<std::int64_t> shape = weight_shape(config, weight, layer);
  return shape.size() == 1 ? config.d_model : shape.back();
}

at::Tensor first_weight(const ModelConfig& config, Weight weight, int layer, Random random) {
  at::Tensor value = at::empty(weight_shape(config, weight, layer), at::kFloat);
  if (is_norm(weight)) return value.fill_(is_bias(weight) ? 0.0 : 1.0);
  if (weight == Weight::sinks) return value.zero_();
  auto* out = value.data_ptr<float>();
  const double deviation = config.tied ? tied_deviation : 1.0;
  const double reach = 1.0 / std::sqrt(static_cast<double>(inputs_of(config, weight, layer)));
  for (std::int64_t i = 0; i < value.numel(); ++i) {
    const double draw =
        is_embedding(weight) ? deviation * random.normal() : reach * (2.0 * random.uniform() - 1.0);
    out[i] = static_cast<float>(draw);
  }
  return value;
}

template <typename Take>
void for_each_weight(const ModelConfig& config, const Take& take) {
  for (const Weight weight : all_weights()) {
    const int layers = is_per_layer(weight) ? config.layers : 1;
    for (int layer = 0; layer < layers; ++layer) {
      if (!weight_shape(config, weight, layer).empty()) take(weight, layer);
    }
  }
}

}  // namespace

void check(const TrainOptions& options) {
  check(options.config);
  check(options.task);
  if (options.config.experts.count > 0) refuse("mixtures of experts cannot be trained");
  const ModelConfig switched = with_attention(options.config, options.attention);
  if (switched.sink_logits != options.config.sink_logits ||
      switched.gated_attention != options.config.gated_attention) {
    refuse(fmt::format("the model's switches are not those of {} attention",
                       to_string(options.attention)));
  }
  if (options.config.vocab != options.task.vocab) {
    refuse(
        fmt::format("the task has {} ids, the model {}", options.task.vocab, options.config.vocab));
  }
  if (options.config.positions == Positions::learned &&
      options.config.context < options.task.length) {
    refuse(fmt::format("the task has sequences of {} tokens, the model positions for {}",
                       options.task.length, options.config.context));
  }
  const auto within = [](auto value, auto low, auto high, const char* what) {
    if (!(value >= low && value <= high))
      refuse(fmt::format("{} must be {} to {}, not {}", what, low, high, value));
  };
  constexpr std::int64_t most = 100'000'000;
  within(options.steps, std::int64_t{1}, most, "the number of steps");
  within(options.batch, std::int64_t{1}, std::int64_t{1} << 16, "the batch");
  within(options.warm_up, std::int64_t{0}, options.steps, "the warm-up");
  within(options.rate, 0.0, 10.0, "the learning rate");
  within(options.final_share, 0.0, 1.0, "the final share of the rate");
  within(options.weight_decay, 0.0, 100.0, "the weight decay");
  if (!(options.clip > 0.0)) refuse(fmt::format("clip must be positive, not {}", options.clip));
}

at::Tensor training_loss(const Model& model, const at::Tensor& ids,
                         const std::vector<Intervention>& edits) {
  if (!ids.defined() || ids.dim() != 2 || ids.size(1) < 2)
    refuse("a loss needs ids [B, T] of at least two tokens");
  const std::int64_t predicted = ids.size(1) - 1;
  const Plan plan{.interventions = edits, .gradients = true};
  const at::Tensor logits = run(model, Tokens{.ids = ids}, plan).logits;
  const c10::AutoGradMode on(true);
  return at::cross_entropy_loss(logits.narrow(1, 0, predicted).reshape({-1, logits.size(2)}),
                                ids.narrow(1, 1, predicted).reshape({-1}));
}

std::map<std::string, at::Tensor> first_weights(const ModelConfig& config, std::uint64_t seed) {
  constexpr std::uint64_t stream = 4;  // beside those of the task
  const Random random = Random(seed).fork(stream);
  std::map<std::string, at::Tensor> weights;
  for_each_weight(config, [&](Weight weight, int layer) {
    const Random own = random.fork(static_cast<std::uint64_t>(weight) * 100'000U +
                                   static_cast<std::uint64_t>(layer));
    weights[weight_name(weight, layer)] = first_weight(config, weight, layer, own);
  });
  return weights;
}

std::vector<Training::Parameter> Training::parameters_of(const TrainOptions& options) {
  check(options);
  auto weights = first_weights(options.config, options.seed);
  std::vector<Parameter> parameters;
  for (const bool decaying : {true, false}) {
    for_each_weight(options.config, [&](Weight weight, int layer) {
      if (decays(weight) != decaying) return;
      at::Tensor value = weights.at(weight_name(weight, layer));
      value.set_requires_grad(true);
      parameters.push_back({weight, layer, value});
    });
  }
  return parameters;
}

Model Training::model_of(const TrainOptions& options, const std::vector<Parameter>& parameters) {
  std::map<std::pair<Weight, int>, at::Tensor> weights;
  for (const Parameter& parameter : parameters)
    weights[{parameter.weight, parameter.layer}] = parameter.value;
  const auto source = [weights = std::move(weights)](Weight weight, int layer) {
    const auto found = weights.find({weight, layer});
    return found == weights.end() ? at::Tensor() : found->second;
  };
  return Model(options.config, source, "in training", {.threads = 1});
}

Adamw Training::optimiser_of(const TrainOptions& options,
                             const std::vector<Parameter>& parameters) {
  DecayGroup decaying{.weight_decay = options.weight_decay};
  DecayGroup others;
  for (const Parameter& parameter : parameters)
    (decays(parameter.weight) ? decaying : others).parameters.push_back(parameter.value);
  return Adamw({decaying, others}, options.adamw);
}

Training::Training(const TrainOptions& options)
    : options_(options),
      task_(options.task),
      parameters_(parameters_of(options)),
      model_(model_of(options, parameters_)),
      optimiser_(optimiser_of(options, parameters_)) {}

void Training::advance() {
  if (finished()) refuse(fmt::format("all of its {} steps are taken", options_.steps));
  StepRecord record{.rate = cosine_rate(steps(), options_.steps, options_.rate, options_.warm_up,
                                        options_.final_share)};
  const TaskBatch batch = task_.training(static_cast<std::uint64_t>(steps()), options_.batch);
  std::vector<Intervention> edits = task_edits(batch, options_.config.layers);
  for (const Intervention& edit : attention_edits(options_.config, options_.attention))
    edits.push_back(edit);
  // One thread from the products to the last gradient, so that no sum changes its order.
  parallel_pieces(1, 1, [&](std::int64_t) {
    std::vector<at::Tensor> values;
    for (Parameter& parameter : parameters_) {
      parameter.value.mutable_grad() = at::Tensor();
      values.push_back(parameter.value);
    }
    const at::Tensor loss = training_loss(model_, batch.ids, edits);
    record.loss = loss.item<double>();
    if (!std::isfinite(record.loss)) {
      refuse(
          fmt::format("the loss is {} at step {}; lower the learning rate", record.loss, steps()));
    }
    loss.backward();
    record.gradient_norm = clip_gradients(values, options_.clip);
    optimiser_.step(record.rate);
  });
  history_.push_back(record);
}

std::map<std::string, at::Tensor> Training::weights() const {
  std::map<std::string, at::Tensor> copies;
  for (const Parameter& parameter : parameters_)
    copies[weight_name(parameter.weight, parameter.layer)] = parameter.value.detach().clone();
  return copies;
}

}  // namespace plumb
