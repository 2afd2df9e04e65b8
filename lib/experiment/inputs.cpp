#include "plumb/inputs.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/random.h"
#include "core/sha256.h"
#include "plumb/error.h"

namespace plumb {

namespace {

std::string digest(const Tokens& tokens) {
  Sha256 sha;
  const at::Tensor ids = tokens.ids.contiguous();
  sha.update(ids.data_ptr<std::int64_t>(),
             static_cast<std::size_t>(ids.numel()) * sizeof(std::int64_t));
  if (tokens.lengths.defined()) {
    const at::Tensor lengths = tokens.lengths.contiguous();
    sha.update(lengths.data_ptr<std::int64_t>(),
               static_cast<std::size_t>(lengths.numel()) * sizeof(std::int64_t));
  }
  return sha.hex();
}

}  // namespace

Bos parse_bos(const std::string& text) {
  if (text == "none") return {.kind = Bos::Kind::none};
  if (text == "native") return {.kind = Bos::Kind::native};
  std::int64_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc{} || end != text.data() + text.size() || id < 0) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("expected none, native or a token id for the BOS, got \"{}\"", text));
  }
  return {.kind = Bos::Kind::given, .id = id};
}

std::string to_string(const Bos& bos) {
  switch (bos.kind) {
    case Bos::Kind::none: return "none";
    case Bos::Kind::native: return "native";
    case Bos::Kind::given: return fmt::format("{}", bos.id);
  }
  return {};
}

std::optional<std::int64_t> bos_id(const Bos& bos, const Tokenizer* tokenizer) {
  if (bos.kind == Bos::Kind::given) return bos.id;
  if (bos.kind == Bos::Kind::native && tokenizer != nullptr && tokenizer->adds_bos()) {
    return tokenizer->bos();
  }
  return std::nullopt;
}

Inputs make_inputs(std::vector<std::vector<std::int64_t>> sequences, std::int64_t length,
                   std::optional<std::int64_t> bos, std::string kind) {
  if (length < 1) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("expected a sequence length of at least 1, got {}", length));
  }
  for (auto& sequence : sequences) {
    if (static_cast<std::int64_t>(sequence.size()) > length) {
      sequence.resize(static_cast<std::size_t>(length));
    }
    if (bos) sequence.insert(sequence.begin(), *bos);
  }
  Inputs inputs;
  inputs.tokens = make_tokens(sequences);
  inputs.kind = std::move(kind);
  inputs.bos = bos;
  inputs.sha256 = digest(inputs.tokens);
  return inputs;
}

std::vector<std::vector<std::int64_t>> encode_all(const Tokenizer& tokenizer,
                                                  const std::vector<std::string>& texts) {
  std::vector<std::vector<std::int64_t>> sequences;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    sequences.push_back(tokenizer.encode(texts[i]));
    if (sequences.back().empty()) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("text {} of {} gives no token; leave it out", i + 1, texts.size()));
    }
  }
  return sequences;
}

std::vector<std::vector<std::int64_t>> random_ids(std::int64_t count, std::int64_t length,
                                                  std::int64_t vocab, const Tokenizer* tokenizer,
                                                  std::uint64_t seed) {
  if (count < 1 || length < 1) {
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("expected at least one random sequence of at least one token, got {} of {}",
                    count, length));
  }
  std::vector<std::int64_t> allowed;
  for (std::int64_t id = 0; id < vocab; ++id) {
    if (tokenizer == nullptr || id >= tokenizer->size() || !tokenizer->is_special(id))
      allowed.push_back(id);
  }
  if (allowed.empty()) {
    throw Error(ErrorKind::bad_argument,
                "every token of this tokenizer is special, none is left to draw");
  }
  Random random(seed);
  std::vector<std::vector<std::int64_t>> sequences(static_cast<std::size_t>(count));
  for (auto& sequence : sequences) {
    for (std::int64_t t = 0; t < length; ++t) {
      sequence.push_back(allowed[static_cast<std::size_t>(
          random.below(static_cast<std::int64_t>(allowed.size())))]);
    }
  }
  return sequences;
}

Inputs head(const Inputs& inputs, std::int64_t count, std::int64_t length) {
  Inputs part = inputs;
  count = std::min(count, inputs.tokens.batch());
  length = std::min(length, inputs.tokens.length());
  part.tokens.ids = inputs.tokens.ids.narrow(0, 0, count).narrow(1, 0, length).contiguous();
  if (inputs.tokens.lengths.defined()) {
    part.tokens.lengths = inputs.tokens.lengths.narrow(0, 0, count).clamp_max(length);
  }
  part.sha256 = digest(part.tokens);
  return part;
}

}  // namespace plumb
