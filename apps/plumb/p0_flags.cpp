#include "p0_flags.h"

#include "plumb/error.h"
#include "usage.h"

namespace plumb::app {

namespace {

// Random ids are there to show that the sink needs no text; they vary little from one to the next.
constexpr std::int64_t random_sequences = 32;

}  // namespace

void offer_causal(CLI::App& app, P0Options& options) {
  offer(app, "--causal-sequences", "N", "Sequences that interventions run on (24)",
        [&options](const std::string& text) {
          options.causal_sequences = whole("--causal-sequences", text, 2, 100'000);
        });
  offer(app, "--causal-length", "T", "Positions of them (96)", [&options](const std::string& text) {
    options.causal_length = whole("--causal-length", text, 8, 1'000'000);
  });
}

P0Inputs make_p0_inputs(const InputFlags& flags, bool random, const Chosen& chosen,
                        std::uint64_t seed) {
  const Content content = read_content(flags, chosen, seed);
  if (!random && content.kind == "random") {
    throw Error(
        ErrorKind::bad_argument,
        "--no-random leaves out the comparison with random ids, but --random gives no others");
  }
  P0Inputs inputs;
  inputs.plain = with_bos(content, std::nullopt, chosen.model);
  const Bos bos = flags.bos.value_or(Bos{.kind = Bos::Kind::native});
  if (const auto id = bos_id(bos, chosen.tokens())) {
    inputs.native = with_bos(content, id, chosen.model);
  }
  if (content.kind != "random" && random) {
    inputs.random = head(random_twin(content, std::nullopt, chosen, seed), random_sequences,
                         inputs.plain.length());
  }
  return inputs;
}

}  // namespace plumb::app
