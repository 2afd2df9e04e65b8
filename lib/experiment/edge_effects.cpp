#include "experiment/edge_effects.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>
#include <utility>

#include "core/precision.h"

namespace plumb {

// b: pairs, T: positions, n: senders of a job, m: items of it, P: positions that it looks at.

namespace {

std::size_t at_layer(int layer) { return static_cast<std::size_t>(layer); }

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
                                   const std::function<std::int64_t(EdgeReceiver::Kind)>& rows) {
  // Receivers of one kind in one layer share what their senders change.
  std::map<std::pair<int, EdgeReceiver::Kind>, std::map<std::int64_t, std::vector<EffectJob::Item>>>
      groups;
  for (std::size_t place = 0; place < edges.size(); ++place) {
    const EdgeSpace::Ends ends = space.ends(edges[place]);
    const EdgeReceiver receiver = space.receiver(ends.receiver);
    groups[{receiver.layer, receiver.kind}][ends.sender].push_back(
        {.head = receiver.head, .place = static_cast<std::int64_t>(place)});
  }
  std::vector<EffectJob> jobs;
  for (const auto& [where, senders] : groups) {
    const auto most =
        static_cast<std::size_t>(std::max<std::int64_t>(1, rows_at_once / rows(where.second)));
    EffectJob job{.kind = where.second, .layer = where.first};
    const auto end = [&] {
      // By head: what heads write is made head by head.
      std::ranges::stable_sort(job.items, {}, &EffectJob::Item::head);
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

// [N, any] at every position of the tile to [b, P, any] at the positions that a job looks at.
at::Tensor EdgeEffects::looked_at(const at::Tensor& rows, Where where) const {
  const at::Tensor all = rows.view({plain_.change.sequences, plain_.change.length, rows.size(1)});
  switch (where) {
    case Where::all: return all;
    case Where::changed: return all.narrow(1, from_, all.size(1) - from_);
    case Where::read: return metric_.at_reads(all, Which::clean);
  }
  return all;
}

// What the senders change, [b, n, P, d_model].
at::Tensor EdgeEffects::changes(const EffectJob& job, Where where) const {
  const SenderChange& change = plain_.change;
  std::vector<at::Tensor> made;
  for (const std::int64_t index : job.senders) {
    const EdgeSender sender = space_.sender(index);
    switch (sender.kind) {
      case EdgeSender::Kind::input: made.push_back(looked_at(change.input, where)); break;
      case EdgeSender::Kind::mlp:
        made.push_back(looked_at(change.mlp[at_layer(sender.layer)], where));
        break;
      case EdgeSender::Kind::head:
        made.push_back(
            looked_at(change.z[at_layer(sender.layer)].select(1, sender.head), where)
                .matmul(writing_weights(model_.model(), sender.layer).select(0, sender.head)));
        break;
    }
  }
  return at::stack(made, 1);
}

// What the MLP writes when it reads the changes [b, n, P, d_model], less what it writes.
at::Tensor EdgeEffects::mlp_writes(int layer, const at::Tensor& change, Where where,
                                   std::int64_t& evaluations) const {
  const std::int64_t d = config().d_model;
  const at::Tensor& whole = config().parallel ? plain_.trunk.resid_pre[at_layer(layer)]
                                              : plain_.trunk.resid_mid[at_layer(layer)];
  const at::Tensor stream = looked_at(whole.flatten(0, 1), where);
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

at::Tensor EdgeEffects::by_mlp(const EffectJob& job, std::int64_t& evaluations) const {
  if (reads_here(job.layer)) {
    const at::Tensor change = changes(job, Where::all);
    return metric_of_edits(job.layer, {{{Part::mlp_in, job.layer}, {}, Add{change.flatten(0, 1)}}},
                           change.size(1), evaluations);
  }
  const Where where = behind_ == Behind::frozen ? Where::read : Where::changed;
  const at::Tensor written = mlp_writes(job.layer, changes(job, where), where, evaluations);
  if (behind_ == Behind::frozen) return metric_at_reads(written);
  const at::Tensor plain = plain_.trunk.resid_pre[at_layer(job.layer) + 1]
                               .narrow(1, from_, written.size(2))
                               .unsqueeze(1);
  return metric_of(job.layer + 1, plain + written.to(plain.scalar_type()), evaluations);
}

at::Tensor EdgeEffects::by_read_out(const EffectJob& job, std::int64_t& evaluations) const {
  if (!site_) return metric_at_reads(changes(job, Where::read));
  const at::Tensor change = changes(job, Where::all);
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
  at::Tensor values;
  if (job.kind == EdgeReceiver::Kind::logits) {
    values = by_read_out(job, evaluations);
  } else if (job.kind == EdgeReceiver::Kind::mlp) {
    values = by_mlp(job, evaluations);
  } else {
    values = reads_here(job.layer) ? by_heads_in_read_block(job, evaluations)
                                   : by_heads(job, evaluations);
  }
  return plain_.clean.unsqueeze(0) - values.cpu().t();
}

}  // namespace plumb
