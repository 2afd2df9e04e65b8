#include "plumb/edge_run.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "core/parallel.h"
#include "experiment/edge_run_tile.h"
#include "plumb/error.h"

namespace plumb {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::bad_argument, what); }

/// What `make` returns: a product of matrices on several threads would be rounded by their number.
template <class Make>
auto as_one_piece(const Model& model, const Make& make) {
  std::optional<decltype(make())> made;
  parallel_pieces(1, model.threads(), [&](std::int64_t) { made.emplace(make()); });
  return std::move(*made);
}

void check_space(const EdgeSpace& space, const Model& model) {
  const ModelConfig& config = model.config();
  if (space.layers() != config.layers || space.heads() != config.heads ||
      (space.kv_heads() != config.kv_heads && space.kv_heads() != config.heads) ||
      space.parallel() != config.parallel) {
    refuse(fmt::format(
        "the circuit is one of {} layers, {} heads and {} key heads{}, but {} has {}, {} and {}{}",
        space.layers(), space.heads(), space.kv_heads(), space.parallel() ? ", parallel" : "",
        model.name(), config.layers, config.heads, config.kv_heads,
        config.parallel ? ", parallel" : ""));
  }
  if (space.kv_heads() != config.kv_heads && config.qk_norm == QkNorm::whole)
    throw Error(ErrorKind::unsupported,
                "the model has one norm over all keys, which keys of single heads do not go with; "
                "give the circuit by key heads");
  if (!model.whole() || model.first_layer() != 0)
    refuse("a circuit is run on every layer of the model");
}

void check_asked(const std::vector<std::vector<std::uint8_t>>& masks, const EdgeSpace& space,
                 const Pairs& pairs, const EdgeRunOptions& options, const ModelConfig& config) {
  for (const auto& mask : masks) {
    if (std::ssize(mask) != space.edges())
      refuse(fmt::format("expected a set of {} edges, got one of {}", space.edges(), mask.size()));
  }
  if (pairs.count() < 1) refuse("expected at least one pair");
  using enum ReplacementKind;
  const ReplacementKind kind = options.outside.kind;
  if (kind != other && kind != zero && kind != mean && kind != mean_batch &&
      kind != mean_position && kind != resample) {
    refuse(
        fmt::format("edges outside a circuit carry the other run's writes, zero, mean, "
                    "mean-batch, mean-position or resample, not {}",
                    to_string(options.outside)));
  }
  if (kind == other && !pairs.paired)
    refuse("the prompts have no partners; edges outside may carry zero, a mean or resample");
  if (kind == other && pairs.to_clean.defined())
    refuse("circuits are run on pairs of prompts of one length, position by position alike");
  (void)edge_ends(space, options.metric);
  if (options.noising && (kind != other || reads_block(options.metric)))
    refuse(
        "circuits of the corrupt run's writes are read at the logits, and edges outside carry the "
        "clean run's");
  check_metric(options.metric, pairs, config);
}

// The work of runs in evaluations, rounded up.
std::int64_t evaluations_of(std::int64_t work, const ModelConfig& config) {
  const std::int64_t block = block_work(config);
  return (work + block - 1) / block;
}

EdgeRuns room_for(std::int64_t sets, std::int64_t pairs) {
  const auto none = [](std::initializer_list<std::int64_t> shape) {
    return at::zeros(shape, at::kDouble);
  };
  return {.clean = none({pairs}),
          .corrupt = none({pairs}),
          .empty = none({pairs}),
          .each = none({sets, pairs})};
}

}  // namespace

bool EdgeEnds::read(std::int64_t receiver) const {
  return std::ranges::binary_search(receivers, receiver);
}

std::int64_t EdgeEnds::seen_by(const EdgeSpace& space, std::int64_t receiver) const {
  return receiver + 1 == space.receivers() ? seen : space.seen_by(receiver);
}

EdgeEnds edge_ends(const EdgeSpace& space, const Metric& metric) {
  const std::int64_t logits = space.receivers() - 1;
  if (!reads_block(metric))
    return {.depth = space.layers(), .receivers = {logits}, .seen = space.senders()};
  const Site& site = metric.site.site;
  if (site.layer >= space.layers())
    refuse(fmt::format("metric {}: the model has {} layers", to_string(metric), space.layers()));
  EdgeEnds ends{.depth = site.layer + 1};
  switch (site.part) {
    case Part::pattern: {
      std::vector<std::int64_t> heads = metric.site.slice.heads;
      if (heads.empty()) {
        for (int head = 0; head < space.heads(); ++head) heads.push_back(head);
      }
      for (const std::int64_t head : heads) {
        if (head < 0 || head >= space.heads())
          refuse(
              fmt::format("metric {}: the model has {} heads", to_string(metric), space.heads()));
        const auto key = static_cast<int>(head * space.kv_heads() / space.heads());
        ends.receivers.push_back(space.index_of(
            EdgeReceiver{EdgeReceiver::Kind::q, site.layer, static_cast<int>(head)}));
        ends.receivers.push_back(
            space.index_of(EdgeReceiver{EdgeReceiver::Kind::k, site.layer, key}));
      }
      std::ranges::sort(ends.receivers);
      return ends;
    }
    case Part::resid_pre:
    case Part::resid_mid:
    case Part::mlp_in:
    case Part::resid_post: {
      const std::int64_t before = 1 + std::int64_t{site.layer} * (space.heads() + 1);
      const bool heads = site.part == Part::resid_mid || site.part == Part::resid_post ||
                         (site.part == Part::mlp_in && !space.parallel());
      ends.receivers = {logits};
      ends.seen = before + (heads ? space.heads() : 0) + (site.part == Part::resid_post ? 1 : 0);
      return ends;
    }
    default: break;
  }
  throw Error(ErrorKind::unsupported,
              fmt::format("metric {}: a circuit is read at its logits, at attention, or at the "
                          "stream (resid_pre, resid_mid, mlp_in, resid_post)",
                          to_string(metric)));
}

EdgeRuns run_edges(const Model& model, const EdgeSpace& space,
                   const std::vector<std::vector<std::uint8_t>>& masks, const Pairs& pairs,
                   const EdgeRunOptions& options, const Progress& progress) {
  check_space(space, model);
  check_asked(masks, space, pairs, options, model.config());
  const c10::AutoGradMode no_gradients(false);
  const std::int64_t B = pairs.count();
  const auto n = std::ssize(masks);
  EdgeRuns found = room_for(n, B);
  const EdgeEnds ends = edge_ends(space, options.metric);
  const Pairs runs = run_pairs(pairs, options);
  const Outside outside(model, runs, options.outside);
  found.evaluations += outside.evaluations();
  const std::int64_t step = edge_tile(model.config(), pairs.length());
  std::atomic<std::int64_t> work{0};
  std::int64_t done = 0;
  std::mutex lock;
  for (std::int64_t first = 0; first < B; first += step) {
    const std::int64_t count = std::min(step, B - first);
    const std::unique_ptr<EdgeRunTile> tile = as_one_piece(model, [&] {
      return std::make_unique<EdgeRunTile>(model, space, ends, pairs, first, count, options,
                                           outside, found);
    });
    parallel_pieces(n, model.threads(), [&](std::int64_t i) {
      const c10::AutoGradMode no_gradients_here(false);
      const auto& mask = masks[static_cast<std::size_t>(i)];
      EdgeWrites writes = tile->writes(mask);
      const at::Tensor value = tile->value(mask, writes, 0, work);
      const std::lock_guard guard(lock);
      found.each[i].narrow(0, first, count).copy_(value);
      done += count;
      if (progress)
        progress("running circuits", static_cast<double>(done) / static_cast<double>(B * n));
    });
  }
  found.plain_evaluations = found.evaluations;
  found.evaluations += evaluations_of(work, model.config());
  return found;
}

struct EdgeRunSeries::Impl {
  const Model& model;
  EdgeSpace space;
  EdgeEnds ends;
  EdgeRunOptions options;
  EdgeRuns plain = {};
  std::int64_t step = 1;
  std::vector<std::unique_ptr<EdgeRunTile>> tiles = {};
  std::vector<EdgeWrites> writes = {};
  std::vector<std::uint8_t> widest = {};
  std::vector<std::uint8_t> last = {};  // the set before; empty = none
  std::vector<std::uint8_t> held = {};  // [senders] 1 = its write is that of the sets since
  std::atomic<std::int64_t> work{0};
};

EdgeRunSeries::EdgeRunSeries(const Model& model, const EdgeSpace& space, const Pairs& pairs,
                             const EdgeRunOptions& options, const std::vector<std::uint8_t>& widest)
    : impl_(new Impl{.model = model, .space = space, .ends = {}, .options = options}) {
  check_space(space, model);
  check_asked({widest}, space, pairs, options, model.config());
  const c10::AutoGradMode no_gradients(false);
  // A few tiles, which threads share; fewer rows would pack the weights too often.
  constexpr std::int64_t tiles_wanted = 4;
  constexpr std::int64_t fewest_rows = 64;
  const std::int64_t B = pairs.count();
  Impl& own = *impl_;
  own.ends = edge_ends(space, options.metric);
  own.plain = room_for(0, B);
  own.widest = widest;
  own.held.resize(static_cast<std::size_t>(space.senders()), 0);
  own.step = std::clamp<std::int64_t>(std::max((B + tiles_wanted - 1) / tiles_wanted,
                                               (fewest_rows + pairs.length() - 1) / pairs.length()),
                                      1, edge_tile(model.config(), pairs.length()));
  const Pairs runs = run_pairs(pairs, own.options);
  const Outside outside(model, runs, options.outside);
  own.plain.evaluations += outside.evaluations();
  for (std::int64_t first = 0; first < B; first += own.step) {
    own.tiles.push_back(as_one_piece(model, [&] {
      return std::make_unique<EdgeRunTile>(model, own.space, own.ends, pairs, first,
                                           std::min(own.step, B - first), own.options, outside,
                                           own.plain);
    }));
    own.writes.push_back(as_one_piece(model, [&] { return own.tiles.back()->writes(widest); }));
  }
  own.plain.plain_evaluations = own.plain.evaluations;
}

EdgeRunSeries::~EdgeRunSeries() = default;

EdgeRuns EdgeRunSeries::plain() const { return impl_->plain; }

std::int64_t EdgeRunSeries::evaluations() const {
  return impl_->plain.evaluations + evaluations_of(impl_->work, impl_->model.config());
}

at::Tensor EdgeRunSeries::value(const std::vector<std::uint8_t>& mask) {
  Impl& own = *impl_;
  const EdgeSpace& space = own.space;
  if (std::ssize(mask) != space.edges())
    refuse(fmt::format("expected a set of {} edges, got one of {}", space.edges(), mask.size()));
  for (std::size_t edge = 0; edge < mask.size(); ++edge) {
    if (mask[edge] != 0 && own.widest[edge] == 0)
      refuse(fmt::format("edge {} is none of the widest set's",
                         space.edge_name(static_cast<std::int64_t>(edge))));
  }
  int from = 0;
  if (!own.last.empty()) {
    const auto differs = std::mismatch(mask.begin(), mask.end(), own.last.begin()).first;
    const std::int64_t edge = std::min<std::int64_t>(differs - mask.begin(), space.edges() - 1);
    from = space.receiver(space.ends(edge).receiver).layer;
  }
  // What did not lead anywhere before was not run then.
  const std::vector<std::uint8_t> leads = own.tiles.front()->leads(mask);
  const auto layer_of = [&](std::int64_t sender) {
    return std::max(0, space.sender(sender).layer);
  };
  for (std::int64_t sender = 0; sender < space.senders(); ++sender) {
    const auto place = static_cast<std::size_t>(sender);
    if (leads[place] == 0 || own.held[place] != 0) continue;
    from = std::min(from, layer_of(sender));
    break;
  }
  for (std::int64_t sender = 0; sender < space.senders(); ++sender) {
    const auto place = static_cast<std::size_t>(sender);
    if (layer_of(sender) >= from) own.held[place] = leads[place];
  }
  own.last = mask;
  at::Tensor found = at::zeros_like(own.plain.clean);
  parallel_pieces(std::ssize(own.tiles), own.model.threads(), [&](std::int64_t i) {
    const c10::AutoGradMode no_gradients(false);
    const auto place = static_cast<std::size_t>(i);
    const at::Tensor value = own.tiles[place]->value(mask, own.writes[place], from, own.work);
    found.narrow(0, i * own.step, value.size(0)).copy_(value);
  });
  return found;
}

}  // namespace plumb
