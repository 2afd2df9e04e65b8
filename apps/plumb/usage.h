// Arguments as people mistype them: strict numbers, and the nearest word that would have been
// right.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace plumb::app {

/// The known word nearest to `word`, if it is near enough to have been meant; else empty.
std::string nearest(const std::string& word, const std::vector<std::string>& known);
/// "; did you mean '--seed'?" or nothing.
std::string did_you_mean(const std::string& word, const std::vector<std::string>& known);

/// A decimal whole number between the bounds. Throws bad_argument naming the flag.
std::int64_t whole(const std::string& flag, const std::string& text, std::int64_t least,
                   std::int64_t most);
std::uint64_t seed_number(const std::string& flag, const std::string& text);
/// A finite decimal number between the bounds.
double number(const std::string& flag, const std::string& text, double least, double most);
/// A size in bytes: a number, and K, M, G or T (powers of ten) or Ki, Mi, ... (of 1024), with or
/// without a B. At least one byte.
std::int64_t byte_size(const std::string& flag, const std::string& text);
/// One of the words. Throws bad_argument naming them.
std::string one_of(const std::string& flag, const std::string& text,
                   const std::vector<std::string>& words);

/// The parts between commas, empty ones too.
std::vector<std::string> comma_list(const std::string& text);

/// The arguments as one line that a shell would read the same way.
std::string quote(const std::vector<std::string>& arguments);

}  // namespace plumb::app
