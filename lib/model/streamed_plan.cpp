#include "model/streamed_plan.h"

#include <algorithm>
#include <variant>

#include "plumb/streamed.h"

namespace plumb {

namespace {

// Position 0 hidden from some queries, which takes no more than an entry of a row.
bool hides_first_key(const Intervention& edit) {
  return edit.site.part == Part::scores && std::holds_alternative<Hide>(edit.edit) &&
         edit.where.keys.size() == 1 && edit.where.keys.front() == 0;
}

}  // namespace

bool streams_attention(const Plan& plan, int layer, std::int64_t length, bool on_cpu) {
  if (plan.gradients || !on_cpu || length < shortest_streamed) return false;
  const auto here = [layer](const auto& item, Part part) { return item.site == Site{part, layer}; };
  const auto whole = [&](const Record& record) {
    if (here(record, Part::sink_mass)) return true;
    if (here(record, Part::scores))
      return record.reduce.target<LogSumExp>() == nullptr || !record.where.whole();
    if (!here(record, Part::pattern)) return false;
    return (record.reduce.target<ReceivedAttention>() == nullptr &&
            record.reduce.target<AttentionRows>() == nullptr) ||
           !record.where.whole();
  };
  const auto edits = [&](const Intervention& edit) {
    return (here(edit, Part::scores) && !hides_first_key(edit)) || here(edit, Part::sink_mass) ||
           here(edit, Part::pattern);
  };
  return std::ranges::none_of(plan.record, whole) &&
         std::ranges::none_of(plan.interventions, edits);
}

bool streams_logits(const Plan& plan, std::int64_t length) {
  if (plan.gradients || plan.logits == Logits::all || length < shortest_streamed) return false;
  const auto whole = [](const Record& record) {
    return record.site.part == Part::logits &&
           (record.reduce.target<EachPosition>() == nullptr || !record.where.whole());
  };
  return std::ranges::none_of(plan.record, whole) &&
         std::ranges::none_of(plan.interventions, [](const Intervention& edit) {
           return edit.site.part == Part::logits;
         });
}

}  // namespace plumb
