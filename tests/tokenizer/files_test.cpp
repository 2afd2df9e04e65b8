// Damaged, hostile and unsupported tokenizer files: one clear line each.
#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "support/paths.h"
#include "tokenizer/support.h"

namespace plumb {
namespace {

using nlohmann::json;
using test::Refusal;
using test::refusal_of;

struct Case {
  std::string name;
  std::function<void(json&)> change;
  ErrorKind kind;
  std::vector<std::string> says;  ///< parts of the message
};

void expect_refusal(const Refusal& refusal, const Case& expected) {
  EXPECT_EQ(refusal.kind, expected.kind) << expected.name << ": " << refusal.message;
  for (const std::string& part : expected.says) {
    EXPECT_NE(refusal.message.find(part), std::string::npos)
        << expected.name << ": " << refusal.message;
  }
  EXPECT_EQ(refusal.message.find('\n'), std::string::npos) << expected.name;
  EXPECT_LT(refusal.message.size(), 600U) << expected.name;
}

json added(const json& content, const json& id) {
  return {{"content", content}, {"id", id}, {"special", true}};
}

TEST(TokenizerFiles, RefusesWhatIsDamaged) {
  const auto bad = ErrorKind::bad_file;
  const std::vector<Case> cases = {
      {"no model", [](json& f) { f.erase("model"); }, bad, {"tokenizer.json", "\"model\""}},
      {"model is a list", [](json& f) { f["model"] = json::array(); }, bad, {"\"model\""}},
      {"no vocab", [](json& f) { f["model"].erase("vocab"); }, bad, {"\"vocab\""}},
      {"vocab is text", [](json& f) { f["model"]["vocab"] = "x"; }, bad, {"\"vocab\""}},
      {"no merges", [](json& f) { f["model"].erase("merges"); }, bad, {"\"merges\""}},
      {"id is text", [](json& f) { f["model"]["vocab"]["a"] = "1"; }, bad, {"\"a\""}},
      {"id is negative", [](json& f) { f["model"]["vocab"]["a"] = -1; }, bad, {"\"a\"", "-1"}},
      {"id is huge", [](json& f) { f["model"]["vocab"]["a"] = 4'000'000'000'000; }, bad, {"\"a\""}},
      {"id beyond 64 bits", [](json& f) { f["model"]["vocab"]["a"] = 1e30; }, bad, {"\"a\""}},
      {"id twice",
       [](json& f) { f["model"]["vocab"]["a"] = f["model"]["vocab"]["b"]; },
       bad,
       {"two tokens have the id"}},
      {"merge of an unknown token",
       [](json& f) {
         f["model"]["merges"] = {"a b", "ab zz"};
       },
       bad,
       {"merge 1", "\"zz\""}},
      {"merge into an unknown token",
       [](json& f) { f["model"]["merges"] = {"a c"}; },
       bad,
       {"merge 0", "\"ac\""}},
      {"merge without a space", [](json& f) { f["model"]["merges"] = {"ab"}; }, bad, {"merge 0"}},
      {"merge of three", [](json& f) { f["model"]["merges"] = {"a b c"}; }, bad, {"merge 0"}},
      {"merge of nothing", [](json& f) { f["model"]["merges"] = {" a"}; }, bad, {"merge 0"}},
      {"merge is a number", [](json& f) { f["model"]["merges"] = {7}; }, bad, {"merge 0"}},
      {"merge is a triple",
       [](json& f) {
         f["model"]["merges"] = {{"a", "b", "c"}};
       },
       bad,
       {"merge 0"}},
      {"unknown token unknown",
       [](json& f) { f["model"]["unk_token"] = "<unk>"; },
       bad,
       {"unk_token", "<unk>"}},
      {"added tokens are text", [](json& f) { f["added_tokens"] = "x"; }, bad, {"added_tokens"}},
      {"added token is text", [](json& f) { f["added_tokens"] = {"x"}; }, bad, {"added_tokens[0]"}},
      {"added token empty",
       [](json& f) { f["added_tokens"] = {added("", 300)}; },
       bad,
       {"\"content\""}},
      {"added id huge",
       [](json& f) { f["added_tokens"] = {added("<a>", 1 << 30)}; },
       bad,
       {"\"id\""}},
      {"added id taken",
       [](json& f) { f["added_tokens"] = {added("<a>", 5)}; },
       bad,
       {"<a>", "contradicts"}},
      {"added token elsewhere",
       [](json& f) { f["added_tokens"] = {added("ab", 300)}; },
       bad,
       {"ab", "contradicts"}},
      {"added twice",
       [](json& f) {
         f["added_tokens"] = {added("<a>", 300), added("<a>", 301)};
       },
       bad,
       {"contradicts"}},
      {"flag is text",
       [](json& f) { f["pre_tokenizer"]["use_regex"] = "yes"; },
       bad,
       {"\"use_regex\""}},
      {"split without a pattern",
       [](json& f) {
         f["pre_tokenizer"] = {
             {"type", "Sequence"},
             {"pretokenizers",
              {{{"type", "Split"}, {"behavior", "Isolated"}}, {{"type", "ByteLevel"}}}}};
       },
       bad,
       {"pretokenizers[0]", "\"pattern\""}},
  };
  for (const Case& each : cases) {
    json file = test::small_tokenizer();
    each.change(file);
    expect_refusal(refusal_of(test::directory_with({{"tokenizer.json", file}})), each);
  }
}

TEST(TokenizerFiles, NamesWhatIsNotHandled) {
  const auto no = ErrorKind::unsupported;
  const auto steps = [](const json& first) {
    return json{{"type", "Sequence"}, {"pretokenizers", {first, {{"type", "ByteLevel"}}}}};
  };
  const std::vector<Case> cases = {
      {"word piece",
       [](json& f) { f["model"]["type"] = "WordPiece"; },
       no,
       {"model", "\"type\"", "WordPiece"}},
      {"word level", [](json& f) { f["model"]["type"] = "WordLevel"; }, no, {"WordLevel"}},
      {"byte fallback behind bytes",
       [](json& f) { f["model"]["byte_fallback"] = true; },
       no,
       {"byte_fallback", "ByteLevel"}},
      {"dropout", [](json& f) { f["model"]["dropout"] = 0.1; }, no, {"dropout", "0.1"}},
      {"suffix", [](json& f) { f["model"]["end_of_word_suffix"] = "</w>"; }, no, {"</w>"}},
      {"normalizer",
       [](json& f) {
         f["normalizer"] = {{"type", "Lowercase"}};
       },
       no,
       {"normalizer", "Lowercase"}},
      {"normalizers",
       [](json& f) {
         f["normalizer"] = {{"type", "Sequence"},
                            {"normalizers", {{{"type", "NFC"}}, {{"type", "BertNormalizer"}}}}};
       },
       no,
       {"normalizers[1]", "BertNormalizer"}},
      {"byte-level decoder alone",
       [](json& f) { f["pre_tokenizer"] = nullptr; },
       no,
       {"decoder", "ByteLevel"}},
      {"unigram behind bytes",
       [](json& f) {
         const json token = json::array({"a", -1.0});
         f["model"] = {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", json::array({token})}};
       },
       no,
       {"pre_tokenizer", "Unigram"}},
      {"pre-tokenizer",
       [&](json& f) {
         f["pre_tokenizer"] = steps({{"type", "UnicodeScripts"}});
       },
       no,
       {"pretokenizers[0]", "UnicodeScripts"}},
      {"metaspace behind bytes",
       [](json& f) {
         f["pre_tokenizer"] = {
             {"type", "Sequence"},
             {"pretokenizers",
              {{{"type", "ByteLevel"}}, {{"type", "Metaspace"}, {"replacement", "_"}}}}};
       },
       no,
       {"pretokenizers[1]", "Metaspace"}},
      {"behavior",
       [&](json& f) {
         f["pre_tokenizer"] =
             steps({{"type", "Split"}, {"behavior", "Odd"}, {"pattern", {{"Regex", "a"}}}});
       },
       no,
       {"behavior", "Odd"}},
      {"decoder",
       [](json& f) {
         f["decoder"] = {{"type", "WordPiece"}};
       },
       no,
       {"WordPiece"}},
      {"post-processor",
       [](json& f) {
         f["post_processor"] = {{"type", "Other"}};
       },
       no,
       {"post_processor", "Other"}},
      {"template without the text",
       [](json& f) {
         f["post_processor"] = {{"type", "TemplateProcessing"}, {"single", json::array()}};
       },
       no,
       {"post_processor", "single"}},
  };
  for (const Case& each : cases) {
    json file = test::small_tokenizer();
    each.change(file);
    expect_refusal(refusal_of(test::directory_with({{"tokenizer.json", file}})), each);
  }
}

/// llama2's file, changed.
void expect_character_refusals(const std::vector<Case>& cases, const char* name) {
  for (const Case& each : cases) {
    json file = test::read_json(test::tiny_tokenizers() / name / "tokenizer.json");
    each.change(file);
    expect_refusal(refusal_of(test::directory_with({{"tokenizer.json", file}})), each);
  }
}

TEST(TokenizerFiles, RefusesDamagedCharacterModels) {
  const auto bad = ErrorKind::bad_file;
  const auto no = ErrorKind::unsupported;
  expect_character_refusals(
      {{"no byte token", [](json& f) { f["model"]["vocab"].erase("<0x41>"); }, bad, {"<0x41>"}},
       {"decoder's order",
        [](json& f) {
          f["decoder"]["decoders"] = {{{"type", "Fuse"}}, {{"type", "ByteFallback"}}};
        },
        no,
        {"decoders[1]", "ByteFallback"}},
       {"decoder by regex",
        [](json& f) {
          f["decoder"]["decoders"][0]["pattern"] = {{"Regex", "a"}};
        },
        no,
        {"decoders[0]", "pattern"}},
       {"prefix",
        [](json& f) {
          f["pre_tokenizer"] = {
              {"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "odd"}};
        },
        no,
        {"prepend_scheme", "odd"}},
       {"no replacement",
        [](json& f) {
          f["pre_tokenizer"] = {{"type", "Metaspace"}};
        },
        bad,
        {"replacement"}}},
      "llama2");
  expect_character_refusals(
      {{"unknown id", [](json& f) { f["model"]["unk_id"] = 99999; }, bad, {"unk_id"}},
       {"no scores", [](json& f) { f["model"]["vocab"][3] = {"a"}; }, bad, {"vocab[3]"}},
       {"score is text",
        [](json& f) {
          f["model"]["vocab"][3] = {"a", "b"};
        },
        bad,
        {"vocab[3]"}},
       {"twice",
        [](json& f) { f["model"]["vocab"][3] = f["model"]["vocab"][4]; },
        bad,
        {"appears twice"}},
       {"charsmap is no base 64",
        [](json& f) { f["normalizer"]["normalizers"][0]["precompiled_charsmap"] = "a"; },
        bad,
        {"normalizers[0]", "precompiled_charsmap"}},
       {"charsmap too small",
        [](json& f) { f["normalizer"]["normalizers"][0]["precompiled_charsmap"] = "/////w=="; },
        bad,
        {"normalizers[0]", "charsmap"}}},
      "t5");
}

TEST(TokenizerFiles, RefusesTextThatIsNotJson) {
  const auto bad = ErrorKind::bad_file;
  const std::string whole = test::small_tokenizer().dump();
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, whole.size() / 2, whole.size() - 1}) {
    const Refusal refusal = refusal_of(test::directory_with_text(whole.substr(0, size)));
    EXPECT_EQ(refusal.kind, bad) << refusal.message;
    EXPECT_NE(refusal.message.find("tokenizer.json"), std::string::npos) << refusal.message;
  }
  EXPECT_EQ(refusal_of(test::directory_with_text(std::string(100'000, '['))).kind, bad);
  EXPECT_EQ(refusal_of(test::directory_with_text("[]")).kind, bad);
  EXPECT_EQ(refusal_of(test::directory_with_text("{\"model\":\"\xff\"}")).kind, bad);
}

TEST(TokenizerFiles, SaysWhyAFileCannotBeOpened) {
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "config.json"}) {
    const auto directory = test::directory_with({{"tokenizer.json", test::small_tokenizer()}});
    std::filesystem::remove(directory / name);
    std::filesystem::create_symlink(name, directory / name);  // to itself
    const Refusal refusal = refusal_of(directory);
    EXPECT_EQ(refusal.kind, ErrorKind::bad_file) << name << ": " << refusal.message;
    EXPECT_NE(refusal.message.find(std::string(name) + ": cannot be opened"), std::string::npos)
        << refusal.message;
  }
}

TEST(TokenizerFiles, RefusesATokenNamedTwice) {
  std::string text = test::small_tokenizer().dump();
  const std::size_t at = text.find("\"vocab\":{") + 9;
  text.insert(at, "\"ab\":999,");
  const Refusal refusal = refusal_of(test::directory_with_text(text));
  EXPECT_EQ(refusal.kind, ErrorKind::bad_file);
  EXPECT_NE(refusal.message.find("\"ab\""), std::string::npos) << refusal.message;
}

TEST(TokenizerFiles, SaysWhatIsMissing) {
  const Refusal missing = refusal_of(test::scratch_dir() / "nothing");
  EXPECT_EQ(missing.kind, ErrorKind::bad_file) << missing.message;
  const Refusal empty = refusal_of(test::scratch_dir());
  EXPECT_EQ(empty.kind, ErrorKind::bad_file);
  EXPECT_NE(empty.message.find("tokenizer.json"), std::string::npos) << empty.message;
  EXPECT_NE(empty.message.find("tokenizer.model"), std::string::npos) << empty.message;
}

TEST(TokenizerFiles, ChecksTheConfigsBesideIt) {
  const auto refusal = [](const std::string& name, const json& config) {
    return refusal_of(
        test::directory_with({{"tokenizer.json", test::small_tokenizer()}, {name, config}}));
  };
  const Refusal unknown = refusal("tokenizer_config.json", {{"bos_token", "<s>"}});
  EXPECT_EQ(unknown.kind, ErrorKind::bad_file);
  EXPECT_NE(unknown.message.find("<s>"), std::string::npos) << unknown.message;
  const Refusal key = refusal("tokenizer_config.json", {{"added_tokens_decoder", {{"7x", {}}}}});
  EXPECT_EQ(key.kind, ErrorKind::bad_file);
  EXPECT_NE(key.message.find("7x"), std::string::npos) << key.message;
  const Refusal outside = refusal("config.json", {{"bos_token_id", 4000}});
  EXPECT_EQ(outside.kind, ErrorKind::bad_file);
  EXPECT_NE(outside.message.find("4000"), std::string::npos) << outside.message;
}

TEST(TokenizerFiles, RefusesGgufMetadataThatDoesNotFit) {
  const json file = test::small_tokenizer();
  struct GgufCase {
    std::function<void(test::GgufWriter&)> write;
    ErrorKind kind;
    std::string says;
  };
  const std::vector<std::string> tokens = {"a", "b", "ab"};
  const auto start = [](test::GgufWriter& w, const char* model, const char* pre) {
    w.text("tokenizer.ggml.model", model);
    if (pre != nullptr) w.text("tokenizer.ggml.pre", pre);
  };
  const std::vector<GgufCase> cases = {
      {[&](auto& w) { w.text("x", "y"); }, ErrorKind::bad_file, "tokenizer.ggml.model"},
      {[&](auto& w) { start(w, "t5", nullptr); }, ErrorKind::unsupported, "\"t5\""},
      {[&](auto& w) { start(w, "llama", nullptr); }, ErrorKind::bad_file, "tokenizer.ggml.tokens"},
      {[&](auto& w) {
         start(w, "llama", nullptr);
         w.texts("tokenizer.ggml.tokens", tokens);
       },
       ErrorKind::bad_file, "tokenizer.ggml.scores"},
      {[&](auto& w) { start(w, "gpt2", nullptr); }, ErrorKind::unsupported, "tokenizer.ggml.pre"},
      {[&](auto& w) { start(w, "gpt2", "kimi-k2"); }, ErrorKind::unsupported, "kimi-k2"},
      {[&](auto& w) { start(w, "gpt2", "gpt-2"); }, ErrorKind::bad_file, "tokenizer.ggml.tokens"},
      {[&](auto& w) {
         start(w, "gpt2", "gpt-2");
         w.texts("tokenizer.ggml.tokens", tokens);
       },
       ErrorKind::bad_file, "tokenizer.ggml.merges"},
      {[&](auto& w) {
         start(w, "gpt2", "gpt-2");
         w.texts("tokenizer.ggml.tokens", tokens);
         w.i32s("tokenizer.ggml.token_type", {1, 1});
       },
       ErrorKind::bad_file, "token_type"},
      {[&](auto& w) {
         start(w, "gpt2", "gpt-2");
         w.texts("tokenizer.ggml.tokens", tokens);
         w.i32s("tokenizer.ggml.token_type", {1, 6, 1});
       },
       ErrorKind::unsupported, "token 1 has type 6"},
      {[&](auto& w) {
         start(w, "gpt2", "gpt-2");
         w.texts("tokenizer.ggml.tokens", {"a", "b", "a"});
         w.texts("tokenizer.ggml.merges", {});
       },
       ErrorKind::bad_file, "appears twice"},
      {[&](auto& w) {
         start(w, "gpt2", "gpt-2");
         w.texts("tokenizer.ggml.tokens", tokens);
         w.texts("tokenizer.ggml.merges", {"a b", "ab q"});
       },
       ErrorKind::bad_file, "merge 1"},
      {[&](auto& w) {
         start(w, "gpt2", "gpt-2");
         w.texts("tokenizer.ggml.tokens", tokens);
         w.texts("tokenizer.ggml.merges", {"a b"});
         w.u32("tokenizer.ggml.bos_token_id", 3);
       },
       ErrorKind::bad_file, "names 3"},
      {[&](auto& w) {
         start(w, "gpt2", "gpt-2");
         w.texts("tokenizer.ggml.tokens", tokens);
         w.texts("tokenizer.ggml.merges", {"a b"});
         w.u32("tokenizer.ggml.bos_token_id", 0xFFFFFFFF);
       },
       ErrorKind::bad_file, "bos_token_id"},
  };
  for (const GgufCase& each : cases) {
    test::GgufWriter writer;
    each.write(writer);
    const Refusal refusal = refusal_of(writer.write());
    EXPECT_EQ(refusal.kind, each.kind) << refusal.message;
    EXPECT_NE(refusal.message.find(each.says), std::string::npos) << refusal.message;
  }
}

}  // namespace
}  // namespace plumb
