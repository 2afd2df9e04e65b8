// JSON from files: parsed under limits, read by field with one clear line on every mistake.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

using Json = nlohmann::json;

/// Parses one JSON document. `where` begins every message (a file's path). Throws bad_file when the
/// text is not JSON, nests deeper than `depth`, or names a key twice in one object.
Json parse_json(std::string_view text, const std::string& where, int depth = 64);

/// The fields of a JSON object. Every getter throws bad_file naming the field when its value has
/// the wrong type or lies outside the range; a field that is absent or null counts as not given.
class Fields {
 public:
  /// Throws bad_file when `object` is not an object. Keeps a reference to it.
  Fields(const Json& object, std::string where);

  const std::string& where() const { return where_; }
  const Json& json() const { return object_; }
  bool has(const std::string& field) const;
  /// The value, null when not given.
  const Json& raw(const std::string& field) const;

  std::int64_t integer(const std::string& field, std::int64_t low, std::int64_t high) const;
  std::int64_t integer(const std::string& field, std::int64_t low, std::int64_t high,
                       std::int64_t fallback) const;
  double number(const std::string& field, double low, double high) const;
  double number(const std::string& field, double low, double high, double fallback) const;
  bool flag(const std::string& field, bool fallback) const;
  std::string text(const std::string& field) const;
  std::string text(const std::string& field, const std::string& fallback) const;
  std::vector<std::int64_t> integers(const std::string& field, std::int64_t low,
                                     std::int64_t high) const;
  std::vector<std::string> texts(const std::string& field) const;
  /// An object inside this one.
  Fields object(const std::string& field) const;

  /// "PATH: field "x" should be EXPECTED, but is VALUE" as bad_file.
  [[noreturn]] void wrong(const std::string& field, const std::string& expected) const;
  /// "PATH: field "x" is VALUE, REASON" as unsupported.
  [[noreturn]] void unsupported(const std::string& field, const std::string& reason) const;

 private:
  const Json& needed(const std::string& field) const;

  const Json& object_;
  std::string where_;
};

}  // namespace plumb
