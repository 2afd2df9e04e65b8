// Damaged tokenizer.model files: one clear line each, or a tokenizer that works.
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>

#include "support/paths.h"
#include "tokenizer/support.h"

namespace plumb {
namespace {

std::string bytes_of(const char* name) {
  std::ifstream file(test::tiny_tokenizers() / name / "tokenizer.model", std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::filesystem::path directory_with_model(const std::string& bytes) {
  const auto directory = test::scratch_dir();
  std::ofstream(directory / "tokenizer.model", std::ios::binary) << bytes;
  return directory;
}

/// A field of the wire format: a number, or bytes.
std::string field(unsigned number, std::uint64_t value) {
  return std::string{static_cast<char>(number << 3U), static_cast<char>(value)};
}
std::string field(unsigned number, const std::string& bytes) {
  return std::string{static_cast<char>(number << 3U | 2U), static_cast<char>(bytes.size())} + bytes;
}

TEST(HostileModel, NamesWhatIsWrong) {
  const std::string unknown = field(1, field(1, "<unk>") + field(3, 2));
  const std::string letter = field(1, field(1, "a"));
  struct Case {
    std::string bytes;
    ErrorKind kind;
    std::string says;
  };
  const std::vector<Case> cases = {
      {"", ErrorKind::bad_file, "UNKNOWN"},
      {letter, ErrorKind::bad_file, "UNKNOWN"},
      {unknown + unknown, ErrorKind::bad_file, "both of type UNKNOWN"},
      {unknown + letter + letter, ErrorKind::bad_file, "appears twice"},
      {unknown + field(1, field(3, 1)), ErrorKind::bad_file, "piece 1 has no text"},
      {unknown + field(1, field(1, "\xff")), ErrorKind::bad_file, "not UTF-8"},
      {unknown + field(1, field(1, "a") + field(3, 9)), ErrorKind::unsupported, "of type 9"},
      {unknown + field(1, field(1, "a") + std::string("\x15\x00\x00\xc0\x7f", 5)),
       ErrorKind::bad_file, "score nan"},
      {unknown + field(1, field(1, "a") + std::string("\x10\x01", 2)), ErrorKind::bad_file,
       "score should be a float"},
      {unknown + field(2, field(3, 3)), ErrorKind::unsupported, "WORD"},
      {unknown + field(2, field(3, 4)), ErrorKind::unsupported, "CHAR"},
      {unknown + field(2, field(3, 7)), ErrorKind::unsupported, "model_type is 7"},
      {unknown + field(2, std::string("\xc0\x01\x01", 3)), ErrorKind::unsupported,
       "treat_whitespace_as_suffix"},
      {unknown + field(2, std::string("\x98\x02\x01", 3)), ErrorKind::bad_file, "<0x00>"},
      {unknown + field(3, field(2, "\xff\xff\xff\xff")), ErrorKind::bad_file, "charsmap"},
      {unknown + field(5, field(2, "x")), ErrorKind::unsupported, "denormalizer_spec"},
      {unknown + "\x0a\x7f", ErrorKind::bad_file, "127 bytes"},
      {unknown + "\x0b", ErrorKind::bad_file, "wire type 3"},
      {unknown + std::string(12, '\xff'), ErrorKind::bad_file, "ten bytes"},
  };
  for (const Case& each : cases) {
    const test::Refusal refusal = test::refusal_of(directory_with_model(each.bytes));
    EXPECT_EQ(refusal.kind, each.kind) << refusal.message;
    EXPECT_NE(refusal.message.find(each.says), std::string::npos) << refusal.message;
    EXPECT_EQ(refusal.message.find('\n'), std::string::npos) << refusal.message;
  }
}

TEST(HostileModel, OpensOrRefusesWhateverItsBytes) {
  std::mt19937 random(11);
  const auto directory = test::scratch_dir();
  int opened = 0;
  int refused = 0;
  for (const char* name : {"sp_bpe", "sp_bpe_rules", "sp_unigram"}) {
    const std::string whole = bytes_of(name);
    ASSERT_FALSE(whole.empty());
    for (int round = 0; round < 150; ++round) {
      std::string bytes = whole;
      if (round % 3 == 0) bytes.resize(random() % bytes.size());
      for (int i = 0; i < 1 + round % 5 && !bytes.empty(); ++i) {
        // The table of replacements lies at the end.
        const std::size_t back = random() % (round % 2 == 0 ? bytes.size() : bytes.size() / 8 + 1);
        bytes[bytes.size() - 1 - back] = static_cast<char>(random());
      }
      std::ofstream(directory / "tokenizer.model", std::ios::binary) << bytes;
      try {
        const Tokenizer tokenizer = Tokenizer::open(directory);
        ++opened;
        const std::string text = "caf\u00e9 \uff21\ufb01 a\xff  zz<sep>\u00a0";
        for (const TokenSpan& token : tokenizer.encode_with_offsets(text)) {
          EXPECT_LE(token.begin, token.end);
          EXPECT_LE(token.end, text.size());
        }
      } catch (const Error& error) {
        ++refused;
        EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      }
    }
  }
  EXPECT_GT(opened, 50);
  EXPECT_GT(refused, 50);
}

}  // namespace
}  // namespace plumb
