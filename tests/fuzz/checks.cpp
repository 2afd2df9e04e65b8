#include "fuzz/checks.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace plumb::fuzz {
namespace {

namespace fs = std::filesystem;

bool is_one_line(std::string_view text) {
  return !text.empty() && std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
}

/// Both precisions; null where the value does not fit it.
void read_weight(const Checkpoint& checkpoint, Weight weight, int layer) {
  const std::string name = weight_name(weight, layer);
  at::Tensor single;
  at::Tensor wide;
  reads([&] { single = checkpoint.read(weight, layer); });
  reads([&] { wide = checkpoint.read(weight, layer, at::kDouble); });
  // 1e300 is a double only.
  require(wide.defined() || !single.defined(), name + " is read as float32 but not as float64");
  if (!single.defined()) return;
  const bool tied = weight == Weight::unembed && checkpoint.config().tied;
  const auto shape = weight_shape(checkpoint.config(), tied ? Weight::embed : weight, layer);
  require(single.sizes().vec() == shape && wide.sizes().vec() == shape, name + " has its shape");
  require(at::equal(wide.to(at::kFloat), single), name + " differs between the precisions");
  if (is_per_expert(weight)) {
    const int last = static_cast<int>(shape.front()) - 1;
    const at::Tensor part = checkpoint.read_expert(weight, layer, last);
    require(at::equal(part, single.select(0, last)), name + " differs when read by the expert");
  } else if (!is_per_layer(weight) && shape.size() == 2) {
    const std::vector<std::int64_t> rows = {shape.front() - 1, 0};
    const at::Tensor part = checkpoint.read_rows(weight, rows);
    require(at::equal(part[0], single[rows[0]]) && at::equal(part[1], single[0]),
            name + " differs when read by the row");
  }
}

std::vector<std::string> hard_texts() {
  return {
      "",
      " ",
      "Hello  world\n\n it's 1234567 \t o'clock",
      std::string("a\0b\x01", 4),
      "caf\u00e9 \uff21\ufb01 \u1e9b\u0323 \u0344",
      "\xff\xc3\x28 a\x80\xed\xa0\x80\xf4\x90\x80\x80",
      "\u0915\u094d\u0937\U0001F468\u200d\U0001F469\u200d\U0001F467 \U0010FFFF\u200b\u00a0",
      std::string(64, 'a') + std::string(64, ' ') + std::string(40, '\n') + "<s>[UNK]<unk></s>",
  };
}

void encode_one(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<TokenSpan> spans;
  if (!succeeds([&] { spans = tokenizer.encode_with_offsets(text); },
                {ErrorKind::bad_argument, ErrorKind::too_large})) {
    return;
  }
  const std::vector<std::int64_t> ids = tokenizer.encode(text);
  require(ids.size() == spans.size(), "encode gives as many ids as encode_with_offsets");
  for (std::size_t i = 0; i < ids.size(); ++i) {
    require(ids[i] == spans[i].id, "encode gives the ids of encode_with_offsets");
    require(spans[i].begin <= spans[i].end && spans[i].end <= text.size(),
            fmt::format("token {} lies in the text", i));
    require(ids[i] >= 0 && ids[i] < tokenizer.size(), "ids are ids");
  }
  tokenizer.decode(ids);
  for (std::size_t i = 0; i < std::min<std::size_t>(ids.size(), 16); ++i) {
    require(is_one_line(tokenizer.show(ids[i])) || tokenizer.show(ids[i]).empty(),
            "a token is shown on one line");
  }
}

}  // namespace

void require(bool holds, const std::string& message) {
  if (!holds) throw std::logic_error("does not hold: " + message);
}

bool succeeds(const std::function<void()>& action, std::initializer_list<ErrorKind> kinds) {
  try {
    action();
    return true;
  } catch (const Error& error) {
    require(std::find(kinds.begin(), kinds.end(), error.kind()) != kinds.end(),
            fmt::format("\"{}\" is of no kind that a file can cause: {}", error.what(),
                        to_string(error.kind())));
    require(is_one_line(error.what()), fmt::format("\"{}\" is one line", error.what()));
    return false;
  }
}

bool reads(const std::function<void()>& action) {
  return succeeds(action, {ErrorKind::bad_file, ErrorKind::unsupported});
}

void read_everything(const Checkpoint& checkpoint) {
  for (const Weight weight : all_weights()) {
    const int layers = is_per_layer(weight) ? checkpoint.config().layers : 1;
    for (int layer = 0; layer < layers; ++layer) {
      if (checkpoint.has(weight, layer)) read_weight(checkpoint, weight, layer);
    }
  }
  require(checkpoint.sha256().size() == 64, "the hash has 64 digits");
}

void encode_everything(const Tokenizer& tokenizer) {
  static const std::vector<std::string> texts = hard_texts();
  for (const std::string& text : texts) encode_one(tokenizer, text);
  constexpr std::int64_t most = 64;
  const std::int64_t size = tokenizer.size();
  std::vector<std::int64_t> ids;
  for (std::int64_t id = 0; id < size;
       id += id == most ? std::max(size - 2 * most, std::int64_t{1}) : 1) {
    const std::string shown = tokenizer.show(id);
    tokenizer.is_special(id);
    if (shown != fmt::format("<{}>", id)) ids.push_back(id);
  }
  std::string own;
  if (succeeds([&] { own = tokenizer.decode(ids); }, {ErrorKind::bad_argument})) {
    own.resize(std::min<std::size_t>(own.size(), 4096));
    encode_one(tokenizer, own);
  }
}

ScratchDirectory::ScratchDirectory() {
  std::error_code ignored;
  const fs::path parent =
      fs::is_directory("/dev/shm", ignored) ? fs::path("/dev/shm") : fs::temp_directory_path();
  std::string name = (parent / "plumb_fuzz_XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no scratch directory: " + name);
  path_ = name;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

fs::path ScratchDirectory::write(std::string_view name, std::string_view bytes) const {
  fs::path path = path_ / name;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path.string());
  return path;
}

void ScratchDirectory::remove(std::string_view name) const {
  std::error_code ignored;
  fs::remove(path_ / name, ignored);
}

}  // namespace plumb::fuzz
