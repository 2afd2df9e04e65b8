// C5, A5, C14: what weights, single heads and experts say.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "sink/p0_catalogue_runs.h"
#include "sink/p0_ledger.h"

namespace plumb::p0 {

namespace {

at::Tensor at_one(const at::Tensor& values, std::int64_t position) {
  return values.narrow(1, position, 1);
}

}  // namespace

void trigger_form(P0Bench& bench) {
  const Model& model = bench.context.model;
  const auto& config = model.config();
  if (!config.gated_mlp) {
    bench.find("not run: the MLPs are not gated, so that their output is no quadratic form");
    return;
  }
  const Ledger ledger = make_ledger(bench.context, bench.w);
  bool any = false;
  for (const auto writer : writers_of(ledger, bench.context.options.located)) {
    if (!writer.mlp || is_sparse(config, writer.layer)) continue;
    any = true;
    const int l = writer.layer;
    const at::Tensor direction = bench.context.direction[bench.w].cpu();
    const at::Tensor weights =
        direction.matmul(model.weight(Weight::down, l).cpu().to(at::kDouble));
    at::Tensor gate = model.weight(Weight::gate, l).cpu().to(at::kDouble);
    at::Tensor up = model.weight(Weight::up, l).cpu().to(at::kDouble);
    if (const at::Tensor& gain = model.weight(Weight::ln2, l); gain.defined()) {
      gate = gate * gain.cpu().to(at::kDouble);
      up = up * gain.cpu().to(at::kDouble);
    }
    const at::Tensor form = gate.t().matmul(up * weights.unsqueeze(1));
    const auto [values, vectors] = at::linalg_eigh((form + form.t()) / 2.0);
    const at::Tensor largest = values.abs().argmax();
    const at::Tensor trigger = vectors.select(1, largest.item<std::int64_t>());
    const at::Tensor read = bench.clean({Part::mlp_in, l}).cpu().to(at::kDouble);
    const at::Tensor cosine =
        (read.matmul(trigger) /
         at::linalg_vector_norm(read, 2, c10::IntArrayRef{-1}).clamp_min(1e-30))
            .abs()
            .mean(0);  // [T]
    const std::string name = to_string(writer);
    const auto count = std::min<std::int64_t>(8, values.size(0));
    bench.array(name + "_spectrum", {"eigenvalue"},
                std::get<0>(values.abs().sort(0, true)).narrow(0, 0, count),
                "largest sizes of the eigenvalues of x^T M x, the MLP's write along the sink "
                "direction with its gates open (M of weights and gains alone)");
    bench.array(name + "_trigger", {"d_model"}, trigger, "leading eigenvector");
    bench.array(name + "_cosine", {"position"}, cosine,
                "mean size of the cosine of what the MLP reads with it");
    bench.find(fmt::format(
        "{}: the leading eigenvalue is {:.1f} times the second; cosine of the MLP's input with its "
        "vector {:.2f} at position 0, {:.2f} on average at t > 0",
        name,
        (values.abs().max() / std::get<0>(values.abs().sort(0, true))[1].clamp_min(1e-30))
            .item<double>(),
        cosine[0].item<double>(), cosine.narrow(0, 1, cosine.size(0) - 1).mean().item<double>()));
  }
  if (!any) bench.find("not run: no dense MLP before the onset writes the sink direction");
}

void exact_head_removal(P0Bench& bench) {
  const auto& config = bench.context.model.config();
  if (is_sparse(config, 0)) {
    bench.find("not run: the MLP of block 0 is a mixture of experts without one hidden state");
    return;
  }
  const Site hidden{Part::mlp_post, 0};
  const at::Tensor clean = at_one(bench.clean(hidden), 0).squeeze(1).to(at::kDouble);
  std::vector<double> rows;
  for (int h = 0; h < config.heads; ++h) {
    Plan plan{.record = {{hidden, Slice{.positions = {0}}}},
              .interventions = {{.site = {Part::head_out, 0}, .where = {.heads = {h}}}},
              .logits = Logits::none};
    plan.until = 1;
    const Run run = plumb::run(bench.context.model, bench.context.inputs.tokens, plan);
    bench.context.evaluations += run.evaluations;
    const at::Tensor left = run.cache.at(hidden).squeeze(1).to(at::kDouble);
    rows.insert(
        rows.end(),
        {((left - clean).norm(2, -1) / clean.norm(2, -1).clamp_min(1e-30)).mean().item<double>(),
         at::cosine_similarity(left, left.mean(0, true), 1).mean().item<double>()});
  }
  const at::Tensor table = at::tensor(rows, at::kDouble).view({std::int64_t{config.heads}, 2});
  bench.array("heads", {"head", "part"}, table,
              "block 0, one head's write taken out everywhere: relative change of the MLP's hidden "
              "state at position 0, and mean cosine of that state to its mean over sequences");
  const double own = at::cosine_similarity(clean, clean.mean(0, true), 1).mean().item<double>();
  const auto best = table.select(1, 1).argmax().item<std::int64_t>();
  bench.find(
      fmt::format("hidden states of block 0's MLP at position 0: cosine to their mean {:.3f}, "
                  "at most {:.3f}, without head {}",
                  own, table[best][1].item<double>(), best));
}

void moe(P0Bench& bench) {
  const auto& config = bench.context.model.config();
  const int last = std::min(bench.context.layers(), bench.wave().onset);
  bool any = false;
  const at::Tensor& direction = bench.context.direction[bench.w];
  for (int layer = 0; layer < last; ++layer) {
    if (!is_sparse(config, layer)) continue;
    any = true;
    const at::Tensor router = bench.clean({Part::router, layer}).to(at::kDouble);  // [B, T, E]
    const at::Tensor first = router.select(1, 0).mean(0);
    const at::Tensor rest = mean_over_others(bench.context, router).squeeze(1).mean(0);
    const at::Tensor writes =
        at_one(bench.clean({Part::expert_out, layer}), 0).squeeze(1).to(at::kDouble);
    const at::Tensor along = writes.matmul(direction.to(writes.device())).mean(0);  // [E]
    const std::string name = fmt::format("m{}", layer);
    bench.array(name + "_router", {"place", "expert"}, at::stack({first, rest}),
                "mean probability at position 0, and at t > 0");
    bench.array(name + "_ledger", {"expert"}, along,
                "each expert's write at position 0 along the sink direction");
    const auto top = along.argmax().item<std::int64_t>();
    bench.find(
        fmt::format("{}: expert {} writes {:.3g} of {:.3g} along the sink direction at "
                    "position 0; the router gives it {:.2f} there and {:.2f} at t > 0",
                    name, top, along[top].item<double>(), along.sum().item<double>(),
                    first[top].item<double>(), rest[top].item<double>()));
    const auto without = [&](std::int64_t position, const std::string& role, std::int64_t expert) {
      bench.run(fmt::format("{} without expert {}", name, expert), role, at_position(position),
                {{.site = {Part::expert_out, layer},
                  .where = {.positions = {position}, .experts = {expert}},
                  .edit = Zero{}}});
    };
    without(0, "edit", top);
    without(bench.other(), "other position", top);
    without(bench.random_position(), "random position", top);
    without(0, "another expert", (top + 1) % config.experts.count);
  }
  if (!any) bench.find("not run: no block before the wave is a mixture of experts");
}

}  // namespace plumb::p0
