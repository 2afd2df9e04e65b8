#include "support/naive_edge_run.h"

#include <ATen/ATen.h>

namespace plumb::test {
namespace {

using Kind = EdgeReceiver::Kind;

// One site of one block that is run on a stream.
at::Tensor of_block(const Model& model, const Tokens& tokens, int layer, const at::Tensor& stream,
                    Site wanted, std::vector<Intervention> edits = {}) {
  Plan plan{.record = {Record(wanted)},
            .interventions = std::move(edits),
            .logits = Logits::none,
            .restart = Restart{.layer = layer, .resid_pre = stream},
            .until = layer + 1};
  return run(model, tokens, plan).cache.at(wanted);
}

}  // namespace

NaiveWrites naive_writes(const Model& model, const EdgeSpace& space, const Tokens& tokens) {
  const ModelConfig& config = model.config();
  Plan plan{.record = {Record(Site{Part::embed}), Record(Site{Part::resid_final})},
            .logits = Logits::none};
  for (int layer = 0; layer < config.layers; ++layer) {
    for (const Part part : {Part::head_out, Part::mlp_out, Part::resid_pre, Part::resid_mid})
      plan.record.emplace_back(Site{part, layer});
  }
  const Run made = run(model, tokens, plan);
  NaiveWrites found;
  for (std::int64_t s = 0; s < space.senders(); ++s) {
    const EdgeSender sender = space.sender(s);
    const auto at = [&](Part part) { return made.cache.at({part, sender.layer}); };
    found.writes.push_back(sender.kind == EdgeSender::Kind::input ? made.cache.at({Part::embed})
                           : sender.kind == EdgeSender::Kind::mlp
                               ? at(Part::mlp_out)
                               : at(Part::head_out).select(2, sender.head));
  }
  for (std::int64_t r = 0; r < space.receivers(); ++r) {
    const EdgeReceiver reader = space.receiver(r);
    const Part part =
        reader.kind == Kind::mlp && !space.parallel() ? Part::resid_mid : Part::resid_pre;
    found.streams.push_back(reader.kind == Kind::logits ? made.cache.at({Part::resid_final})
                                                        : made.cache.at({part, reader.layer}));
  }
  return found;
}

namespace {

// Up to the site, if there is one, else to the logits.
at::Tensor naive_run(const Model& model, const EdgeSpace& space, const Tokens& tokens,
                     const NaiveWrites& outside, const std::vector<std::uint8_t>& mask,
                     const Site* site, const at::Tensor& site_outside) {
  const ModelConfig& config = model.config();
  std::vector<at::Tensor> writes = {
      run(model, tokens, {.record = {Record(Site{Part::embed})}}).cache.at({Part::embed})};
  const auto read = [&](Kind kind, int layer, int head) {
    const std::int64_t r = space.index_of(EdgeReceiver{kind, layer, head});
    at::Tensor stream = outside.streams[static_cast<std::size_t>(r)];
    for (std::int64_t s = 0; s < space.seen_by(r); ++s) {
      const auto sender = static_cast<std::size_t>(s);
      if (mask[static_cast<std::size_t>(space.first_edge(r) + s)] != 0)
        stream = stream + (writes[sender] - outside.writes[sender]);
    }
    return stream;
  };
  const int group = config.heads / config.kv_heads;
  for (int layer = 0; layer < config.layers; ++layer) {
    std::vector<at::Tensor> q;
    std::vector<at::Tensor> k;
    std::vector<at::Tensor> v;
    std::vector<at::Tensor> gate;
    at::Tensor any;
    for (int head = 0; head < config.heads; ++head) {
      const at::Tensor stream = any = read(Kind::q, layer, head);
      q.push_back(of_block(model, tokens, layer, stream, {Part::q, layer}).select(2, head));
      if (config.gated_attention)
        gate.push_back(
            of_block(model, tokens, layer, stream, {Part::z_gate, layer}).select(2, head));
    }
    for (int head = 0; head < config.kv_heads; ++head) {
      k.push_back(of_block(model, tokens, layer, read(Kind::k, layer, head), {Part::k, layer})
                      .select(2, head));
      v.push_back(of_block(model, tokens, layer, read(Kind::v, layer, head), {Part::v, layer})
                      .select(2, head));
    }
    std::vector<Intervention> edits = {{{Part::q, layer}, {}, Put{at::stack(q, 2)}},
                                       {{Part::k, layer}, {}, Put{at::stack(k, 2)}},
                                       {{Part::v, layer}, {}, Put{at::stack(v, 2)}}};
    if (config.gated_attention)
      edits.push_back({{Part::z_gate, layer}, {}, Put{at::stack(gate, 2)}});
    const auto read_out = [&] {
      at::Tensor stream = site_outside;
      const std::int64_t r = space.receivers() - 1;
      for (std::size_t s = 0; s < writes.size(); ++s) {
        if (mask[static_cast<std::size_t>(space.first_edge(r)) + s] != 0)
          stream = stream + (writes[s] - outside.writes[s]);
      }
      return stream;
    };
    const bool here = site != nullptr && site->layer == layer;
    if (here && site->part == Part::pattern)
      return of_block(model, tokens, layer, any, *site, edits);
    if (here && site->part == Part::resid_pre) return read_out();
    if (space.kv_heads() == config.kv_heads) {
      const at::Tensor out = of_block(model, tokens, layer, any, {Part::head_out, layer}, edits);
      for (int head = 0; head < config.heads; ++head) writes.push_back(out.select(2, head));
    } else {  // a run for each head, with the keys and values that it alone reads
      for (int head = 0; head < config.heads; ++head) {
        const int key = head / group;
        std::vector<Intervention> own = edits;
        const auto put = [&](std::size_t place, Kind kind, Part part) {
          at::Tensor whole = std::get<Put>(own[place].edit).value.clone();
          whole.select(2, key).copy_(
              of_block(model, tokens, layer, read(kind, layer, head), {part, layer})
                  .select(2, key));
          own[place].edit = Put{whole};
        };
        put(1, Kind::k, Part::k);
        put(2, Kind::v, Part::v);
        writes.push_back(
            of_block(model, tokens, layer, any, {Part::head_out, layer}, own).select(2, head));
      }
    }
    if (here && site->part == Part::resid_mid) return read_out();
    const at::Tensor in = read(Kind::mlp, layer, -1);
    writes.push_back(of_block(model, tokens, layer, in, {Part::mlp_out, layer},
                              {{{Part::mlp_in, layer}, {}, Put{in}}}));
    if (here) return read_out();
  }
  Plan plan{
      .interventions = {{{Part::resid_final}, {}, Put{read(Kind::logits, config.layers, -1)}}}};
  return run(model, tokens, plan).logits;
}

}  // namespace

at::Tensor naive_edge_logits(const Model& model, const EdgeSpace& space, const Tokens& tokens,
                             const NaiveWrites& outside, const std::vector<std::uint8_t>& mask) {
  return naive_run(model, space, tokens, outside, mask, nullptr, {});
}

at::Tensor naive_edge_site(const Model& model, const EdgeSpace& space, const Tokens& tokens,
                           const NaiveWrites& outside, const at::Tensor& site_outside,
                           const std::vector<std::uint8_t>& mask, Site site) {
  return naive_run(model, space, tokens, outside, mask, &site, site_outside);
}

}  // namespace plumb::test
