// The weights of one model: read when first needed, kept while they fit.
#pragma once

#include <ATen/core/Tensor.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "plumb/checkpoint.h"

namespace plumb {

/// Safe to use from many threads; a weight that several ask for at once is read once.
class WeightStore {
 public:
  /// A weight as the arithmetic wants it, undefined where the model has none. `expert` -1 = whole.
  using Read = std::function<at::Tensor(Weight weight, int layer, int expert)>;

  WeightStore(const ModelConfig& config, std::int64_t element_bytes, Read read);
  ~WeightStore();
  WeightStore(const WeightStore&) = delete;
  WeightStore& operator=(const WeightStore&) = delete;

  /// Throws what reading throws; the next call then tries again.
  at::Tensor get(Weight weight, int layer, int expert = -1);
  /// The same if it is here already, else undefined.
  at::Tensor find(Weight weight, int layer);
  std::int64_t held() const;  ///< bytes of all that is here

  /// From now on, weights that nobody holds or uses are dropped where the rest would exceed so many
  /// bytes; 0 = keep all.
  void keep_to(std::int64_t bytes);

  /// Keeps the weights of a block from being dropped while it lives; block `layers` stands for what
  /// lies outside the blocks.
  class Hold {
   public:
    Hold(WeightStore& store, int block);
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    WeightStore& store_;
    int block_;
  };

  /// What a run is going to use, in this order: blocks `first` to before `last`, of the last one
  /// the MLP only if `mlp`, then the unembedding if `logits`.
  struct Route {
    int first = 0;
    int last = 0;
    bool mlp = true;
    bool logits = false;
  };
  /// Reads it on a thread of its own, experts excepted, as far as there is room and at most one
  /// block ahead of what was asked for, until the next route is given; who waits for a weight that
  /// another thread reads helps. A failure shows when `get` meets it again.
  void read_ahead(const Route& route);

 private:
  enum class State { empty, loading, ready };
  struct Key {
    Weight weight = Weight::embed;
    int layer = 0;
    int expert = -1;
  };
  struct Slot {
    State state = State::empty;
    at::Tensor value = {};
    std::int64_t bytes = 0;
    std::uint64_t used = 0;  ///< when it was last asked for; 0 = read ahead of its use
  };

  std::size_t index(const Key& key) const;
  int block_of(std::size_t index) const;
  std::int64_t bytes_of(const Key& key) const;
  bool make_room(std::int64_t bytes, bool ahead);
  void load(const Key& key, Slot& slot, std::unique_lock<std::mutex>& lock);
  bool read_next(std::unique_lock<std::mutex>& lock);
  void read_wanted();

  const ModelConfig config_;
  const std::int64_t element_bytes_;
  const Read read_;
  mutable std::mutex mutex_ = {};
  std::condition_variable changed_ = {};
  std::vector<Slot> slots_ = {};                 ///< [layer][kind], then [layer][kind][expert]
  std::vector<std::vector<Key>> of_block_ = {};  ///< that a block has, experts excepted
  std::vector<int> holds_ = {};                  ///< of each block, then of what lies outside
  std::int64_t most_ = 0;
  std::int64_t held_ = 0;
  std::int64_t dropped_ = 0;  ///< bytes since memory was last given back
  std::uint64_t clock_ = 0;
  std::deque<Key> wanted_ = {};  ///< to read ahead
  int reached_ = 0;              ///< last block of the route that was asked for
  bool ending_ = false;
  std::thread reader_ = {};
};

}  // namespace plumb
