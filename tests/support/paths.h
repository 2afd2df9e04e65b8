// Where tests find the files they need.
#pragma once

#include <filesystem>
#include <string>

namespace plumb::test {

/// The project's own tree (bundled data and golden files).
std::filesystem::path source_dir();

/// Optional material beside the checkout, `../shared`; may not exist.
std::filesystem::path shared_dir();

/// A model that `data/models/get` fetches: below $PLUMB_MODELS, else where that script puts it.
/// May not exist.
std::filesystem::path model_file(const std::string& name);

/// A fresh empty directory, removed when the test program ends.
std::filesystem::path scratch_dir();

}  // namespace plumb::test
