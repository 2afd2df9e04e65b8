#include "experiment/node_plain.h"

#include <ATen/ATen.h>

#include <optional>
#include <utility>

#include "core/precision.h"

namespace plumb {
namespace {

struct Whole {
  std::vector<at::Tensor> streams = {};
  at::Tensor embed = {};
  at::Tensor read = {};  // the metric's site
};

Whole run_through(const TileModel& model, const at::Tensor& ids, int depth,
                  const std::optional<SiteReadOut>& read) {
  TileModel::Embedded embedded = model.embed(ids);
  Whole made{.streams = {std::move(embedded.stream)}, .embed = std::move(embedded.embed)};
  for (int layer = 0; layer < depth; ++layer) {
    std::vector<Record> wanted;
    const bool reads = read && read->site.layer == layer;
    if (reads) wanted.emplace_back(read->site, "metric", Reduce());
    const Cache cache = model.block(layer, made.streams.back(), std::move(wanted));
    made.streams.push_back(cache.at({Part::resid_post, layer}));
    if (reads) made.read = cache.at(read->site, "metric");
  }
  return made;
}

}  // namespace

NodePlain::NodePlain(const Model& model, const Pairs& pairs, TileMetric& metric,
                     Direction direction)
    : base_(model, pairs.count(),
            tokens_of(pairs, direction == Direction::noising ? Which::clean : Which::corrupt)
                .length()),
      other_(model, pairs.count(),
             tokens_of(pairs, direction == Direction::noising ? Which::corrupt : Which::clean)
                 .length()),
      which_(direction == Direction::noising ? Which::clean : Which::corrupt) {
  const Which against = which_ == Which::clean ? Which::corrupt : Which::clean;
  const at::Tensor& map = which_ == Which::clean ? pairs.to_corrupt : pairs.to_clean;
  if (map.defined()) map_ = map.to(model.device());
  const std::optional<SiteReadOut> base_read = metric.site(which_);
  const std::optional<SiteReadOut> other_read = metric.site(against);
  Whole own = run_through(base_, tokens_of(pairs, which_).ids, metric.depth(), base_read);
  Whole other = run_through(other_, tokens_of(pairs, against).ids, metric.depth(), other_read);
  embed_change_ = moved(widened(other.embed), widened(own.embed)) - widened(own.embed);
  at::Tensor own_value;
  at::Tensor other_value;
  if (base_read) {
    own_value = base_read->metric(own.read).cpu();
    other_value = other_read->metric(other.read).cpu();
  } else {
    metric.compare_with(which_ == Which::clean ? own.streams.back() : other.streams.back());
    own_value = metric.values(own.streams.back(), which_);
    other_value = metric.values(other.streams.back(), against);
  }
  clean_ = which_ == Which::clean ? own_value : other_value;
  corrupt_ = which_ == Which::clean ? other_value : own_value;
  streams_ = std::move(own.streams);
  other_streams_ = std::move(other.streams);
  other_streams_.pop_back();
}

at::Tensor NodePlain::moved(const at::Tensor& value, const at::Tensor& own) const {
  if (!map_.defined()) return value;
  std::vector<std::int64_t> narrow(static_cast<std::size_t>(value.dim()), 1);
  narrow[0] = map_.size(0);
  narrow[1] = map_.size(1);
  return at::where(map_.view(narrow) >= 0,
                   value.gather(1, map_.clamp_min(0).view(narrow).expand(own.sizes())), own);
}

NodePlain::Values NodePlain::others(int layer, const Values& own) const {
  std::vector<Record> wanted;
  for (const auto& [part, value] : own) wanted.emplace_back(Site{part, layer}, "node", Reduce());
  const Cache cache =
      other_.block(layer, other_streams_[static_cast<std::size_t>(layer)], std::move(wanted));
  Values made;
  for (const auto& [part, value] : own) made[part] = moved(cache.at({part, layer}, "node"), value);
  return made;
}

at::Tensor NodePlain::between(double share) const {
  const at::Tensor& start = streams_.front();
  return (widened(start) + share * embed_change_).to(start.scalar_type());
}

}  // namespace plumb
