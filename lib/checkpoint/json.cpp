#include "checkpoint/json.h"

#include <fmt/format.h>

#include <unordered_set>
#include <utility>

#include "checkpoint/printable.h"
#include "plumb/error.h"

namespace plumb {
namespace {

[[noreturn]] void bad(const std::string& message) { throw Error(ErrorKind::bad_file, message); }

/// A value as it may stand in a message; containers by kind only, since they may be huge.
std::string describe(const Json& value) {
  if (value.is_null()) return "missing";
  if (value.is_object()) return "an object";
  if (value.is_array()) return fmt::format("a list of {}", value.size());
  if (value.is_string()) return printable(value.get_ref<const std::string&>());
  return value.dump();
}

// Goes through a text before it is made a document. Not as the parser's callback, with which every
// object that ends costs a walk over all its neighbours.
class Watcher final : public nlohmann::json_sax<Json> {
 public:
  Watcher(const std::string& where, int depth, std::size_t size)
      : where_(where), depth_(depth), size_(size) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override {
    enter();
    keys_.emplace_back();
    return true;
  }
  bool end_object() override {
    keys_.pop_back();
    --open_;
    return true;
  }
  bool start_array(std::size_t) override {
    enter();
    return true;
  }
  bool end_array() override {
    --open_;
    return true;
  }
  bool key(string_t& key) override {
    if (!keys_.back().insert(key).second)
      bad(fmt::format("{}: JSON key {} appears twice in one object", where_, printable(key)));
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
    if (const auto* const wrong = dynamic_cast<const Json::parse_error*>(&error)) {
      bad(fmt::format("{}: is not valid JSON: wrong at byte {} of {}", where_, wrong->byte, size_));
    }
    bad(fmt::format("{}: is not valid JSON: a number is out of range", where_));
  }

 private:
  void enter() {
    if (open_ >= depth_) bad(fmt::format("{}: JSON nests deeper than {} levels", where_, depth_));
    ++open_;
  }

  const std::string& where_;
  int depth_;
  std::size_t size_;
  int open_ = 0;
  std::vector<std::unordered_set<std::string>> keys_ = {};
};

}  // namespace

Json parse_json(std::string_view text, const std::string& where, int depth) {
  Watcher watcher(where, depth, text.size());
  Json::sax_parse(text, &watcher);
  try {
    return Json::parse(text);
  } catch (const Json::exception&) {
    bad(fmt::format("{}: is not valid JSON", where));
  }
}

Fields::Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object.is_object()) {
    bad(fmt::format("{}: should be a JSON object, but is {}", where_, describe(object)));
  }
}

const Json& Fields::raw(const std::string& field) const {
  static const Json nothing;
  const auto found = object_.find(field);
  return found == object_.end() ? nothing : *found;
}

bool Fields::has(const std::string& field) const { return !raw(field).is_null(); }

const Json& Fields::needed(const std::string& field) const {
  const Json& value = raw(field);
  if (value.is_null()) bad(fmt::format("{}: field {} is missing", where_, printable(field)));
  return value;
}

void Fields::wrong(const std::string& field, const std::string& expected) const {
  bad(fmt::format("{}: field {} should be {}, but is {}", where_, printable(field), expected,
                  describe(raw(field))));
}

void Fields::unsupported(const std::string& field, const std::string& reason) const {
  throw Error(ErrorKind::unsupported, fmt::format("{}: field {} is {}, {}", where_,
                                                  printable(field), describe(raw(field)), reason));
}

std::int64_t Fields::integer(const std::string& field, std::int64_t low, std::int64_t high) const {
  const Json& value = needed(field);
  // Unsigned values beyond int64 would wrap in get<int64_t>().
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() ||
                     value.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX));
  if (!fits || value.get<std::int64_t>() < low || value.get<std::int64_t>() > high) {
    wrong(field, fmt::format("an integer from {} to {}", low, high));
  }
  return value.get<std::int64_t>();
}

std::int64_t Fields::integer(const std::string& field, std::int64_t low, std::int64_t high,
                             std::int64_t fallback) const {
  return has(field) ? integer(field, low, high) : fallback;
}

double Fields::number(const std::string& field, double low, double high) const {
  const Json& value = needed(field);
  if (!value.is_number() || !(value.get<double>() >= low && value.get<double>() <= high)) {
    wrong(field, fmt::format("a number from {} to {}", low, high));
  }
  return value.get<double>();
}

double Fields::number(const std::string& field, double low, double high, double fallback) const {
  return has(field) ? number(field, low, high) : fallback;
}

bool Fields::flag(const std::string& field, bool fallback) const {
  if (!has(field)) return fallback;
  const Json& value = raw(field);
  if (!value.is_boolean()) wrong(field, "true or false");
  return value.get<bool>();
}

std::string Fields::text(const std::string& field) const {
  const Json& value = needed(field);
  if (!value.is_string()) wrong(field, "a string");
  return value.get<std::string>();
}

std::string Fields::text(const std::string& field, const std::string& fallback) const {
  return has(field) ? text(field) : fallback;
}

std::vector<std::int64_t> Fields::integers(const std::string& field, std::int64_t low,
                                           std::int64_t high) const {
  const Json& value = needed(field);
  if (!value.is_array()) wrong(field, "a list of integers");
  std::vector<std::int64_t> out;
  out.reserve(value.size());
  for (const Json& element : value) {
    const bool fits = element.is_number_integer() &&
                      (!element.is_number_unsigned() ||
                       element.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX));
    if (!fits || element.get<std::int64_t>() < low || element.get<std::int64_t>() > high) {
      wrong(field, fmt::format("a list of integers from {} to {}", low, high));
    }
    out.push_back(element.get<std::int64_t>());
  }
  return out;
}

std::vector<std::string> Fields::texts(const std::string& field) const {
  const Json& value = needed(field);
  if (!value.is_array()) wrong(field, "a list of strings");
  std::vector<std::string> out;
  out.reserve(value.size());
  for (const Json& element : value) {
    if (!element.is_string()) wrong(field, "a list of strings");
    out.push_back(element.get<std::string>());
  }
  return out;
}

Fields Fields::object(const std::string& field) const {
  const Json& value = needed(field);
  if (!value.is_object()) wrong(field, "an object");
  return Fields(value, fmt::format("{}: {}", where_, field));
}

}  // namespace plumb
