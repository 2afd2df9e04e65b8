#include "patch_flags.h"

#include "plumb/error.h"

namespace plumb::app {
namespace {

bool along_paths(const ExperimentFlags& flags) {
  return !flags.senders.empty() || !flags.receivers.empty() || !flags.via.empty();
}

}  // namespace

void check(const ExperimentFlags& flags, const std::string& who) {
  const auto need = [&](bool given, const char* what) {
    if (!given)
      throw Error(ErrorKind::bad_argument, who + " needs " + what + "; see plumb patch --help");
  };
  need(!flags.pairs.empty(), "--pairs FILE");
  const bool paths = along_paths(flags);
  const bool sites = !flags.sweeps.empty() || !flags.sets.empty();
  if (paths && sites) {
    throw Error(ErrorKind::bad_argument,
                "--paths and --receivers stand instead of --sweep and --set; give one of the two");
  }
  need(paths || sites, "at least one --sweep SITE:AXES, --set, or --paths with --receivers");
  need(!paths || !flags.senders.empty(), "senders: --paths SITE:AXES or SITES");
  need(!paths || !flags.receivers.empty(), "receivers: --receivers SITES");
  for (const std::string& text : flags.sweeps) parse_sweeps(text);  // before a model is opened
  if (!flags.metric.empty()) parse_metric(flags.metric, vector_from);
  if (!flags.replacement.empty()) parse_replacement(flags.replacement, 0, vector_from);
}

PatchAsked read_experiment(const ExperimentFlags& flags, int layers, std::uint64_t seed) {
  PatchAsked asked{.options = flags.options};
  if (!flags.metric.empty()) asked.options.metric = parse_metric(flags.metric, vector_from);
  if (!flags.replacement.empty())
    asked.options.replacement = parse_replacement(flags.replacement, seed, vector_from);
  for (const std::string& text : flags.sweeps) {
    for (SweepSpec& sweep : parse_sweeps(text)) asked.sweeps.push_back(std::move(sweep));
  }
  std::vector<SiteSet> sets;
  for (const std::string& text : flags.sets) sets.push_back(parse_site_set(text, layers));
  for (const std::string& text : flags.senders) {
    // Sets of sites hold no colon.
    if (text.find(':') != std::string::npos) {
      asked.sweeps.push_back(parse_sweep(text));
    } else {
      sets.push_back(parse_site_set(text, layers));
    }
  }
  if (!sets.empty()) asked.sweeps.push_back(sweep_of_sets(std::move(sets)));
  if (along_paths(flags)) {
    asked.paths.emplace();
    asked.paths->mlps = flags.mlps;
    asked.paths->receivers = parse_sites(flags.receivers, layers);
    for (const std::string& hop : flags.via) asked.paths->via.push_back(parse_sites(hop, layers));
  }
  for (const std::string& text : flags.with) {
    for (FixedEdit& edit : parse_fixed_edits(text, layers, seed, vector_from))
      asked.options.with.push_back(std::move(edit));
  }
  return asked;
}

Pairs read_pairs_of(const ExperimentFlags& flags, const std::optional<Bos>& bos,
                    const Chosen& chosen) {
  return make_pairs(
      read_pairs(flags.pairs, chosen.tokens(),
                 bos_id(bos.value_or(Bos{.kind = Bos::Kind::native}), chosen.tokens())));
}

void offer_experiment(CLI::App& app, ExperimentFlags& flags) {
  offer(app, "--pairs", "FILE",
        "Pairs: JSON lines {\"clean\": TEXT or [ids], \"corrupt\": ..., \"answers\": [right, "
        "wrong]}, or a .csv of clean, corrupted, correct_idx, incorrect_idx",
        [&flags](const std::string& text) { flags.pairs = text; });
  app.add_option("--sweep", flags.sweeps,
                 "What to go over, like resid_pre:layer,position or z:layer,head; axes are "
                 "layer, position, head, neuron, expert, query and key; or a bundle, every "
                 "or every-head; may be given several times")
      ->type_name("SITE:AXES")
      ->allow_extra_args(false);
  app.add_option("--set", flags.sets,
                 "Sites patched together, like L0-2.z[h=*;t=0]; may be given several times")
      ->type_name("SITES")
      ->allow_extra_args(false);
  app.add_option("--with", flags.with,
                 "Edits made in every run, like L3.z[h=2;t=0]=zero; may be given several "
                 "times")
      ->type_name("SITES=EDIT")
      ->allow_extra_args(false);
  app.add_option("--paths", flags.senders,
                 "Path patching: senders, like z:layer,head, or a set of sites; may be given "
                 "several times")
      ->type_name("SENDERS")
      ->allow_extra_args(false);
  offer(app, "--receivers", "SITES",
        "What senders' values are sent to: q, k or v of heads, mlp_in, resid_pre, resid_mid, "
        "resid_post, like L9.q[h=6] L10.mlp_in; or logits",
        [&flags](const std::string& text) { flags.receivers = text; });
  app.add_option("--via", flags.via, "Nodes on the way, one hop after another, like L5.v[h=3]")
      ->type_name("SITES")
      ->allow_extra_args(false);
  offer(app, "--mlps", "frozen|recomputed",
        "What MLPs on the way do: keep their values, or see what was sent (frozen)",
        [&flags](const std::string& text) { flags.mlps = parse_path_mlps(text); });
  offer(app, "--ablate", "EDIT",
        "What a patched site becomes instead of its value in the other run: zero, mean, "
        "mean-batch, mean-position, resample, put:FILE, add:FILE, scale:NUMBER, "
        "project-out:FILE, clamp-norm:NUMBER or hide",
        [&flags](const std::string& text) { flags.replacement = text; });
  offer(app, "--direction", "denoising|noising",
        "denoising: run corrupt, paste clean; noising: run clean, paste corrupt (denoising)",
        [&flags](const std::string& text) { flags.options.direction = parse_direction(text); });
  offer(app, "--metric", "NAME",
        "logit_diff, log_prob, prob, prob_diff, rank, kl, reverse_kl or js, at the last "
        "position; loss or loss@POSITIONS; sink:LAYER[.HEAD], attention:SITE, norm:SITE or "
        "projection:SITE:FILE (logit_diff)",
        [&flags](const std::string& text) { flags.metric = text; });
  app.add_flag("--raw", flags.options.raw,
               "The metric itself instead of 0 = unpatched, 1 = pasted from");
  app.add_flag("--intervals", flags.options.intervals,
               "Intervals of the values over pairs, and each pair's metric in the JSON");
}

}  // namespace plumb::app
