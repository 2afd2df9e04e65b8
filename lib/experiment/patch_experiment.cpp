#include "experiment/patch_experiment.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "experiment/replacements.h"
#include "model/model_impl.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr const char* metric_label = "metric";
constexpr const char* reads_label = "reads";

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::bad_argument, what); }

void check_pairs(const Pairs& pairs, const PatchOptions& options) {
  if (pairs.count() < 1 || pairs.clean.batch() != pairs.corrupt.batch() ||
      (!pairs.to_clean.defined() && pairs.clean.length() != pairs.corrupt.length()))
    refuse("expected clean and corrupt prompts of the same shape; make_pairs makes them");
  const auto pastes = [](const Replacement& replacement) {
    return Replacements::needs_other(replacement);
  };
  if (!pairs.paired && (pastes(options.replacement) ||
                        std::ranges::any_of(options.with, pastes, &FixedEdit::replacement))) {
    refuse(
        "the prompts have no partners to paste from; give pairs, or a replacement that needs "
        "none: zero, mean, resample and others");
  }
}

void check_fixed(const FixedEdit& edit, const ModelConfig& config, int depth) {
  const Site& site = edit.at.site;
  const std::string name = to_string(edit.at);
  if (site.part == Part::resid_final || site.part == Part::final_scale || site.part == Part::logits)
    refuse(fmt::format("{}: what is edited in every run lies in a block, or is embed or pos_embed",
                       name));
  if (site.layer >= config.layers || !has_part(config, site.part, site.layer))
    refuse(fmt::format("{}: the model has no {}", name, to_string(site)));
  if (site.layer >= depth)
    refuse(fmt::format("the edit at {} is never reached: the metric is read before it", name));
}

// The unpatched run goes on while the metric is not read.
Plan plan_to(int depth, const ModelConfig& config) {
  Plan plan{.logits = Logits::none};
  if (depth < config.layers) plan.until = depth;
  return plan;
}

void add_record(Plan& plan, const Record& record) {
  const bool there = std::ranges::any_of(plan.record, [&](const Record& known) {
    return known.site == record.site && known.label == record.label;
  });
  if (!there) plan.record.push_back(record);
}

std::int64_t bytes_of(const Cache& cache) {
  std::int64_t bytes = 0;
  for (const auto& [key, value] : cache.entries())
    bytes += static_cast<std::int64_t>(value.nbytes());
  return bytes;
}

at::Tensor gather_positions(const at::Tensor& value, const at::Tensor& index) {
  std::vector<std::int64_t> shape(static_cast<std::size_t>(value.dim()), 1);
  shape[0] = index.size(0);
  shape[1] = index.size(1);
  std::vector<std::int64_t> wide = value.sizes().vec();
  wide[1] = index.size(1);
  return value.gather(1, index.view(shape).expand(wide));
}

}  // namespace

Which base_of(const Pairs& pairs, Direction direction) {
  return pairs.paired && direction == Direction::denoising ? Which::corrupt : Which::clean;
}

PlainPlans plain_plans(const ModelConfig& config, const PatchOptions& options,
                       const std::vector<Record>& records, const std::vector<Site>& pasted) {
  const int depth = depth_of(options, config);
  PlainPlans plans{.base = plan_to(depth, config), .other = plan_to(depth, config)};
  for (const Record& record : records) add_record(plans.base, record);
  for (const Site& site : pasted) add_record(plans.other, Record(site));
  if (reads_block(options.metric)) {
    const Record wanted(options.metric.site.site, metric_label, {});
    add_record(plans.base, wanted);
    add_record(plans.other, wanted);
  }
  return plans;
}

PlainPlans fixed_plans(const ModelConfig& config, const PatchOptions& options) {
  const int depth = depth_of(options, config);
  PlainPlans plans{.base = plan_to(depth, config), .other = plan_to(depth, config)};
  for (const FixedEdit& edit : options.with) {
    const bool pastes = Replacements::needs_other(edit.replacement);
    if (pastes || Replacements::needs_base(edit.replacement))
      add_record(plans.base, Record(edit.at.site));
    if (pastes) add_record(plans.other, Record(edit.at.site));
  }
  return plans;
}

void check_experiment(const Model& model, const Pairs& pairs, const PatchOptions& options) {
  check_pairs(pairs, options);
  check_metric(options.metric, pairs, model.config());
  for (const Which which : {Which::clean, Which::corrupt}) read_plan(options.metric, pairs, which);
  const int depth = depth_of(options, model.config());
  for (const FixedEdit& edit : options.with) check_fixed(edit, model.config(), depth);
}

Run PatchSubject::run(const Tokens& tokens, const Plan& plan) const {
  if (tapped == nullptr) return plumb::run(model, tokens, plan);
  Plan whole = plan;
  whole.until.reset();
  return plumb::run(*tapped, tokens, whole);
}

PatchExperiment::PatchExperiment(const PatchSubject& subject, const Pairs& pairs, PairRange range,
                                 const PatchOptions& options, const std::vector<Record>& records,
                                 const std::vector<Site>& pasted)
    : subject_(subject),
      pairs_(some_of(pairs, range.first, range.count)),
      options_(options),
      depth_(depth_of(options, subject.model.config())),
      base_which_(base_of(pairs, options.direction)) {
  const Model& model = subject.model;
  const ModelConfig& config = model.config();
  const Which other_which = base_which_ == Which::clean ? Which::corrupt : Which::clean;
  lengths_ = lengths_of(pairs_, base_which_).to(model.device());
  reads_ = read_plan(options.metric, pairs_, base_which_);
  const ReadPlan other_reads = read_plan(options.metric, pairs_, other_which);
  make_fixed(other_which);

  PlainPlans plans = plain_plans(config, options, records, pasted);
  plans.base.interventions = fixed_;
  plans.other.interventions = fixed_;
  if (!reads_site()) {
    plans.base.record.push_back(kept_at(reads_));
    plans.other.record.push_back(kept_at(other_reads));
  }
  if (subject.tapped == nullptr) {
    for (const Record& record : trunk_records(config, depth_)) add_record(plans.base, record);
  }
  base_ = subject.run(tokens(), plans.base);
  const Model::Impl::Reserved kept(model, bytes_of(base_.cache));
  Run other;
  if (pairs.paired) other = subject.run(tokens_of(pairs_, other_which), plans.other);
  evaluations_ += base_.evaluations + other.evaluations;
  if (subject.tapped == nullptr) {
    trunk_ = make_trunk(config, depth_, base_.cache);
    follower_.emplace(model, trunk_, reads_.positions.to(model.device()));
  }
  metric_.emplace(options.metric, pairs_, readout(), range.first);
  pasted_ = moved(other.cache, pasted, base_.cache);

  if (reads_site()) {
    const auto value = [&](const Run& run, Which which) {
      return site_metric(options.metric, run.cache.at(site(), metric_label),
                         lengths_of(pairs_, which).to(model.device()))
          .cpu();
    };
    base_metric_ = value(base_, base_which_);
    other_metric_ = pairs.paired ? value(other, other_which) : base_metric_;
    return;
  }
  const auto at_reads = [&](const Run& run) {
    return run.cache.at(kept_at(reads_).site, reads_label).unsqueeze(1);
  };
  const at::Tensor base_kept = at_reads(base_);
  const at::Tensor other_kept = pairs.paired ? at_reads(other) : base_kept;
  metric_->compare_with(base_which_ == Which::clean ? base_kept : other_kept);
  base_metric_ = (*metric_)(base_kept, reads_).squeeze(1).cpu();
  other_metric_ =
      pairs.paired ? (*metric_)(other_kept, other_reads).squeeze(1).cpu() : base_metric_;
}

// What the metric needs of a run where it is read: the stream before the final norm, or the logits.
Record PatchExperiment::kept_at(const ReadPlan& reads) const {
  const Site site{subject_.tapped == nullptr ? Part::resid_final : Part::logits};
  return {site, reads_label,
          [positions = reads.positions](const at::Tensor& value, const Tile& tile) {
            return gather_positions(
                value, positions.narrow(0, tile.first, value.size(0)).to(value.device()));
          }};
}

Readout PatchExperiment::readout() const {
  if (subject_.tapped != nullptr) {
    return {.logits = [](const at::Tensor& rows) { return rows; },
            .logits_of = [](const at::Tensor& rows,
                            const at::Tensor& ids) { return rows.gather(1, ids); }};
  }
  return readout_of(*follower_);
}

Record PatchExperiment::watched() const {
  return reads_site() ? Record(site(), metric_label, {}) : kept_at(reads_);
}

at::Tensor PatchExperiment::read_run(const Run& run) const {
  const Record wanted = watched();
  const at::Tensor& value = run.cache.at(wanted.site, wanted.label);
  return reads_site() ? read_site(value) : read(value.unsqueeze(1));
}

// Edits that are made in every run, their values taken from plain runs.
void PatchExperiment::make_fixed(Which other) {
  if (options_.with.empty()) return;
  const Model& model = subject_.model;
  const ModelConfig& config = model.config();
  const PlainPlans plans = fixed_plans(config, options_);
  Run base;
  Cache values;
  if (!plans.base.record.empty()) base = subject_.run(tokens(), plans.base);
  const Model::Impl::Reserved kept(model, bytes_of(base.cache));
  if (!plans.other.record.empty()) {
    std::vector<Site> pasted;
    for (const Record& record : plans.other.record) pasted.push_back(record.site);
    const Run plain = subject_.run(tokens_of(pairs_, other), plans.other);
    values = moved(plain.cache, pasted, base.cache);
    evaluations_ += plain.evaluations;
  }
  evaluations_ += base.evaluations;
  for (const FixedEdit& edit : options_.with) {
    const Replacements replacements(edit.replacement, {edit.at.site}, config, lengths_, base.cache,
                                    values);
    fixed_.push_back(replacements.edit(edit.at));
  }
}

Cache PatchExperiment::moved(const Cache& other, const std::vector<Site>& sites,
                             const Cache& own) const {
  Cache made;
  const at::Tensor& map = base_which_ == Which::clean ? pairs_.to_corrupt : pairs_.to_clean;
  for (const Site& site : sites) {
    at::Tensor value = other.at(site);
    if (map.defined()) {
      if (std::ranges::count(axes(site.part), Axis::position) == 0) {
        throw Error(ErrorKind::unsupported,
                    fmt::format("{} relates two positions, and cannot be pasted between prompts "
                                "that a map aligns",
                                to_string(site)));
      }
      const at::Tensor index = map.to(value.device());
      std::vector<std::int64_t> shape(static_cast<std::size_t>(value.dim()), 1);
      shape[0] = index.size(0);
      shape[1] = index.size(1);
      value = at::where(index.view(shape) >= 0, gather_positions(value, index.clamp_min(0)),
                        own.at(site));
    }
    made.put(site, {}, value);
  }
  return made;
}

at::Tensor PatchExperiment::read(const at::Tensor& stream) const {
  return (*metric_)(stream, reads_).cpu();
}

at::Tensor PatchExperiment::read_site(const at::Tensor& value) const {
  const std::int64_t n = value.size(0) / pairs_.count();
  return site_metric(options_.metric, value, lengths_.repeat_interleave(n))
      .view({pairs_.count(), n})
      .cpu();
}

std::vector<at::Tensor> PatchExperiment::read_branches(int layer, std::vector<Branch> branches,
                                                       std::int64_t& evaluations) const {
  std::vector<at::Tensor> values;
  if (!reads_site()) {
    for (const at::Tensor& stream : follower_->finish(layer, std::move(branches), evaluations))
      values.push_back(read(stream));
    return values;
  }
  const int last = depth_ - 1;
  const at::Tensor& plain = trunk_.resid_pre[static_cast<std::size_t>(last)];
  for (Branch& branch : follower_->advance(layer, last, std::move(branches), evaluations)) {
    const std::int64_t n = branch.stream.size(1);
    const std::int64_t at_once = streams_at_once(plain.size(0), plain.size(1));
    std::vector<at::Tensor> parts;
    for (std::int64_t first = 0; first < n; first += at_once) {
      const std::int64_t count = std::min(at_once, n - first);
      const at::Tensor past =
          plain.narrow(1, 0, branch.from).unsqueeze(1).expand({-1, count, -1, -1});
      const at::Tensor whole =
          at::cat({past, branch.stream.narrow(1, first, count)}, 2).flatten(0, 1);
      evaluations += whole.size(0) * whole.size(1);
      parts.push_back(
          read_site(follower_->blocks(last, depth_, whole, {}, {Record(site())}).at(site())));
    }
    values.push_back(at::cat(parts, 1));
  }
  return values;
}

at::Tensor PatchExperiment::unpatched(std::int64_t n) const {
  return base_metric_.unsqueeze(1).expand({-1, n});
}

}  // namespace plumb
