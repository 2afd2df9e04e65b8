#include "experiment/edge_pass.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <string>

#include "core/precision.h"
#include "experiment/edge_feeds.h"
#include "model/branch_rows.h"
#include "model/mlp.h"

namespace plumb {

// B: sequences of the tile, T: positions, H: heads, K: key heads, d: d_model.

namespace {

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

// Which senders lead to the logits.
std::vector<std::uint8_t> leading(const EdgeSpace& space, const std::vector<std::uint8_t>& mask) {
  std::vector<std::uint8_t> leads(size(space.senders()), 0);
  for (std::int64_t receiver = space.receivers() - 1; receiver >= 0; --receiver) {
    const auto [from, to] = fed_by(space, receiver);
    const bool logits = receiver == space.receivers() - 1;
    if (!logits && std::none_of(leads.begin() + from, leads.begin() + to,
                                [](std::uint8_t each) { return each != 0; }))
      continue;
    for (std::int64_t sender = 0; sender < space.seen_by(receiver); ++sender) {
      if (mask[size(space.first_edge(receiver) + sender)] != 0) leads[size(sender)] = 1;
    }
  }
  return leads;
}

}  // namespace

// The way of one mask through the model.
class EdgePass {
 public:
  EdgePass(const EdgeRunner& runner, const std::vector<std::uint8_t>& mask)
      : model_(runner.model_),
        config_(model_.config()),
        space_(runner.space_),
        outside_(runner.outside_),
        mask_(mask),
        leads_(leading(space_, mask)),
        rows_(runner.inputs_, runner.input_),
        B_(runner.input_.size(0)),
        T_(runner.input_.size(1)) {
    const auto held = std::count(leads_.begin(), leads_.end(), std::uint8_t{1});
    changes_ = at::empty({held, B_ * T_ * config_.d_model},
                         runner.input_.options().dtype(sum_type(model_.dtype())));
    if (leads_[0] != 0) keep(0, widened(runner.input_) - widened(outside_.input));
  }

  at::Tensor run() {
    for (int layer = 0; layer < config_.layers; ++layer) {
      // A parallel block's MLP reads what its attention reads: neither sees the other's write.
      attend(layer);
      const std::int64_t writer = space_.index_of(EdgeSender{EdgeSender::Kind::mlp, layer, -1});
      if (leads_[size(writer)] == 0) continue;
      const std::int64_t reader = space_.index_of(EdgeReceiver{EdgeReceiver::Kind::mlp, layer, -1});
      const at::Tensor in =
          read({reader}, config_.parallel ? at(outside_.pre, layer) : at(outside_.mid, layer))
              .streams[0];
      keep(writer, widened(mlp(rows_.pass(), layer, in)) - widened(at(outside_.mlps, layer)));
    }
    return read({space_.receivers() - 1}, outside_.pre.back()).streams[0];
  }

 private:
  // Streams of receivers; those that the same edges enter share one.
  struct Streams {
    at::Tensor streams = {};  // [U, B, T, d]
    std::vector<std::int64_t> which = {};
  };

  static const at::Tensor& at(const std::vector<at::Tensor>& list, int layer) {
    return list[size(layer)];
  }

  // [B, T, d] of the next sender.
  void keep(std::int64_t sender, const at::Tensor& change) {
    senders_.push_back(sender);
    changes_[kept_++].copy_(change.expand({B_, T_, config_.d_model}).reshape({-1}));
  }

  Streams read(const std::vector<std::int64_t>& receivers, const at::Tensor& base) const {
    Streams made;
    std::map<std::string, std::int64_t> known;
    std::vector<double> weights;
    for (const std::int64_t receiver : receivers) {
      std::string row(size(kept_), 0);
      const std::int64_t seen = space_.seen_by(receiver);
      for (std::size_t i = 0; i < senders_.size(); ++i) {
        if (senders_[i] < seen)
          row[i] = mask_[size(space_.first_edge(receiver) + senders_[i])] != 0 ? '\1' : '\0';
      }
      const auto [place, fresh] = known.emplace(row, std::ssize(known));
      if (fresh) weights.insert(weights.end(), row.begin(), row.end());
      made.which.push_back(place->second);
    }
    const std::int64_t distinct = std::ssize(known);
    const at::Tensor wide = widened(base).expand({B_, T_, config_.d_model});
    at::Tensor streams = wide.unsqueeze(0).expand({distinct, B_, T_, config_.d_model});
    if (kept_ > 0) {
      const at::Tensor chosen = at::tensor(weights, at::kDouble)
                                    .to(changes_.options())
                                    .view({distinct, kept_});
      streams = streams + at::mm(chosen, changes_.narrow(0, 0, kept_)).view(streams.sizes());
    }
    made.streams = streams.to(model_.dtype());
    return made;
  }

  // Rows of a projection that make head `head` of `heads`, where weights are shared by groups.
  at::Tensor rows_of(Weight weight, int layer, std::int64_t head, std::int64_t heads) const {
    const at::Tensor whole = model_.weight(weight, layer);
    if (!whole.defined()) return {};
    const std::int64_t own = whole.size(0) / config_.d_head;
    return whole.narrow(0, head * own / heads * config_.d_head, config_.d_head);
  }

  // [B, T, heads d_head]: each head of its own stream; heads that are not read stay 0.
  at::Tensor project(const at::Tensor& normed, const std::vector<std::int64_t>& which,
                     const std::vector<std::int64_t>& heads, std::int64_t count, Weight weight,
                     std::optional<Weight> bias, int layer) const {
    at::Tensor made = at::zeros({B_, T_, count, config_.d_head}, normed.options());
    std::map<std::int64_t, std::vector<std::int64_t>> by_stream;
    for (std::size_t i = 0; i < heads.size(); ++i) by_stream[which[i]].push_back(heads[i]);
    for (const auto& [stream, own] : by_stream) {
      std::vector<at::Tensor> matrices;
      std::vector<at::Tensor> shifts;
      for (const std::int64_t head : own) {
        matrices.push_back(rows_of(weight, layer, head, count));
        const at::Tensor shift = bias ? rows_of(*bias, layer, head, count) : at::Tensor();
        if (shift.defined()) shifts.push_back(shift);
      }
      const at::Tensor out =
          Pass::affine(normed[stream], at::cat(matrices), shifts.empty() ? at::Tensor()
                                                                         : at::cat(shifts));
      const auto number = std::ssize(own);
      made.index_copy_(2, at::tensor(own, at::kLong).to(normed.device()),
                       out.view({B_, T_, number, config_.d_head}));
    }
    return made.flatten(2);
  }

  void attend(int layer) {
    const std::int64_t H = config_.heads;
    const std::int64_t K = space_.kv_heads();
    const std::int64_t first = space_.index_of(EdgeSender{EdgeSender::Kind::head, layer, 0});
    // A norm over all heads at once, on queries and keys or on the write, needs all of them.
    const bool all = config_.qk_norm == QkNorm::whole || !keeps_z(config_);
    std::vector<std::int64_t> heads;
    std::vector<std::int64_t> keys;
    bool any = false;
    for (std::int64_t head = 0; head < H; ++head) any = any || leads_[size(first + head)] != 0;
    if (!any) return;
    for (std::int64_t head = 0; head < H; ++head) {
      if (!all && leads_[size(first + head)] == 0) continue;
      heads.push_back(head);
      const std::int64_t key = head * K / H;
      if (keys.empty() || keys.back() != key) keys.push_back(key);
    }
    std::vector<std::int64_t> receivers;
    const auto add = [&](EdgeReceiver::Kind kind, const std::vector<std::int64_t>& list) {
      for (const std::int64_t head : list)
        receivers.push_back(space_.index_of(EdgeReceiver{kind, layer, static_cast<int>(head)}));
    };
    add(EdgeReceiver::Kind::q, heads);
    add(EdgeReceiver::Kind::k, keys);
    add(EdgeReceiver::Kind::v, keys);
    const Streams in = read(receivers, at(outside_.pre, layer));
    Attention& attention = rows_.attention();
    const at::Tensor normed =
        attention.read(layer, in.streams.flatten(0, 1), Part::q_in, true).view(in.streams.sizes());
    const auto part = [&](std::size_t from, std::size_t count) {
      return std::vector<std::int64_t>(in.which.begin() + static_cast<std::ptrdiff_t>(from),
                                       in.which.begin() + static_cast<std::ptrdiff_t>(from + count));
    };
    const auto of_q = part(0, heads.size());
    const at::Tensor q = attention.turned(
        layer, project(normed, of_q, heads, H, Weight::q, Weight::q_bias, layer), true);
    const at::Tensor k = attention.turned(
        layer,
        project(normed, part(heads.size(), keys.size()), keys, K, Weight::k, Weight::k_bias, layer),
        false);
    at::Tensor v = project(normed, part(heads.size() + keys.size(), keys.size()), keys, K,
                           Weight::v, Weight::v_bias, layer)
                       .view({B_, T_, K, config_.d_head});
    if (config_.qkv_clip > 0) v = v.clamp(-config_.qkv_clip, config_.qkv_clip);
    const at::Tensor none = k.narrow(1, 0, 0);
    at::Tensor z = mix(attention, layer, q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1), none, none,
                       attention.score_bias(layer, T_, q))
                       .squeeze(1);
    if (config_.gated_attention) {
      const at::Tensor gate = project(normed, of_q, heads, H, Weight::z_gate, {}, layer);
      z = z * gate.view(z.sizes()).sigmoid();
    }
    write(layer, first, z);
  }

  void write(int layer, std::int64_t first, const at::Tensor& z) {
    const std::int64_t H = config_.heads;
    const at::Tensor out = widened(model_.weight(Weight::out, layer))
                               .view({config_.d_model, H, config_.d_head})
                               .permute({1, 2, 0});  // [H, d_head, d]
    std::vector<std::int64_t> writers;
    for (std::int64_t head = 0; head < H; ++head) {
      if (leads_[size(first + head)] != 0) writers.push_back(head);
    }
    const at::Tensor index = at::tensor(writers, at::kLong).to(z.device());
    const auto written = [&](const at::Tensor& rows) {  // [B, T, H, d_head] to [n, B, T, d]
      const at::Tensor chosen =
          widened(rows).index_select(2, index).permute({2, 0, 1, 3}).flatten(1, 2);
      return at::bmm(chosen, out.index_select(0, index))
          .view({std::ssize(writers), rows.size(0), rows.size(1), config_.d_model});
    };
    at::Tensor changes;
    const at::Tensor& outside = at(outside_.heads, layer);
    if (keeps_z(config_)) {
      changes = written(widened(z) - widened(outside));
    } else {
      Pass& pass = rows_.pass();
      const at::Tensor whole = pass.project(z.flatten(2), Weight::out, Weight::out_bias, layer);
      const at::Tensor factor =
          pass.write_factor(whole, {Part::ln1_post_scale, layer}, Weight::ln1_post, layer);
      at::Tensor now = written(z);
      if (factor.defined()) now = now * widened(factor);
      changes = now - widened(outside).index_select(2, index).permute({2, 0, 1, 3});
    }
    for (std::size_t i = 0; i < writers.size(); ++i)
      keep(first + writers[i], changes[static_cast<std::int64_t>(i)]);
  }

  const Model& model_;
  const ModelConfig& config_;
  const EdgeSpace& space_;
  const OutsideValues& outside_;
  const std::vector<std::uint8_t>& mask_;
  std::vector<std::uint8_t> leads_;
  Rows rows_;
  std::int64_t B_;
  std::int64_t T_;
  at::Tensor changes_ = {};  // [senders that lead on, B T d]: writes of this run less replacements
  std::vector<std::int64_t> senders_ = {};
  std::int64_t kept_ = 0;
};

EdgeRunner::EdgeRunner(const Model& model, const EdgeSpace& space, const at::Tensor& input,
                       const OutsideValues& outside)
    : model_(model), space_(space), input_(input), outside_(outside),
      inputs_{.model = model, .plan = plan_} {
  const ModelConfig& config = model.config();
  std::vector<std::int64_t> positions(size(input.size(1)));
  std::iota(positions.begin(), positions.end(), 0);
  inputs_.positions = at::arange(input.size(1), input.options().dtype(at::kLong));
  if (config.positions == Positions::rope) {
    inputs_.rope = make_rope_table(config.rope, positions, input.options());
    if (config.window_rope.dims > 0)
      inputs_.window_rope = make_rope_table(config.window_rope, positions, input.options());
  }
}

at::Tensor EdgeRunner::stream(const std::vector<std::uint8_t>& mask) const {
  return EdgePass(*this, mask).run();
}

}  // namespace plumb
