// Input files as text.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// The whole file. Throws bad_file if it is missing, unreadable or larger than 1 GiB.
std::string read_input(const std::filesystem::path& file);

/// Lines without their ends, "\n" or "\r\n".
std::vector<std::string> split_lines(const std::string& content);

/// The fields of the record of a CSV file that begins at `at`, which moves to where the next one
/// begins. Quoted fields may hold commas, doubled quotes and line ends.
std::vector<std::string> csv_record(std::string_view content, std::size_t& at);

}  // namespace plumb
