// Records activations of a model on a text and prints what they look like.
//
//   record_activations MODEL "some text"
//
// MODEL is a Hugging Face directory or a .gguf file.
#include <ATen/ATen.h>
#include <plumb/error.h>
#include <plumb/inputs.h>
#include <plumb/model.h>
#include <plumb/run.h>

#include <cstdio>

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::fprintf(stderr, "usage: record_activations MODEL TEXT\n");
    return 2;
  }
  const plumb::Model model = plumb::load(argv[1]);
  const plumb::Tokenizer tokenizer = plumb::Tokenizer::open(argv[1]);
  const plumb::Tokens tokens = plumb::make_tokens({tokenizer.encode(argv[2])});

  // The experiment is data: the sites to keep, and nothing to edit.
  plumb::Plan plan;
  for (int layer = 0; layer < model.config().layers; ++layer) {
    plan.record.push_back(plumb::Site{plumb::Part::resid_post, layer});
    plan.record.push_back({plumb::Site{plumb::Part::pattern, layer}, {.keys = {0}}});
  }
  const plumb::Run run = plumb::run(model, tokens, plan);

  std::printf("%-8s %12s %12s %22s\n", "layer", "norm t = 0", "norm t > 0", "attention to t = 0");
  for (int layer = 0; layer < model.config().layers; ++layer) {
    const at::Tensor norm = run.cache.at({plumb::Part::resid_post, layer})[0].norm(2, -1);
    const at::Tensor column = run.cache.at({plumb::Part::pattern, layer});
    const auto later = norm.size(0) - 1;
    std::printf("%-8d %12.1f %12.1f %22.3f\n", layer, norm[0].item<double>(),
                norm.narrow(0, 1, later).mean().item<double>(),
                column.narrow(2, 1, later).mean().item<double>());
  }
  return 0;
} catch (const plumb::Error& error) {
  std::fprintf(stderr, "record_activations: %s\n", error.what());
  return plumb::exit_code(error.kind());
}
