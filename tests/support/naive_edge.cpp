#include "support/naive_edge.h"

#include <ATen/ATen.h>

#include <variant>

#include "support/naive_patch.h"

namespace plumb::test {

at::Tensor naive_change(const Model& model, const Pairs& pairs, const EdgeSender& sender) {
  Site site{Part::embed};
  if (sender.kind == EdgeSender::Kind::head) site = {Part::head_out, sender.layer};
  if (sender.kind == EdgeSender::Kind::mlp) site = {Part::mlp_out, sender.layer};
  const at::Tensor clean = run(model, pairs.clean, {.record = {site}}).cache.at(site);
  const Intervention corrupt = naive_edit(model, pairs, {.site = site}, {}, Direction::noising, {});
  const at::Tensor change = std::get<Put>(corrupt.edit).value - clean;
  return sender.kind == EdgeSender::Kind::head ? change.select(2, sender.head) : change;
}

namespace {

// The edits of a run in which the receiver reads `share` of the change.
Plan edge_plan(const Model& model, const Pairs& pairs, const Metric& metric, const EdgeSpace& space,
               std::int64_t edge, double share, const std::vector<Intervention>& base) {
  const EdgeSpace::Ends ends = space.ends(edge);
  const EdgeReceiver receiver = space.receiver(ends.receiver);
  const at::Tensor change = share * naive_change(model, pairs, space.sender(ends.sender));
  Plan plan{.interventions = base};
  const auto add = [&](Site site) {
    Plan added = plan;
    added.interventions.push_back({site, {}, Add{change}});
    return added;
  };
  // What a head reads is put into the run afterwards, and nothing of the other heads.
  const auto of_head = [&](Site in, std::vector<Part> parts) {
    Plan reading = add(in);
    for (const Part part : parts) reading.record.emplace_back(Site{part, receiver.layer});
    const Cache cache = run(model, pairs.clean, reading).cache;
    for (const Part part : parts) {
      const Site site{part, receiver.layer};
      plan.interventions.push_back(
          {site, {.heads = {receiver.head}}, Put{cache.at(site).narrow(2, receiver.head, 1)}});
    }
    return plan;
  };
  switch (receiver.kind) {
    case EdgeReceiver::Kind::q: {
      std::vector<Part> parts = {Part::q};
      if (model.config().gated_attention) parts.push_back(Part::z_gate);
      plan = of_head({Part::q_in, receiver.layer}, parts);
      break;
    }
    case EdgeReceiver::Kind::k: plan = of_head({Part::k_in, receiver.layer}, {Part::k}); break;
    case EdgeReceiver::Kind::v: plan = of_head({Part::v_in, receiver.layer}, {Part::v}); break;
    case EdgeReceiver::Kind::mlp: plan = add({Part::mlp_in, receiver.layer}); break;
    case EdgeReceiver::Kind::logits:
      plan = add(reads_block(metric) ? metric.site.site : Site{Part::resid_final});
      break;
  }
  return plan;
}

}  // namespace

at::Tensor naive_edge(const Model& model, const Pairs& pairs, const Metric& metric,
                      const EdgeSpace& space, std::int64_t edge, double share,
                      const std::vector<Intervention>& base) {
  return naive_read(model, pairs, metric, true,
                    edge_plan(model, pairs, metric, space, edge, share, base));
}

at::Tensor naive_direct(const Model& model, const Pairs& pairs, const Metric& metric,
                        const EdgeSpace& space, std::int64_t edge) {
  const EdgeReceiver receiver = space.receiver(space.ends(edge).receiver);
  Plan plan = edge_plan(model, pairs, metric, space, edge, 1.0, {});
  if (receiver.kind == EdgeReceiver::Kind::logits)
    return naive_read(model, pairs, metric, true, plan);
  const bool mlp = receiver.kind == EdgeReceiver::Kind::mlp;
  const Site site{mlp ? Part::mlp_out : Part::attn_out, receiver.layer};
  plan.record = {site};
  const at::Tensor written = run(model, pairs.clean, plan).cache.at(site) -
                             run(model, pairs.clean, {.record = {site}}).cache.at(site);
  return naive_read(model, pairs, metric, true,
                    {.interventions = {{{Part::resid_final}, {}, Add{written}}}});
}

}  // namespace plumb::test
