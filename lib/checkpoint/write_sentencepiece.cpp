// SentencePiece's BPE as a tokenizer.json: scores become ranks of merges.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "checkpoint/printable.h"
#include "checkpoint/write_tokenizer.h"
#include "plumb/error.h"

namespace plumb {
namespace {

/// One way to put a token together.
struct Joint {
  double score = 0;
  std::int64_t token = 0;
  std::int64_t left = 0;
  std::int64_t right = 0;
  std::string_view first = {};
  std::string_view second = {};
};

[[noreturn]] void unsupported(const TokenizerSpec& spec, const std::string& message) {
  throw Error(ErrorKind::unsupported, fmt::format("{}: {}", spec.where, message));
}

/// All ways to put the tokens together. Those that are found before any merging are left out, and
/// those with a plain space, which the text has no more.
std::vector<Joint> joints_of(const TokenizerSpec& spec) {
  std::unordered_set<std::int64_t> found_first;
  for (const AddedToken& token : spec.added) found_first.insert(token.id);
  std::unordered_map<std::string_view, std::int64_t> parts;
  std::vector<std::size_t> merged;
  for (std::size_t i = 0; i < spec.vocab.size(); ++i) {
    const auto& [token, id] = spec.vocab[i];
    if (found_first.contains(id) || token.find(' ') != std::string::npos) continue;
    parts.emplace(token, id);
    merged.push_back(i);
  }
  std::vector<Joint> joints;
  for (const std::size_t i : merged) {
    const auto& [token, id] = spec.vocab[i];
    const std::string_view whole = token;
    for (std::size_t at = 1; at < whole.size(); ++at) {
      const auto left = parts.find(whole.substr(0, at));
      const auto right = left == parts.end() ? left : parts.find(whole.substr(at));
      if (right == parts.end()) continue;
      joints.push_back(
          {spec.scores[i], id, left->second, right->second, left->first, right->first});
    }
  }
  return joints;
}

/// Highest score first. SentencePiece takes the leftmost of equal scores, where a rank takes the
/// lower: the ways to one token are a matter of order only in runs of repeated text, two tokens of
/// one score everywhere.
Json merges_of(const TokenizerSpec& spec) {
  std::vector<Joint> joints = joints_of(spec);
  std::sort(joints.begin(), joints.end(), [](const Joint& a, const Joint& b) {
    return std::tuple(-a.score, a.token, a.left, a.right) <
           std::tuple(-b.score, b.token, b.left, b.right);
  });
  Json merges = Json::array();
  for (std::size_t i = 0; i < joints.size(); ++i) {
    const Joint& joint = joints[i];
    if (i > 0 && joints[i - 1].score == joint.score && joints[i - 1].token != joint.token) {
      unsupported(spec, fmt::format("tokens {} and {} have the same score, {}, but tokenizer.json "
                                    "has a rank of its own for each",
                                    joints[i - 1].token, joint.token, joint.score));
    }
    merges.push_back(fmt::format("{} {}", joint.first, joint.second));
  }
  return merges;
}

}  // namespace

Json sentencepiece_model_json(const TokenizerSpec& spec) {
  if (!spec.unknown && !spec.byte_fallback) {
    unsupported(spec, "has no token for text that the vocabulary lacks");
  }
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", spec.unknown ? Json(*spec.unknown) : Json()},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", spec.fuse_unknown},
          {"byte_fallback", spec.byte_fallback},
          {"ignore_merges", false},
          {"merges", merges_of(spec)}};
}

Json sentencepiece_normalizer_json(const TokenizerSpec& spec) {
  Json steps = Json::array();
  if (spec.decoding.strip_begin > 0)
    steps.push_back({{"type", "Prepend"}, {"prepend", space_mark}});
  steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", space_mark}});
  return {{"type", "Sequence"}, {"normalizers", steps}};
}

Json sentencepiece_decoder_json(const TokenizerSpec& spec) {
  Json steps = {{{"type", "Replace"}, {"pattern", {{"String", space_mark}}}, {"content", " "}},
                {{"type", "ByteFallback"}},
                {{"type", "Fuse"}}};
  if (spec.decoding.strip_begin > 0) {
    steps.push_back(
        {{"type", "Strip"}, {"content", " "}, {"start", spec.decoding.strip_begin}, {"stop", 0}});
  }
  return {{"type", "Sequence"}, {"decoders", steps}};
}

}  // namespace plumb
