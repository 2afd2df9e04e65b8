#include "model/weight_store.h"

#include <ATen/ATen.h>
#include <malloc.h>

#include <chrono>
#include <utility>

namespace plumb {
namespace {

constexpr auto kinds = static_cast<std::size_t>(Weight::unembed) + 1;
constexpr auto first_of_experts = static_cast<std::size_t>(Weight::expert_gate);
constexpr auto kinds_of_experts =
    static_cast<std::size_t>(Weight::expert_down_bias) - first_of_experts + 1;

constexpr std::int64_t bytes_between_trims = 16'000'000;

// The allocator keeps what lies between other blocks, which a bound of memory cannot spare.
void give_back_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace

WeightStore::WeightStore(const ModelConfig& config, std::int64_t element_bytes, Read read)
    : config_(config), element_bytes_(element_bytes), read_(std::move(read)) {
  const auto layers = static_cast<std::size_t>(config.layers);
  const auto experts = static_cast<std::size_t>(config.experts.count);
  slots_ = std::vector<Slot>(layers * (kinds + kinds_of_experts * experts));
  holds_ = std::vector<int>(layers + 1, 0);
  of_block_.resize(layers);
  for (int layer = 0; layer < config.layers; ++layer) {
    for (const Weight weight : all_weights()) {
      const Key key{weight, layer};
      if (is_per_layer(weight) && !is_per_expert(weight) && bytes_of(key) > 0)
        of_block_[static_cast<std::size_t>(layer)].push_back(key);
    }
  }
}

WeightStore::~WeightStore() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  if (reader_.joinable()) reader_.join();
}

std::int64_t WeightStore::held() const {
  const std::lock_guard lock(mutex_);
  return held_;
}

std::size_t WeightStore::index(const Key& key) const {
  const auto layer = static_cast<std::size_t>(key.layer);
  const auto kind = static_cast<std::size_t>(key.weight);
  if (key.expert < 0) return layer * kinds + kind;
  const auto layers = static_cast<std::size_t>(config_.layers);
  const auto experts = static_cast<std::size_t>(config_.experts.count);
  return layers * kinds + (layer * kinds_of_experts + kind - first_of_experts) * experts +
         static_cast<std::size_t>(key.expert);
}

int WeightStore::block_of(std::size_t index) const {
  const auto layers = static_cast<std::size_t>(config_.layers);
  if (index >= layers * kinds) {
    const auto experts = static_cast<std::size_t>(config_.experts.count);
    return static_cast<int>((index - layers * kinds) / (kinds_of_experts * experts));
  }
  const bool inside = is_per_layer(static_cast<Weight>(index % kinds));
  return inside ? static_cast<int>(index / kinds) : config_.layers;
}

std::int64_t WeightStore::bytes_of(const Key& key) const {
  std::vector<std::int64_t> shape = weight_shape(config_, key.weight, key.layer);
  if (shape.empty()) return 0;
  if (key.expert >= 0) shape.front() = 1;
  std::int64_t bytes = element_bytes_;
  for (const std::int64_t size : shape) bytes *= size;
  return bytes;
}

/// Drops what nobody holds or uses until so many bytes more fit; who reads ahead spares what was
/// read ahead. Runs go from the first block to the last again and again, so what was used last is
/// needed last.
bool WeightStore::make_room(std::int64_t bytes, bool ahead) {
  const std::int64_t before = held_;
  bool enough = true;
  while (enough && most_ > 0 && held_ + bytes > most_) {
    Slot* victim = nullptr;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      Slot& slot = slots_[i];
      if (slot.state != State::ready || slot.bytes == 0 || (ahead && slot.used == 0)) continue;
      if (slot.value.use_count() > 1) continue;
      if (holds_[static_cast<std::size_t>(block_of(i))] > 0) continue;
      if (victim == nullptr || slot.used > victim->used) victim = &slot;
    }
    enough = victim != nullptr;
    if (!enough) break;
    held_ -= victim->bytes;
    *victim = Slot{};
  }
  dropped_ += before - held_;
  if (dropped_ > bytes_between_trims) {
    give_back_memory();
    dropped_ = 0;
  }
  return enough;
}

/// Reads an empty slot with the lock let go of meanwhile.
void WeightStore::load(const Key& key, Slot& slot, std::unique_lock<std::mutex>& lock) {
  slot.state = State::loading;
  slot.bytes = bytes_of(key);
  held_ += slot.bytes;
  lock.unlock();
  at::Tensor value;
  try {
    value = read_(key.weight, key.layer, key.expert);
  } catch (...) {
    lock.lock();
    held_ -= slot.bytes;
    slot = Slot{};
    changed_.notify_all();
    throw;
  }
  lock.lock();
  slot.value = std::move(value);
  slot.state = State::ready;
  changed_.notify_all();
}

at::Tensor WeightStore::get(Weight weight, int layer, int expert) {
  const Key key{weight, layer, expert};
  std::unique_lock lock(mutex_);
  Slot& slot = slots_[index(key)];
  while (slot.state == State::loading) {
    // Under a bound, only the thread that reads ahead has stored bytes mapped beside a run's own.
    if (most_ > 0 || !read_next(lock)) changed_.wait(lock);
  }
  if (slot.state == State::empty) {
    make_room(bytes_of(key), false);
    load(key, slot, lock);
  }
  slot.used = ++clock_;
  if (layer > reached_) {
    reached_ = layer;
    changed_.notify_all();
  }
  return slot.value;
}

at::Tensor WeightStore::find(Weight weight, int layer) {
  const std::lock_guard lock(mutex_);
  const Slot& slot = slots_[index({weight, layer})];
  return slot.state == State::ready ? slot.value : at::Tensor();
}

void WeightStore::keep_to(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  most_ = bytes;
  make_room(0, false);
  changed_.notify_all();
}

WeightStore::Hold::Hold(WeightStore& store, int block) : store_(store), block_(block) {
  const std::lock_guard lock(store_.mutex_);
  ++store_.holds_[static_cast<std::size_t>(block_)];
}

WeightStore::Hold::~Hold() {
  {
    const std::lock_guard lock(store_.mutex_);
    --store_.holds_[static_cast<std::size_t>(block_)];
  }
  store_.changed_.notify_all();
}

void WeightStore::read_ahead(const Route& route) {
  {
    const std::lock_guard lock(mutex_);
    wanted_.clear();
    reached_ = route.first;
    const auto want = [&](const Key& key) {
      if (slots_[index(key)].state == State::empty) wanted_.push_back(key);
    };
    for (int layer = route.first; layer < route.last; ++layer) {
      const bool mlp = layer + 1 < route.last || route.mlp;
      for (const Key& key : of_block_[static_cast<std::size_t>(layer)]) {
        if (mlp || key.weight < Weight::ln2) want(key);
      }
    }
    if (route.logits) want({config_.tied ? Weight::embed : Weight::unembed, 0});
    if (wanted_.empty()) return;
    if (!reader_.joinable()) reader_ = std::thread([this] { read_wanted(); });
  }
  changed_.notify_all();
}

/// Reads the first weight that is wanted and not here; false if there is none for now.
bool WeightStore::read_next(std::unique_lock<std::mutex>& lock) {
  while (!wanted_.empty() && wanted_.front().layer <= reached_ + 1) {
    const Key key = wanted_.front();
    Slot& slot = slots_[index(key)];
    if (slot.state == State::empty && !make_room(bytes_of(key), true)) return false;
    wanted_.pop_front();
    if (slot.state != State::empty) continue;
    try {
      load(key, slot, lock);
    } catch (...) {
      // Whoever needs the weight meets the same failure and can say so.
      wanted_.clear();
    }
    return true;
  }
  return false;
}

void WeightStore::read_wanted() {
  // How often to look whether a weight has come out of use, which nobody tells.
  constexpr std::chrono::milliseconds pause(2);
  std::unique_lock lock(mutex_);
  while (!ending_) {
    if (read_next(lock)) continue;
    if (wanted_.empty() || wanted_.front().layer > reached_ + 1) {
      changed_.wait(lock);
    } else {
      changed_.wait_for(lock, pause);
    }
  }
}

}  // namespace plumb
