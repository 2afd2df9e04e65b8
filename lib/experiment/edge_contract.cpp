#include "experiment/edge_contract.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "core/precision.h"

namespace plumb {

// N: positions of the tile, n: those of a chunk, R: receivers of a block of layers, S: senders.

namespace {

constexpr int blocks_of_receivers = 6;
constexpr std::int64_t most_rows = 64;

at::Tensor part_of(const at::Tensor& rows, std::int64_t first, std::int64_t count) {
  return rows.narrow(0, first, count);
}

at::Tensor by_heads(const Model& model, Weight weight, int layer) {
  const ModelConfig& config = model.config();
  return widened(model.weight(weight, layer)).view({-1, config.d_head, config.d_model});
}

// The gain of the norm that heads read through; undefined where there is none.
at::Tensor reading_gain(const Model& model, int layer) {
  if (model.config().norm_place == NormPlace::after) return {};
  const at::Tensor gain = model.weight(Weight::ln1, layer);
  return gain.defined() ? widened(gain) : gain;
}

// Where the norm takes off the mean: over d_model, that of what `part` [N, heads, d_head] is at the
// stream, [N, heads].
at::Tensor mean_read(const Model& model, const at::Tensor& weights, const at::Tensor& gain,
                     const at::Tensor& part) {
  const ModelConfig& config = model.config();
  if (config.norm != Norm::layer || config.norm_place == NormPlace::after) return {};
  const at::Tensor sums = gain.defined() ? weights.matmul(gain) : weights.sum(2);
  return (part * (sums / config.d_model)).sum(2);
}

}  // namespace

std::int64_t layers_at_once(int layers) {
  return (layers + blocks_of_receivers - 1) / blocks_of_receivers;
}

// Receivers that are multiplied together: where each stands, and by what weights it reads.
struct EdgeContraction::Block {
  struct Heads {
    at::Tensor part = {};     // [N, heads, d_head]
    at::Tensor weights = {};  // [heads, d_head, d_model], as the model has them
    at::Tensor more = {};     // a second part that the same receivers read: gates
    at::Tensor more_weights = {};
    at::Tensor gain = {};   // [d_model] of the norm
    at::Tensor mean = {};   // [N, heads] of the gradients, which LayerNorm takes off
    at::Tensor along = {};  // [N, heads]
    at::Tensor hat = {};    // [N, d_model]
    std::int64_t row = 0;
    std::int64_t count = 0;
  };
  struct Stream {
    at::Tensor rows = {};  // [N, d_model]
    std::int64_t row = 0;
  };
  std::vector<Heads> heads = {};
  std::vector<Stream> streams = {};
  std::vector<std::int64_t> receivers = {};  // their numbers, row by row
  std::int64_t senders = 0;                  // that any of them sees

  void fill(const Chunk& chunk, at::Tensor& gradients) const {
    for (const Heads& group : heads) {
      at::Tensor out = gradients.narrow(0, group.row, group.count);
      const auto rows = [&](const at::Tensor& part) {
        return part_of(part, chunk.first, chunk.count).transpose(0, 1);
      };
      if (group.part.defined()) {
        at::bmm_out(out, rows(group.part), group.weights);
      } else {
        out.zero_();
      }
      if (group.more.defined()) out.baddbmm_(rows(group.more), group.more_weights);
      if (group.gain.defined()) out.mul_(group.gain);
      if (group.mean.defined()) out.sub_(rows(group.mean).unsqueeze(2));
      if (group.hat.defined() && group.along.defined()) {
        out.addcmul_(rows(group.along).unsqueeze(2),
                     part_of(group.hat, chunk.first, chunk.count).unsqueeze(0), -1);
      }
    }
    for (const Stream& stream : streams) {
      at::Tensor out = gradients.select(0, stream.row);
      if (stream.rows.defined()) {
        out.copy_(part_of(stream.rows, chunk.first, chunk.count));
      } else {
        out.zero_();
      }
    }
  }
};

EdgeContraction::EdgeContraction(const Model& model, const EdgeSpace& space,
                                 const SenderChange& change, KeepAxis keep)
    : model_(model),
      space_(space),
      change_(change),
      keep_(keep),
      layers_at_once_(static_cast<std::size_t>(layers_at_once(space.layers()))) {
  scores_ = at::zeros({kept(), space.edges()}, at::kDouble);
}

std::int64_t EdgeContraction::kept() const {
  return keep_ == KeepAxis::pair ? change_.sequences : change_.length;
}

void EdgeContraction::weigh(double weight) {
  flush();
  weight_ = weight;
}

void EdgeContraction::add(ReceiverGradient gradient) {
  waiting_.push_back(std::move(gradient));
  if (waiting_.size() >= layers_at_once_) flush();
}

std::vector<EdgeContraction::Chunk> EdgeContraction::chunks(std::int64_t rows_at_once) const {
  const std::int64_t T = change_.length;
  // Of long pairs a piece, of short ones several whole pairs.
  const std::int64_t piece = std::min(rows_at_once, T);
  const std::int64_t pairs = std::max<std::int64_t>(1, (rows_at_once + T / 2) / T);
  std::vector<Chunk> made;
  for (std::int64_t pair = 0; pair < change_.sequences; ++pair) {
    for (std::int64_t row = 0; row < T; row += piece) {
      const std::int64_t count = std::min(piece, T - row);
      if (piece < T || pair % pairs == 0) made.push_back({.first = pair * T + row});
      Chunk& chunk = made.back();
      chunk.pieces.push_back(
          {.first = chunk.count, .count = count, .place = keep_ == KeepAxis::pair ? pair : row});
      chunk.count += count;
    }
  }
  return made;
}

// Adds gradients [R, n, d_model] times writes [S, n, d_model] to sums [kept, R, senders].
void EdgeContraction::product(const Chunk& chunk, const at::Tensor& gradients,
                              const at::Tensor& writes, std::int64_t first_sender,
                              at::Tensor& sums) const {
  const std::int64_t S = writes.size(0);
  const std::int64_t d = writes.size(2);
  for (const Piece& piece : chunk.pieces) {
    if (keep_ == KeepAxis::position) {
      const at::Tensor made =
          at::bmm(gradients.narrow(1, piece.first, piece.count).transpose(0, 1),
                  writes.narrow(1, piece.first, piece.count).permute({1, 2, 0}));
      sums.narrow(0, piece.place, piece.count).narrow(2, first_sender, S).add_(made);
      continue;
    }
    const auto whole = [&](const at::Tensor& rows) {  // [R or S, count d_model], where they lie
      return rows.view({rows.size(0), -1}).narrow(1, piece.first * d, piece.count * d);
    };
    sums.select(0, piece.place)
        .narrow(1, first_sender, S)
        .add_(at::mm(whole(gradients), whole(writes).t()));
  }
}

void EdgeContraction::flush() {
  if (waiting_.empty()) return;
  const std::int64_t H = space_.heads();
  const std::int64_t K = space_.kv_heads();
  const std::int64_t d = model_.config().d_model;
  Block block;
  for (const ReceiverGradient& of : waiting_) {
    const auto add = [&](EdgeReceiver::Kind kind, std::int64_t count, const at::Tensor& part,
                         Weight weight, const at::Tensor& along) {
      Block::Heads group{.part = part, .along = along, .hat = of.hat};
      group.gain = reading_gain(model_, of.layer);
      if (part.defined()) {
        group.weights = by_heads(model_, weight, of.layer);
        group.mean = mean_read(model_, group.weights, group.gain, part);
      }
      group.row = static_cast<std::int64_t>(block.receivers.size());
      group.count = count;
      for (std::int64_t head = 0; head < count; ++head)
        block.receivers.push_back(
            space_.index_of(EdgeReceiver{kind, of.layer, static_cast<int>(head)}));
      block.heads.push_back(std::move(group));
    };
    add(EdgeReceiver::Kind::q, H, of.q, Weight::q, of.q_along);
    if (of.gate.defined()) {
      Block::Heads& queries = block.heads.back();
      queries.more = of.gate;
      queries.more_weights = by_heads(model_, Weight::z_gate, of.layer);
      const at::Tensor mean = mean_read(model_, queries.more_weights, queries.gain, of.gate);
      if (mean.defined()) queries.mean = queries.mean.defined() ? queries.mean + mean : mean;
    }
    add(EdgeReceiver::Kind::k, K, of.k, Weight::k, of.k_along);
    add(EdgeReceiver::Kind::v, K, of.v, Weight::v, of.v_along);
    block.streams.push_back(
        {.rows = of.mlp, .row = static_cast<std::int64_t>(block.receivers.size())});
    block.receivers.push_back(space_.index_of(EdgeReceiver{EdgeReceiver::Kind::mlp, of.layer, -1}));
  }
  waiting_.clear();
  for (const std::int64_t receiver : block.receivers)
    block.senders = std::max(block.senders, space_.seen_by(receiver));

  const auto options = change_.input.options();
  const auto R = static_cast<std::int64_t>(block.receivers.size());
  // The input alone, then the heads and the MLP of some layers at a time.
  const auto layers = static_cast<int>((block.senders - 1 + H) / (H + 1));
  const std::int64_t rows = std::clamp<std::int64_t>(
      std::min(numbers_at_once / (R * d), numbers_at_once / ((H + 1) * d)), 1, most_rows);
  const int together = static_cast<int>(
      std::clamp<std::int64_t>(numbers_at_once / (rows * (H + 1) * d), 1, std::max(layers, 1)));
  const std::vector<Chunk> all = chunks(rows);
  std::int64_t most = 0;
  for (const Chunk& chunk : all) most = std::max(most, chunk.count);
  at::Tensor gradients_room = at::empty({R * most * d}, options);
  at::Tensor writes_room = at::empty({together * (H + 1) * most * d}, options);
  at::Tensor sums =
      at::zeros({kept(), R, 1 + std::int64_t{layers} * (H + 1)}, options.dtype(at::kDouble));
  for (const Chunk& chunk : all) {
    at::Tensor gradients =
        gradients_room.narrow(0, 0, R * chunk.count * d).view({R, chunk.count, d});
    block.fill(chunk, gradients);
    product(chunk, gradients, part_of(change_.input, chunk.first, chunk.count).unsqueeze(0), 0,
            sums);
    for (int first = 0; first < layers; first += together) {
      const std::int64_t count = std::min(together, layers - first);
      at::Tensor writes = writes_room.narrow(0, 0, count * (H + 1) * chunk.count * d)
                              .view({count * (H + 1), chunk.count, d});
      for (std::int64_t i = 0; i < count; ++i) {
        const auto layer = static_cast<std::size_t>(first + i);
        at::Tensor of_heads = writes.narrow(0, i * (H + 1), H);
        at::bmm_out(of_heads, part_of(change_.z[layer], chunk.first, chunk.count).transpose(0, 1),
                    writing_weights(model_, first + static_cast<int>(i)));
        writes.select(0, i * (H + 1) + H)
            .copy_(part_of(change_.mlp[layer], chunk.first, chunk.count));
      }
      product(chunk, gradients, writes, 1 + std::int64_t{first} * (H + 1), sums);
    }
  }
  scatter(block, sums);
}

void EdgeContraction::scatter(const Block& block, const at::Tensor& sums) {
  const at::Tensor here = sums.cpu();
  for (std::size_t row = 0; row < block.receivers.size(); ++row) {
    const std::int64_t receiver = block.receivers[row];
    const std::int64_t seen = space_.seen_by(receiver);
    scores_.narrow(1, space_.first_edge(receiver), seen)
        .add_(here.select(1, static_cast<std::int64_t>(row)).narrow(1, 0, seen), weight_);
  }
}

void EdgeContraction::add(const StreamReader& reader) {
  const std::int64_t H = space_.heads();
  const std::int64_t d = model_.config().d_model;
  const std::int64_t N = change_.sequences * change_.length;
  const at::Tensor gradient = reader.gradient.reshape({N, d}).to(change_.input.scalar_type());
  const auto layers = static_cast<int>((reader.seen - 1 + H) / (H + 1));
  at::Tensor sums = at::zeros({kept(), 1, 1 + std::int64_t{layers} * (H + 1)},
                              change_.input.options().dtype(at::kDouble));
  // One receiver: heads are met in d_head.
  const auto place = [&](std::int64_t sender, const at::Tensor& products) {  // [N, s]
    at::Tensor to = sums.select(1, 0).narrow(1, sender, products.size(1));
    const at::Tensor each =
        products.to(at::kDouble).view({change_.sequences, change_.length, products.size(1)});
    to.add_(each.sum(keep_ == KeepAxis::pair ? 1 : 0));
  };
  place(0, (change_.input * gradient).sum(1, true));
  for (int layer = 0; layer < layers; ++layer) {
    const std::int64_t first = 1 + std::int64_t{layer} * (H + 1);
    const at::Tensor weights = writing_weights(model_, layer);  // [H, d_head, d_model]
    const at::Tensor read = gradient.matmul(weights.reshape({-1, d}).t());
    const auto index = static_cast<std::size_t>(layer);
    place(first, (read.view(change_.z[index].sizes()) * change_.z[index]).sum(2));
    place(first + H, (change_.mlp[index] * gradient).sum(1, true));
  }
  const at::Tensor here = sums.cpu();
  scores_.narrow(1, space_.first_edge(space_.receivers() - 1), reader.seen)
      .add_(here.select(1, 0).narrow(1, 0, reader.seen), weight_);
}

at::Tensor EdgeContraction::take() {
  flush();
  return scores_;
}

}  // namespace plumb
