#include "experiment/edge_effects.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>
#include <utility>

#include "core/precision.h"
#include "model/attention.h"
#include "model/pass.h"
#include "model/tap.h"

namespace plumb {

// b: pairs, T: positions, n: senders of a job, m: items of it, T': positions from the first that
// differs.

namespace {

// Positions run at once: more cost memory, fewer pack the weights too often.
constexpr std::int64_t rows_at_once = 1024;

std::size_t at_layer(int layer) { return static_cast<std::size_t>(layer); }

Part input_of(EdgeReceiver::Kind kind) {
  if (kind == EdgeReceiver::Kind::q) return Part::q_in;
  return kind == EdgeReceiver::Kind::k ? Part::k_in : Part::v_in;
}

Part value_of(EdgeReceiver::Kind kind) {
  if (kind == EdgeReceiver::Kind::q) return Part::q;
  return kind == EdgeReceiver::Kind::k ? Part::k : Part::v;
}

// [b, ...] to [b n, ...], each n times.
at::Tensor spread(const at::Tensor& value, std::int64_t n) { return value.repeat_interleave(n, 0); }

std::int64_t first_change(const SenderChange& change) {
  at::Tensor changed = change.input.abs().amax(1);
  for (const at::Tensor& z : change.z) changed = at::maximum(changed, z.abs().amax({1, 2}));
  for (const at::Tensor& mlp : change.mlp) changed = at::maximum(changed, mlp.abs().amax(1));
  const at::Tensor here = changed.view({change.sequences, change.length}).amax(0).cpu();
  for (std::int64_t t = 0; t < change.length; ++t) {
    if (here[t].item<double>() != 0.0) return t;
  }
  return change.length - 1;
}

}  // namespace

std::vector<EffectJob> effect_jobs(const EdgeSpace& space, const std::vector<std::int64_t>& edges,
                                   std::int64_t rows) {
  // Receivers of one kind in one layer share what their senders change.
  std::map<std::pair<int, EdgeReceiver::Kind>, std::map<std::int64_t, std::vector<EffectJob::Item>>>
      groups;
  for (std::size_t place = 0; place < edges.size(); ++place) {
    const EdgeSpace::Ends ends = space.ends(edges[place]);
    const EdgeReceiver receiver = space.receiver(ends.receiver);
    groups[{receiver.layer, receiver.kind}][ends.sender].push_back(
        {.head = receiver.head, .place = static_cast<std::int64_t>(place)});
  }
  const auto most = static_cast<std::size_t>(std::max<std::int64_t>(1, rows_at_once / rows));
  std::vector<EffectJob> jobs;
  for (const auto& [where, senders] : groups) {
    EffectJob job{.kind = where.second, .layer = where.first};
    const auto end = [&] {
      if (!job.senders.empty()) jobs.push_back(job);
      job.senders.clear();
      job.items.clear();
    };
    for (const auto& [sender, items] : senders) {
      if (job.senders.size() >= most) end();
      for (EffectJob::Item item : items) {
        item.sender = job.senders.size();
        job.items.push_back(item);
      }
      job.senders.push_back(sender);
    }
    end();
  }
  return jobs;
}

EdgeEffects::EdgeEffects(const Model& model, const Pairs& pairs, std::int64_t first,
                         const Metric& metric, Behind behind)
    : model_(model, pairs.count(), pairs.clean.length()),
      pairs_(pairs),
      space_(model.config()),
      behind_(behind),
      metric_(model, pairs_, metric, first),
      site_(metric_.site(Which::clean)),
      plain_(run_plain(model_, pairs_, metric_, {.trunk = true})) {
  reads_ = metric_.reads(Which::clean).to(model.device());
  follower_.emplace(model, plain_.trunk, reads_);
  from_ = first_change(plain_.change);
}

// What the senders change, [b, n, T, d_model].
at::Tensor EdgeEffects::changes(const EffectJob& job) const {
  const SenderChange& change = plain_.change;
  std::vector<at::Tensor> made;
  for (const std::int64_t index : job.senders) {
    const EdgeSender sender = space_.sender(index);
    at::Tensor rows = change.input;
    if (sender.kind == EdgeSender::Kind::mlp) rows = change.mlp[at_layer(sender.layer)];
    if (sender.kind == EdgeSender::Kind::head) {
      rows = change.z[at_layer(sender.layer)]
                 .select(1, sender.head)
                 .matmul(writing_weights(model_.model(), sender.layer).select(0, sender.head));
    }
    made.push_back(rows.view({change.sequences, change.length, config().d_model}));
  }
  return at::stack(made, 1);
}

// The attention of n runs for each pair in which all heads' queries, keys or values read the
// change. A head depends on no other's: what it makes is what it would make if it alone read it.
Cache EdgeEffects::attention(const EffectJob& job, const at::Tensor& change,
                             std::vector<Record> records, std::int64_t& evaluations) const {
  const std::int64_t n = change.size(1);
  const at::Tensor stream = spread(plain_.trunk.resid_pre[at_layer(job.layer)], n);
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

// What attention adds to the stream in items of the job less what it adds in the clean run, [b, m,
// positions of z, d_model]. z [b, n, positions, H, d_head] has all heads changed.
at::Tensor EdgeEffects::head_writes(const EffectJob& job, const at::Tensor& z, std::size_t first,
                                    std::size_t count) const {
  const int group = job.kind == EdgeReceiver::Kind::q ? 1 : config().heads / config().kv_heads;
  const bool bare = config().norm_place == NormPlace::before;
  const at::Tensor weights = bare ? writing_weights(model_.model(), job.layer) : at::Tensor();
  const at::Tensor clean = z.select(1, z.size(1) - 1);
  std::vector<at::Tensor> made;
  for (std::size_t i = first; i < first + count; ++i) {
    const EffectJob::Item& item = job.items[i];
    const auto head = std::int64_t{item.head} * group;
    const at::Tensor own = z.select(1, static_cast<std::int64_t>(item.sender));
    if (bare) {
      const at::Tensor change =
          widened(own.narrow(2, head, group)) - widened(clean.narrow(2, head, group));
      made.push_back(change.flatten(2).matmul(weights.narrow(0, head, group).flatten(0, 1)));
      continue;
    }
    at::Tensor whole = clean.clone();
    whole.narrow(2, head, group).copy_(own.narrow(2, head, group));
    const auto written = [&](const at::Tensor& of) {
      return widened(follower_->attn_out(job.layer, of.flatten(0, 1)))
          .view({of.size(0), of.size(1), config().d_model});
    };
    made.push_back(written(whole) - written(clean));
  }
  return at::stack(made, 1);
}

// What the MLP writes when it reads the changes [b, n, positions from the first, d_model], less
// what it writes.
at::Tensor EdgeEffects::mlp_writes(int layer, const at::Tensor& change,
                                   std::int64_t& evaluations) const {
  const std::int64_t d = config().d_model;
  const at::Tensor& whole = config().parallel ? plain_.trunk.resid_pre[at_layer(layer)]
                                              : plain_.trunk.resid_mid[at_layer(layer)];
  const at::Tensor stream = change.size(2) == whole.size(1) - from_
                                ? whole.narrow(1, from_, change.size(2))
                                : metric_.at_reads(whole, Which::clean);
  const at::Tensor plain = stream.unsqueeze(1);
  const at::Tensor changed = (plain + change.to(plain.scalar_type())).reshape({-1, d});
  evaluations += changed.size(0) + stream.size(0) * stream.size(1);
  return widened(follower_->mlp_out(layer, changed)).view(change.sizes()) -
         widened(follower_->mlp_out(layer, stream.reshape({-1, d})))
             .view(stream.sizes())
             .unsqueeze(1);
}

// The metric [b, m] of runs whose streams [b, m, T', d_model] enter the block.
at::Tensor EdgeEffects::metric_of(int layer, const at::Tensor& stream,
                                  std::int64_t& evaluations) const {
  std::vector<Branch> branches = {{.from = from_, .stream = stream}};
  if (!site_)
    return metric_.values_of_rows(
        follower_->finish(layer, std::move(branches), evaluations).front(), Which::clean);
  const int last = metric_.depth() - 1;
  const at::Tensor entered =
      follower_->advance(layer, last, std::move(branches), evaluations).front().stream;
  const std::int64_t m = entered.size(1);
  const at::Tensor past = plain_.trunk.resid_pre[at_layer(last)]
                              .narrow(1, 0, from_)
                              .unsqueeze(1)
                              .expand({-1, m, -1, -1});
  const at::Tensor whole = at::cat({past, entered}, 2).flatten(0, 1);
  evaluations += whole.size(0) * whole.size(1);
  const Cache cache = follower_->blocks(last, last + 1, whole, {}, {Record(site_->site)});
  return metric_.values_of_site(cache.at(site_->site), Which::clean, m);
}

// The metric when the final stream changes by this at the positions that are read, [b, m, P,
// d_model].
at::Tensor EdgeEffects::metric_at_reads(const at::Tensor& change) const {
  const at::Tensor plain =
      metric_.at_reads(plain_.trunk.resid_pre.back(), Which::clean).unsqueeze(1);
  return metric_.values_of_rows(plain + change.to(plain.scalar_type()), Which::clean);
}

// The metric [b, n] of a site of block `layer` under edits of n runs for each pair.
at::Tensor EdgeEffects::metric_of_edits(int layer, std::vector<Intervention> edits, std::int64_t n,
                                        std::int64_t& evaluations) const {
  const at::Tensor stream = spread(plain_.trunk.resid_pre[at_layer(layer)], n);
  evaluations += stream.size(0) * stream.size(1);
  const Cache cache =
      follower_->blocks(layer, layer + 1, stream, std::move(edits), {Record(site_->site)});
  return metric_.values_of_site(cache.at(site_->site), Which::clean, n);
}

at::Tensor EdgeEffects::by_heads(const EffectJob& job, const at::Tensor& change,
                                 std::int64_t& evaluations) const {
  const Site site{Part::z, job.layer};
  at::Tensor z = attention(job, change, {Record(site)}, evaluations).at(site);
  z = z.view({pairs_.count(), -1, z.size(1), z.size(2), z.size(3)});
  // The clean run's own stands last.
  z = at::cat({z, plain_.z[at_layer(job.layer)].unsqueeze(1)}, 1);
  const bool frozen = behind_ == Behind::frozen;
  z = frozen ? metric_.at_reads(z.transpose(1, 2).flatten(2), Which::clean)
                   .view({z.size(0), reads_.size(1), z.size(1), z.size(3), z.size(4)})
                   .transpose(1, 2)
             : z.narrow(2, from_, z.size(2) - from_);
  const at::Tensor& mid = plain_.trunk.resid_mid[at_layer(job.layer)];
  const auto at_once =
      static_cast<std::size_t>(std::max<std::int64_t>(1, rows_at_once / (z.size(0) * z.size(2))));
  std::vector<at::Tensor> values;
  for (std::size_t first = 0; first < job.items.size(); first += at_once) {
    const std::size_t count = std::min(at_once, job.items.size() - first);
    const at::Tensor written = head_writes(job, z, first, count);
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

at::Tensor EdgeEffects::by_heads_in_read_block(const EffectJob& job, const at::Tensor& change,
                                               std::int64_t& evaluations) const {
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

at::Tensor EdgeEffects::by_mlp(const EffectJob& job, const at::Tensor& change,
                               std::int64_t& evaluations) const {
  if (reads_here(job.layer)) {
    return metric_of_edits(job.layer, {{{Part::mlp_in, job.layer}, {}, Add{change.flatten(0, 1)}}},
                           change.size(1), evaluations);
  }
  const std::int64_t live = change.size(2) - from_;
  if (behind_ == Behind::frozen) {
    const at::Tensor at_reads =
        metric_.at_reads(change.transpose(1, 2).flatten(2), Which::clean)
            .view({change.size(0), reads_.size(1), change.size(1), change.size(3)})
            .transpose(1, 2);
    return metric_at_reads(mlp_writes(job.layer, at_reads, evaluations));
  }
  const at::Tensor written = mlp_writes(job.layer, change.narrow(2, from_, live), evaluations);
  const at::Tensor plain =
      plain_.trunk.resid_pre[at_layer(job.layer) + 1].narrow(1, from_, live).unsqueeze(1);
  return metric_of(job.layer + 1, plain + written.to(plain.scalar_type()), evaluations);
}

at::Tensor EdgeEffects::by_read_out(const EffectJob& job, const at::Tensor& change,
                                    std::int64_t& evaluations) const {
  if (!site_) {
    return metric_at_reads(
        metric_.at_reads(change.transpose(1, 2).flatten(2), Which::clean)
            .view({change.size(0), reads_.size(1), change.size(1), change.size(3)})
            .transpose(1, 2));
  }
  at::Tensor values = metric_of_edits(
      site_->site.layer, {{stream_read_by(site_->site), {}, Add{change.flatten(0, 1)}}},
      change.size(1), evaluations);
  // What it does not see leaves it as it is.
  const std::int64_t seen = senders_read(site_->site, config());
  for (std::size_t i = 0; i < job.senders.size(); ++i) {
    if (job.senders[i] >= seen) values.select(1, static_cast<std::int64_t>(i)).copy_(plain_.clean);
  }
  return values;
}

at::Tensor EdgeEffects::effects(const EffectJob& job, std::int64_t& evaluations) const {
  const c10::AutoGradMode gradients(false);
  const auto items = static_cast<std::int64_t>(job.items.size());
  const bool unread = job.kind != EdgeReceiver::Kind::logits && job.layer >= metric_.depth();
  const bool no_edges =
      site_ && job.kind == EdgeReceiver::Kind::logits && senders_read(site_->site, config()) == 0;
  // What the MLP makes of the stream is not what a read-out of that stream sees.
  const bool before_mlp = job.kind == EdgeReceiver::Kind::mlp && reads_here(job.layer) &&
                          (site_->site.part == Part::mlp_in || site_->site.part == Part::ln2_scale);
  if (unread || no_edges || before_mlp) return at::zeros({items, pairs_.count()}, at::kDouble);
  const at::Tensor change = changes(job);
  at::Tensor values;
  if (job.kind == EdgeReceiver::Kind::logits) {
    values = by_read_out(job, change, evaluations);
  } else if (job.kind == EdgeReceiver::Kind::mlp) {
    values = by_mlp(job, change, evaluations);
  } else {
    values = reads_here(job.layer) ? by_heads_in_read_block(job, change, evaluations)
                                   : by_heads(job, change, evaluations);
  }
  return plain_.clean.unsqueeze(0) - values.cpu().t();
}

}  // namespace plumb
