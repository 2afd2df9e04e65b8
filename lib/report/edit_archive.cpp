// The archive of `plumb edit`.
#include <ATen/ATen.h>

#include "plumb/report_edit.h"
#include "report/archive_pieces.h"
#include "report/json_pieces.h"

namespace plumb {
namespace {

constexpr const char* estimate_note = "mean over sequences and its 95 % bootstrap interval";

void put_estimate(ArchiveWriter& file, const std::string& path, const Estimate& value,
                  const char* unit) {
  report::put_column(file, path, std::vector<double>{value.mean, value.low, value.high},
                     "mean_low_high", unit, estimate_note);
}

// One row for each way of rounding.
void put_rounded(ArchiveWriter& file, const std::string& group,
                 const std::vector<RoundedState>& states) {
  if (states.empty()) return;
  std::vector<std::int64_t> bits;
  std::vector<std::string> roundings;
  for (const RoundedState& one : states) {
    bits.push_back(one.bits);
    roundings.emplace_back(to_string(one.rounding));
  }
  report::put_column(file, group + "/bits", bits, "rounding", "bits", "");
  report::put_column(file, group + "/rounding", roundings, "rounding", "what shares one scale");
  const auto table = [&](const char* name, Estimate RoundedState::*member, const char* unit) {
    std::vector<double> flat;
    for (const RoundedState& one : states) {
      const Estimate& value = one.*member;
      flat.insert(flat.end(), {value.mean, value.low, value.high});
    }
    file.dataset(group + "/" + name, at::tensor(flat, at::kDouble).view({-1, 3}),
                 {{"rounding", "mean_low_high"}, unit, estimate_note});
  };
  table("first_error", &RoundedState::first_error, "|rounded - h| / |h|");
  table("others_error", &RoundedState::others_error, "|rounded - h| / |h|");
  table("loss", &RoundedState::loss, "nats per predicted token");
  table("loss_change", &RoundedState::loss_change, "nats per predicted token");
}

void put_state(ArchiveWriter& file, const std::string& group, const EditState& state) {
  put_estimate(file, group + "/loss", state.loss, "nats per predicted token");
  put_estimate(file, group + "/sink_rate", state.sink_rate, "share of heads");
  put_estimate(file, group + "/sink_mass", state.sink_mass, "share of attention");
  put_estimate(file, group + "/slot_mass", state.slot_mass, "share of attention");
  put_estimate(file, group + "/largest", state.largest, "max |h|");
  put_estimate(file, group + "/ratio", state.ratio, "max |h| over median |h|");
  file.dataset(group + "/each", state.each.contiguous(),
               {{"sequence", "quantity"},
                "",
                "loss, sink_rate, sink_mass, slot_mass, largest, ratio; NaN = not measured"});
  put_rounded(file, group + "/rounded", state.rounded);
}

}  // namespace

void write_archive(const std::filesystem::path& path, const RunInfo& run, const Inputs& inputs,
                   const EditReport& report, const EditedModel& edited, const EditDone& done) {
  ArchiveWriter file(path);
  const EditOptions& options = report.options;
  report::Json words = {{"direction", done.direction},    {"writers", options.writers},
                        {"silence", options.silence},     {"sink_slot", nullptr},
                        {"knock_out", options.knock_out}, {"window", options.window},
                        {"keep", options.keep},           {"bits", options.bits},
                        {"epsilon", options.epsilon}};
  if (options.sink_slot) words["sink_slot"] = *options.sink_slot;
  report::put_provenance(file, run, report::dump(words));
  report::put_inputs(file, "/inputs", inputs);
  file.attribute("/edit", "uniform_sink_mass", report.null);
  file.attribute("/edit", "written", done.written);
  file.attribute("/edit", "not_written", edited.not_written);
  if (options.direction.defined()) {
    file.dataset("/edit/direction", options.direction.to(at::kDouble).cpu().contiguous(),
                 {{"d_model"}, "", "taken out of what the writers write"});
  }
  if (!edited.changed.empty())
    report::put_column(file, "/edit/changed", edited.changed, "weight", "weights that differ");
  put_state(file, "/edit/before", report.before);
  put_state(file, "/edit/after", report.after);
  put_state(file, "/edit/change", report.change);
  file.close();
}

}  // namespace plumb
