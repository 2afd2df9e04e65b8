// What edges into heads do to the metric: attention run for many senders at a time.
#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "core/precision.h"
#include "experiment/edge_effects.h"
#include "model/attention.h"
#include "model/pass.h"
#include "model/tap.h"

namespace plumb {

// b: pairs, T: positions, n: senders of a job, m: items of it, P: positions that it looks at.

namespace {

std::size_t at_layer(int layer) { return static_cast<std::size_t>(layer); }

Part input_of(EdgeReceiver::Kind kind) {
  if (kind == EdgeReceiver::Kind::q) return Part::q_in;
  return kind == EdgeReceiver::Kind::k ? Part::k_in : Part::v_in;
}

Part value_of(EdgeReceiver::Kind kind) {
  if (kind == EdgeReceiver::Kind::q) return Part::q;
  return kind == EdgeReceiver::Kind::k ? Part::k : Part::v;
}

}  // namespace

// z [b, n, P, H, d_head] of runs in which all heads' queries, keys or values read what the senders
// change. A head depends on no other's: it makes what it would make if it alone read it.
at::Tensor EdgeEffects::changed_z(const EffectJob& job, std::int64_t& evaluations) const {
  const at::Tensor change = changes(job, Where::changed);
  const at::Tensor plain =
      looked_at(plain_.trunk.resid_pre[at_layer(job.layer)].flatten(0, 1), Where::changed)
          .unsqueeze(1);
  const at::Tensor stream = plain + change.to(plain.scalar_type());
  evaluations += stream.numel() / stream.size(3);
  return follower_->attend_apart(value_of(job.kind), job.layer, {.from = from_, .stream = stream},
                                 behind_ == Behind::frozen);
}

// What attention adds to the stream in some of the job's items less what it adds in the clean run,
// [b, m, P, d_model]. z has all heads changed; `clean` is that of the clean run, [b, P, H, d_head].
at::Tensor EdgeEffects::head_writes(const EffectJob& job, const at::Tensor& z,
                                    const at::Tensor& clean, std::size_t first,
                                    std::size_t count) const {
  const int group = job.kind == EdgeReceiver::Kind::q ? 1 : config().heads / config().kv_heads;
  const bool bare = config().norm_place == NormPlace::before;
  const at::Tensor weights = bare ? writing_weights(model_.model(), job.layer) : at::Tensor();
  std::vector<at::Tensor> made;
  // Items stand head by head.
  for (std::size_t i = first; i < first + count;) {
    std::vector<std::int64_t> senders;
    const int reader = job.items[i].head;
    for (; i < first + count && job.items[i].head == reader; ++i)
      senders.push_back(static_cast<std::int64_t>(job.items[i].sender));
    const auto head = std::int64_t{reader} * group;
    const auto m = std::ssize(senders);
    const at::Tensor index = at::tensor(senders, at::kLong).to(z.device());
    const at::Tensor own = z.narrow(3, head, group).index_select(1, index);  // [b, m, P, G, d_head]
    const at::Tensor plain = clean.narrow(2, head, group).unsqueeze(1);
    if (bare) {
      made.push_back((widened(own) - widened(plain))
                         .flatten(3)
                         .matmul(weights.narrow(0, head, group).flatten(0, 1)));
      continue;
    }
    at::Tensor whole = clean.unsqueeze(1)
                           .expand({clean.size(0), m, clean.size(1), clean.size(2), clean.size(3)})
                           .clone(at::MemoryFormat::Contiguous);
    whole.narrow(3, head, group).copy_(own);
    const auto written = [&](const at::Tensor& of) {
      return widened(follower_->attn_out(job.layer, of.flatten(0, -3)))
          .view({clean.size(0), -1, clean.size(1), config().d_model});
    };
    made.push_back(written(whole) - written(clean));
  }
  return at::cat(made, 1);
}

at::Tensor EdgeEffects::by_heads(const EffectJob& job, std::int64_t& evaluations) const {
  const bool frozen = behind_ == Behind::frozen;
  at::Tensor z = changed_z(job, evaluations);
  const at::Tensor& all = plain_.z[at_layer(job.layer)];
  const at::Tensor clean =
      looked_at(all.flatten(2).flatten(0, 1), frozen ? Where::read : Where::changed)
          .view({all.size(0), -1, all.size(2), all.size(3)});
  if (frozen) {
    // Before the first change nothing differs.
    const at::Tensor past = reads_ < from_;
    if (past.any().item<bool>())
      z = at::where(past.view({past.size(0), 1, past.size(1), 1, 1}), clean.unsqueeze(1), z);
  }
  const at::Tensor& mid = plain_.trunk.resid_mid[at_layer(job.layer)];
  const auto at_once =
      static_cast<std::size_t>(std::max<std::int64_t>(1, rows_at_once / (z.size(0) * z.size(2))));
  std::vector<at::Tensor> values;
  for (std::size_t first = 0; first < job.items.size(); first += at_once) {
    const std::size_t count = std::min(at_once, job.items.size() - first);
    const at::Tensor written = head_writes(job, z, clean, first, count);
    if (frozen) {
      values.push_back(metric_at_reads(written));
      continue;
    }
    const at::Tensor plain = mid.narrow(1, from_, written.size(2)).unsqueeze(1);
    const at::Tensor changed = plain + written.to(plain.scalar_type());
    at::Tensor mlp;
    if (config().parallel) {
      mlp =
          plain_.trunk.mlp_out[at_layer(job.layer)].narrow(1, from_, written.size(2)).unsqueeze(1);
    } else {
      mlp = follower_->mlp_out(job.layer, changed.reshape({-1, config().d_model}))
                .view(changed.sizes());
      evaluations += changed.numel() / config().d_model;
    }
    values.push_back(metric_of(job.layer + 1, changed + mlp, evaluations));
  }
  return at::cat(values, 1);
}

// The attention of n runs for each pair in which all heads' queries, keys or values read the
// change.
Cache EdgeEffects::attention(const EffectJob& job, const at::Tensor& change,
                             std::vector<Record> records, std::int64_t& evaluations) const {
  const std::int64_t n = change.size(1);
  const at::Tensor stream = plain_.trunk.resid_pre[at_layer(job.layer)].repeat_interleave(n, 0);
  const TileModel model(model_.model(), stream.size(0), stream.size(1));
  const Plan plan{
      .record = std::move(records),
      .interventions = {{{input_of(job.kind), job.layer}, {}, Add{change.flatten(0, 1)}}}};
  const DecoderInputs inputs = model.inputs(plan);
  const Tile tile = model.tile();
  Tap tap(plan, tile, stream.size(0));
  Pass pass(inputs, tap);
  Attention attention(pass);
  attention(job.layer, stream);
  evaluations += stream.size(0) * stream.size(1);
  return tap.take();
}

at::Tensor EdgeEffects::by_heads_in_read_block(const EffectJob& job,
                                               std::int64_t& evaluations) const {
  const at::Tensor change = changes(job, Where::all);
  std::vector<Part> parts = {value_of(job.kind)};
  if (job.kind == EdgeReceiver::Kind::q && config().gated_attention) parts.push_back(Part::z_gate);
  std::vector<Record> records;
  for (const Part part : parts) records.emplace_back(Site{part, job.layer});
  const Cache cache = attention(job, change, records, evaluations);
  std::vector<at::Tensor> values;
  for (const EffectJob::Item& item : job.items) {
    std::vector<Intervention> edits;
    for (const Part part : parts) {
      const Site site{part, job.layer};
      const at::Tensor all = cache.at(site);
      const at::Tensor own = all.view({pairs_.count(), -1, all.size(1), all.size(2), all.size(3)})
                                 .select(1, static_cast<std::int64_t>(item.sender))
                                 .narrow(2, item.head, 1);
      edits.push_back({site, {.heads = {item.head}}, Put{own}});
    }
    values.push_back(metric_of_edits(job.layer, std::move(edits), 1, evaluations));
  }
  return at::cat(values, 1);
}

}  // namespace plumb
