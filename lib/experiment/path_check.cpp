#include "experiment/path_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "experiment/patch_jobs.h"
#include "model/plan_check.h"
#include "plumb/error.h"

namespace plumb {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::bad_argument, what); }

enum class Writes { nothing, embed, attention, mlp };

Writes writes(Part part) {
  switch (part) {
    case Part::embed:
    case Part::pos_embed: return Writes::embed;
    case Part::z:
    case Part::head_out:
    case Part::attn_out: return Writes::attention;
    case Part::mlp_out:
    case Part::mlp_post:
    case Part::expert_out:
    case Part::shared_out: return Writes::mlp;
    default: return Writes::nothing;
  }
}

bool is_head_input(Part part) { return part == Part::q || part == Part::k || part == Part::v; }

// States of the stream are counted in half layers: 2 l enters block l, 2 l + 1 lies between its
// attention and its MLP.
int written_at(const Site& site) {
  switch (writes(site.part)) {
    case Writes::attention: return 2 * site.layer + 1;
    case Writes::mlp: return 2 * site.layer + 2;
    default: return 0;
  }
}

int read_at(const Site& site, const ModelConfig& config) {
  switch (site.part) {
    case Part::resid_final:
    case Part::logits: return 2 * config.layers;
    case Part::resid_post: return 2 * site.layer + 2;
    case Part::resid_mid: return 2 * site.layer + 1;
    case Part::mlp_in: return config.parallel ? 2 * site.layer : 2 * site.layer + 1;
    default: return 2 * site.layer;
  }
}

int latest(const std::vector<SlicedSite>& readers, const ModelConfig& config) {
  int last = -1;
  for (const SlicedSite& reader : readers) last = std::max(last, read_at(reader.site, config));
  return last;
}

void check_sender(const Site& site, const ModelConfig& config) {
  if (writes(site.part) == Writes::nothing) {
    refuse(
        fmt::format("{} writes nothing to the stream; a sender is z, head_out, attn_out, "
                    "mlp_out, mlp_post, expert_out, shared_out, embed or pos_embed",
                    to_string(site)));
  }
  const bool inside =
      site.part == Part::mlp_post || site.part == Part::expert_out || site.part == Part::shared_out;
  if (inside && config.norm_place != NormPlace::before) {
    refuse(
        fmt::format("{}: what it writes goes through a norm with the rest of the MLP; send "
                    "mlp_out",
                    to_string(site)));
  }
}

void check_sender_set(const SiteSet& set, const ModelConfig& config) {
  std::set<std::pair<int, bool>> sublayers;
  std::set<Site> known;
  for (const SlicedSite& sender : set.sites) {
    check_sender(sender.site, config);
    const Writes kind = writes(sender.site.part);
    if (kind == Writes::embed || !known.insert(sender.site).second) continue;
    if (!sublayers.emplace(sender.site.layer, kind == Writes::mlp).second) {
      refuse(fmt::format("set \"{}\": two kinds of senders share the sublayer of {}; give one",
                         set.name, to_string(sender.site)));
    }
  }
}

void check_readers(const Model& model, const Tokens& tokens, const std::vector<SlicedSite>& readers,
                   bool receivers) {
  if (readers.empty())
    refuse(receivers ? "expected receivers, like L9.q[h=6] L10.mlp_in or logits"
                     : "a hop names no node");
  for (const SlicedSite& reader : readers) {
    const Part part = reader.site.part;
    const bool node = is_head_input(part) || part == Part::mlp_in;
    const bool end = part == Part::resid_final || part == Part::logits;
    const bool stream = part == Part::q_in || part == Part::k_in || part == Part::v_in ||
                        part == Part::resid_pre || part == Part::resid_mid ||
                        part == Part::resid_post;
    if (!node && !(receivers && (end || stream))) {
      refuse(fmt::format("{} is no {}", to_string(reader),
                         receivers
                             ? "receiver; there are q, k, v, q_in, k_in, v_in, mlp_in, resid_pre, "
                               "resid_mid, resid_post, and resid_final or logits alone"
                             : "node on a path; there are q, k and v of heads, and mlp_in"));
    }
    if (end && readers.size() > 1)
      refuse(fmt::format("{} stands alone as receiver: it is what all others end in",
                         to_string(reader)));
    if (part == Part::logits && !reader.slice.whole())
      refuse("the receiver logits takes no slice; resid_final takes positions");
    check(model, tokens, {.record = {Record(reader.site, reader.slice)}});
  }
}

}  // namespace

void check_paths(const Model& model, const Tokens& tokens, const std::vector<SweepSpec>& senders,
                 const Paths& paths, const Metric& metric) {
  const ModelConfig& config = model.config();
  for (const auto& hop : paths.via) check_readers(model, tokens, hop, false);
  check_readers(model, tokens, paths.receivers, true);
  for (const SlicedSite& receiver : paths.receivers) {
    if (!reads_block(metric)) break;
    const Site& read = metric.site.site;
    const Site& site = receiver.site;
    if (!per_layer(site.part) || site.layer > read.layer ||
        (site.layer == read.layer && site.part > read.part)) {
      refuse(fmt::format("the receiver {} is never reached: the metric reads {} before it",
                         to_string(receiver), to_string(read)));
    }
  }
  std::vector<std::vector<SlicedSite>> hops = paths.via;
  hops.push_back(paths.receivers);
  for (std::size_t hop = 1; hop < hops.size(); ++hop) {
    const int last = latest(hops[hop], config);
    for (const SlicedSite& node : hops[hop - 1]) {
      const int written = 2 * node.site.layer + (node.site.part == Part::mlp_in ? 2 : 1);
      if (written > last)
        refuse(fmt::format("nothing that {} writes arrives at the hop behind it", to_string(node)));
    }
  }
  const int first_hop = latest(hops.front(), config);
  const auto arrives = [&](const Site& site) { return written_at(site) <= first_hop; };
  for (const SweepSpec& spec : senders) {
    bool any = false;
    for (const SiteSet& set : spec.sets) {
      check_sender_set(set, config);
      for (const SlicedSite& site : set.sites) {
        if (!arrives(site.site))
          refuse(fmt::format("nothing that the sender {} writes arrives", to_string(site)));
      }
    }
    if (!spec.sets.empty()) continue;
    check_sender({spec.part, 0}, config);
    for (int layer = 0; layer < config.layers; ++layer) {
      const Site site{spec.part, per_layer(spec.part) ? layer : 0};
      any = any || (has_part(config, spec.part, layer) && arrives(site));
    }
    if (!any) refuse(fmt::format("nothing that {} writes arrives", to_string(spec.part)));
  }
}

}  // namespace plumb
