// plumb patch: activation and path patching sweeps.
#include "plumb/patch.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "failure.h"
#include "output.h"
#include "plumb/error.h"
#include "plumb/path_patch.h"
#include "plumb/ranks.h"
#include "plumb/report_archive.h"
#include "plumb/report_json.h"
#include "plumb/report_text.h"
#include "plumb/tile_file.h"
#include "shared.h"

namespace plumb::app {
namespace {

struct PatchFlags {
  Common common = {};
  ModelFlags model = {};
  std::string pairs = {};
  std::optional<Bos> bos = {};
  std::vector<std::string> sweeps = {};
  std::vector<std::string> sets = {};
  std::vector<std::string> with = {};
  std::vector<std::string> senders = {};
  std::string receivers = {};
  std::vector<std::string> via = {};
  PathMlps mlps = PathMlps::frozen;
  std::string replacement = {};
  std::string metric = {};
  PatchOptions options = {};
  bool resume = false;
};

bool along_paths(const PatchFlags& flags) {
  return !flags.senders.empty() || !flags.receivers.empty() || !flags.via.empty();
}

void check(const PatchFlags& flags) {
  const auto need = [](bool given, const char* what) {
    if (!given)
      throw Error(ErrorKind::bad_argument,
                  std::string("plumb patch needs ") + what + "; see plumb patch --help");
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
  need(!flags.resume || !flags.common.out.empty(), "--out DIR to resume from");
}

std::unique_ptr<TileFile> tile_file(const PatchFlags& flags) {
  if (flags.common.out.empty()) return nullptr;
  return std::make_unique<TileFile>(std::filesystem::path(flags.common.out) / "patch.tiles.h5",
                                    flags.resume);
}

/// Says what is kept of an interrupted run. Returns the exit code.
int tell_interrupted(const TileFile& tiles) {
  std::fputs(fmt::format("plumb: interrupted; {} of {} tiles are in {}; the same call with "
                         "--resume goes on\n",
                         tiles.finished(), tiles.count(), tiles.path().string())
                 .c_str(),
             stderr);
  return exit_code(ErrorKind::interrupted);
}

void give_out(const PatchFlags& flags, RunInfo& run, const Pairs& pairs,
              const PatchReport& report) {
  const Common& common = flags.common;
  if (!common.out.empty()) {
    const std::filesystem::path directory = common.out;
    run.files = {{"archive", (directory / "patch.h5").string()},
                 {"json", (directory / "patch.json").string()},
                 {"text", (directory / "patch.txt").string()}};
  }
  const std::string json = patch_json(run, pairs, report);
  const std::string text = patch_text(run, pairs, report);
  deliver(
      [&] {
        if (common.out.empty()) return;
        write_archive(run.files.at("archive"), run, pairs, report);
        write_file(run.files.at("json"), json);
        write_file(run.files.at("text"), text);
      },
      common.json ? json : text);
}

/// What is to be run, once the number of layers is known.
struct Asked {
  std::vector<SweepSpec> sweeps = {};
  Paths paths = {};
};

/// The flags' words, read; those that need the model are turned into sites.
Asked read_words(PatchFlags& flags, int layers) {
  Asked asked;
  const std::uint64_t seed = flags.common.seed;
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
    asked.paths.mlps = flags.mlps;
    asked.paths.receivers = parse_sites(flags.receivers, layers);
    for (const std::string& hop : flags.via) asked.paths.via.push_back(parse_sites(hop, layers));
  }
  for (const std::string& text : flags.with) {
    for (FixedEdit& edit : parse_fixed_edits(text, layers, seed, vector_from))
      flags.options.with.push_back(std::move(edit));
  }
  return asked;
}

/// The part of one of several processes: rank 0 keeps tiles and gives out what was found.
int run_rank(PatchFlags flags, const std::string& command_line, Ranks& ranks) {
  const bool first = ranks.rank() == 0;
  Common& common = flags.common;
  check(flags);
  for (const std::string& text : flags.sweeps) parse_sweeps(text);  // before the model is opened
  if (!flags.metric.empty()) flags.options.metric = parse_metric(flags.metric, vector_from);
  if (!flags.replacement.empty())
    flags.options.replacement = parse_replacement(flags.replacement, common.seed, vector_from);
  if (first && !common.out.empty()) prepare_directory(common.out);
  if (common.threads == 0) common.threads = ranks.threads();
  const Chosen chosen = open_model(flags.model, common);
  const Asked asked = read_words(flags, chosen.model.config().layers);
  RunInfo run = start_run(chosen.model, "patch", command_line, common.seed);
  run.ranks = ranks.size();
  const Pairs pairs = make_pairs(
      read_pairs(flags.pairs, chosen.tokens(),
                 bos_id(flags.bos.value_or(Bos{.kind = Bos::Kind::native}), chosen.tokens())));
  const std::unique_ptr<TileFile> tiles = first ? tile_file(flags) : nullptr;
  PatchReport report;
  try {
    const Progress progress = show_progress(common.quiet || !first);
    const Tiles kept = {.store = tiles.get(), .ranks = &ranks};
    report = along_paths(flags)
                 ? path_patch(chosen.model, pairs, asked.sweeps, asked.paths, flags.options,
                              progress, kept)
                 : patch(chosen.model, pairs, asked.sweeps, flags.options, progress, kept);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::interrupted || !tiles) throw;
    const int code = tell_interrupted(*tiles);
    ranks.abort(code);
    return code;
  }
  end_run(run, chosen.model);
  if (!first) return 0;
  give_out(flags, run, pairs, report);
  if (tiles) tiles->remove();
  say_cost(run, common.quiet);
  return 0;
}

int run_patch(const PatchFlags& flags, const std::string& command_line) {
  Ranks ranks;
  try {
    return run_rank(flags, command_line, ranks);
  } catch (...) {
    if (ranks.size() > 1) ranks.abort(tell_failure());
    throw;
  }
}

}  // namespace

Command patch_command() {
  return {
      "patch", "Paste values of one run into another, site by site, and read a metric",
      [](CLI::App& app, const std::string& command_line) {
        const auto flags = std::make_shared<PatchFlags>();
        offer_model(app, flags->model);
        offer(app, "--pairs", "FILE",
              "Pairs: JSON lines {\"clean\": TEXT or [ids], \"corrupt\": ..., \"answers\": [right, "
              "wrong]}, or a .csv of clean, corrupted, correct_idx, incorrect_idx",
              [flags](const std::string& text) { flags->pairs = text; });
        app.add_option("--sweep", flags->sweeps,
                       "What to go over, like resid_pre:layer,position or z:layer,head; axes are "
                       "layer, position, head, neuron, expert, query and key; or a bundle, every "
                       "or every-head; may be given several times")
            ->type_name("SITE:AXES")
            ->allow_extra_args(false);
        app.add_option("--set", flags->sets,
                       "Sites patched together, like L0-2.z[h=*;t=0]; may be given several times")
            ->type_name("SITES")
            ->allow_extra_args(false);
        app.add_option("--with", flags->with,
                       "Edits made in every run, like L3.z[h=2;t=0]=zero; may be given several "
                       "times")
            ->type_name("SITES=EDIT")
            ->allow_extra_args(false);
        app.add_option("--paths", flags->senders,
                       "Path patching: senders, like z:layer,head, or a set of sites; may be given "
                       "several times")
            ->type_name("SENDERS")
            ->allow_extra_args(false);
        offer(app, "--receivers", "SITES",
              "What senders' values are sent to: q, k or v of heads, mlp_in, resid_pre, resid_mid, "
              "resid_post, like L9.q[h=6] L10.mlp_in; or logits",
              [flags](const std::string& text) { flags->receivers = text; });
        app.add_option("--via", flags->via,
                       "Nodes on the way, one hop after another, like L5.v[h=3]")
            ->type_name("SITES")
            ->allow_extra_args(false);
        offer(app, "--mlps", "frozen|recomputed",
              "What MLPs on the way do: keep their values, or see what was sent (frozen)",
              [flags](const std::string& text) { flags->mlps = parse_path_mlps(text); });
        offer(app, "--ablate", "EDIT",
              "What a patched site becomes instead of its value in the other run: zero, mean, "
              "mean-batch, mean-position, resample, put:FILE, add:FILE, scale:NUMBER, "
              "project-out:FILE, clamp-norm:NUMBER or hide",
              [flags](const std::string& text) { flags->replacement = text; });
        offer(
            app, "--direction", "denoising|noising",
            "denoising: run corrupt, paste clean; noising: run clean, paste corrupt (denoising)",
            [flags](const std::string& text) { flags->options.direction = parse_direction(text); });
        offer(app, "--metric", "NAME",
              "logit_diff, log_prob, prob, prob_diff, rank, kl, reverse_kl or js, at the last "
              "position; loss or loss@POSITIONS; sink:LAYER[.HEAD], attention:SITE, norm:SITE or "
              "projection:SITE:FILE (logit_diff)",
              [flags](const std::string& text) { flags->metric = text; });
        app.add_flag("--raw", flags->options.raw,
                     "The metric itself instead of 0 = unpatched, 1 = pasted from");
        app.add_flag("--intervals", flags->options.intervals,
                     "Intervals of the values over pairs, and each pair's metric in the JSON");
        offer(app, "--bos", "none|native|ID", "Token before every text (native)",
              [flags](const std::string& text) { flags->bos = parse_bos(text); });
        offer_device(app, flags->common);
        offer_dtype(app, flags->common);
        offer_threads(app, flags->common);
        offer_seed(app, flags->common, "Of planted models and of resampling");
        offer_out(app, flags->common,
                  "Also write patch.h5, patch.json and patch.txt there; while the job lasts, "
                  "patch.tiles.h5 keeps what is finished");
        app.add_flag("--resume", flags->resume,
                     "Go on with the tiles that an interrupted run left in --out");
        offer_json(app, flags->common);
        offer_quiet(app, flags->common);
        return [flags, command_line] { return run_patch(*flags, command_line); };
      }};
}

}  // namespace plumb::app
