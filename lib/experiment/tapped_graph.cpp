#include "experiment/tapped_graph.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <set>

#include "core/precision.h"
#include "experiment/tapped_writes.h"
#include "plumb/error.h"

namespace plumb {
namespace {

// What reads the stream beside those that are tapped has a gradient of its own; rounding is far
// smaller, but for narrow numbers.
constexpr double share_missing = 1e-3;
constexpr double share_missing_narrow = 0.1;

std::set<Site> held_sites(const TappedReach& reach, const Metric& metric) {
  std::set<Site> sites = {reach.input};
  for (int layer = 0; layer < static_cast<int>(reach.blocks.size()); ++layer) {
    const TappedBlock& block = reach.blocks[static_cast<std::size_t>(layer)];
    sites.insert({Part::resid_pre, layer});
    if (block.heads != TappedBlock::Heads::none) {
      for (const Part part : {Part::q, Part::k, Part::v}) sites.insert({part, layer});
      if (block.gated) sites.insert({Part::z_gate, layer});
    }
    if (block.mlp_reads) {
      sites.insert(*block.mlp_reads);
      sites.insert({Part::mlp_out, layer});
    }
  }
  if (reach.read_out) sites.insert(*reach.read_out);
  if (reads_block(metric)) sites.insert(metric.site.site);
  return sites;
}

}  // namespace

TappedGraph::TappedGraph(const TappedModel& model, const TappedReach& reach, const Pairs& pairs,
                         const Metric& metric, const TappedSample& sample,
                         const std::function<at::Tensor(const at::Tensor& read)>& measure)
    : model_(model), reach_(reach), metric_(metric) {
  Plan plan{.logits = Logits::none, .gradients = true};
  if (sample.change.defined()) {
    plan.interventions.push_back(
        {sample.constant, {}, Custom{"constant", [&](const at::Tensor& written) {
                                       return written.detach() +
                                              sample.change.to(written.options());
                                     }}});
  }
  // What is held is a tensor of its own: not the one that is handed over, which others may read as
  // well, nor the one that the pass goes on with, which it may change in place.
  for (const Site& site : held_sites(reach, metric)) {
    plan.interventions.push_back(
        {site, {}, Custom{"hold", [this, site, &sample](const at::Tensor& met) {
                            at::Tensor own;
                            if (site == reach_.input) {
                              own = (sample.input.defined() ? sample.input.to(met.options()) : met)
                                        .detach()
                                        .clone();
                              own.set_requires_grad(true);
                            } else {
                              own = met.clone();
                            }
                            values_[site] = own;
                            return own.clone();
                          }}});
  }
  const Record read = read_of(metric, pairs, sample.which);
  if (!reads_block(metric)) plan.record.push_back(read);
  try {
    const Run made = run(model, tokens_of(pairs, sample.which), plan);
    evaluations_ = made.evaluations;
    const c10::AutoGradMode on(true);
    const at::Tensor loss = measure(reads_block(metric) ? values_.at(metric.site.site)
                                                        : made.cache.at(read.site, read.label))
                                .sum()
                                .neg();
    if (!loss.requires_grad())
      throw Error(ErrorKind::bad_argument,
                  fmt::format("no gradient of the metric \"{}\" arrives at {}: the forward pass of "
                              "{} detaches on the way, or the metric is computed without",
                              to_string(metric), to_string(reach.input), model.name()));
    // Of what does not depend on the input nothing is asked.
    std::vector<Site> asked;
    std::vector<at::Tensor> depending;
    for (const auto& [site, held] : values_) {
      if (!held.requires_grad()) continue;
      asked.push_back(site);
      depending.push_back(held);
    }
    const auto found = torch::autograd::grad({loss}, depending, {}, true, false, true);
    for (std::size_t i = 0; i < asked.size(); ++i) {
      if (found[i].defined()) gradients_[asked[i]] = found[i];
    }
  } catch (const c10::Error&) {
    refuse_derivative(model);
  }
}

at::Tensor TappedGraph::gradient(Site site) const {
  const auto found = gradients_.find(site);
  return found == gradients_.end() ? at::Tensor() : found->second;
}

at::Tensor TappedGraph::flat(const at::Tensor& gradient) const {
  return gradient.defined() ? widened(gradient.detach()).flatten(0, 1) : gradient;
}

at::Tensor TappedGraph::heads(int layer) const {
  const ModelConfig& config = model_.config();
  const TappedBlock& block = reach_.blocks[static_cast<std::size_t>(layer)];
  if (block.heads == TappedBlock::Heads::none) return {};
  const at::Tensor& stream = value({Part::resid_pre, layer});
  const at::Tensor none = at::zeros({stream.size(0) * stream.size(1), stream.size(2)},
                                    stream.options().dtype(sum_type(stream.scalar_type())));
  std::vector<at::Tensor> rows;
  // Of each head its part of the gradient, pulled back to the stream.
  const auto pull = [&](std::vector<Site> outputs, std::int64_t count) {
    outputs.erase(std::remove_if(outputs.begin(), outputs.end(),
                                 [&](Site site) { return !gradient(site).defined(); }),
                  outputs.end());
    for (std::int64_t head = 0; head < count; ++head) {
      at::Tensor found;
      if (!outputs.empty()) {
        std::vector<at::Tensor> from;
        std::vector<at::Tensor> given;
        for (const Site& site : outputs) {
          at::Tensor own = at::zeros_like(gradient(site));
          own.select(2, head).copy_(gradient(site).select(2, head));
          from.push_back(value(site));
          given.push_back(own);
        }
        try {
          found = torch::autograd::grad(from, {stream}, given, true, false, true).front();
        } catch (const c10::Error&) {
          refuse_derivative(model_);
        }
      }
      rows.push_back(found.defined() ? flat(found) : none);
    }
  };
  std::vector<Site> queries = {{Part::q, layer}};
  if (block.gated) queries.push_back({Part::z_gate, layer});
  pull(queries, config.heads);
  pull({{Part::k, layer}}, config.kv_heads);
  pull({{Part::v, layer}}, config.kv_heads);
  return at::stack(rows);
}

at::Tensor TappedGraph::mlp(int layer) const {
  const TappedBlock& block = reach_.blocks[static_cast<std::size_t>(layer)];
  if (!block.mlp_reads) return {};
  // Read out before the MLP: it writes what nobody reads.
  const Site& site = metric_.site.site;
  if (reads_block(metric_) && site.layer == layer &&
      (site.part == Part::mlp_in || site.part == Part::ln2_scale))
    return {};
  if (block.mlp_reads->part == Part::mlp_in) return flat(gradient(*block.mlp_reads));
  const at::Tensor written = gradient({Part::mlp_out, layer});
  if (!written.defined()) return {};
  try {
    return flat(torch::autograd::grad({value({Part::mlp_out, layer})}, {value(*block.mlp_reads)},
                                      {written}, true, false, true)
                    .front());
  } catch (const c10::Error&) {
    refuse_derivative(model_);
  }
}

at::Tensor TappedGraph::read_out() const {
  return reach_.read_out ? flat(gradient(*reach_.read_out)) : at::Tensor();
}

void TappedGraph::check_readers(int layer, const at::Tensor& readers) const {
  const int depth = static_cast<int>(reach_.blocks.size());
  const bool last = layer + 1 == depth;
  if (last && reads_block(metric_)) return;  // the metric is a reader of its own
  const at::Tensor own = flat(gradient({Part::resid_pre, layer}));
  const at::Tensor next =
      flat(gradient(last ? *reach_.read_out : Site{Part::resid_pre, layer + 1}));
  if (!own.defined() || !next.defined()) return;
  const at::Tensor sum = readers.defined() ? next + readers : next;
  const double off = (own - sum).abs().max().item<double>();
  const double size = std::max(own.abs().max().item<double>(), next.abs().max().item<double>());
  const bool narrow = is_narrow(value({Part::resid_pre, layer}).scalar_type());
  if (off <= (narrow ? share_missing_narrow : share_missing) * size) return;
  throw Error(
      ErrorKind::bad_argument,
      fmt::format("something in block {} of {} reads the stream beside the q, k, v and MLP "
                  "that are tapped: of a gradient of up to {:.3g} at {}, {:.3g} is not "
                  "theirs; is a site tapped before it is finished?",
                  layer, model_.name(), size, to_string(Site{Part::resid_pre, layer}), off));
}

}  // namespace plumb
