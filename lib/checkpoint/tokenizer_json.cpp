// The tokenizer.json of the `tokenizers` library.
#include <fmt/format.h>

#include <string_view>

#include "checkpoint/json.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/printable.h"
#include "checkpoint/tokenizer_files.h"
#include "plumb/error.h"

namespace plumb {
namespace {

const std::string not_handled = "which plumb does not handle";

[[noreturn]] void bad(const std::string& message) { throw Error(ErrorKind::bad_file, message); }

void refuse_when_set(const Fields& fields, const std::string& field) {
  const Json& value = fields.raw(field);
  const bool unset =
      value.is_null() || value == "" || value == false || (value.is_number() && value == 0);
  if (!unset) fields.unsupported(field, not_handled);
}

void read_bpe(const Fields& model, TokenizerSpec& spec) {
  for (const char* field : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    refuse_when_set(model, field);
  }
  spec.ignore_merges = model.flag("ignore_merges", false);
  spec.fuse_unknown = model.flag("fuse_unk", false);
  spec.byte_fallback = model.flag("byte_fallback", false);
  if (model.has("unk_token")) spec.unknown = model.text("unk_token");

  const Fields vocab = model.object("vocab");
  spec.vocab.reserve(vocab.json().size());
  for (const auto& [token, id] : vocab.json().items()) {
    spec.vocab.emplace_back(token, vocab.integer(token, 0, largest_token_id));
  }

  const Json& merges = model.raw("merges");
  if (!merges.is_array()) model.wrong("merges", "a list");
  spec.merges.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const Json& merge = merges[i];
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      if (i == 0 && text.starts_with("#version")) continue;
      spec.merges.push_back(split_merge(text, model.where(), i));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      spec.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    } else {
      bad(fmt::format("{}: merge {} should be a string or a pair of strings", model.where(), i));
    }
  }
}

void read_unigram(const Fields& model, TokenizerSpec& spec) {
  spec.model = ModelKind::unigram;
  spec.fuse_unknown = true;
  spec.byte_fallback = model.flag("byte_fallback", false);
  const Json& vocab = model.raw("vocab");
  if (!vocab.is_array()) model.wrong("vocab", "a list");
  if (vocab.size() > static_cast<std::size_t>(largest_token_id)) {
    model.wrong("vocab", fmt::format("a list of at most {} tokens", largest_token_id));
  }
  spec.vocab.reserve(vocab.size());
  spec.scores.reserve(vocab.size());
  for (std::size_t i = 0; i < vocab.size(); ++i) {
    const Json& entry = vocab[i];
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      bad(fmt::format("{}: vocab[{}] should be a string and a score", model.where(), i));
    }
    spec.vocab.emplace_back(entry[0].get<std::string>(), static_cast<std::int64_t>(i));
    spec.scores.push_back(entry[1].get<double>());
  }
  if (model.has("unk_id")) {
    const std::int64_t last = static_cast<std::int64_t>(vocab.size()) - 1;
    const auto id = static_cast<std::size_t>(model.integer("unk_id", 0, last));
    spec.unknown = spec.vocab[id].first;
  }
}

void read_model(const Fields& model, TokenizerSpec& spec) {
  // Old files leave the type out; they are all BPE.
  const std::string type = model.text("type", "BPE");
  if (type == "BPE") return read_bpe(model, spec);
  if (type == "Unigram") return read_unigram(model, spec);
  model.unsupported("type", "but plumb reads BPE and Unigram");
}

void read_added_tokens(const Fields& top, TokenizerSpec& spec) {
  const Json& list = top.raw("added_tokens");
  if (list.is_null()) return;
  if (!list.is_array()) top.wrong("added_tokens", "a list");
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Fields fields(list[i], fmt::format("{}: added_tokens[{}]", top.where(), i));
    spec.added.push_back(read_added_token(fields, fields.integer("id", 0, largest_token_id)));
  }
}

/// A TemplateProcessing puts special tokens around the text: the one in front is the BOS.
void read_template(const Fields& processor, TokenizerSpec& spec) {
  const Json& single = processor.raw("single");
  if (!single.is_array()) processor.wrong("single", "a list");
  std::vector<std::string> leading;
  std::size_t texts = 0;
  std::size_t trailing = 0;
  for (const Json& part : single) {
    const Fields fields(part, processor.where() + ": single");
    if (fields.has("Sequence")) {
      ++texts;
    } else if (texts == 0) {
      leading.push_back(fields.object("SpecialToken").text("id"));
    } else {
      ++trailing;
    }
  }
  if (texts != 1) processor.unsupported("single", "where the text does not stand once");
  spec.adds_eos = trailing > 0;
  if (leading.empty()) return;
  if (leading.size() > 1) {
    processor.unsupported("single", "with more than one token in front of the text");
  }
  const Fields token = processor.object("special_tokens").object(leading.front());
  const std::vector<std::int64_t> ids = token.integers("ids", 0, largest_token_id);
  if (ids.size() != 1) token.wrong("ids", "a list of one id");
  spec.bos = ids.front();
  spec.adds_bos = true;
}

/// Those of BERT and RoBERTa: `cls` in front and `sep` behind.
void read_cls_and_sep(const Fields& processor, TokenizerSpec& spec) {
  const Json& cls = processor.raw("cls");
  if (!cls.is_array() || cls.size() != 2 || !cls[1].is_number_integer()) {
    processor.wrong("cls", "a token and its id");
  }
  spec.bos = cls[1].get<std::int64_t>();
  spec.adds_bos = true;
  spec.adds_eos = true;
}

void read_post_processor(const Fields& top, TokenizerSpec& spec) {
  if (!top.has("post_processor")) return;
  for (const Fields& step : sequence_of(top.object("post_processor"), "processors")) {
    const std::string type = step.text("type");
    if (type == "TemplateProcessing") {
      read_template(step, spec);
    } else if (type == "RobertaProcessing" || type == "BertProcessing") {
      read_cls_and_sep(step, spec);
    } else if (type != "ByteLevel") {  // which trims offsets only
      step.unsupported("type", "a post-processor that plumb does not handle");
    }
  }
}

}  // namespace

std::pair<std::string, std::string> split_merge(std::string_view text, const std::string& where,
                                                std::size_t index) {
  const std::size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos ||
      space == 0 || space + 1 == text.size()) {
    bad(fmt::format("{}: merge {} should be two tokens with one space between, but is {}", where,
                    index, printable(text)));
  }
  return {std::string(text.substr(0, space)), std::string(text.substr(space + 1))};
}

AddedToken read_added_token(const Fields& fields, std::int64_t id) {
  AddedToken token;
  token.content = fields.text("content");
  token.id = id;
  token.special = fields.flag("special", false);
  token.normalized = fields.flag("normalized", !token.special);
  token.rules = {.single_word = fields.flag("single_word", false),
                 .takes_left = fields.flag("lstrip", false),
                 .takes_right = fields.flag("rstrip", false)};
  if (token.content.empty()) fields.wrong("content", "a string that is not empty");
  return token;
}

TokenizerSpec read_tokenizer_json(const std::filesystem::path& path) {
  TokenizerSpec spec;
  spec.where = path.string();
  const Json document = parse_json(read_text(path, largest_tokenizer_file), spec.where);
  const Fields top(document, spec.where);
  read_model(top.object("model"), spec);
  read_text_steps(top, spec);
  read_added_tokens(top, spec);
  read_post_processor(top, spec);
  return spec;
}

}  // namespace plumb
