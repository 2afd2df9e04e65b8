#include "support/golden_json.h"

#include <ATen/ATen.h>

#include <vector>

namespace plumb::test {

at::Tensor tensor_of(const nlohmann::json& nested) {
  if (!nested.is_array()) return at::scalar_tensor(nested.get<double>(), at::kDouble);
  std::vector<at::Tensor> parts;
  for (const auto& part : nested) parts.push_back(tensor_of(part));
  return at::stack(parts);
}

Pairs pairs_of(const nlohmann::json& golden) {
  std::vector<PairIds> list;
  for (std::size_t b = 0; b < golden.at("answers").size(); ++b) {
    list.push_back({.clean = golden.at("clean").at(b),
                    .corrupt = golden.at("corrupt").at(b),
                    .right = golden.at("answers").at(b).at(0),
                    .wrong = golden.at("answers").at(b).at(1)});
  }
  return make_pairs(list);
}

}  // namespace plumb::test
