// What runs of one tile share: rotation tables, room for writes.
#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "core/precision.h"
#include "experiment/edge_feeds.h"
#include "experiment/edge_pass.h"

namespace plumb {
namespace {

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

RopeTable rows_of(const RopeTable& table, const at::Tensor& rows) {
  if (!table.cos.defined()) return {};
  return {.cos = table.cos.index_select(0, rows),
          .sin = table.sin.index_select(0, rows),
          .growth = table.growth.defined() ? table.growth.index_select(0, rows) : table.growth};
}

}  // namespace

EdgeRunner::EdgeRunner(const Model& model, const EdgeSpace& space, const EdgeEnds& ends,
                       const at::Tensor& input, const OutsideValues& outside, const EdgeSpan& span)
    : model_(model),
      space_(space),
      ends_(ends),
      input_(input),
      outside_(outside),
      span_(span),
      inputs_{.model = model, .plan = plan_},
      at_reads_{.model = model, .plan = plan_} {
  const ModelConfig& config = model.config();
  std::vector<std::int64_t> positions(size(input.size(1)));
  std::iota(positions.begin(), positions.end(), 0);
  const at::Tensor all = at::arange(input.size(1), input.options().dtype(at::kLong));
  inputs_.positions = at_reads_.positions = all;
  if (config.positions != Positions::rope) return;
  // Some tables depend on the length of the whole sequence.
  const auto make = [&](const Rope& of, RopeTable DecoderInputs::*table) {
    const RopeTable whole = make_rope_table(of, positions, input.options());
    inputs_.*table = rows_of(whole, all.narrow(0, span.from, span.end - span.from));
    if (span.reads.defined()) at_reads_.*table = rows_of(whole, span.reads.reshape({-1}));
  };
  make(config.rope, &DecoderInputs::rope);
  if (config.window_rope.dims > 0) make(config.window_rope, &DecoderInputs::window_rope);
}

std::vector<std::uint8_t> EdgeRunner::leads(const std::vector<std::uint8_t>& mask) const {
  std::vector<std::uint8_t> found(size(space_.senders()), 0);
  for (std::int64_t receiver = space_.receivers() - 1; receiver >= 0; --receiver) {
    const auto [from, to] = fed_by(space_, receiver);
    if (!ends_.read(receiver) && std::none_of(found.begin() + from, found.begin() + to,
                                              [](std::uint8_t each) { return each != 0; }))
      continue;
    for (std::int64_t sender = 0; sender < ends_.seen_by(space_, receiver); ++sender) {
      if (mask[size(space_.first_edge(receiver) + sender)] != 0) found[size(sender)] = 1;
    }
  }
  return found;
}

EdgeWrites EdgeRunner::writes(const std::vector<std::uint8_t>& mask) const {
  EdgeWrites made;
  std::int64_t rows = 0;
  for (const std::uint8_t each : leads(mask)) {
    made.rows_before.push_back(rows);
    made.rows.push_back(each != 0 ? rows++ : -1);
  }
  made.rows_before.push_back(rows);
  const std::int64_t width = input_.size(0) * (span_.end - span_.from) * model_.config().d_model;
  made.changes = at::zeros({rows, width}, input_.options().dtype(sum_type(model_.dtype())));
  return made;
}

}  // namespace plumb
