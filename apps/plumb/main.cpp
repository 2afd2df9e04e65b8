// The program: finds the subcommand and hands it its arguments.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "circuit.h"
#include "edit.h"
#include "failure.h"
#include "mix.h"
#include "output.h"
#include "plumb/error.h"
#include "plumb/machine.h"
#include "plumb/ranks.h"
#include "plumb/version.h"
#include "report.h"
#include "shared.h"
#include "usage.h"

namespace plumb::app {
namespace {

using Arguments = std::vector<std::string>;

std::vector<Command> commands() {
  return {attribute_command(), convert_command(), edit_command(),   inspect_command(),
          p0_command(),        mix_command(),     pairs_command(),  patch_command(),
          plant_command(),     record_command(),  report_command(), sink_command(),
          trace_command(),     train_command()};
}

std::vector<std::string> command_names() {
  std::vector<std::string> names = {"circuit"};
  for (const Command& command : commands()) names.push_back(command.name);
  return names;
}

std::string help() {
  std::string text =
      "plumb traces which component of a language model writes what, and what drains into the "
      "sink\n"
      "at position 0.\n\n"
      "Usage: plumb COMMAND [MODEL] [FLAGS]\n\n";
  text += fmt::format("  {:<9} {}\n", "circuit",
                      "Circuits of edges: convert, prune, evaluate, compare, paths, draw");
  for (const Command& command : commands()) {
    text += fmt::format("  {:<9} {}\n", command.name, command.summary);
  }
  text +=
      "\n  --help     this page; `plumb COMMAND --help` lists the command's flags\n"
      "  --version  the version\n\n"
      "Start with `plumb p0`: it finds, takes apart and tests the sink circuit of a model.\n";
  return text;
}

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::bad_argument, message);
}

bool is_flag(const std::string& argument) { return argument.size() > 1 && argument.front() == '-'; }

std::string flag_name(const std::string& argument) {
  return argument.substr(0, argument.find('='));
}

bool among(const std::string& name, const Arguments& list) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

bool is_global(const std::string& name) {
  return among(name, global_flags_with_value()) || among(name, global_switches());
}

/// Moves global flags that stand before the subcommand behind it; the first element is then the
/// subcommand. Empty when there is none.
Arguments command_first(const Arguments& arguments) {
  const auto& with_value = global_flags_with_value();
  const auto& switches = global_switches();
  std::size_t at = 0;
  while (at < arguments.size() && is_flag(arguments[at])) {
    const std::string name = flag_name(arguments[at]);
    if (!is_global(name)) {
      Arguments known = with_value;
      known.insert(known.end(), switches.begin(), switches.end());
      known.insert(known.end(), {"--help", "--version"});
      refuse(
          fmt::format("unknown flag '{}' before the command{}", name, did_you_mean(name, known)));
    }
    at += among(name, with_value) && name == arguments[at] ? 2 : 1;
  }
  if (at >= arguments.size()) return {};
  Arguments ordered = {arguments[at]};
  const auto place = arguments.begin() + static_cast<std::ptrdiff_t>(at);
  ordered.insert(ordered.end(), arguments.begin(), place);
  ordered.insert(ordered.end(), place + 1, arguments.end());
  return ordered;
}

std::vector<std::string> flags_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

int run_command(const Command& command, Arguments arguments, const std::string& command_line) {
  CLI::App app(command.summary, "plumb " + command.name);
  app.get_formatter()->column_width(28);
  app.set_help_flag("--help,-h", "This page");
  app.allow_extras();
  const std::function<int()> run = command.set_up(app, command_line);
  std::reverse(arguments.begin(), arguments.end());  // what CLI11 asks of a vector
  try {
    app.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    print(app.help());
    return 0;
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string text = error.what();
    refuse(text.substr(0, text.find(':')) + " expects a value");
  } catch (const CLI::ParseError& error) {
    refuse(error.what());
  }
  const Arguments left = app.remaining();
  const auto unknown = std::find_if(left.begin(), left.end(), is_flag);
  if (unknown != left.end()) {
    const std::string name = flag_name(*unknown);
    if (name == "--layers" && command.name != "plant") {
      refuse(fmt::format("plumb {} needs every layer of the model", command.name));
    }
    if (is_global(name)) refuse(fmt::format("{} means nothing to plumb {}", name, command.name));
    refuse(fmt::format("unknown flag '{}' for plumb {}{}", name, command.name,
                       did_you_mean(name, flags_of(app))));
  }
  if (!left.empty()) {
    refuse(fmt::format("unexpected argument '{}' for plumb {}", left.front(), command.name));
  }
  return run();
}

std::string circuit_help() {
  std::string text =
      "Circuits of edges, and the files of them.\n\nUsage: plumb circuit GROUP ...\n\n";
  for (const Command& command : circuit_commands()) {
    text += fmt::format("  {:<9} {}\n", command.name.substr(command.name.find(' ') + 1),
                        command.summary);
  }
  return text + "\n`plumb circuit GROUP --help` lists the group's flags.\n";
}

// plumb circuit GROUP ...
int dispatch_circuit(Arguments arguments, const std::string& command_line) {
  if (among("--help", arguments) || among("-h", arguments)) {
    if (is_flag(arguments.front())) {
      print(circuit_help());
      return 0;
    }
  }
  Arguments ordered = command_first(arguments);
  if (ordered.empty()) refuse("plumb circuit needs a group; plumb circuit --help lists them");
  const std::string name = ordered.front();
  ordered.erase(ordered.begin());
  std::vector<std::string> names;
  for (const Command& command : circuit_commands()) {
    names.push_back(command.name.substr(command.name.find(' ') + 1));
    if (names.back() == name) return run_command(command, std::move(ordered), command_line);
  }
  refuse(fmt::format("unknown group '{}' of plumb circuit{}", name, did_you_mean(name, names)));
}

int dispatch(const Arguments& arguments, const std::string& command_line) {
  if (!arguments.empty() && (arguments.front() == "--help" || arguments.front() == "-h")) {
    print(help());
    return 0;
  }
  if (!arguments.empty() && arguments.front() == "--version") {
    print(fmt::format("plumb {}\n", version()));
    return 0;
  }
  Arguments ordered = command_first(arguments);
  if (ordered.empty()) refuse("no command given; plumb --help lists them");
  const std::string name = ordered.front();
  ordered.erase(ordered.begin());
  if (name != "patch" && name != "attribute" && Ranks::started() > 1) {
    refuse(fmt::format("plumb {} does not share its work among processes; run it without mpirun",
                       name));
  }
  if (name == "circuit") return dispatch_circuit(std::move(ordered), command_line);
  for (const Command& command : commands()) {
    if (command.name == name) return run_command(command, std::move(ordered), command_line);
  }
  refuse(fmt::format("unknown command '{}'{}", name, did_you_mean(name, command_names())));
}

/// Ends the program without taking LibTorch's tables of operators apart one by one, which takes
/// longer than many a command. Sanitizers look for leaks in what is left undone here.
int leave(int code) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  std::fflush(nullptr);
  std::_Exit(code);
#endif
  return code;
}

}  // namespace
}  // namespace plumb::app

int main(int argc, char** argv) {
  plumb::restart_with_right_blas(argv);
  std::signal(SIGPIPE, SIG_DFL);
  plumb::app::catch_signals();
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  std::vector<std::string> line = arguments;
  line.insert(line.begin(), "plumb");
  try {
    return plumb::app::leave(plumb::app::dispatch(arguments, plumb::app::quote(line)));
  } catch (...) {
    return plumb::app::leave(plumb::app::tell_failure());
  }
}
