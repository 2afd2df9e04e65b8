// The choice of inputs: texts, token ids, random ids, or the bundled texts.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "plumb/archive.h"
#include "plumb/error.h"
#include "plumb/replacement.h"
#include "shared.h"
#include "usage.h"

namespace plumb::app {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kDefaultLength = 128;
constexpr std::int64_t kDefaultSequences = 64;
constexpr std::int64_t kMostSequences = 1'000'000;
constexpr std::int64_t kMostLength = 10'000'000;
constexpr std::int64_t kMostTokens = 100'000'000;  // ids alone are then 0.8 GB

/// The bundled texts of an installed program, else of the source tree that it was built from.
fs::path bundled_texts() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) {
    const fs::path installed =
        program.parent_path().parent_path() / "share" / "plumb" / "inputs" / "texts.txt";
    if (fs::is_regular_file(installed, error)) return installed;
  }
  return fs::path(PLUMB_DATA_DIR) / "inputs" / "texts.txt";
}

const Tokenizer& tokenizer_of(const Chosen& chosen) {
  if (chosen.tokenizer) return *chosen.tokenizer;
  throw Error(ErrorKind::bad_file,
              fmt::format("text needs a tokenizer: {} (or give --tokens or --random)",
                          chosen.tokenizer_error));
}

std::pair<std::int64_t, std::int64_t> parse_random(const std::string& text) {
  const std::size_t comma = text.find(',');
  if (comma == std::string::npos) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("--random expects N,T (sequences, length), not '{}'", text));
  }
  return {whole("--random N,T: N", text.substr(0, comma), 1, kMostSequences),
          whole("--random N,T: T", text.substr(comma + 1), 2, kMostLength)};
}

std::int64_t longest_of(const std::vector<std::vector<std::int64_t>>& sequences) {
  std::size_t longest = 0;
  for (const auto& sequence : sequences) longest = std::max(longest, sequence.size());
  return static_cast<std::int64_t>(longest);
}

void check_ids(const Content& content, const Model& model) {
  const std::int64_t vocab = model.config().vocab;
  for (std::size_t i = 0; i < content.sequences.size(); ++i) {
    const auto& sequence = content.sequences[i];
    for (std::size_t t = 0; t < sequence.size(); ++t) {
      if (sequence[t] >= 0 && sequence[t] < vocab) continue;
      throw Error(ErrorKind::bad_argument,
                  fmt::format("token id {} (sequence {}, position {}) is not in the model's "
                              "vocabulary of {} ids",
                              sequence[t], i, t, vocab));
    }
  }
}

}  // namespace

void offer_inputs(CLI::App& app, InputFlags& flags, const std::string& bos_help) {
  app.add_option("--text", flags.text, "A text to run on; may be given several times")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  offer(app, "--text-file", "FILE", "Texts, one a line",
        [&flags](const std::string& text) { flags.text_file = text; });
  offer(app, "--tokens", "FILE", "Token ids: a JSON list of lists",
        [&flags](const std::string& text) { flags.token_file = text; });
  offer(app, "--random", "N,T", "N sequences of T random ids",
        [&flags](const std::string& text) { flags.random = parse_random(text); });
  offer(app, "--bos", "none|native|ID", bos_help, [&flags](const std::string& text) {
    // Digits are checked here: an overlong id is a wrong number, not a wrong word.
    if (!text.empty() &&
        std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      whole("--bos", text, 0, std::int64_t{1} << 31);
    }
    flags.bos = parse_bos(text);
  });
  offer(app, "--length", "T",
        "Longest sequence, in tokens before any BOS (128; with --tokens as they are)",
        [&flags](const std::string& text) {
          flags.length = whole("--length", text, 1, kMostLength);
        });
  offer(app, "--sequences", "N", "Sequences to use, the first ones (64; with --tokens all)",
        [&flags](const std::string& text) {
          flags.sequences = whole("--sequences", text, 1, kMostSequences);
        });
}

Content read_content(const InputFlags& flags, const Chosen& chosen, std::uint64_t seed) {
  const int sources = (flags.text.empty() ? 0 : 1) + (flags.text_file ? 1 : 0) +
                      (flags.token_file ? 1 : 0) + (flags.random ? 1 : 0);
  if (sources > 1) {
    throw Error(ErrorKind::bad_argument,
                "give one of --text, --text-file, --tokens and --random, not several");
  }
  Content content;
  if (flags.random) {
    if (flags.length || flags.sequences) {
      throw Error(ErrorKind::bad_argument,
                  "--random N,T says how many and how long; leave out --length and --sequences");
    }
    const auto [count, length] = *flags.random;
    if (count * length > kMostTokens) {
      throw Error(ErrorKind::too_large,
                  fmt::format("--random {},{} asks for {} tokens; at most {} fit", count, length,
                              count * length, kMostTokens));
    }
    content.kind = "random";
    content.length = length;
    content.sequences =
        random_ids(count, length, chosen.model.config().vocab, chosen.tokens(), seed);
  } else if (flags.token_file) {
    content.kind = "tokens";
    content.sequences = read_token_file(*flags.token_file);
    if (flags.sequences && *flags.sequences < std::ssize(content.sequences)) {
      content.sequences.resize(static_cast<std::size_t>(*flags.sequences));
    }
    content.length = std::min(longest_of(content.sequences), flags.length.value_or(kMostLength));
  } else {
    content.kind = "text";
    const Tokenizer& tokenizer = tokenizer_of(chosen);
    std::vector<std::string> texts =
        flags.text.empty()
            ? read_texts(flags.text_file ? fs::path(*flags.text_file) : bundled_texts())
            : flags.text;
    const auto most = static_cast<std::size_t>(flags.sequences.value_or(kDefaultSequences));
    if (texts.size() > most) texts.resize(most);
    content.sequences = encode_all(tokenizer, texts);
    content.length = std::min(longest_of(content.sequences), flags.length.value_or(kDefaultLength));
  }
  check_ids(content, chosen.model);
  return content;
}

Inputs with_bos(const Content& content, std::optional<std::int64_t> bos, const Model& model) {
  const ModelConfig& config = model.config();
  if (bos && (*bos < 0 || *bos >= config.vocab)) {
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("BOS id {} is not in the model's vocabulary of {} ids", *bos, config.vocab));
  }
  const std::int64_t length = content.length + (bos ? 1 : 0);
  if (length < 2) {
    throw Error(ErrorKind::bad_argument,
                "sequences of one token show no attention to position 0; give at least two");
  }
  if (config.positions == Positions::learned && length > config.context) {
    throw Error(
        ErrorKind::bad_argument,
        fmt::format("sequences of {} positions, but the model has positions for {}; use --length",
                    length, config.context));
  }
  return make_inputs(content.sequences, content.length, bos, content.kind);
}

Inputs random_twin(const Content& content, std::optional<std::int64_t> bos, const Chosen& chosen,
                   std::uint64_t seed) {
  Content twin;
  twin.kind = "random";
  twin.length = content.length;
  twin.sequences = random_ids(std::ssize(content.sequences), content.length,
                              chosen.model.config().vocab, chosen.tokens(), seed);
  return with_bos(twin, bos, chosen.model);
}

at::Tensor vector_from(const std::string& text) {
  const std::size_t dataset = text.find(".h5:/");
  if (dataset == std::string::npos) return read_vector(text);
  return Archive(text.substr(0, dataset + 3)).tensor(text.substr(dataset + 4)).to(at::kDouble);
}

}  // namespace plumb::app
