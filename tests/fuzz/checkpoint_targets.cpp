// Models: config.json, the index of the shards, safetensors, GGUF.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "fuzz/checks.h"
#include "fuzz/targets.h"
#include "fuzz/tiny_model.h"
#include "plumb/model.h"
#include "plumb/run.h"

namespace plumb::fuzz {
namespace {

void open_and_read(const std::filesystem::path& path) {
  reads([&] { read_everything(Checkpoint::open(path)); });
}

/// A few tokens through the decoder: a config that was accepted is one that it can run.
void run_model(const Checkpoint& checkpoint) {
  const Model model(checkpoint, {.threads = 1});
  const std::int64_t last = checkpoint.config().vocab - 1;
  std::vector<std::int64_t> ids = {last, 0, last};
  ids.resize(static_cast<std::size_t>(std::min(3, checkpoint.config().context)));
  const auto length = static_cast<std::int64_t>(ids.size());
  const Run run = plumb::run(model, make_tokens({ids}), Plan{});
  require(run.logits.sizes().vec() == std::vector<std::int64_t>({1, length, last + 1}),
          "the logits have their shape");
}

}  // namespace

/// `input` is config.json. Where it describes a small model, the weights that it asks for are put
/// beside it, and the model is read and run.
void run_config(std::string_view input) {
  static const ScratchDirectory directory;
  directory.write("config.json", input);
  directory.remove("model.safetensors");
  require(!reads([&] { Checkpoint::open(directory.path()); }), "there is no model without weights");

  constexpr std::uint64_t most_bytes = 1 << 18;
  constexpr int most_layers = 16;
  std::vector<TensorToWrite> tensors;
  const bool described = succeeds(
      [&] {
        const ModelConfig config = read_config(input);
        // As many tensors as a model of a thousand experts has would only cost time.
        if (config.layers <= most_layers && config.experts.count <= most_layers) {
          tensors = tensors_of(config);
        }
      },
      {ErrorKind::bad_file, ErrorKind::unsupported, ErrorKind::bad_argument});
  if (!described || tensors.empty() || data_bytes(tensors) > most_bytes) return;
  directory.write("model.safetensors", safetensors_of(tensors));
  succeeds(
      [&] {
        const Checkpoint checkpoint = Checkpoint::open(directory.path());
        read_everything(checkpoint);
        run_model(checkpoint);
      },
      {ErrorKind::bad_file, ErrorKind::unsupported});
}

/// `input` is model.safetensors.index.json beside two shards.
void run_index(std::string_view input) {
  static const ScratchDirectory directory;
  static const bool filled = [] {
    std::vector<TensorToWrite> front = tensors_of(read_config(tiny_config));
    const auto middle = front.begin() + static_cast<std::ptrdiff_t>(front.size() / 2);
    const std::vector<TensorToWrite> back(middle, front.end());
    front.erase(middle, front.end());
    directory.write("config.json", tiny_config);
    directory.write("a.safetensors", safetensors_of(front));
    directory.write("b.safetensors", safetensors_of(back));
    return true;
  }();
  static_cast<void>(filled);
  directory.write("model.safetensors.index.json", input);
  open_and_read(directory.path());
}

/// `input` is model.safetensors of the tiny model.
void run_safetensors(std::string_view input) {
  static const ScratchDirectory directory;
  static const std::filesystem::path config = directory.write("config.json", tiny_config);
  directory.write("model.safetensors", input);
  open_and_read(directory.path());
}

/// `input` is a .gguf file, its model and its tokenizer.
void run_gguf(std::string_view input) {
  static const ScratchDirectory directory;
  const std::filesystem::path path = directory.write("model.gguf", input);
  open_and_read(path);
  reads([&] { encode_everything(Tokenizer::open(path)); });
}

}  // namespace plumb::fuzz
