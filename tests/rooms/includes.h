// The rules of the house about who may include what.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace plumb::test {

/// Reads the includes of every source under `tree`'s lib/, apps/ and include/ and returns one line,
/// "file:line: why", for each that the rules forbid. `files_read` counts the sources seen.
std::vector<std::string> forbidden_includes(const std::filesystem::path& tree, int& files_read);

}  // namespace plumb::test
