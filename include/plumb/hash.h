// SHA-256 of bytes.
#pragma once

#include <cstddef>
#include <string>

namespace plumb {

/// SHA-256 of `size` bytes at `data`, as 64 lower-case hexadecimal digits.
std::string sha256_hex(const void* data, std::size_t size);

}  // namespace plumb
