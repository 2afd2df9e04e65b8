// One forward pass of a model under a plan.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plumb/plan.h"

namespace plumb {

class Model;

/// B sequences, padded on the right to a common length T.
struct Tokens {
  at::Tensor ids = {};      ///< [B, T] int64; padding may hold any id of the vocabulary
  at::Tensor lengths = {};  ///< [B] int64, 1..T; undefined = every sequence has length T
  std::vector<std::int64_t> positions = {};  ///< [T] position ids, not negative; empty = 0..T-1

  std::int64_t batch() const;
  std::int64_t length() const;
};

/// Sequences of ids, padded on the right with id 0. Throws bad_argument if there is none or one is
/// empty.
Tokens make_tokens(const std::vector<std::vector<std::int64_t>>& sequences);

/// What one run recorded. Holds no model.
class Cache {
 public:
  /// The recorded tensor. Throws not_recorded, listing what is there.
  const at::Tensor& at(Site site, std::string_view label = {}) const;
  /// The same, or nullptr.
  const at::Tensor* find(Site site, std::string_view label = {}) const noexcept;
  void put(Site site, std::string label, at::Tensor value);
  const std::map<std::pair<Site, std::string>, at::Tensor>& entries() const { return entries_; }

 private:
  std::map<std::pair<Site, std::string>, at::Tensor> entries_;
};

struct Run {
  at::Tensor logits = {};  ///< [B, T, vocab], undefined if the plan wanted none
  Cache cache = {};
  std::int64_t evaluations = 0;  ///< token-layer evaluations: positions run through one block each
};

/// Runs the model on the tokens under the plan. Thread-safe: the model is not changed.
///
/// The batch is cut into tiles by its own shape alone; tiles are run by up to `model.threads()`
/// threads and the results are the same bits for any number of threads.
/// Throws bad_argument or bad_shape, naming the site, before any tensor work, if plan, tokens and
/// model do not fit each other.
Run run(const Model& model, const Tokens& tokens, const Plan& plan = {});

/// The same run, handed over part by part, so that no more than one part lies in memory: calls
/// `take` with the index of a part's first sequence and the part's run. A part is as many whole
/// tiles as `sequences` hold, but at least one, so every value has the bits that `run` gives it.
void run_in_parts(const Model& model, const Tokens& tokens, const Plan& plan,
                  std::int64_t sequences,
                  const std::function<void(std::int64_t first, Run part)>& take);

}  // namespace plumb
