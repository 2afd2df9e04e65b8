// plumb train: a small model, grown on a task.
#include "plumb/train.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "output.h"
#include "plumb/error.h"
#include "plumb/train_probe.h"
#include "shared.h"
#include "usage.h"

namespace plumb::app {
namespace {

struct TrainFlags {
  Common common = {};
  ModelStyle style = ModelStyle::nope;
  ModelSizes sizes = {};
  std::optional<std::int64_t> vocab = {};
  TrainOptions options = {};
  TrainFiles files = {};
  std::string checkpoints = {};
  std::optional<std::string> texts = {};
  std::optional<Packing> packing = {};
  bool no_start_rule = false;
  bool untied = false;
};

constexpr std::int64_t kMostSteps = 100'000'000;

/// "0,100,300" or "every:500".
std::vector<std::int64_t> read_steps(const std::string& text, std::int64_t steps) {
  std::vector<std::int64_t> list;
  const std::string every = "every:";
  if (text.starts_with(every)) {
    const std::int64_t stride =
        whole("--checkpoints every:N: N", text.substr(every.size()), 1, kMostSteps);
    for (std::int64_t step = 0; step <= steps; step += stride) list.push_back(step);
    return list;
  }
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    list.push_back(whole("--checkpoints", text.substr(at, end - at), 0, kMostSteps));
    at = end + 1;
  }
  return list;
}

constexpr int kBytes = 256;  // ids of texts

void read_texts(const TrainFlags& flags, TaskOptions& task) {
  if (task.task != TrainTask::text) {
    if (flags.texts || flags.packing) {
      throw Error(ErrorKind::bad_argument,
                  "--texts and --packing mean nothing to a task other than text");
    }
    return;
  }
  if (!flags.texts) {
    throw Error(ErrorKind::bad_argument,
                "--task text needs --texts PATH, a directory of .txt files or a file of lines");
  }
  if (flags.vocab) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("--vocab means nothing to text, whose ids are its {} bytes", kBytes));
  }
  task.corpus = std::make_shared<const Corpus>(read_corpus(*flags.texts));
  task.packing = flags.packing.value_or(Packing::stream);
}

TrainOptions read_options(const TrainFlags& flags) {
  TrainOptions options = flags.options;
  const bool existence = options.task.task == TrainTask::double_existence;
  if (flags.no_start_rule && !existence) {
    throw Error(ErrorKind::bad_argument,
                "--no-start-rule means nothing to a task other than double-existence");
  }
  options.task.start_rule = existence && !flags.no_start_rule;
  options.task.seed = options.seed = flags.common.seed;
  read_texts(flags, options.task);
  ModelSizes sizes = flags.sizes;
  if (flags.vocab) sizes.vocab = static_cast<int>(*flags.vocab);
  if (options.task.task == TrainTask::text) sizes.vocab = kBytes;
  options.task.vocab = sizes.vocab;
  sizes.context = static_cast<int>(options.task.length);
  ModelConfig config = model_config(flags.style, sizes);
  if (flags.untied) config.tied = false;
  options.config = with_attention(config, options.attention);
  return options;
}

int run_train(const TrainFlags& flags, const std::string& command_line) {
  const Common& common = flags.common;
  if (common.out.empty()) {
    throw Error(ErrorKind::bad_argument, "plumb train needs --out DIR to write the models to");
  }
  const TrainOptions options = read_options(flags);
  TrainFiles files = flags.files;
  files.directory = common.out;
  files.checkpoints = read_steps(flags.checkpoints, options.steps);
  check(options);
  check(files, options);
  prepare_directory(common.out);
  Training training(options);
  RunInfo run = start_run(training.model(), "train", command_line, common.seed);
  const Probe probe = files.probe_every > 0 ? sink_probe(options, files.held_out) : Probe{};
  TrainOutcome outcome;
  try {
    outcome = train(training, files, probe, show_progress(common.quiet));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::interrupted) throw;
    std::fputs(fmt::format("plumb: interrupted after {} of {} steps, which are in {}; the same "
                           "call with --resume goes on\n",
                           training.steps(), options.steps, common.out)
                   .c_str(),
               stderr);
    return exit_code(ErrorKind::interrupted);
  }
  end_run(run, training.model());
  print(train_text(training, files, probe, outcome));
  say_cost(run, common.quiet);
  return 0;
}

}  // namespace

Command train_command() {
  return {
      "train", "Grow a small model on a task, with checkpoints to trace",
      [](CLI::App& app, const std::string& command_line) {
        const auto flags = std::make_shared<TrainFlags>();
        TrainOptions& options = flags->options;
        TrainFiles& files = flags->files;
        offer(app, "--task", "TASK",
              "double-existence, bigram-backcopy, induction or text (double-existence)",
              [&options](const std::string& text) { options.task.task = parse_train_task(text); });
        app.add_flag("--no-start-rule", flags->no_start_rule,
                     "Double existence: second tokens are like any others, also in training");
        app.add_flag("--bos", options.task.bos, "Other tasks: id 0 before every sequence");
        offer(app, "--texts", "PATH",
              "Text: a directory whose .txt files are documents, or a file whose lines are",
              [flags](const std::string& text) { flags->texts = text; });
        offer(app, "--packing", "HOW",
              "Text: sequences begin anywhere (stream) or with a document (starts) (stream)",
              [flags](const std::string& text) { flags->packing = parse_packing(text); });
        app.add_flag("--document-bos", options.task.document_bos,
                     "Text: id 0 before every document");
        app.add_flag("--intra-document", options.task.intra_document,
                     "Text: in training, tokens see their own document alone (and --bos)");
        offer(
            app, "--attention", "KIND",
            "softmax, sink-logit, gate, relu or sigmoid; no config.json can say the last four, so "
            "that their weights are kept but no checkpoints (softmax)",
            [&options](const std::string& text) {
              options.attention = parse_attention_kind(text);
            });
        offer(app, "--style", "STYLE",
              "llama (RMSNorm, rotary, gated), nope (LayerNorm, no positions, ReLU) or gpt2 (nope)",
              [flags](const std::string& text) { flags->style = parse_model_style(text); });
        app.add_flag("--untied", flags->untied,
                     "gpt2: an unembedding of its own, and embeddings that begin as N(0, 1)");
        const auto size = [&](const std::string& flag, const std::string& help, int& value) {
          offer(app, flag, "N", fmt::format("{} ({})", help, value),
                [flag, &value](const std::string& text) {
                  value = static_cast<int>(whole(flag, text, 1, 1 << 16));
                });
        };
        size("--layers", "Blocks", flags->sizes.layers);
        size("--heads", "Heads of a block", flags->sizes.heads);
        size("--d-model", "Width of the stream", flags->sizes.d_model);
        size("--d-mlp", "Neurons of a block", flags->sizes.d_mlp);
        offer(app, "--vocab", "N", fmt::format("Ids ({}; of text {})", flags->sizes.vocab, kBytes),
              [flags](const std::string& text) {
                flags->vocab = whole("--vocab", text, 1, 1 << 16);
              });
        const auto count = [&](const std::string& flag, const std::string& help, std::int64_t least,
                               std::int64_t& value) {
          offer(app, flag, "N", fmt::format("{} ({})", help, value),
                [flag, least, &value](const std::string& text) {
                  value = whole(flag, text, least, kMostSteps);
                });
        };
        count("--length", "Tokens of a sequence", 4, options.task.length);
        count("--batch", "Sequences of a step", 1, options.batch);
        count("--steps", "Steps", 1, options.steps);
        count("--warm-up", "Steps over which the rate rises", 0, options.warm_up);
        const auto real = [&](const std::string& flag, const std::string& help, double most,
                              double& value) {
          offer(app, flag, "X", fmt::format("{} ({})", help, value),
                [flag, most, &value](const std::string& text) {
                  value = number(flag, text, 0.0, most);
                });
        };
        real("--rate", "Peak learning rate", 10.0, options.rate);
        real("--final-share", "Share of it that the last step has, along a cosine", 1.0,
             options.final_share);
        real("--beta1", "AdamW's memory of gradients", 1.0, options.adamw.beta1);
        real("--beta2", "AdamW's memory of their squares", 1.0, options.adamw.beta2);
        real("--weight-decay", "Of matrices, not of embeddings, norms and biases", 100.0,
             options.weight_decay);
        real("--clip", "Largest norm of all gradients together", 1e9, options.clip);
        count("--save-every", "Steps that a kill may cost", 1, files.save_every);
        offer(app, "--checkpoints", "STEPS",
              "Steps whose models are written, like 0,100,300 or every:500 (the last alone)",
              [flags](const std::string& text) { flags->checkpoints = text; });
        offer(app, "--store", "f32|bf16|f16", "Type of the written weights (f32)",
              [&files](const std::string& text) {
                files.store = scalar_type(one_of("--store", text, {"f32", "bf16", "f16"}));
              });
        count("--probe-every", "Steps between measurements of the sink; 0 = none", 0,
              files.probe_every);
        count("--held-out", "Sequences that are measured on and written out", 1, files.held_out);
        offer_seed(app, flags->common, "Of the task's tables, the sequences and the first weights");
        offer_out(app, flags->common, "Where models, losses and probes go (needed)");
        app.add_flag("--resume", files.resume, "Go on with a training that was stopped");
        offer_quiet(app, flags->common);
        return [flags, command_line] { return run_train(*flags, command_line); };
      }};
}

}  // namespace plumb::app
