// plumb report: an archive as one HTML file.
#include "report.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "output.h"
#include "plumb/error.h"
#include "plumb/report_html.h"

namespace plumb::app {
namespace {

namespace fs = std::filesystem;

struct ReportFlags {
  Common common = {};
  std::string archive = {};
  std::string target = {};
};

/// The archive itself, or the one in the directory.
fs::path archive_at(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return path;
  for (const char* name : {"p0.h5", "sink.h5"}) {
    if (fs::exists(path / name, ignored)) return path / name;
  }
  throw Error(
      ErrorKind::bad_file,
      fmt::format("'{}' holds neither p0.h5 nor sink.h5; make one with plumb p0 or plumb sink",
                  path.string()));
}

int run_report(const ReportFlags& flags) {
  if (flags.archive.empty()) {
    throw Error(ErrorKind::bad_argument,
                "plumb report needs the archive of plumb p0 or plumb sink, or its directory");
  }
  const fs::path archive = archive_at(flags.archive);
  fs::path file = flags.target;
  if (flags.target.empty()) file = fs::path(archive).replace_extension(".html");
  std::error_code ignored;
  if (fs::equivalent(file, archive, ignored)) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("'{}' is the archive itself; --to names another file", file.string()));
  }
  const std::string page = html_report(archive);
  deliver([&] { write_file(file, page); },
          html_summary(archive, file, page.size(), flags.common.json));
  return 0;
}

}  // namespace

Command report_command() {
  return {"report", "Make one HTML page of what p0 or sink found",
          [](CLI::App& app, const std::string&) {
            const auto flags = std::make_shared<ReportFlags>();
            app.add_option(
                   "ARCHIVE", flags->archive,
                   "p0.h5 of plumb p0 or sink.h5 of plumb sink, or the directory that holds it")
                ->type_name("");
            offer(app, "--to", "FILE", "The page (the archive's name with .html, beside it)",
                  [flags](const std::string& text) { flags->target = text; });
            offer_json(app, flags->common);
            return [flags] { return run_report(*flags); };
          }};
}

}  // namespace plumb::app
