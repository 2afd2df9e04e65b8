#include "experiment/edge_plain.h"

#include <ATen/ATen.h>

#include <optional>
#include <utility>

#include "core/precision.h"

namespace plumb {
namespace {

// What a head's write is made of: z, times the scale of the norm on the write.
at::Tensor heads_of(const Cache& cache, int layer, const ModelConfig& config) {
  const at::Tensor z = widened(cache.at({Part::z, layer}));
  if (config.norm_place == NormPlace::before) return z;
  return z * cache.at({Part::ln1_post_scale, layer}).unsqueeze(3);
}

// Of a value of the corrupt run, that at the clean run's positions; where no position belongs to
// one, the clean run's own.
at::Tensor moved(const at::Tensor& value, const at::Tensor& own, const Pairs& pairs) {
  if (!pairs.to_corrupt.defined()) return value;
  const at::Tensor map = pairs.to_corrupt.to(value.device());
  std::vector<std::int64_t> narrow(static_cast<std::size_t>(value.dim()), 1);
  narrow[0] = map.size(0);
  narrow[1] = map.size(1);
  return at::where(map.view(narrow) >= 0,
                   value.gather(1, map.clamp_min(0).view(narrow).expand(own.sizes())), own);
}

}  // namespace

at::Tensor change_of(const at::Tensor& corrupt, const at::Tensor& clean, const Pairs& pairs) {
  return (moved(widened(corrupt), widened(clean), pairs) - widened(clean)).flatten(0, 1);
}

namespace {

void keep_trunk(EdgePlain& plain, const Cache& own, int layer, bool parallel) {
  plain.trunk.resid_mid.push_back(own.at({Part::resid_mid, layer}));
  plain.trunk.k.push_back(own.at({Part::k, layer}));
  plain.trunk.v.push_back(own.at({Part::v, layer}));
  if (parallel) plain.trunk.mlp_out.push_back(own.at({Part::mlp_out, layer}));
  plain.z.push_back(own.at({Part::z, layer}));
}

}  // namespace

EdgePlain run_plain(const TileModel& model, const Pairs& pairs, TileMetric& metric,
                    const KeptPlain& kept) {
  const ModelConfig& config = model.config();
  const int depth = metric.depth();
  const TileModel other_model(model.model(), pairs.count(), pairs.corrupt.length());
  TileModel::Embedded own = model.embed(pairs.clean.ids);
  TileModel::Embedded other = other_model.embed(pairs.corrupt.ids);
  EdgePlain made;
  made.change.sequences = pairs.count();
  made.change.length = pairs.clean.length();
  made.change.input = change_of(other.embed, own.embed, pairs);
  at::Tensor clean = std::exchange(own.stream, at::Tensor());
  at::Tensor corrupt = std::exchange(other.stream, at::Tensor());
  own.embed = other.embed = at::Tensor();
  made.clean_streams.push_back(clean);
  made.corrupt_streams.push_back(corrupt);
  const std::optional<SiteReadOut> clean_read = metric.site(Which::clean);
  const std::optional<SiteReadOut> corrupt_read = metric.site(Which::corrupt);
  for (int layer = 0; layer < depth; ++layer) {
    std::vector<Record> wanted = {Site{Part::z, layer}, Site{Part::mlp_out, layer}};
    if (config.norm_place != NormPlace::before)
      wanted.emplace_back(Site{Part::ln1_post_scale, layer});
    const bool reads = clean_read && layer == clean_read->site.layer;
    if (reads) wanted.emplace_back(clean_read->site, "metric", Reduce());
    std::vector<Record> of_clean = wanted;
    if (kept.trunk) {
      for (const Part part : {Part::k, Part::v, Part::resid_mid})
        of_clean.emplace_back(Site{part, layer});
    }
    const Cache here = model.block(layer, clean, of_clean);
    const Cache there = other_model.block(layer, corrupt, wanted);
    made.evaluations += pairs.clean.ids.numel() + pairs.corrupt.ids.numel();
    made.change.z.push_back(
        change_of(heads_of(there, layer, config), heads_of(here, layer, config), pairs));
    made.change.mlp.push_back(
        change_of(there.at({Part::mlp_out, layer}), here.at({Part::mlp_out, layer}), pairs));
    if (kept.trunk) keep_trunk(made, here, layer, config.parallel);
    clean = here.at({Part::resid_post, layer});
    corrupt = there.at({Part::resid_post, layer});
    const bool last = layer + 1 == depth;
    made.clean_streams.push_back(last || kept.trunk || kept.clean_streams ? clean : at::Tensor());
    made.corrupt_streams.push_back(last || kept.corrupt_streams ? corrupt : at::Tensor());
    if (!reads) continue;
    made.clean = clean_read->metric(here.at(clean_read->site, "metric")).cpu();
    made.corrupt = corrupt_read->metric(there.at(clean_read->site, "metric")).cpu();
  }
  if (kept.trunk) made.trunk.resid_pre = made.clean_streams;
  if (clean_read) return made;
  metric.compare_with(clean);
  made.clean = metric.values(clean, Which::clean);
  made.corrupt = metric.values(corrupt, Which::corrupt);
  return made;
}

}  // namespace plumb
