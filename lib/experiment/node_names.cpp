// The names of methods for nodes, and of the nodes themselves.
#include <fmt/format.h>

#include <array>
#include <utility>

#include "experiment/node_refs.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr std::array<std::pair<const char*, NodeMethod>, 6> node_methods = {{
    {"atp", NodeMethod::atp},
    {"atp-qk", NodeMethod::atp_qk},
    {"atp*", NodeMethod::atp_star},
    {"atp-star", NodeMethod::atp_star},
    {"ig", NodeMethod::ig},
    {"ig-inputs", NodeMethod::ig_inputs},
}};

}  // namespace

const char* to_string(NodeMethod method) noexcept {
  for (const auto& [name, known] : node_methods) {
    if (known == method) return name;
  }
  return "";
}

bool is_node_method(const std::string& text) noexcept {
  for (const auto& [name, method] : node_methods) {
    if (text == name) return true;
  }
  return false;
}

NodeMethod parse_node_method(const std::string& text) {
  for (const auto& [name, method] : node_methods) {
    if (text == name) return method;
  }
  throw Error(
      ErrorKind::bad_argument,
      fmt::format("expected a method for nodes among atp, atp-qk, atp*, ig, ig-inputs, got \"{}\"",
                  text));
}

std::vector<SweepSpec> usual_nodes(const ModelConfig& config) {
  std::vector<SweepSpec> nodes;
  for (const Part part : {Part::z, Part::q, Part::k, Part::v})
    nodes.push_back({.part = part, .axes = {SweepAxis::layer, SweepAxis::head}});
  for (const Part part : {Part::attn_out, Part::mlp_out, Part::resid_pre})
    nodes.push_back({.part = part, .axes = {SweepAxis::layer}});
  bool experts = false;
  for (int layer = 0; layer < config.layers; ++layer)
    experts = experts || has_part(config, Part::expert_out, layer);
  if (experts)
    nodes.push_back({.part = Part::expert_out, .axes = {SweepAxis::layer, SweepAxis::expert}});
  return nodes;
}

PlacedNode place_of(const NodeSweep& sweep, std::int64_t index) {
  PlacedNode placed;
  placed.places.resize(sweep.spec.axes.size());
  std::int64_t rest = index;
  for (std::size_t axis = sweep.spec.axes.size(); axis-- > 0;) {
    const std::int64_t size = sweep.scores.size(static_cast<std::int64_t>(axis));
    placed.places[axis] = rest % size;
    rest /= size;
    if (sweep.spec.axes[axis] == SweepAxis::layer)
      placed.layer = static_cast<int>(placed.places[axis]);
  }
  return placed;
}

SlicedSite site_of(const NodeSweep& sweep, const PlacedNode& placed) {
  SlicedSite site{.site = {sweep.spec.part, placed.layer}};
  for (std::size_t axis = 0; axis < sweep.spec.axes.size(); ++axis) {
    const std::int64_t place = placed.places[axis];
    switch (sweep.spec.axes[axis]) {
      case SweepAxis::position:
      case SweepAxis::query: site.slice.positions = {place}; break;
      case SweepAxis::head: site.slice.heads = {place}; break;
      case SweepAxis::neuron: site.slice.units = {place}; break;
      case SweepAxis::expert: site.slice.experts = {place}; break;
      case SweepAxis::key: site.slice.keys = {place}; break;
      case SweepAxis::layer:
      case SweepAxis::set: break;
    }
  }
  return site;
}

std::string node_name(const NodeReport& report, NodeRef node) {
  const NodeSweep& sweep = report.sweeps.at(node.sweep);
  return to_string(site_of(sweep, place_of(sweep, node.index)));
}

double node_score(const NodeReport& report, NodeRef node) {
  return report.sweeps.at(node.sweep).scores.contiguous().data_ptr<double>()[node.index];
}

}  // namespace plumb
