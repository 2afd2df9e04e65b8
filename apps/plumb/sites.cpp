// The choice of sites, and the inputs that recording and its plan share.
#include <fmt/format.h>

#include "plumb/error.h"
#include "shared.h"

namespace plumb::app {
namespace {

/// Indices as a slice has them: "0,5-9"; empty for "*".
std::vector<std::int64_t> positions_of(const std::string& text) {
  try {
    return parse_site(fmt::format("embed[t={}]", text)).slice.positions;
  } catch (const Error&) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("--positions expects indices such as 0,5-9, or *, not '{}'", text));
  }
}

bool has_positions(Part part) {
  for (const Axis axis : axes(part)) {
    if (axis == Axis::position || axis == Axis::query) return true;
  }
  return false;
}

}  // namespace

void offer_sites(CLI::App& app, SiteFlags& flags) {
  app.add_option("--sites", flags.sites,
                 "What to record: sites like L3.z, L0-2.z[h=*;t=0], resid_pre (every layer) or "
                 "logits, separated by commas or spaces; may be given several times")
      ->type_name("SET")
      ->allow_extra_args(false);
  offer(app, "--positions", "LIST",
        "Positions (of scores and pattern, queries) to keep where a site names none, as 0,5-9 "
        "(all)",
        [&flags](const std::string& text) { flags.positions = positions_of(text); });
}

std::vector<SlicedSite> read_sites(const SiteFlags& flags, const Model& model) {
  std::vector<SlicedSite> sites;
  for (const std::string& set : flags.sites) {
    const std::vector<SlicedSite> more = parse_sites(set, model.config().layers);
    sites.insert(sites.end(), more.begin(), more.end());
  }
  for (SlicedSite& site : sites) {
    if (site.slice.positions.empty() && has_positions(site.site.part)) {
      site.slice.positions = flags.positions;
    }
  }
  return sites;
}

Inputs read_inputs(const InputFlags& flags, const Chosen& chosen, std::uint64_t seed) {
  const Content content = read_content(flags, chosen, seed);
  const Bos unsaid = {.kind = content.kind == "text" ? Bos::Kind::native : Bos::Kind::none};
  return with_bos(content, bos_id(flags.bos.value_or(unsaid), chosen.tokens()), chosen.model);
}

}  // namespace plumb::app
