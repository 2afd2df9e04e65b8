#include "plumb/tapped.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>
#include <utility>

#include "model/plan_check.h"
#include "model/tap.h"
#include "plumb/cost.h"
#include "plumb/error.h"

namespace plumb {
namespace {

void check_offered(const Plan& plan) {
  if (plan.restart || plan.until) {
    throw Error(ErrorKind::unsupported,
                "a tapped model runs from its first block to its last; leave out where to restart "
                "and where to stop");
  }
}

// The forward pass may call what it likes; a tensor of another shape would be sliced wrongly.
void check_shape(const TappedModel& model, const Tokens& tokens, Site site,
                 const at::Tensor& value) {
  const std::vector<std::int64_t> wanted =
      shape_of(model.config(), tokens.batch(), tokens.length(), {.site = site});
  if (value.defined() && value.sizes() == c10::IntArrayRef(wanted)) return;
  throw Error(ErrorKind::bad_shape,
              fmt::format("{} handed over {} as [{}], expected [{}]", model.name(), to_string(site),
                          value.defined() ? fmt::format("{}", fmt::join(value.sizes(), ", "))
                                          : std::string("nothing"),
                          fmt::join(wanted, ", ")));
}

void check_reached(const TappedModel& model, const Plan& plan, const std::set<Site>& reached) {
  const auto need = [&](Site site) {
    if (reached.contains(site)) return;
    std::vector<std::string> names;
    for (const Site& known : reached) names.push_back(to_string(known));
    throw Error(ErrorKind::bad_argument,
                fmt::format("the forward pass of {} never reaches {}; it reaches {}", model.name(),
                            to_string(site), fmt::join(names, ", ")));
  };
  for (const Record& record : plan.record) need(record.site);
  for (const Intervention& intervention : plan.interventions) need(intervention.site);
}

}  // namespace

TappedModel::TappedModel(const ModelConfig& description, Forward forward, std::string name)
    : shape_(
          description, [](Weight, int) { return at::Tensor(); }, std::move(name)),
      forward_(std::move(forward)) {
  if (!forward_) throw Error(ErrorKind::bad_argument, "a tapped model needs its forward pass");
}

Run run(const TappedModel& model, const Tokens& tokens, const Plan& plan) {
  check_offered(plan);
  check(model.shape(), tokens, plan);
  const c10::AutoGradMode gradients(plan.gradients);
  const Tile tile{.first = 0,
                  .ids = tokens.ids,
                  .lengths = tokens.lengths.defined()
                                 ? tokens.lengths
                                 : at::full({tokens.batch()}, tokens.length(), at::kLong)};
  Tap tap(plan, tile, tokens.batch());
  std::set<Site> reached;
  const auto hand_over = [&](Site site, const at::Tensor& value) {
    reached.insert(site);
    if (!tap.wants(site)) return value;
    check_shape(model, tokens, site, value);
    return tap(site, value);
  };
  at::Tensor logits = model.forward(tokens, hand_over);
  check_shape(model, tokens, {Part::logits}, logits);
  if (!reached.contains({Part::logits})) logits = hand_over({Part::logits}, logits);
  check_reached(model, plan, reached);
  Run result;
  result.cache = tap.take();
  if (plan.logits == Logits::all) result.logits = logits;
  result.evaluations = tokens.batch() * tokens.length() * model.config().layers;
  return result;
}

}  // namespace plumb
