#include "experiment/edge_pass.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <string>

#include "core/precision.h"
#include "experiment/edge_feeds.h"
#include "model/branch_rows.h"
#include "model/mlp.h"

namespace plumb {

// B: sequences of the tile, T: positions, N: live ones, H: heads, K: key heads, d: d_model. At read
// positions, streams are packed as one sequence: [1, B P, d].

namespace {

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

std::int64_t mlp_work(const ModelConfig& config, int layer) {
  const std::int64_t d = config.d_model;
  if (!is_sparse(config, layer)) return (config.gated_mlp ? 3 : 2) * d * config.d_mlp;
  const Experts& experts = config.experts;
  return 3 * d *
         (std::int64_t{experts.per_token} * experts.width + std::int64_t{experts.shared_width});
}

}  // namespace

// The way of one mask through the model.
class EdgePass {
 public:
  EdgePass(const EdgeRunner& runner, const std::vector<std::uint8_t>& mask, EdgeWrites& writes,
           int from, std::atomic<std::int64_t>& work)
      : model_(runner.model_),
        config_(model_.config()),
        space_(runner.space_),
        ends_(runner.ends_),
        outside_(runner.outside_),
        span_(runner.span_),
        mask_(mask),
        leads_(runner.leads(mask)),
        live_(runner.inputs_, runner.input_),
        reader_(runner.at_reads_, runner.input_),
        rows_(&live_),
        B_(runner.input_.size(0)),
        T_(runner.input_.size(1)),
        b_(B_),
        n_(span_.end - span_.from),
        first_(std::min(from, ends_.depth - 1)),
        work_(work),
        rows_before_(writes.rows_before),
        row_(writes.rows),
        changes_(writes.changes) {
    if (first_ == 0 && leads_[0] != 0)
      keep(0, widened(here(runner.input_)) - widened(here(outside_.input)));
  }

  at::Tensor run() {
    const int last = ends_.depth - 1;
    for (int layer = first_; layer < last; ++layer) {
      attend(layer);
      add_mlp(layer);
    }
    if (span_.site) return read_site(last);
    attend(last);
    add_mlp(last);
    const at::Tensor end = read({space_.receivers() - 1}, outside_.pre.back()).streams[0];
    return end.view({B_, -1, config_.d_model});
  }

 private:
  // Streams of receivers; those that the same edges enter share one.
  struct Streams {
    at::Tensor streams = {};  // [U, B, N, d]
    std::vector<std::int64_t> which = {};
  };

  static const at::Tensor& at(const std::vector<at::Tensor>& list, int layer) {
    return list[size(layer)];
  }

  // Of a value that broadcasts to [B, T, ...], the positions that are run: [B, N, ...], or packed
  // where the metric is read.
  at::Tensor here(const at::Tensor& value) const {
    std::vector<std::int64_t> shape = value.sizes().vec();
    shape[0] = B_;
    shape[1] = T_;
    const at::Tensor whole = value.expand(shape);
    if (rows_ == &live_) return whole.narrow(1, span_.from, n_);
    std::vector<std::int64_t> index = {B_, n_ / B_};
    index.resize(shape.size(), 1);
    shape[1] = n_ / B_;
    const at::Tensor read = whole.gather(1, span_.reads.view(index).expand(shape));
    return read.reshape([&] {
      std::vector<std::int64_t> packed = shape;
      packed[0] = 1;
      packed[1] = n_;
      return packed;
    }());
  }

  // From here on only what stands at read positions is run.
  void go_to_reads() {
    const std::int64_t P = span_.reads.size(1);
    const std::int64_t d = config_.d_model;
    const at::Tensor live = (span_.reads - span_.from).clamp_min(0);
    const at::Tensor index =
        (live + at::arange(B_, live.options()).unsqueeze(1) * n_).reshape({-1});
    const std::int64_t rows = changes_.size(0);
    at::Tensor at_reads =
        changes_.view({rows, B_ * n_, d}).index_select(1, index);  // rows to come are overwritten
    const at::Tensor past = (span_.reads < span_.from).reshape({1, -1, 1});
    if (past.any().item<bool>()) at_reads.masked_fill_(past, 0.0);
    changes_ = at_reads.view({rows, B_ * P * d});
    rows_ = &reader_;
    b_ = 1;
    n_ = B_ * P;
  }

  // [b, n, d] of the next sender.
  void keep(std::int64_t sender, const at::Tensor& change) {
    changes_[row_[size(sender)]].copy_(change.expand({b_, n_, config_.d_model}).reshape({-1}));
  }

  Streams read(const std::vector<std::int64_t>& receivers, const at::Tensor& base) const {
    Streams made;
    std::map<std::string, std::int64_t> known;
    std::vector<double> weights;
    std::int64_t held = 0;
    for (const std::int64_t receiver : receivers)
      held = std::max(held, rows_before_[size(ends_.seen_by(space_, receiver))]);
    for (const std::int64_t receiver : receivers) {
      std::string row(size(held), 0);
      for (std::int64_t sender = 0; sender < ends_.seen_by(space_, receiver); ++sender) {
        if (leads_[size(sender)] != 0 && mask_[size(space_.first_edge(receiver) + sender)] != 0)
          row[size(row_[size(sender)])] = '\1';
      }
      const auto [place, fresh] = known.emplace(row, std::ssize(known));
      if (fresh) weights.insert(weights.end(), row.begin(), row.end());
      made.which.push_back(place->second);
    }
    const std::int64_t distinct = std::ssize(known);
    at::Tensor streams =
        widened(here(base)).unsqueeze(0).expand({distinct, b_, n_, config_.d_model});
    if (held > 0) {
      const at::Tensor chosen =
          at::tensor(weights, at::kDouble).to(changes_.options()).view({distinct, held});
      streams = streams + at::mm(chosen, changes_.narrow(0, 0, held)).view(streams.sizes());
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

  // [b, n, heads d_head]: each head of its own stream; heads that are not read stay 0.
  at::Tensor project(const at::Tensor& normed, const std::vector<std::int64_t>& which,
                     const std::vector<std::int64_t>& heads, std::int64_t count, Weight weight,
                     std::optional<Weight> bias, int layer) const {
    at::Tensor made = at::zeros({b_, n_, count, config_.d_head}, normed.options());
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
      const at::Tensor out = Pass::affine(normed[stream], at::cat(matrices),
                                          shifts.empty() ? at::Tensor() : at::cat(shifts));
      const auto number = std::ssize(own);
      made.index_copy_(2, at::tensor(own, at::kLong).to(normed.device()),
                       out.view({b_, n_, number, config_.d_head}));
      work_ += b_ * n_ * number * config_.d_head * config_.d_model;
    }
    return made.flatten(2);
  }

  // Heads that a block's attention is run for, and the key heads that they read.
  struct Readers {
    std::vector<std::int64_t> heads = {};
    std::vector<std::int64_t> keys = {};
  };
  Readers readers(int layer, bool every) const {
    const std::int64_t H = config_.heads;
    const std::int64_t first = space_.index_of(EdgeSender{EdgeSender::Kind::head, layer, 0});
    Readers made;
    for (std::int64_t head = 0; head < H; ++head) {
      if (!every && leads_[size(first + head)] == 0) continue;
      made.heads.push_back(head);
      const std::int64_t key = head * space_.kv_heads() / H;
      if (made.keys.empty() || made.keys.back() != key) made.keys.push_back(key);
    }
    return made;
  }

  // What the heads read as queries, keys or values, normalised.
  Streams normed(int layer, EdgeReceiver::Kind kind, const std::vector<std::int64_t>& heads) {
    std::vector<std::int64_t> receivers;
    for (const std::int64_t head : heads)
      receivers.push_back(space_.index_of(EdgeReceiver{kind, layer, static_cast<int>(head)}));
    Streams in = read(receivers, at(outside_.pre, layer));
    in.streams = rows_->attention()
                     .read(layer, in.streams.flatten(0, 1), Part::q_in, true)
                     .view(in.streams.sizes());
    return in;
  }

  at::Tensor queries_or_keys(int layer, const Streams& in, const std::vector<std::int64_t>& heads,
                             bool queries) {
    const Weight weight = queries ? Weight::q : Weight::k;
    const Weight bias = queries ? Weight::q_bias : Weight::k_bias;
    const std::int64_t count = queries ? config_.heads : space_.kv_heads();
    return rows_->attention().turned(
        layer, project(in.streams, in.which, heads, count, weight, bias, layer), queries);
  }

  void attend(int layer) {
    const std::int64_t H = config_.heads;
    const std::int64_t K = space_.kv_heads();
    const std::int64_t first = space_.index_of(EdgeSender{EdgeSender::Kind::head, layer, 0});
    const bool any = std::any_of(leads_.begin() + first, leads_.begin() + first + H,
                                 [](std::uint8_t each) { return each != 0; });
    const bool ending = !span_.site && layer + 1 == ends_.depth;
    if (!any) {
      if (ending) go_to_reads();
      return;
    }
    // A norm over all heads at once, on queries and keys or on the write, needs all of them.
    const Readers who = readers(layer, config_.qk_norm == QkNorm::whole || !keeps_z(config_));
    const Streams of_k = normed(layer, EdgeReceiver::Kind::k, who.keys);
    const at::Tensor k =
        queries_or_keys(layer, of_k, who.keys, false).reshape({B_, 1, -1, K, config_.d_head});
    const Streams of_v = normed(layer, EdgeReceiver::Kind::v, who.keys);
    at::Tensor v = project(of_v.streams, of_v.which, who.keys, K, Weight::v, Weight::v_bias, layer)
                       .view({B_, 1, -1, K, config_.d_head});
    if (config_.qkv_clip > 0) v = v.clamp(-config_.qkv_clip, config_.qkv_clip);
    if (ending) go_to_reads();
    const Streams of_q = normed(layer, EdgeReceiver::Kind::q, who.heads);
    const at::Tensor q =
        queries_or_keys(layer, of_q, who.heads, true).reshape({B_, 1, -1, H, config_.d_head});
    Attention& attention = rows_->attention();
    const at::Tensor bias = attention.score_bias(layer, T_, q).narrow(-1, 0, span_.end);
    const at::Tensor rows =
        ending ? of_reads(bias, span_.reads, 1) : bias.narrow(-2, span_.from, n_);
    at::Tensor z = mix(attention, layer, q, k, v, past(outside_.past_k, layer, k),
                       past(outside_.past_v, layer, v), rows)
                       .reshape({b_, n_, H, config_.d_head});
    if (config_.gated_attention) {
      const at::Tensor gate =
          project(of_q.streams, of_q.which, who.heads, H, Weight::z_gate, {}, layer);
      z = z * gate.view(z.sizes()).sigmoid();
    }
    write(layer, first, z);
  }

  // Keys or values before the live positions, [B, t, K, d_head].
  at::Tensor past(const std::vector<at::Tensor>& all, int layer, const at::Tensor& like) const {
    if (span_.from == 0) return like.select(1, 0).narrow(1, 0, 0);
    return at(all, layer).repeat_interleave(space_.kv_heads() / config_.kv_heads, 2);
  }

  // A parallel block's MLP reads what its attention reads: neither sees the other's write.
  void add_mlp(int layer) {
    const std::int64_t writer = space_.index_of(EdgeSender{EdgeSender::Kind::mlp, layer, -1});
    if (leads_[size(writer)] == 0) return;
    const std::int64_t reader = space_.index_of(EdgeReceiver{EdgeReceiver::Kind::mlp, layer, -1});
    const at::Tensor in =
        read({reader}, config_.parallel ? at(outside_.pre, layer) : at(outside_.mid, layer))
            .streams[0];
    work_ += b_ * n_ * mlp_work(config_, layer);
    keep(writer, widened(mlp(rows_->pass(), layer, in)) - widened(here(at(outside_.mlps, layer))));
  }

  // The site of the last block that the metric reads.
  at::Tensor read_site(int layer) {
    const Part part = span_.site->part;
    const auto stream = [&](const at::Tensor& base) {
      return read({space_.receivers() - 1}, base).streams[0];
    };
    if (part == Part::pattern) return pattern(layer);
    if (part == Part::resid_pre || (part == Part::mlp_in && config_.parallel))
      return stream(at(outside_.pre, layer));
    attend(layer);
    if (part != Part::resid_post) return stream(at(outside_.mid, layer));
    add_mlp(layer);
    return stream(at(outside_.pre, layer + 1));
  }

  // [B, H, T, T] of all heads.
  at::Tensor pattern(int layer) {
    const std::int64_t K = space_.kv_heads();
    const std::int64_t G = config_.heads / K;
    const Readers who = readers(layer, true);
    const at::Tensor k = widened(
        queries_or_keys(layer, normed(layer, EdgeReceiver::Kind::k, who.keys), who.keys, false));
    const at::Tensor q = widened(
        queries_or_keys(layer, normed(layer, EdgeReceiver::Kind::q, who.heads), who.heads, true));
    Attention& attention = rows_->attention();
    const at::Tensor products = at::matmul((q * attention.factor()).permute({0, 2, 1, 3}),
                                           k.repeat_interleave(G, 2).permute({0, 2, 3, 1}));
    return attention.pattern(layer, products, attention.score_bias(layer, T_, q));
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
    const at::Tensor outside = here(at(outside_.heads, layer));
    if (keeps_z(config_)) {
      changes = written(widened(z) - widened(outside));
    } else {
      Pass& pass = rows_->pass();
      const at::Tensor whole = pass.project(z.flatten(2), Weight::out, Weight::out_bias, layer);
      const at::Tensor factor =
          pass.write_factor(whole, {Part::ln1_post_scale, layer}, Weight::ln1_post, layer);
      at::Tensor now = written(z);
      if (factor.defined()) now = now * widened(factor);
      changes = now - widened(outside).index_select(2, index).permute({2, 0, 1, 3});
    }
    work_ +=
        b_ * n_ * (keeps_z(config_) ? std::ssize(writers) : H) * config_.d_head * config_.d_model;
    for (std::size_t i = 0; i < writers.size(); ++i)
      keep(first + writers[i], changes[static_cast<std::int64_t>(i)]);
  }

  const Model& model_;
  const ModelConfig& config_;
  const EdgeSpace& space_;
  const EdgeEnds& ends_;
  const OutsideValues& outside_;
  const EdgeSpan& span_;
  const std::vector<std::uint8_t>& mask_;
  std::vector<std::uint8_t> leads_;
  Rows live_;
  Rows reader_;
  Rows* rows_;
  std::int64_t B_;
  std::int64_t T_;
  std::int64_t b_;  // what is run: [b, n, d], at first [B, N, d]
  std::int64_t n_;
  int first_;
  std::atomic<std::int64_t>& work_;
  const std::vector<std::int64_t>& rows_before_;
  const std::vector<std::int64_t>& row_;
  at::Tensor changes_;
};

at::Tensor EdgeRunner::run(const std::vector<std::uint8_t>& mask, EdgeWrites& writes, int from,
                           std::atomic<std::int64_t>& work) const {
  return EdgePass(*this, mask, writes, from, work).run();
}

std::int64_t block_work(const ModelConfig& config) {
  const std::int64_t heads = 2 * std::int64_t{config.heads} + 2 * std::int64_t{config.kv_heads} +
                             (config.gated_attention ? config.heads : 0);
  std::int64_t mlps = 0;
  for (int layer = 0; layer < config.layers; ++layer) mlps += mlp_work(config, layer);
  return heads * config.d_head * config.d_model + mlps / std::max(1, config.layers);
}

}  // namespace plumb
