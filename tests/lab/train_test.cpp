// Gradients, the optimiser, and trainings that are repeated and resumed.
#include "plumb/train.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/random.h"
#include "plumb/error.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

using Json = nlohmann::json;

TrainOptions small(ModelStyle style) {
  TrainOptions options;
  options.config = model_config(
      style, {.layers = 2, .heads = 2, .d_model = 16, .d_mlp = 24, .vocab = 16, .context = 12});
  options.task = {.vocab = 16, .length = 12, .seed = 1};
  options.steps = 12;
  options.batch = 4;
  options.warm_up = 3;
  options.seed = 1;
  return options;
}

constexpr ModelStyle styles[] = {ModelStyle::llama, ModelStyle::nope, ModelStyle::gpt2};

using Weights = std::map<std::string, at::Tensor>;

Model model_of(const ModelConfig& config, const Weights& weights) {
  return Model(config,
               [&weights](Weight weight, int layer) {
                 const auto found = weights.find(weight_name(weight, layer));
                 return found == weights.end() ? at::Tensor() : found->second;
               },
               "made here", {.dtype = at::kDouble, .threads = 1});
}

// Central differences in float64 lose half of the digits.
constexpr double difference = 1e-6;
constexpr double difference_error = 1e-7;

TEST(Training, GradientsOfTheLossAgreeWithFiniteDifferences) {
  for (const ModelStyle style : styles) {
    const TrainOptions options = small(style);
    Weights weights = first_weights(options.config, 3);
    for (auto& [name, value] : weights) {
      value = value.to(at::kDouble);
      value.set_requires_grad(true);
    }
    const at::Tensor ids = Task(options.task).training(0, 2).ids;
    training_loss(model_of(options.config, weights), ids).backward();
    Random random(9);
    for (const auto& [name, value] : weights) {
      ASSERT_TRUE(value.grad().defined()) << to_string(style) << " " << name;
      for (int pick = 0; pick < 3; ++pick) {
        const std::int64_t place = random.below(value.numel());
        const auto loss_at = [&](double shift) {
          Weights moved;
          for (const auto& [other, tensor] : weights) moved[other] = tensor.detach();
          moved[name] = value.detach().clone();
          moved[name].view({-1})[place] += shift;
          return training_loss(model_of(options.config, moved), ids).item<double>();
        };
        const double numeric = (loss_at(difference) - loss_at(-difference)) / (2 * difference);
        EXPECT_NEAR(value.grad().reshape({-1})[place].item<double>(), numeric, difference_error)
            << to_string(style) << " " << name << " " << place;
      }
    }
  }
}

TEST(Adamw, AgreesWithPyTorch) {
  const Json golden = Json::parse(std::ifstream(source_dir() / "tests/golden/adamw.json"));
  std::vector<at::Tensor> parameters;
  for (std::size_t p = 0; p < golden.at("sizes").size(); ++p) {
    const auto size = golden.at("sizes").at(p).get<std::int64_t>();
    at::Tensor value = at::empty({size}, at::kDouble);
    for (std::int64_t i = 0; i < size; ++i)
      value.data_ptr<double>()[i] = std::sin(1.0 + static_cast<double>(i + static_cast<int>(p)));
    parameters.push_back(value.set_requires_grad(true));
  }
  Adamw optimiser({{{parameters[0], parameters[1]}, 0.3}, {{parameters[2]}, 0.0}}, {});
  // Both sides in float64; the order of sums differs.
  constexpr double rounding = 1e-12;
  ASSERT_EQ(golden.at("steps").size(), 8U);
  for (std::size_t s = 0; s < golden.at("steps").size(); ++s) {
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      at::Tensor gradient = at::empty_like(parameters[p].detach());
      for (std::int64_t i = 0; i < gradient.numel(); ++i) {
        const auto place = static_cast<double>(i);
        gradient.data_ptr<double>()[i] = 2.0 * std::cos(1.0 + place + 3.0 * static_cast<double>(p) +
                                                        5.0 * static_cast<double>(s)) +
                                         0.1 * place;
      }
      parameters[p].mutable_grad() = gradient;
    }
    const Json& expected = golden.at("steps").at(s);
    EXPECT_NEAR(clip_gradients(parameters, 1.0), expected.at("norm").get<double>(), rounding);
    optimiser.step(golden.at("rates").at(s).get<double>());
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      const auto values = expected.at("values").at(p).get<std::vector<double>>();
      for (std::size_t i = 0; i < values.size(); ++i) {
        EXPECT_NEAR(parameters[p][static_cast<std::int64_t>(i)].item<double>(), values[i], rounding)
            << "step " << s << " parameter " << p;
      }
    }
  }
}

TEST(Adamw, RatesRiseThenFallToTheFinalShare) {
  EXPECT_DOUBLE_EQ(cosine_rate(0, 100, 2.0, 10, 0.1), 0.2);
  EXPECT_DOUBLE_EQ(cosine_rate(9, 100, 2.0, 10, 0.1), 2.0);
  EXPECT_DOUBLE_EQ(cosine_rate(10, 100, 2.0, 10, 0.1), 2.0);
  EXPECT_DOUBLE_EQ(cosine_rate(55, 100, 2.0, 10, 0.1), 1.1);
  EXPECT_DOUBLE_EQ(cosine_rate(100, 100, 2.0, 10, 0.1), 0.2);
  EXPECT_DOUBLE_EQ(cosine_rate(0, 100, 2.0, 0, 0.1), 2.0);
}

TEST(Adamw, WrongOptionsAreRefused) {
  EXPECT_THROW(Adamw({}, {.beta1 = 1.0}), Error);
  EXPECT_THROW(Adamw({}, {.epsilon = 0.0}), Error);
  EXPECT_THROW(Adamw({{{at::ones({2})}, -1.0}}, {}), Error);
  EXPECT_THROW(Adamw({{{at::ones({2}, at::kLong)}, 0.0}}, {}), Error);
}

void expect_same_bits(const Weights& left, const Weights& right) {
  ASSERT_EQ(left.size(), right.size());
  for (const auto& [name, value] : left) EXPECT_TRUE(at::equal(value, right.at(name))) << name;
}

TEST(Training, ASeedMeansTheSameBits) {
  for (const ModelStyle style : styles) {
    Training first(small(style));
    Training second(small(style));
    while (!first.finished()) first.advance();
    while (!second.finished()) second.advance();
    expect_same_bits(first.weights(), second.weights());
    TrainOptions other = small(style);
    other.seed = 2;
    Training third(other);
    third.advance();
    EXPECT_FALSE(at::equal(first.weights().at("embed"), third.weights().at("embed")));
  }
}

TEST(Training, ResumedAtAnyStepItGivesTheSameBits) {
  for (const ModelStyle style : styles) {
    Training whole(small(style));
    while (!whole.finished()) whole.advance();
    const auto file = scratch_dir() / "state.safetensors";
    for (const int stop : {1, 5, 11}) {
      Training first(small(style));
      for (int step = 0; step < stop; ++step) first.advance();
      first.save(file, {{"table", at::arange(6, at::kDouble).view({2, 3})}});
      Training second(small(style));
      second.advance();  // what it did is undone
      const Training::Tables tables = second.resume(file);
      ASSERT_EQ(tables.size(), 1U);
      EXPECT_TRUE(at::equal(tables.at("table"), at::arange(6, at::kDouble).view({2, 3})));
      EXPECT_EQ(second.steps(), stop);
      while (!second.finished()) second.advance();
      expect_same_bits(whole.weights(), second.weights());
      for (std::size_t i = 0; i < whole.history().size(); ++i)
        EXPECT_EQ(whole.history()[i].loss, second.history()[i].loss);
    }
  }
}

ErrorKind kind_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.kind();
  }
  return ErrorKind::internal;
}

TEST(Training, AForeignOrDamagedStateIsRefusedAndChangesNothing) {
  const auto file = scratch_dir() / "state.safetensors";
  Training source(small(ModelStyle::nope));
  source.advance();
  source.save(file);
  TrainOptions other = small(ModelStyle::nope);
  other.rate = 1e-3;
  Training foreign(other);
  EXPECT_EQ(kind_of([&] { foreign.resume(file); }), ErrorKind::bad_argument);
  std::string bytes;
  {
    std::ifstream in(file, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  std::ofstream(file, std::ios::binary) << bytes.substr(0, bytes.size() - 8);
  Training victim(small(ModelStyle::nope));
  const Weights before = victim.weights();
  EXPECT_EQ(kind_of([&] { victim.resume(file); }), ErrorKind::bad_file);
  expect_same_bits(before, victim.weights());
  EXPECT_EQ(victim.steps(), 0);
  EXPECT_EQ(kind_of([&] { victim.resume(scratch_dir() / "none"); }), ErrorKind::bad_file);
}

TEST(Training, DecayTouchesMatricesAlone) {
  TrainOptions options = small(ModelStyle::gpt2);
  options.warm_up = 0;
  TrainOptions without = options;
  options.weight_decay = 0.5;
  without.weight_decay = 0.0;
  Training decayed(options);
  Training plain(without);
  decayed.advance();
  plain.advance();
  const Weights first = first_weights(options.config, options.seed);
  const Weights left = decayed.weights();
  const Weights right = plain.weights();
  int matrices = 0;
  for (const auto& [name, value] : left) {
    const at::Tensor moved = right.at(name) - value;
    const bool matrix = value.dim() == 2 && name.find("embed") == std::string::npos;
    matrices += matrix ? 1 : 0;
    const at::Tensor expected =
        matrix ? first.at(name) * (options.rate * options.weight_decay) : at::zeros_like(value);
    constexpr double rounding = 1e-6;  // float32
    EXPECT_LT((moved - expected).abs().max().item<double>(), rounding) << name;
  }
  EXPECT_EQ(matrices, 2 * 6);
}

TEST(Training, TheLossFalls) {
  TrainOptions options = small(ModelStyle::nope);
  options.task.start_rule = true;
  options.steps = 250;
  options.batch = 16;
  Training training(options);
  while (!training.finished()) training.advance();
  const auto mean = [&](std::size_t from) {
    double sum = 0;
    for (std::size_t i = from; i < from + 20; ++i) sum += training.history()[i].loss;
    return sum / 20;
  };
  // From guessing among 16 ids to guessing among the silent queries' 4, or nearly.
  EXPECT_GT(mean(0), std::log(16.0));
  EXPECT_LT(mean(230), std::log(10.0));
}

TEST(Training, WrongOptionsAreRefused) {
  const auto refused = [](const std::function<void(TrainOptions&)>& change) {
    TrainOptions options = small(ModelStyle::gpt2);
    change(options);
    return kind_of([&] { const Training training(options); });
  };
  EXPECT_EQ(refused([](TrainOptions& o) { o.task.vocab = 32; }), ErrorKind::bad_argument);
  EXPECT_EQ(refused([](TrainOptions& o) { o.task.length = 13; }), ErrorKind::bad_argument);
  EXPECT_EQ(refused([](TrainOptions& o) { o.steps = 0; }), ErrorKind::bad_argument);
  EXPECT_EQ(refused([](TrainOptions& o) { o.warm_up = 13; }), ErrorKind::bad_argument);
  EXPECT_EQ(refused([](TrainOptions& o) { o.clip = 0; }), ErrorKind::bad_argument);
  EXPECT_EQ(refused([](TrainOptions& o) { o.rate = std::nan(""); }), ErrorKind::bad_argument);
  EXPECT_EQ(kind_of([] { model_config(ModelStyle::llama, {.heads = 3}); }),
            ErrorKind::bad_argument);
  TrainOptions shortest = small(ModelStyle::llama);
  shortest.steps = 1;
  shortest.warm_up = 0;
  Training finished(shortest);
  finished.advance();
  EXPECT_EQ(kind_of([&] { finished.advance(); }), ErrorKind::bad_argument);
}

}  // namespace
}  // namespace plumb::test
