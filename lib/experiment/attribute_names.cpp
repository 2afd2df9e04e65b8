// The names of what attribution offers.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/printable.h"
#include "plumb/attribute.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr std::array<std::pair<const char*, EdgeMethod>, 6> edge_methods = {{
    {"eap", EdgeMethod::eap},
    {"eap-ig", EdgeMethod::eap_ig},
    {"eap-ig-activations", EdgeMethod::eap_ig_activations},
    {"clean-corrupted", EdgeMethod::clean_corrupted},
    {"direct", EdgeMethod::direct},
    {"exact", EdgeMethod::exact},
}};
constexpr std::array<std::pair<const char*, IgPoints>, 4> points = {{
    {"left", IgPoints::left},
    {"right", IgPoints::right},
    {"midpoint", IgPoints::midpoint},
    {"trapezoid", IgPoints::trapezoid},
}};

constexpr std::array<std::pair<const char*, EdgeRules>, 3> rule_sets = {{
    {"gradient", EdgeRules::gradient},
    {"relp", EdgeRules::relp},
    {"relp-ah", EdgeRules::relp_ah},
}};

template <class Table, class Value>
const char* name_in(const Table& table, Value value) {
  for (const auto& [name, known] : table) {
    if (known == value) return name;
  }
  return "";
}

template <class Table>
auto value_in(const Table& table, const std::string& text, const char* what) {
  std::vector<std::string> names;
  for (const auto& [name, value] : table) {
    if (text == name) return value;
    names.emplace_back(name);
  }
  throw Error(ErrorKind::bad_argument, fmt::format("expected {} among {}, got {}", what,
                                                   fmt::join(names, ", "), printable(text)));
}

}  // namespace

const char* to_string(EdgeMethod method) noexcept { return name_in(edge_methods, method); }
EdgeMethod parse_edge_method(const std::string& text) {
  return value_in(edge_methods, text, "a method");
}
bool is_estimate(EdgeMethod method) noexcept {
  return method != EdgeMethod::direct && method != EdgeMethod::exact;
}
const char* to_string(IgPoints of) noexcept { return name_in(points, of); }
IgPoints parse_ig_points(const std::string& text) {
  return value_in(points, text, "points of integration");
}

const char* to_string(EdgeRules rules) noexcept { return name_in(rule_sets, rules); }
EdgeRules parse_edge_rules(const std::string& text) { return value_in(rule_sets, text, "rules"); }

}  // namespace plumb
