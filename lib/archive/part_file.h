// The file that an archive is while it is being written.
#pragma once

#include <filesystem>

namespace plumb {

/// Opens the file, empty, and locks it against a second writer. -1 and errno where that fails,
/// EWOULDBLOCK if somebody writes it.
int open_exclusively(const std::filesystem::path& part);

/// A rename is on the disk only when its directory is. Where directories cannot be synced (some
/// network file systems) the rename is still atomic, so a failure here is not reported.
void sync_directory(const std::filesystem::path& directory);

}  // namespace plumb
