// A checkpoint directory as large as any model, whose files are holes.
#pragma once

#include <cstdint>
#include <filesystem>

namespace plumb::test {

/// config.json and bfloat16 shards of the shapes of Llama 3.1 405B (126 layers, 811 GB), one shard
/// for each block; every weight is 0 and takes no space on the disk. False where the file system
/// does not allow it.
bool write_llama_405b(const std::filesystem::path& directory);

/// Largest resident memory of this process since the last `reset_peak`, in bytes.
std::int64_t peak_bytes();
void reset_peak();

}  // namespace plumb::test
