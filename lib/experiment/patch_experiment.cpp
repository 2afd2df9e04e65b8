#include "experiment/patch_experiment.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "experiment/replacements.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr const char* metric_label = "metric";

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

int depth_of(const PatchOptions& options, const ModelConfig& config) {
  return reads_block(options.metric) ? std::min(options.metric.site.site.layer + 1, config.layers)
                                     : config.layers;
}

void check_experiment(const Model& model, const Pairs& pairs, const PatchOptions& options) {
  check_pairs(pairs, options);
  check_metric(options.metric, pairs, model.config());
  for (const Which which : {Which::clean, Which::corrupt}) read_plan(options.metric, pairs, which);
  const int depth = depth_of(options, model.config());
  for (const FixedEdit& edit : options.with) check_fixed(edit, model.config(), depth);
}

PatchExperiment::PatchExperiment(const Model& model, const Pairs& pairs, PairRange range,
                                 const PatchOptions& options, const std::vector<Record>& records,
                                 const std::vector<Site>& pasted)
    : model_(model),
      pairs_(some_of(pairs, range.first, range.count)),
      options_(options),
      depth_(depth_of(options, model.config())),
      base_which_(base_of(pairs, options.direction)) {
  const ModelConfig& config = model.config();
  const Which other_which = base_which_ == Which::clean ? Which::corrupt : Which::clean;
  lengths_ = lengths_of(pairs_, base_which_).to(model.device());
  reads_ = read_plan(options.metric, pairs_, base_which_);
  make_fixed(other_which);

  Plan base_plan = plan_to(depth_, config);
  base_plan.interventions = fixed_;
  for (const Record& record : trunk_records(config, depth_)) add_record(base_plan, record);
  for (const Record& record : records) add_record(base_plan, record);
  Plan other_plan = plan_to(depth_, config);
  other_plan.interventions = fixed_;
  for (const Site& site : pasted) add_record(other_plan, Record(site));
  if (reads_site()) {
    const Record wanted(site(), metric_label, {});
    add_record(base_plan, wanted);
    add_record(other_plan, wanted);
  } else {
    add_record(other_plan, Record(Site{Part::resid_final}));
  }
  base_ = run(model, tokens(), base_plan);
  Run other;
  if (pairs.paired) other = run(model, tokens_of(pairs_, other_which), other_plan);
  evaluations_ += base_.evaluations + other.evaluations;
  trunk_ = make_trunk(config, depth_, base_.cache);
  follower_.emplace(model, trunk_, reads_.positions.to(model.device()));
  metric_.emplace(options.metric, pairs_, *follower_, range.first);
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
  const auto at_reads = [&](const at::Tensor& stream, const ReadPlan& reads) {
    return gather_positions(stream, reads.positions.to(stream.device())).unsqueeze(1);
  };
  const at::Tensor base_stream = at_reads(trunk_.resid_pre.back(), reads_);
  if (!pairs.paired) {
    metric_->compare_with(base_stream);
    base_metric_ = other_metric_ = (*metric_)(base_stream, reads_).squeeze(1).cpu();
    return;
  }
  const ReadPlan other_reads = read_plan(options.metric, pairs_, other_which);
  const at::Tensor other_stream = at_reads(other.cache.at({Part::resid_final}), other_reads);
  metric_->compare_with(base_which_ == Which::clean ? base_stream : other_stream);
  base_metric_ = (*metric_)(base_stream, reads_).squeeze(1).cpu();
  other_metric_ = (*metric_)(other_stream, other_reads).squeeze(1).cpu();
}

// Edits that are made in every run, their values taken from plain runs.
void PatchExperiment::make_fixed(Which other) {
  if (options_.with.empty()) return;
  const ModelConfig& config = model_.config();
  Plan base_plan = plan_to(depth_, config);
  Plan other_plan = plan_to(depth_, config);
  std::vector<Site> pasted;
  for (const FixedEdit& edit : options_.with) {
    const bool pastes = Replacements::needs_other(edit.replacement);
    if (pastes || Replacements::needs_base(edit.replacement))
      add_record(base_plan, Record(edit.at.site));
    if (!pastes) continue;
    add_record(other_plan, Record(edit.at.site));
    if (std::ranges::count(pasted, edit.at.site) == 0) pasted.push_back(edit.at.site);
  }
  Run base;
  Cache values;
  if (!base_plan.record.empty()) base = run(model_, tokens(), base_plan);
  if (!pasted.empty()) {
    const Run plain = run(model_, tokens_of(pairs_, other), other_plan);
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
    const at::Tensor past = plain.narrow(1, 0, branch.from).unsqueeze(1).expand({-1, n, -1, -1});
    const at::Tensor whole = at::cat({past, branch.stream}, 2).flatten(0, 1);
    evaluations += whole.size(0) * whole.size(1);
    values.push_back(
        read_site(follower_->blocks(last, depth_, whole, {}, {Record(site())}).at(site())));
  }
  return values;
}

at::Tensor PatchExperiment::unpatched(std::int64_t n) const {
  return base_metric_.unsqueeze(1).expand({-1, n});
}

}  // namespace plumb
