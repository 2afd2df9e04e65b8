// What small models are trained on: endless sequences of ids, drawn from a seed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "plumb/corpus.h"
#include "plumb/model.h"
#include "plumb/plan.h"

namespace plumb {

enum class TrainTask {
  /// Two fixed permutations p0, p1 of the vocabulary and four fixed groups that part it. The next
  /// token is uniform over group y, where bit r of y says whether p_r(x_t) occurred in x_0..x_t.
  /// Active queries: y > 0. The loss of a perfect model is ln(vocab / 4).
  double_existence,
  /// Text of a fixed bigram table in which three tokens are triggers: after a trigger at t > 0
  /// comes
  /// x_{t-1} (arXiv:2410.13835). Active queries: triggers at t > 0.
  bigram_backcopy,
  /// A random string of random length (a quarter to half of the sequence), over and over. Active
  /// queries: from the end of its first occurrence on.
  induction,
  /// The bytes of texts, ids 0 to 255. No query counts as active.
  text,
};
const char* to_string(TrainTask task) noexcept;
/// "double-existence", "bigram-backcopy", "induction" or "text". Throws bad_argument, listing them.
TrainTask parse_train_task(std::string_view text);

struct TaskOptions {
  TrainTask task = TrainTask::double_existence;
  int vocab = 128;           ///< a multiple of 4 for double existence, 256 for text
  std::int64_t length = 48;  ///< tokens of a sequence
  /// Double existence, in training only: x_1 is uniform over a fixed quarter of the vocabulary, so
  /// that what follows a first token follows another distribution.
  bool start_rule = true;
  /// The other tasks: id 0 stands first in every sequence, and nowhere else.
  bool bos = false;
  std::uint64_t seed = 0;  ///< of the tables that stay fixed
  /// Text alone: what it is drawn from, and where in it sequences begin.
  std::shared_ptr<const Corpus> corpus = {};
  Packing packing = Packing::stream;
  bool document_bos = false;    ///< id 0 stands before every document; not beside `bos`
  bool intra_document = false;  ///< in training, tokens see their own document alone, and `bos`
};
/// Throws bad_argument, naming the option.
void check(const TaskOptions& options);

/// Sequences, and where they have something to look up.
struct TaskBatch {
  at::Tensor ids = {};     ///< [B, T] int64
  at::Tensor active = {};  ///< [B, T] bool: query t needs an earlier token to predict t + 1
  /// [B, T] int64, which document each token belongs to, -1 for a BOS that all see; undefined where
  /// every token sees all before it
  at::Tensor documents = {};
};

/// Edits that keep tokens from seeing other documents, in every layer; none where the batch has no
/// documents.
std::vector<Intervention> task_edits(const TaskBatch& batch, int layers);

class Task {
 public:
  explicit Task(const TaskOptions& options);
  const TaskOptions& options() const;

  /// The sequences that a seed stands for: the same on every platform.
  TaskBatch training(std::uint64_t seed, std::int64_t sequences) const;
  /// Sequences that training never draws (but by chance), without the start rule and without
  /// `documents`.
  TaskBatch held_out(std::uint64_t seed, std::int64_t sequences) const;

  struct Tables;

 private:
  std::shared_ptr<const Tables> tables_;
};

/// A model's loss and sink on a task. Queries are the last three quarters of the positions; a query
/// that is not active is silent.
struct TaskMeasure {
  double loss_silent = 0;       ///< mean nats per token, over t >= 1
  double loss_active = 0;       ///< NaN where there is no such query
  at::Tensor sink_silent = {};  ///< [L, H] mean attention of silent queries to position 0
  at::Tensor sink_active = {};  ///< [L, H]; NaN where there is no such query
  at::Tensor drain = {};  ///< [L, H] |W_O v_0| over its mean over positions (arXiv:2410.13835)
  at::Tensor peak = {};   ///< [L] norm of position 0 where the block is left, over the mean norm
};
/// Under edits; those of `attention_edits`, say.
TaskMeasure measure_task(const Model& model, const TaskBatch& batch,
                         const std::vector<Intervention>& edits = {});

}  // namespace plumb
