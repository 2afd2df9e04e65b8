// Input files as text.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace plumb {

/// The whole file. Throws bad_file if it is missing, unreadable or larger than 1 GiB.
std::string read_input(const std::filesystem::path& file);

/// Lines without their ends, "\n" or "\r\n".
std::vector<std::string> split_lines(const std::string& content);

}  // namespace plumb
