#include "report/record_pieces.h"

#include <fmt/format.h>

#include <cstdint>
#include <vector>

namespace plumb::report {
namespace {

std::string show_indices(const std::vector<std::int64_t>& indices) {
  std::string text;
  for (std::size_t i = 0; i < indices.size();) {
    std::size_t end = i + 1;
    while (end < indices.size() && indices[end] == indices[end - 1] + 1) ++end;
    if (!text.empty()) text += ',';
    text += fmt::format("{}", indices[i]);
    if (end - i > 1) text += fmt::format("-{}", indices[end - 1]);
    i = end;
  }
  return text;
}

}  // namespace

const char* show_store(at::ScalarType store) {
  if (store == at::kHalf) return "f16";
  return store == at::kDouble ? "f64" : "f32";
}

std::string show_site(const SlicedSite& site) {
  std::string inside;
  const auto add = [&](char letter, const std::vector<std::int64_t>& indices) {
    if (indices.empty()) return;
    if (!inside.empty()) inside += ';';
    inside += fmt::format("{}={}", letter, show_indices(indices));
  };
  add('h', site.slice.heads);
  add('t', site.slice.positions);
  add('k', site.slice.keys);
  add('e', site.slice.experts);
  add('u', site.slice.units);
  const std::string name = to_string(site.site);
  return inside.empty() ? name : name + "[" + inside + "]";
}

}  // namespace plumb::report
