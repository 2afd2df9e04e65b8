// plumb circuit: what edges make a circuit, and the files of them.
#include "circuit.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <memory>

#include "output.h"
#include "plumb/error.h"
#include "plumb/report_circuit.h"
#include "usage.h"

namespace plumb::app {
namespace {

namespace fs = std::filesystem;

/// "12,12" or "32,32,8": layers, heads, key heads.
EdgeSpace parse_graph(const std::string& text) {
  std::vector<int> numbers;
  for (const std::string& part : comma_list(text))
    numbers.push_back(static_cast<int>(whole("--graph", part, 1, 10'000)));
  if (numbers.size() != 2 && numbers.size() != 3)
    throw Error(ErrorKind::bad_argument,
                "--graph expects LAYERS,HEADS or LAYERS,HEADS,KEYHEADS, like 12,12");
  return {numbers[0], numbers[1], numbers.back()};
}

void need(bool given, const std::string& what) {
  if (!given) throw Error(ErrorKind::bad_argument, what);
}

/// Writes the circuit and says what was written.
void give(const EdgeCircuit& circuit, const CircuitTarget& target, const Common& common,
          const std::string& command) {
  write(circuit, target);
  print(common.json ? summary_json(circuit, command, target.file)
                    : summary_text(circuit, target.file));
}

struct ConvertFlags {
  Common common = {};
  CircuitFlags reading = {};
  std::string file = {};
  CircuitTarget target = {};
};

int run_convert(const ConvertFlags& flags) {
  need(!flags.file.empty(), "plumb circuit convert needs the file of a circuit");
  need(!flags.target.file.empty(), "plumb circuit convert needs --to FILE");
  give(open_circuit(flags.file, flags.reading), flags.target, flags.common, "circuit convert");
  return 0;
}

struct PruneFlags {
  Common common = {};
  CircuitFlags reading = {};
  std::string file = {};
  CircuitTarget target = {};
  std::optional<std::int64_t> top = {};
  std::optional<std::int64_t> greedy = {};
  std::optional<double> fraction = {};
  std::optional<double> threshold = {};
  std::string baseline = {};
  bool by_sign = false;
  bool keep = false;
  std::vector<std::pair<char, std::string>> others = {};
};

EdgeCircuit selected(EdgeCircuit circuit, const PruneFlags& flags) {
  const bool absolute = !flags.by_sign;
  if (flags.top) return top_edges(std::move(circuit), *flags.top, absolute);
  if (flags.greedy) return greedy_edges(std::move(circuit), *flags.greedy, absolute);
  if (flags.threshold) return above_threshold(std::move(circuit), *flags.threshold, absolute);
  if (flags.fraction) {
    const auto n =
        static_cast<std::int64_t>(*flags.fraction * static_cast<double>(circuit.space.edges()));
    return top_edges(std::move(circuit), n, absolute);
  }
  return circuit;
}

int run_prune(const PruneFlags& flags) {
  need(!flags.file.empty(), "plumb circuit prune needs the file of a circuit or of scores");
  const int ways = (flags.top ? 1 : 0) + (flags.greedy ? 1 : 0) + (flags.fraction ? 1 : 0) +
                   (flags.threshold ? 1 : 0);
  need(ways <= 1, "give one of --top, --greedy, --fraction and --threshold, not several");
  EdgeCircuit circuit = selected(open_circuit(flags.file, flags.reading), flags);
  for (const auto& [how, file] : flags.others) {
    const EdgeCircuit other = open_circuit(file, flags.reading);
    circuit = how == '|'   ? united(std::move(circuit), other)
              : how == '&' ? shared(std::move(circuit), other)
                           : without(std::move(circuit), other);
  }
  if (flags.baseline == "random") circuit = random_edges(circuit, flags.common.seed);
  if (flags.baseline == "layers")
    circuit = matched_edges(circuit, Matching::layers, flags.common.seed);
  if (flags.baseline == "scores")
    circuit = matched_edges(circuit, Matching::scores, flags.common.seed);
  if (!flags.keep) circuit = pruned(std::move(circuit));
  give(circuit, flags.target, flags.common, "circuit prune");
  return 0;
}

struct FilesFlags {
  Common common = {};
  CircuitFlags reading = {};
  std::vector<std::string> files = {};
  std::string to = {};
};

int run_compare(const FilesFlags& flags) {
  need(flags.files.size() >= 2, "plumb circuit compare needs at least two files of circuits");
  std::vector<NamedCircuit> circuits;
  for (const std::string& file : flags.files)
    circuits.push_back({file, open_circuit(file, flags.reading)});
  print(flags.common.json ? comparison_json(circuits) : comparison_text(circuits));
  return 0;
}

int run_draw(const FilesFlags& flags) {
  need(flags.files.size() == 1, "plumb circuit draw needs the file of one circuit");
  need(!flags.to.empty(), "plumb circuit draw needs --to FILE.dot");
  const EdgeCircuit circuit = open_circuit(flags.files.front(), flags.reading);
  const bool drawn = draw(circuit, flags.to);
  const std::string svg = fs::path(flags.to).replace_extension(".svg").string();
  if (!drawn && !flags.common.quiet) {
    std::fputs("plumb: no drawing was made: Graphviz's `dot` is not installed, or took too long\n",
               stderr);
  }
  print(flags.common.json ? summary_json(circuit, "circuit draw", drawn ? svg : flags.to)
                          : summary_text(circuit, drawn ? svg : flags.to));
  return 0;
}

}  // namespace

void offer_target(CLI::App& app, CircuitTarget& target) {
  offer(app, "--to", "FILE",
        "Where to; the name says the format: .json (plumb's), .safetensors, .graphml, .dot, .h5",
        [&target](const std::string& text) { target.file = text; });
  offer(app, "--format", "NAME",
        "plumb, eap-ig, tensors, graphml, dot, neuronpedia, edge-pruning or hdf5 (by the name)",
        [&target](const std::string& text) { target.format = parse_circuit_format(text); });
  offer(app, "--scan", "MODEL", "The model's name in Neuronpedia's graph",
        [&target](const std::string& text) { target.view.scan = text; });
  offer(app, "--slug", "NAME", "The name of Neuronpedia's graph",
        [&target](const std::string& text) { target.view.slug = text; });
}

void write(const EdgeCircuit& circuit, const CircuitTarget& target) {
  if (target.file.empty()) return;
  const CircuitFormat format = target.format ? *target.format : format_of(target.file);
  write_circuit(circuit, target.file, format, target.view);
}

void offer_reading(CLI::App& app, CircuitFlags& flags) {
  offer(app, "--kv-heads", "N",
        "Of EAP-IG's files of grouped-query models: join the keys and values of each group",
        [&flags](const std::string& text) {
          flags.kv_heads = static_cast<int>(whole("--kv-heads", text, 1, 10'000));
        });
  offer(app, "--graph", "LAYERS,HEADS[,KEYHEADS]",
        "The model of an Edge Pruning list, which does not say it",
        [&flags](const std::string& text) { flags.space = parse_graph(text); });
}

EdgeCircuit open_circuit(const std::string& file, const CircuitFlags& flags) {
  EdgeCircuit circuit = read_circuit(file, {.kv_heads = flags.kv_heads, .space = flags.space});
  if (circuit.title.empty()) circuit.title = fs::path(file).stem().string();
  return circuit;
}

Command circuit_convert_command() {
  return {"circuit convert", "Turn a circuit's file into another format",
          [](CLI::App& app, const std::string&) {
            const auto flags = std::make_shared<ConvertFlags>();
            app.add_option("FILE", flags->file, "A circuit")->type_name("");
            offer_target(app, flags->target);
            offer_reading(app, flags->reading);
            offer_json(app, flags->common);
            offer_quiet(app, flags->common);
            return [flags] { return run_convert(*flags); };
          }};
}

Command circuit_prune_command() {
  return {
      "circuit prune", "Choose edges by their scores, and drop what leads nowhere",
      [](CLI::App& app, const std::string&) {
        const auto flags = std::make_shared<PruneFlags>();
        app.add_option("FILE", flags->file, "A circuit, or scores of plumb attribute")
            ->type_name("");
        offer(
            app, "--top", "N", "The N edges of the largest scores",
            [flags](const std::string& text) { flags->top = whole("--top", text, 0, 1LL << 40); });
        offer(app, "--greedy", "N", "N edges, each the best into what is reached from the logits",
              [flags](const std::string& text) {
                flags->greedy = whole("--greedy", text, 0, 1LL << 40);
              });
        offer(app, "--fraction", "F", "That part of all edges, of the largest scores",
              [flags](const std::string& text) {
                flags->fraction = number("--fraction", text, 0.0, 1.0);
              });
        offer(app, "--threshold", "X", "Edges of scores not below X",
              [flags](const std::string& text) {
                flags->threshold = number("--threshold", text, -1e300, 1e300);
              });
        app.add_flag("--signed", flags->by_sign,
                     "By the scores themselves: edges that work against the metric come last (by "
                     "their size)");
        const auto set = [flags, &app](const char* flag, const char* help, char how) {
          offer(app, flag, "FILE", help,
                [flags, how](const std::string& text) { flags->others.emplace_back(how, text); });
        };
        set("--unite", "And the edges of that circuit", '|');
        set("--share", "Of these only edges of that circuit", '&');
        set("--without", "Of these only edges not of that circuit", '-');
        offer(app, "--baseline", "random|layers|scores",
              "In their place as many edges at random: of all, matched by the layers they join, or "
              "by tenths of the scores",
              [flags](const std::string& text) {
                flags->baseline = one_of("--baseline", text, {"random", "layers", "scores"});
              });
        app.add_flag("--keep-dead-ends", flags->keep, "Do not drop what leads nowhere");
        offer_target(app, flags->target);
        offer_reading(app, flags->reading);
        offer_seed(app, flags->common, "Of --baseline");
        offer_json(app, flags->common);
        offer_quiet(app, flags->common);
        return [flags] { return run_prune(*flags); };
      }};
}

Command circuit_compare_command() {
  return {"circuit compare", "Edges and scores that circuits have in common",
          [](CLI::App& app, const std::string&) {
            const auto flags = std::make_shared<FilesFlags>();
            app.add_option("FILES", flags->files, "Circuits of one model")->type_name("");
            offer_reading(app, flags->reading);
            offer_json(app, flags->common);
            offer_quiet(app, flags->common);
            return [flags] { return run_compare(*flags); };
          }};
}

Command circuit_draw_command() {
  return {"circuit draw", "Draw a circuit with Graphviz", [](CLI::App& app, const std::string&) {
            const auto flags = std::make_shared<FilesFlags>();
            app.add_option("FILE", flags->files, "A circuit")->type_name("");
            offer(app, "--to", "FILE.dot",
                  "Graphviz text; its drawing is written beside it as .svg",
                  [flags](const std::string& text) { flags->to = text; });
            offer_reading(app, flags->reading);
            offer_json(app, flags->common);
            offer_quiet(app, flags->common);
            return [flags] { return run_draw(*flags); };
          }};
}

std::vector<Command> circuit_commands() {
  return {circuit_compare_command(),  circuit_convert_command(), circuit_draw_command(),
          circuit_evaluate_command(), circuit_paths_command(),   circuit_prune_command(),
          circuit_search_command()};
}

}  // namespace plumb::app
