// An archive as one HTML file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace plumb {

/// What an archive of `plumb p0` or `plumb sink` holds, as one HTML page that loads nothing:
/// verdict and ladder, maps of sinks, profiles, attention, interventions, circuit, provenance.
/// Under 3 MB (what is cut for that is told in it); parts that the archive lacks are told as well;
/// all text is escaped, and only the page's own script may run. The same archive gives the same
/// bytes.
///
/// Throws bad_file if the archive is missing, damaged, or not made by plumb; unsupported if it is
/// that of another command.
std::string html_report(const std::filesystem::path& archive);

/// One line that says where the page is and how large, or a JSON document.
std::string html_summary(const std::filesystem::path& archive, const std::filesystem::path& page,
                         std::size_t bytes, bool json);

}  // namespace plumb
