#include "experiment/edge_run_tile.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace plumb {
namespace {

// [B, 1, P, d_model]
at::Tensor at_reads(const at::Tensor& stream, const ReadPlan& reads) {
  const at::Tensor index = reads.positions.to(stream.device()).unsqueeze(2);
  return stream.gather(1, index.expand({-1, -1, stream.size(2)})).unsqueeze(1);
}

}  // namespace

Pairs run_pairs(const Pairs& pairs, const EdgeRunOptions& options) {
  Pairs made = pairs;
  if (!options.noising) return made;
  std::swap(made.clean, made.corrupt);
  std::swap(made.reads, made.corrupt_reads);
  return made;
}

EdgeRunTile::EdgeRunTile(const Model& model, const EdgeSpace& space, const EdgeEnds& ends,
                         const Pairs& pairs, std::int64_t first, std::int64_t count,
                         const EdgeRunOptions& options, const Outside& outside, EdgeRuns& found)
    : options_(options), pairs_(some_of(pairs, first, count)), runs_(run_pairs(pairs_, options)) {
  if (reads_block(options.metric)) site_ = options.metric.site.site;
  // What lies before the first difference does not enter a metric of the logits, but other sites.
  span_.site = site_;
  span_.from = site_ ? 0 : first_difference(options);
  span_.end = pairs_.length();
  if (!site_) {
    span_.reads = read_plan(options.metric, pairs_, Which::clean).positions.to(model.device());
    span_.end = std::max(span_.from, span_.reads.max().item<std::int64_t>()) + 1;
  }
  make_plain(model, outside, first, found);
  runner_.emplace(model, space, ends, input_, outside_, span_);
  at::Tensor empty;
  if (site_) {
    const std::vector<std::uint8_t> none(static_cast<std::size_t>(space.edges()), 0);
    EdgeWrites writes = runner_->writes(none);
    std::atomic<std::int64_t> work{0};
    empty = value(none, writes, 0, work);
    found.evaluations += work / block_work(model.config());
  } else {
    empty = metric_of(at_reads(outside_.pre.back().expand_as(input_),
                               read_plan(options.metric, pairs_, Which::clean)),
                      Which::clean);
  }
  found.empty.narrow(0, first, count).copy_(empty);
}

// The first position at which a prompt differs from its partner, where what stands before it is the
// same in all runs; else 0.
std::int64_t EdgeRunTile::first_difference(const EdgeRunOptions& options) const {
  if (options.outside.kind != ReplacementKind::other) return 0;
  const at::Tensor same = pairs_.clean.ids.eq(pairs_.corrupt.ids).all(0).cpu();
  std::int64_t from = 0;
  while (from + 1 < same.size(0) && same[from].item<bool>()) ++from;
  return from;
}

// Of what a metric reads: the stream [B, 1, P, d_model], or its site [B, ...].
at::Tensor EdgeRunTile::metric_of(const at::Tensor& value, Which which) const {
  if (site_)
    return site_metric(options_.metric, value, lengths_of(pairs_, which).to(value.device())).cpu();
  return (*metric_)(value, read_plan(options_.metric, pairs_, which)).squeeze(1).cpu();
}

at::Tensor EdgeRunTile::of_plain(const Run& run, Which which) const {
  if (site_) return metric_of(run.cache.at(*site_), which);
  return metric_of(
      at_reads(run.cache.at({Part::resid_final}), read_plan(options_.metric, pairs_, which)),
      which);
}

void EdgeRunTile::make_plain(const Model& model, const Outside& outside, std::int64_t first,
                             EdgeRuns& found) {
  const std::int64_t count = pairs_.count();
  const Record last = site_ ? Record(*site_) : Record(Site{Part::resid_final});
  Plan plan{.record = outside.records(), .logits = Logits::none};
  plan.record.push_back(last);
  const Run own = run(model, runs_.clean, plan);
  found.evaluations += own.evaluations;
  input_ = own.cache.at({Part::embed});
  outside_ = outside.values(first, count, own.cache, span_.from, found.evaluations);
  if (!site_) {
    trunk_.resid_pre = {input_};
    follower_.emplace(model, trunk_, span_.reads);
    metric_.emplace(options_.metric, pairs_, readout_of(*follower_), first);
  }
  const auto end_of = [&](const at::Tensor& stream, Which which) {
    return at_reads(stream, read_plan(options_.metric, pairs_, which));
  };
  if (options_.noising) {  // the clean run is the one outside
    const at::Tensor clean = end_of(outside_.pre.back(), Which::clean);
    metric_->compare_with(clean);
    found.clean.narrow(0, first, count).copy_(metric_of(clean, Which::clean));
    found.corrupt.narrow(0, first, count).copy_(of_plain(own, Which::corrupt));
    return;
  }
  if (!site_) metric_->compare_with(end_of(own.cache.at({Part::resid_final}), Which::clean));
  const at::Tensor plain = of_plain(own, Which::clean);
  found.clean.narrow(0, first, count).copy_(plain);
  at::Tensor corrupt = plain;
  if (pairs_.paired && !site_ && options_.outside.kind == ReplacementKind::other) {
    corrupt = metric_of(end_of(outside_.pre.back(), Which::corrupt), Which::corrupt);
  } else if (pairs_.paired) {
    const Run other = run(model, pairs_.corrupt, {.record = {last}, .logits = Logits::none});
    found.evaluations += other.evaluations;
    corrupt = of_plain(other, Which::corrupt);
  }
  found.corrupt.narrow(0, first, count).copy_(corrupt);
}

at::Tensor EdgeRunTile::value(const std::vector<std::uint8_t>& mask, EdgeWrites& writes, int from,
                              std::atomic<std::int64_t>& work) const {
  const at::Tensor found = runner_->run(mask, writes, from, work);
  return metric_of(site_ ? found : found.unsqueeze(1), Which::clean);
}

}  // namespace plumb
