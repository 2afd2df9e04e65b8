#include "experiment/tapped_writes.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "core/precision.h"
#include "experiment/edge_plain.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr const char* label = "metric";
// A component that is not tapped is missing by all of its change; rounding is far smaller.
constexpr double share_missing = 1e-3;
// Rounding errors of a sum, in units of its last place.
constexpr double roundings = 16.0;

double last_place(at::ScalarType type) {
  switch (type) {
    case at::kDouble: return std::numeric_limits<double>::epsilon();
    case at::kBFloat16: return 0x1p-7;
    case at::kHalf: return 0x1p-10;
    default: return std::numeric_limits<float>::epsilon();
  }
}

double largest(const at::Tensor& x) { return x.abs().max().item<double>(); }

class Writes {
 public:
  Writes(const TappedModel& model, const TappedReach& reach, const Pairs& pairs,
         const Metric& metric)
      : model_(model), config_(model.config()), reach_(reach), pairs_(pairs), metric_(metric) {}

  TappedWrites make() {
    Plan there{.record = senders(), .logits = Logits::none};
    there.record.push_back(read_of(metric_, pairs_, Which::corrupt));
    add_streams(there);
    corrupt_ = run(model_, pairs_.corrupt, there);
    Plan here{.record = senders(), .logits = Logits::none, .gradients = derives()};
    here.record.push_back(read_of(metric_, pairs_, Which::clean));
    add_streams(here);
    for (int layer = 0; layer < depth(); ++layer) {
      if (block(layer).heads == TappedBlock::Heads::mixed) add_heads(here, layer);
    }
    Run clean = run(model_, pairs_.clean, here);
    const auto change = [&](Site site) {
      return change_of(corrupt_.cache.at(site), clean.cache.at(site).detach(), pairs_);
    };
    TappedWrites made{.input = clean.cache.at(reach_.input).detach(),
                      .clean = clean.cache.at(metric_site(), label).detach(),
                      .corrupt = corrupt_.cache.at(metric_site(), label),
                      .evaluations = clean.evaluations + corrupt_.evaluations};
    const at::Tensor first = change(reach_.input);
    const std::int64_t S = 1 + std::int64_t{depth()} * (config_.heads + 1);
    made.change = at::zeros({S, first.size(0), first.size(1)}, first.options());
    made.change[0].copy_(first);
    std::int64_t next = 1;
    for (int layer = 0; layer < depth(); ++layer) {
      at::Tensor heads = made.change.narrow(0, next, config_.heads);
      if (block(layer).heads == TappedBlock::Heads::written)
        heads.copy_(change({Part::head_out, layer}).transpose(0, 1));
      if (block(layer).heads == TappedBlock::Heads::mixed) heads.copy_(by_heads_.at(layer));
      next += config_.heads;
      if (block(layer).mlp_reads) made.change[next].copy_(change({Part::mlp_out, layer}));
      ++next;
    }
    if (!pairs_.to_corrupt.defined()) check_sums(made.change, clean.cache);
    return made;
  }

 private:
  int depth() const { return static_cast<int>(reach_.blocks.size()); }
  const TappedBlock& block(int layer) const {
    return reach_.blocks[static_cast<std::size_t>(layer)];
  }
  bool derives() const {
    return std::ranges::any_of(reach_.blocks, [](const TappedBlock& each) {
      return each.heads == TappedBlock::Heads::mixed;
    });
  }
  Site metric_site() const { return reads_block(metric_) ? metric_.site.site : Site{Part::logits}; }

  // The streams whose changes are compared with sums of the writes.
  std::vector<Site> streams() const {
    std::vector<Site> sites;
    for (int layer = 0; layer < depth(); ++layer) sites.push_back({Part::resid_pre, layer});
    if (!reads_block(metric_)) sites.push_back(*reach_.read_out);
    return sites;
  }

  static void add(std::vector<Record>& records, Site site) {
    const bool there = std::ranges::any_of(
        records, [&](const Record& known) { return known.site == site && known.label.empty(); });
    if (!there) records.emplace_back(site);
  }
  void add_streams(Plan& plan) const {
    for (const Site& site : streams()) add(plan.record, site);
  }

  std::vector<Record> senders() const {
    std::vector<Record> records = {Record(reach_.input)};
    for (int layer = 0; layer < depth(); ++layer) {
      const TappedBlock& own = block(layer);
      if (own.heads == TappedBlock::Heads::written) add(records, {Part::head_out, layer});
      if (own.heads == TappedBlock::Heads::mixed) add(records, {Part::z, layer});
      if (own.mlp_reads) add(records, {Part::mlp_out, layer});
    }
    return records;
  }

  // What each head writes is what attn_out, linear in z, makes of that head's z alone. The
  // derivative of attn_out's derivative along v, which is linear in v, gives it without running
  // anything again.
  void add_heads(Plan& plan, int layer) {
    plan.interventions.push_back({{Part::z, layer}, {}, Custom{"cut", [this](const at::Tensor& z) {
                                                                 z_ = z.detach().clone();
                                                                 z_.set_requires_grad(true);
                                                                 return z_.clone();
                                                               }}});
    plan.interventions.push_back(
        {{Part::attn_out, layer}, {}, Custom{"split", [this, layer](const at::Tensor& written) {
                                               const at::Tensor change =
                                                   change_of(corrupt_.cache.at({Part::z, layer}),
                                                             z_.detach(), pairs_)
                                                       .view(z_.sizes());
                                               by_heads_[layer] =
                                                   split(written, change.to(z_.scalar_type()));
                                               return written.detach();
                                             }}});
  }

  // [H, N, d_model]
  at::Tensor split(const at::Tensor& written, const at::Tensor& change) const {
    std::vector<at::Tensor> heads;
    try {
      at::Tensor along = at::zeros_like(written.detach());
      along.set_requires_grad(true);
      const at::Tensor back =
          torch::autograd::grad({written}, {z_}, {along}, true, true, true).front();
      for (std::int64_t head = 0; head < config_.heads; ++head) {
        at::Tensor own = at::zeros_like(change);
        own.select(2, head).copy_(change.select(2, head));
        at::Tensor made;
        if (back.defined())
          made = torch::autograd::grad({back}, {along}, {own}, true, false, true).front();
        if (!made.defined()) made = at::zeros_like(along);
        heads.push_back(widened(made.detach()).flatten(0, 1));
      }
    } catch (const c10::Error&) {
      refuse_derivative(model_);
    }
    return at::stack(heads);
  }

  void check_sums(const at::Tensor& change, const Cache& clean) const {
    // A bias behind attention goes through the norm on the write, and belongs to no head.
    if (config_.norm_place != NormPlace::before && config_.out_bias) return;
    at::Tensor sum = change[0];
    int layer = 0;
    for (const Site& site : streams()) {
      const at::Tensor& own = clean.at(site);
      const at::Tensor found = change_of(corrupt_.cache.at(site), own.detach(), pairs_);
      const double off = largest(found - sum);
      const double allowed =
          share_missing * largest(found) + roundings * last_place(own.scalar_type()) * largest(own);
      if (!(off <= allowed))
        throw Error(
            ErrorKind::bad_argument,
            fmt::format("what the components of {} write does not sum to its stream: between "
                        "the prompts {} changes by up to {:.3g}, of which {:.3g} comes from "
                        "nothing that is tapped; a component is missing, or written otherwise",
                        model_.name(), to_string(site), largest(found), off));
      if (layer == depth()) break;
      sum =
          sum +
          change.narrow(0, 1 + std::int64_t{layer} * (config_.heads + 1), config_.heads + 1).sum(0);
      ++layer;
    }
  }

  const TappedModel& model_;
  const ModelConfig& config_;
  const TappedReach& reach_;
  const Pairs& pairs_;
  const Metric& metric_;
  Run corrupt_ = {};
  at::Tensor z_ = {};
  std::map<int, at::Tensor> by_heads_ = {};
};

}  // namespace

Record read_of(const Metric& metric, const Pairs& pairs, Which which) {
  if (reads_block(metric)) return {metric.site.site, label, Reduce()};
  return {Site{Part::logits}, label,
          [positions = read_plan(metric, pairs, which).positions](const at::Tensor& logits,
                                                                  const Tile&) {
            const at::Tensor at = positions.to(logits.device()).unsqueeze(2);
            return logits.gather(1, at.expand({-1, -1, logits.size(2)}));
          }};
}

TappedWrites writes_of(const TappedModel& model, const TappedReach& reach, const Pairs& pairs,
                       const Metric& metric) {
  return Writes(model, reach, pairs, metric).make();
}

void refuse_derivative(const TappedModel& model) {
  throw Error(ErrorKind::unsupported,
              fmt::format("the forward pass of {} cannot be differentiated: it changes a tensor in "
                          "place that a derivative needs, calls an operation that has none, or "
                          "turns gradients off",
                          model.name()));
}

}  // namespace plumb
