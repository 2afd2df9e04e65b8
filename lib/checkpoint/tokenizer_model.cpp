// SentencePiece's tokenizer.model.
//
// Debian's libsentencepiece carries a protobuf of its own and exports its symbols, so that it and
// LibTorch, which links another, cannot live in one program. The format is small; what the library
// makes of a text, plumb's own models make of it too (tests/tokenizer/sentencepiece_test.cpp).
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <string_view>

#include "checkpoint/mapped_file.h"
#include "checkpoint/printable.h"
#include "checkpoint/protobuf.h"
#include "checkpoint/tokenizer_files.h"
#include "checkpoint/utf8.h"
#include "plumb/error.h"

namespace plumb {
namespace {

using Type = ProtoField::Type;

// Kinds of pieces and of models, numbered as in sentencepiece_model.proto.
enum : std::uint64_t {
  normal_piece = 1,
  unknown_piece,
  control_piece,
  user_defined_piece,
  unused_piece,
  byte_piece,
};
enum : std::uint64_t { unigram_model = 1, bpe_model, word_model, char_model };

struct Piece {
  std::string text = {};
  float score = 0;
  std::uint64_t type = normal_piece;
};

/// What a model file says, with the format's defaults.
struct Model {
  std::vector<Piece> pieces = {};
  std::uint64_t type = unigram_model;
  bool byte_fallback = false;
  bool space_behind = false;
  std::string bos = "<s>";
  std::string eos = "</s>";
  std::string charsmap = {};
  bool dummy_prefix = true;
  bool remove_extra_spaces = true;
  bool escape_spaces = true;
  bool denormalises = false;
};

class ModelReader {
 public:
  explicit ModelReader(std::string where) : where_(std::move(where)) {}

  Model read(std::string_view file) {
    ProtoReader reader(file, where_);
    while (const auto field = reader.next()) {
      switch (field->number) {
        case 1: model_.pieces.push_back(read_piece(bytes(*field, "pieces"))); break;
        case 2: read_trainer(bytes(*field, "trainer_spec")); break;
        case 3: read_normalizer(bytes(*field, "normalizer_spec")); break;
        case 5: read_denormalizer(bytes(*field, "denormalizer_spec")); break;
        default: break;  // self-test data and extensions
      }
      if (model_.pieces.size() > static_cast<std::size_t>(largest_token_id)) {
        bad(fmt::format("has more than {} pieces", largest_token_id));
      }
    }
    return std::move(model_);
  }

 private:
  [[noreturn]] void bad(const std::string& message) const {
    throw Error(ErrorKind::bad_file, fmt::format("{}: {}", where_, message));
  }

  std::string_view bytes(const ProtoField& field, const char* name) const {
    if (field.type != Type::bytes) bad(fmt::format("{} should be a message or text", name));
    return field.bytes;
  }
  std::uint64_t number(const ProtoField& field, const char* name) const {
    if (field.type != Type::varint) bad(fmt::format("{} should be a number", name));
    return field.value;
  }

  Piece read_piece(std::string_view message) const {
    const std::string name = fmt::format("piece {}", model_.pieces.size());
    Piece piece;
    ProtoReader reader(message, fmt::format("{}: {}", where_, name));
    while (const auto field = reader.next()) {
      if (field->number == 1) {
        piece.text = bytes(*field, name.c_str());
      } else if (field->number == 2) {
        if (field->type != Type::fixed32) bad(name + "'s score should be a float");
        piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(field->value));
      } else if (field->number == 3) {
        piece.type = number(*field, name.c_str());
      }
    }
    if (piece.text.empty()) bad(name + " has no text");
    for_each_utf8_stretch(piece.text, [&](std::string_view, bool well_formed) {
      if (!well_formed) bad(fmt::format("{} is {}, not UTF-8", name, printable(piece.text)));
    });
    if (!std::isfinite(piece.score)) bad(fmt::format("{} has the score {}", name, piece.score));
    return piece;
  }

  void read_trainer(std::string_view message) {
    ProtoReader reader(message, where_ + ": trainer_spec");
    while (const auto field = reader.next()) {
      switch (field->number) {
        case 3: model_.type = number(*field, "model_type"); break;
        case 24: model_.space_behind = number(*field, "treat_whitespace_as_suffix") != 0; break;
        case 35: model_.byte_fallback = number(*field, "byte_fallback") != 0; break;
        case 46: model_.bos = bytes(*field, "bos_piece"); break;
        case 47: model_.eos = bytes(*field, "eos_piece"); break;
        default: break;  // how the model was trained
      }
    }
  }

  void read_normalizer(std::string_view message) {
    ProtoReader reader(message, where_ + ": normalizer_spec");
    while (const auto field = reader.next()) {
      switch (field->number) {
        case 2: model_.charsmap = bytes(*field, "precompiled_charsmap"); break;
        case 3: model_.dummy_prefix = number(*field, "add_dummy_prefix") != 0; break;
        case 4: model_.remove_extra_spaces = number(*field, "remove_extra_whitespaces") != 0; break;
        case 5: model_.escape_spaces = number(*field, "escape_whitespaces") != 0; break;
        default: break;  // the rules that the charsmap was compiled from
      }
    }
  }

  void read_denormalizer(std::string_view message) {
    ProtoReader reader(message, where_ + ": denormalizer_spec");
    while (const auto field = reader.next()) {
      if (field->number == 2 && !bytes(*field, "precompiled_charsmap").empty()) {
        model_.denormalises = true;
      }
    }
  }

  std::string where_;
  Model model_;
};

void refuse_what_is_not_handled(const Model& model, const std::string& where) {
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: {}, which plumb does not handle", where, what));
  };
  if (model.type == word_model || model.type == char_model) {
    refuse(fmt::format("model_type is {}", model.type == word_model ? "WORD" : "CHAR"));
  }
  if (model.type != unigram_model && model.type != bpe_model) {
    refuse(fmt::format("model_type is {}", model.type));
  }
  if (model.space_behind) refuse("treat_whitespace_as_suffix is set");
  if (model.denormalises) refuse("denormalizer_spec has a charsmap");
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const Piece& piece = model.pieces[i];
    const bool known = piece.type >= normal_piece && piece.type <= byte_piece;
    if (!known || (piece.type == unused_piece && model.type == bpe_model)) {
      refuse(fmt::format("piece {} ({}) is of type {}", i, printable(piece.text), piece.type));
    }
  }
}

void add_pieces(const Model& model, TokenizerSpec& spec, SentencePieceRules& rules) {
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const Piece& piece = model.pieces[i];
    const auto id = static_cast<std::int64_t>(i);
    spec.vocab.emplace_back(piece.text, id);
    spec.scores.push_back(piece.score);
    const bool user_defined = piece.type == user_defined_piece;
    spec.user_defined.push_back(user_defined);
    spec.in_text.push_back(piece.type == normal_piece || user_defined);
    if (piece.type == unknown_piece) {
      if (spec.unknown) {
        throw Error(ErrorKind::bad_file,
                    fmt::format("{}: pieces {} and {} are both of type UNKNOWN", spec.where,
                                printable(*spec.unknown), printable(piece.text)));
      }
      spec.unknown = piece.text;
    }
    if (piece.type == control_piece && piece.text == model.bos) spec.bos = id;
    if (piece.type == control_piece && piece.text == model.eos) spec.eos = id;
    if (piece.type == control_piece || piece.type == unknown_piece) spec.special_ids.push_back(id);
    if (!user_defined) continue;
    rules.kept.add(piece.text, static_cast<std::int32_t>(i));
    // Among merges it is a token whatever stands beside it; unigram weighs it by its length.
    if (spec.model == ModelKind::scored_bpe) {
      spec.added.push_back({.content = piece.text, .id = id, .normalized = true, .exact = true});
    }
  }
  if (!spec.unknown) {
    throw Error(ErrorKind::bad_file, fmt::format("{}: no piece is of type UNKNOWN", spec.where));
  }
}

}  // namespace

TokenizerSpec read_tokenizer_model(const std::filesystem::path& path) {
  TokenizerSpec spec;
  spec.where = path.string();
  const std::string file = read_text(path, largest_tokenizer_file);
  const Model model = ModelReader(spec.where).read(file);
  refuse_what_is_not_handled(model, spec.where);
  spec.model = model.type == bpe_model ? ModelKind::scored_bpe : ModelKind::unigram;
  spec.fuse_unknown = true;
  spec.single_precision = true;
  spec.byte_fallback = model.byte_fallback;
  SentencePieceRules rules{.charsmap = std::make_shared<const Charsmap>(model.charsmap, spec.where),
                           .dummy_prefix = model.dummy_prefix,
                           .remove_extra_spaces = model.remove_extra_spaces,
                           .escape_spaces = model.escape_spaces};
  add_pieces(model, spec, rules);
  spec.normalizer.add(sentencepiece_step(std::move(rules)));
  if (model.escape_spaces) spec.decoding.replace = {{space_mark, " "}};
  spec.decoding.byte_tokens = model.byte_fallback;
  spec.decoding.strip = " ";
  spec.decoding.strip_begin = model.dummy_prefix ? 1 : 0;
  spec.adds_bos = spec.bos.has_value();
  return spec;
}

}  // namespace plumb
