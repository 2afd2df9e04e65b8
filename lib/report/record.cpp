#include "plumb/record.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <system_error>

#include "model/plan_check.h"
#include "plumb/archive.h"
#include "plumb/cost.h"
#include "plumb/error.h"
#include "plumb/run.h"
#include "report/archive_pieces.h"
#include "report/json_pieces.h"
#include "report/record_pieces.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t positions_per_part = 16'384;
constexpr std::int64_t bytes_per_part = 256'000'000;

void check(const RecordOptions& options) {
  if (options.sites.empty()) {
    throw Error(ErrorKind::bad_argument, "expected at least one site to record, got none");
  }
  if (options.store != at::kHalf && options.store != at::kFloat && options.store != at::kDouble) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("activations are stored as float16, float32 or float64, not {}",
                            c10::toString(options.store)));
  }
  if (options.sequences < 0) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("expected a number of sequences, 0 = as many as fit, got {}",
                            options.sequences));
  }
  std::set<Site> seen;
  for (const SlicedSite& site : options.sites) {
    if (seen.insert(site.site).second) continue;
    throw Error(ErrorKind::bad_argument,
                fmt::format("{} is asked for twice; name it once, with all that is wanted of it",
                            to_string(site.site)));
  }
}

at::Tensor rounded(const at::Tensor& value, at::ScalarType store, const Site& site) {
  const at::Tensor stored = value.cpu().to(store);
  if (store != at::kHalf) return stored;
  const at::Tensor lost = at::isfinite(value).cpu().logical_and(at::isfinite(stored).logical_not());
  if (!lost.any().item<bool>()) return stored;
  throw Error(
      ErrorKind::too_large,
      fmt::format("{} reaches {:.6g}, more than float16 holds (65504); store it as float32",
                  to_string(site), value.cpu().masked_select(lost).abs().max().item<double>()));
}

void check_space(const fs::path& file, std::int64_t bytes) {
  std::error_code error;
  const fs::path directory = file.parent_path();
  const fs::space_info space = fs::space(directory.empty() ? fs::path(".") : directory, error);
  if (error || space.available >= static_cast<std::uintmax_t>(bytes)) return;
  throw Error(ErrorKind::too_large,
              fmt::format("the recording takes {} and the disk of {} has {}; record fewer sites or "
                          "positions, or store them as float16",
                          show_bytes(bytes), file.string(),
                          show_bytes(static_cast<std::int64_t>(space.available))));
}

// An archive of the recording's shape, without its values.
class Recorder {
 public:
  Recorder(const fs::path& file, const Inputs& inputs, const Recording& recording,
           const RunInfo& run)
      : archive_(file) {
    report::Json options = {{"sites", report::Json::array()},
                            {"store", report::show_store(recording.options.store)}};
    for (const RecordedSite& site : recording.sites) {
      options["sites"].push_back(report::show_site(site.site));
    }
    report::put_provenance(archive_, run, report::dump(options));
    report::put_inputs(archive_, "/inputs", inputs);
    for (const RecordedSite& site : recording.sites) {
      archive_.reserve(site.dataset, recording.options.store, site.shape, {.axes = site.axes});
      archive_.attribute(site.dataset, "site", report::show_site(site.site));
      const std::string tl = tl_name(site.site.site);
      if (!tl.empty()) archive_.attribute(site.dataset, "transformer_lens", tl);
    }
  }

  void append(const Recording& recording, const Run& part) {
    for (const RecordedSite& site : recording.sites) {
      archive_.append(site.dataset, rounded(part.cache.at(site.site.site), recording.options.store,
                                            site.site.site));
    }
  }

  void close(bool complete, std::int64_t sequences, const RunInfo& run) {
    archive_.attribute("/activations", "complete", std::int64_t{complete ? 1 : 0});
    archive_.attribute("/activations", "sequences", sequences);
    archive_.attribute("/provenance", "end", run.ended);
    archive_.close();
  }

 private:
  ArchiveWriter archive_;
};

}  // namespace

Plan record_plan(const Model& model, const std::vector<SlicedSite>& sites) {
  Plan plan{.logits = Logits::none};
  bool all = false;
  int last = -1;
  for (const SlicedSite& site : sites) {
    plan.record.emplace_back(site.site, site.slice);
    const Part part = site.site.part;
    if (per_layer(part)) last = std::max(last, site.site.layer);
    all = all || (!per_layer(part) && part != Part::embed && part != Part::pos_embed);
  }
  if (!all && last + 1 < model.config().layers) plan.until = last + 1;
  return plan;
}

std::int64_t record_part(const Model& model, const Inputs& inputs, const RecordOptions& options) {
  if (options.sequences > 0) return options.sequences;
  const Plan plan = record_plan(model, options.sites);
  const std::int64_t batch = inputs.tokens.batch();
  const std::int64_t length = inputs.length();
  const auto element = static_cast<std::int64_t>(at::elementSize(model.dtype()));
  const std::int64_t bytes = foresee(model, batch, length, plan).result_bytes / batch +
                             element * length * model.config().d_model;
  const std::int64_t most =
      model.memory() > 0 ? std::min(bytes_per_part, model.memory() / 8) : bytes_per_part;
  const std::int64_t by_bytes = most / bytes;
  // A model that does not fit is read anew for every part.
  const std::int64_t by_positions = model.memory() > 0 ? batch : positions_per_part / length;
  return std::clamp<std::int64_t>(std::min(by_bytes, by_positions), 1, batch);
}

Recording record(const Model& model, const Inputs& inputs, const RecordOptions& options,
                 const fs::path& file, RunInfo& run, const Progress& progress) {
  check(options);
  const Plan plan = record_plan(model, options.sites);
  plumb::check(model, inputs.tokens, plan);
  Recording recording{.options = options, .sequences = inputs.tokens.batch()};
  for (const SlicedSite& site : options.sites) {
    RecordedSite recorded{.site = site, .dataset = "/activations/" + to_string(site.site)};
    for (const Axis axis : axes(site.site.part)) recorded.axes.emplace_back(to_string(axis));
    recorded.shape = shape_of(model.config(), inputs.tokens.batch(), inputs.length(), site);
    std::int64_t bytes = static_cast<std::int64_t>(at::elementSize(options.store));
    for (const std::int64_t size : recorded.shape) bytes *= size;
    recording.bytes += bytes;
    recording.sites.push_back(std::move(recorded));
  }
  check_space(file, recording.bytes);
  Recorder recorder(file, inputs, recording, run);
  std::int64_t written = 0;
  try {
    run_in_parts(model, inputs.tokens, plan, record_part(model, inputs, options),
                 [&](std::int64_t first, const Run& part) {
                   recorder.append(recording, part);
                   recording.evaluations += part.evaluations;
                   written = first + part.cache.at(options.sites.front().site).size(0);
                   if (progress && written < recording.sequences) {
                     progress("recording", static_cast<double>(written) /
                                               static_cast<double>(recording.sequences));
                   }
                 });
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::interrupted) throw;
    end_run(run, model);
    recorder.close(false, written, run);
    throw Error(ErrorKind::interrupted,
                fmt::format("interrupted; {} holds the first {} of {} sequences", file.string(),
                            written, recording.sequences));
  }
  end_run(run, model);
  recorder.close(true, written, run);
  return recording;
}

}  // namespace plumb
