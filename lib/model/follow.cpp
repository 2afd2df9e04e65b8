#include "model/follow.h"

#include <ATen/ATen.h>

#include <numeric>
#include <utility>

#include "core/precision.h"
#include "model/branch_rows.h"
#include "model/mlp.h"
#include "model/model_impl.h"

namespace plumb {

// B: sequences, n: streams of one, N: live positions of a stream, P: read positions of a sequence,
// R: rows of all streams packed.

namespace {

std::int64_t live(const Branch& branch) { return branch.stream.size(2); }
std::int64_t rows_of(const Branch& branch) {
  return branch.stream.size(0) * branch.stream.size(1) * branch.stream.size(2);
}

at::Tensor pack(const std::vector<Branch>& branches) {
  std::vector<at::Tensor> rows;
  rows.reserve(branches.size());
  for (const Branch& branch : branches)
    rows.push_back(branch.stream.reshape({-1, branch.stream.size(3)}));
  return rows.size() == 1 ? rows.front() : at::cat(rows, 0);
}

// Position of every packed row.
at::Tensor places(const std::vector<Branch>& branches) {
  std::vector<at::Tensor> rows;
  for (const Branch& branch : branches) {
    const auto B = branch.stream.size(0);
    const auto n = branch.stream.size(1);
    rows.push_back(at::arange(branch.from, branch.from + live(branch),
                              branch.stream.options().dtype(at::kLong))
                       .expand({B * n, live(branch)})
                       .reshape({-1}));
  }
  return at::cat(rows, 0);
}

RopeTable take(const RopeTable& table, const at::Tensor& rows) {
  if (!table.cos.defined()) return {};
  return {.cos = table.cos.index_select(0, rows),
          .sin = table.sin.index_select(0, rows),
          .growth = table.growth.defined() ? table.growth.index_select(0, rows) : table.growth};
}

// [1, R, heads, d_head] to [B, n, N, heads, d_head] of each branch.
std::vector<at::Tensor> split(const at::Tensor& packed, const std::vector<Branch>& branches) {
  std::vector<at::Tensor> parts;
  std::int64_t first = 0;
  for (const Branch& branch : branches) {
    parts.push_back(packed.narrow(1, first, rows_of(branch))
                        .view({branch.stream.size(0), branch.stream.size(1), live(branch),
                               packed.size(2), packed.size(3)}));
    first += rows_of(branch);
  }
  return parts;
}

}  // namespace

std::vector<Record> trunk_records(const ModelConfig& config, int depth) {
  std::vector<Record> records;
  for (int layer = 0; layer < depth; ++layer) {
    for (const Part part : {Part::resid_pre, Part::k, Part::v, Part::resid_mid})
      records.emplace_back(Site{part, layer});
    if (config.parallel) records.emplace_back(Site{Part::mlp_out, layer});
  }
  records.emplace_back(depth == config.layers ? Site{Part::resid_final}
                                              : Site{Part::resid_post, depth - 1});
  return records;
}

Trunk make_trunk(const ModelConfig& config, int depth, const Cache& cache) {
  Trunk trunk;
  for (int layer = 0; layer < depth; ++layer) {
    trunk.resid_pre.push_back(cache.at({Part::resid_pre, layer}));
    trunk.resid_mid.push_back(cache.at({Part::resid_mid, layer}));
    if (config.parallel) trunk.mlp_out.push_back(cache.at({Part::mlp_out, layer}));
    trunk.k.push_back(cache.at({Part::k, layer}));
    trunk.v.push_back(cache.at({Part::v, layer}));
  }
  trunk.resid_pre.push_back(cache.at(depth == config.layers ? Site{Part::resid_final}
                                                            : Site{Part::resid_post, depth - 1}));
  return trunk;
}

Follower::Follower(const Model& model, const Trunk& trunk, at::Tensor reads, const BackRules& rules)
    : model_(model), trunk_(trunk), reads_(std::move(reads)), rules_(rules) {
  const ModelConfig& config = model.config();
  const at::Tensor& stream = trunk.resid_pre.front();
  const std::int64_t T = stream.size(1);
  std::vector<std::int64_t> positions(static_cast<std::size_t>(T));
  std::iota(positions.begin(), positions.end(), 0);
  positions_ = at::arange(T, stream.options().dtype(at::kLong));
  if (config.positions == Positions::rope) {
    rope_ = make_rope_table(config.rope, positions, stream.options());
    if (config.window_rope.dims > 0)
      window_rope_ = make_rope_table(config.window_rope, positions, stream.options());
  }
}

DecoderInputs Follower::inputs(const at::Tensor& rows) const {
  DecoderInputs made{.model = model_, .plan = plan_};
  made.rules = rules_;
  made.positions = positions_;
  if (rows.defined()) {
    made.rope = take(rope_, rows);
    made.window_rope = take(window_rope_, rows);
  }
  return made;
}

at::Tensor Follower::attn_out(int layer, const at::Tensor& z) const {
  const DecoderInputs made = inputs();
  Rows rows(made, z);
  return rows.attention().write(layer, z.unsqueeze(0)).squeeze(0);
}

at::Tensor Follower::mlp_out(int layer, const at::Tensor& stream) const {
  const DecoderInputs made = inputs();
  Rows rows(made, stream);
  return mlp(rows.pass(), layer, stream.unsqueeze(0)).squeeze(0);
}

at::Tensor Follower::read_as(Part part, int layer, const at::Tensor& stream,
                             std::int64_t from) const {
  const DecoderInputs made = inputs(positions_.narrow(0, from, stream.size(1)));
  Rows rows(made, stream);
  const at::Tensor in = rows.attention().read(layer, stream, Part::q_in, true);
  return part == Part::v ? rows.attention().values(layer, in)
                         : rows.attention().queries_or_keys(layer, in, part == Part::q);
}

at::Tensor Follower::mixed_alone(int layer, const at::Tensor& q, const at::Tensor& k,
                                 const at::Tensor& v, std::int64_t from, std::int64_t head) const {
  const DecoderInputs made = inputs();
  Rows rows(made, q);
  at::Tensor bias = rows.attention().score_bias(layer, positions_.size(0), q);
  if (bias.dim() == 3) bias = bias.narrow(0, head, q.size(2));
  const at::Tensor none = k.narrow(1, 0, 0);
  return mix(rows.attention(), layer, q.contiguous().unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1),
             none, none, bias.narrow(-2, from, q.size(1)))
      .squeeze(1);
}

Cache Follower::blocks(int layer, int until, const at::Tensor& stream,
                       std::vector<Intervention> edits, std::vector<Record> records) const {
  Plan plan{
      .record = std::move(records), .interventions = std::move(edits), .logits = Logits::none};
  plan.restart = Restart{.layer = layer, .resid_pre = stream};
  plan.until = until;
  const std::int64_t n = stream.size(0);
  const auto whole = stream.options().dtype(at::kLong);
  const plumb::Tile tile{.first = 0,
                         .ids = at::zeros({n, stream.size(1)}, whole),
                         .lengths = at::full({n}, stream.size(1), whole)};
  DecoderInputs made{.model = model_,
                     .plan = plan,
                     .rope = rope_,
                     .window_rope = window_rope_,
                     .positions = positions_};
  Tap tap(plan, tile, n);
  decode(made, tile, stream, {}, tap);
  return tap.take();
}

std::vector<Branch> Follower::advance(int layer, int until, std::vector<Branch> branches,
                                      std::int64_t& evaluations) const {
  if (layer >= until) return branches;
  const DecoderInputs made = inputs(places(branches));
  at::Tensor x = pack(branches).unsqueeze(0);  // [1, R, d_model]
  Rows rows(made, x);
  for (; layer < until; ++layer) {
    evaluations += x.size(1);
    x = whole_block(rows, layer, x, branches);
  }
  std::int64_t first = 0;
  for (Branch& branch : branches) {
    const std::int64_t count = rows_of(branch);
    branch.stream = x.narrow(1, first, count).view(branch.stream.sizes());
    first += count;
  }
  return branches;
}

std::vector<at::Tensor> Follower::finish(int layer, std::vector<Branch> branches,
                                         std::int64_t& evaluations) const {
  const int last = model_.config().layers - 1;
  branches = advance(layer, last, std::move(branches), evaluations);
  std::vector<at::Tensor> result;
  if (layer <= last) {
    const DecoderInputs made = inputs(places(branches));
    const at::Tensor x = pack(branches).unsqueeze(0);
    Rows rows(made, x);
    evaluations += x.size(1);
    result = last_block(rows, x, branches);
  } else {
    result = at_reads(pack(branches).unsqueeze(0), branches);  // they enter after it
  }
  // What is read before the first position that differs is as in the trunk.
  const at::Tensor& trunk = trunk_.resid_pre.back();
  const std::int64_t B = reads_.size(0);
  const std::int64_t P = reads_.size(1);
  const at::Tensor plain =
      trunk.gather(1, reads_.unsqueeze(2).expand({B, P, trunk.size(2)})).unsqueeze(1);
  for (std::size_t i = 0; i < branches.size(); ++i) {
    result[i] = at::where(reads_.view({B, 1, P, 1}) < branches[i].from, plain, result[i]);
  }
  return result;
}

at::Tensor Follower::mixed(Rows& rows, int layer, const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, const Branch& branch,
                           const at::Tensor& bias) const {
  const auto past = [&](const std::vector<at::Tensor>& all) {
    return all[static_cast<std::size_t>(layer)].narrow(1, 0, branch.from);
  };
  const at::Tensor z = mix(rows.attention(), layer, q, k, v, past(trunk_.k), past(trunk_.v), bias);
  return z.reshape({1, -1, z.size(3), z.size(4)});
}

at::Tensor Follower::whole_block(Rows& rows, int layer, const at::Tensor& x,
                                 const std::vector<Branch>& branches) const {
  Attention& attention = rows.attention();
  const at::Tensor in = attention.read(layer, x, Part::q_in, true);
  const auto q = split(attention.queries_or_keys(layer, in, true), branches);
  const auto k = split(attention.queries_or_keys(layer, in, false), branches);
  const auto v = split(attention.values(layer, in), branches);
  const at::Tensor bias = attention.score_bias(layer, positions_.size(0), x);
  std::vector<at::Tensor> z;
  for (std::size_t i = 0; i < branches.size(); ++i) {
    const std::int64_t from = branches[i].from;
    z.push_back(mixed(rows, layer, q[i], k[i], v[i], branches[i],
                      bias.narrow(-2, from, bias.size(-2) - from)));
  }
  const at::Tensor gated = attention.gated(layer, at::cat(z, 1), in);
  const at::Tensor mid = x + attention.write(layer, gated);
  return mid + mlp(rows.pass(), layer, model_.config().parallel ? x : mid);
}

// Keys and values of all live positions, everything else where it is read.
std::vector<at::Tensor> Follower::last_block(Rows& rows, const at::Tensor& x,
                                             const std::vector<Branch>& branches) const {
  const ModelConfig& config = model_.config();
  const int layer = config.layers - 1;
  const at::Tensor in = rows.attention().read(layer, x, Part::q_in, true);
  const auto k = split(rows.attention().queries_or_keys(layer, in, false), branches);
  const auto v = split(rows.attention().values(layer, in), branches);
  const at::Tensor bias = rows.attention().score_bias(layer, positions_.size(0), x);

  const std::int64_t P = reads_.size(1);
  std::vector<at::Tensor> streams;
  std::vector<at::Tensor> where;  // a read before the first live position stands at that one
  std::vector<at::Tensor> each_row;
  for (const at::Tensor& stream : at_reads(x, branches)) {
    streams.push_back(stream.reshape({1, -1, stream.size(3)}));
  }
  for (const Branch& branch : branches) {
    where.push_back(reads_.clamp_min(branch.from));
    each_row.push_back(
        where.back().unsqueeze(1).expand({-1, branch.stream.size(1), P}).reshape({-1}));
  }

  const DecoderInputs made = inputs(at::cat(each_row, 0));
  Rows reader(made, x);
  Attention& attention = reader.attention();
  const at::Tensor read = at::cat(streams, 1);
  const at::Tensor read_in = attention.read(layer, read, Part::q_in, true);
  const at::Tensor q = attention.queries_or_keys(layer, read_in, true);
  std::vector<at::Tensor> z;
  std::int64_t first = 0;
  for (std::size_t i = 0; i < branches.size(); ++i) {
    const std::int64_t B = branches[i].stream.size(0);
    const std::int64_t n = branches[i].stream.size(1);
    const at::Tensor own =
        q.narrow(1, first, B * n * P).view({B, n, P, config.heads, config.d_head});
    z.push_back(mixed(reader, layer, own, k[i], v[i], branches[i], of_reads(bias, where[i], n)));
    first += B * n * P;
  }
  const at::Tensor gated = attention.gated(layer, at::cat(z, 1), read_in);
  const at::Tensor mid = read + attention.write(layer, gated);
  const at::Tensor out = mid + mlp(reader.pass(), layer, config.parallel ? read : mid);
  std::vector<at::Tensor> result;
  first = 0;
  for (const Branch& branch : branches) {
    const std::int64_t count = branch.stream.size(0) * branch.stream.size(1) * P;
    result.push_back(out.narrow(1, first, count)
                         .view({branch.stream.size(0), branch.stream.size(1), P, out.size(2)}));
    first += count;
  }
  return result;
}

// [B, n, P, d_model] of each branch: its packed stream where it is read.
std::vector<at::Tensor> Follower::at_reads(const at::Tensor& x,
                                           const std::vector<Branch>& branches) const {
  const std::int64_t P = reads_.size(1);
  std::vector<at::Tensor> streams;
  std::int64_t first = 0;
  for (const Branch& branch : branches) {
    const std::int64_t B = branch.stream.size(0);
    const std::int64_t n = branch.stream.size(1);
    const at::Tensor index =
        (reads_ - branch.from).clamp_min(0).view({B, 1, P, 1}).expand({B, n, P, x.size(2)});
    streams.push_back(
        x.narrow(1, first, rows_of(branch)).view({B, n, live(branch), x.size(2)}).gather(2, index));
    first += rows_of(branch);
  }
  return streams;
}

at::Tensor Follower::final_norm(const at::Tensor& stream) const {
  const DecoderInputs made = inputs();
  Rows rows(made, stream);
  return rows.pass().normalise(stream, {Part::final_scale}, Weight::final_norm,
                               Weight::final_norm_bias, 0);
}

at::Tensor Follower::logits(const at::Tensor& stream) const {
  const DecoderInputs made = inputs();
  Rows rows(made, stream);
  return rows.pass().soft_cap(
      rows.pass().linear(final_norm(stream), model_.weight(Weight::unembed), {}),
      model_.config().logit_cap);
}

at::Tensor Follower::logits_of(const at::Tensor& stream, const at::Tensor& ids) const {
  const DecoderInputs made = inputs();
  Rows rows(made, stream);
  const at::Tensor directions = model_.impl()
                                    .rows(Weight::unembed, ids.reshape({-1}))
                                    .view({ids.size(0), ids.size(1), stream.size(-1)});
  const at::Tensor normed = widened(final_norm(stream)).unsqueeze(2);
  return rows.pass().soft_cap(at::bmm(widened(directions), normed).squeeze(2),
                              model_.config().logit_cap);
}

}  // namespace plumb
