#include "fuzz/mutators.h"

#include <algorithm>

namespace plumb::fuzz {

std::string mutate_plainly(std::string_view text, std::size_t limit, Random& random) {
  const auto below = [&](std::size_t end) { return end == 0 ? 0 : random() % end; };
  std::string out(text);
  const std::size_t changes = 1 + below(3);
  for (std::size_t i = 0; i < changes; ++i) {
    const std::size_t at = below(out.size() + 1);
    const std::size_t some = std::min(1 + below(8), out.size() - at);
    switch (below(5)) {
      case 0: out.erase(at, some); break;
      case 1: out.insert(at, out.substr(at, some)); break;
      case 2: out.insert(at, 1, static_cast<char>(random())); break;
      case 3:
        if (at < out.size()) out[at] = static_cast<char>(out[at] ^ (1 << below(8)));
        break;
      default:
        if (at < out.size()) out[at] = static_cast<char>(random());
        break;
    }
  }
  out.resize(std::min(out.size(), limit));
  return out;
}

std::string mutate(std::string_view target, std::string_view input, const Mutation& mutation) {
  if (target == "safetensors") return mutate_safetensors(input, mutation);
  if (target == "gguf") return mutate_gguf(input, mutation);
  if (target == "tokenizer_model") return mutate_protobuf(input, mutation);
  if (target == "tokenizer_json") return mutate_jsons(input, mutation);
  if (target == "pairs_jsonl") return mutate_json_lines(input, mutation);
  return mutate_json(input, mutation);
}

}  // namespace plumb::fuzz
