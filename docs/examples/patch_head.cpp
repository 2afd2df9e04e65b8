// Patches every head of one layer from a clean run into a corrupt one, and prints how much of the
// logit difference each restores.
//
//   patch_head MODEL LAYER CLEAN CORRUPT RIGHT WRONG
//
// CLEAN and CORRUPT are texts of equal token length; RIGHT and WRONG are answers of one token.
#include <ATen/ATen.h>
#include <plumb/error.h>
#include <plumb/inputs.h>
#include <plumb/metrics.h>
#include <plumb/model.h>
#include <plumb/run.h>

#include <cstdio>
#include <cstdlib>

namespace {

std::int64_t one_token(const plumb::Tokenizer& tokenizer, const char* text) {
  const auto ids = tokenizer.encode(text);
  if (ids.size() != 1) {
    throw plumb::Error(plumb::ErrorKind::bad_argument,
                       std::string("expected an answer of one token, \"") + text + "\" has " +
                           std::to_string(ids.size()));
  }
  return ids.front();
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 7) {
    std::fprintf(stderr, "usage: patch_head MODEL LAYER CLEAN CORRUPT RIGHT WRONG\n");
    return 2;
  }
  const plumb::Model model = plumb::load(argv[1]);
  const plumb::Tokenizer tokenizer = plumb::Tokenizer::open(argv[1]);
  const plumb::Site z{plumb::Part::z, std::atoi(argv[2])};
  const plumb::Tokens clean = plumb::make_tokens({tokenizer.encode(argv[3])});
  const plumb::Tokens corrupt = plumb::make_tokens({tokenizer.encode(argv[4])});
  if (clean.length() != corrupt.length()) {
    throw plumb::Error(plumb::ErrorKind::bad_argument,
                       "the two texts must have equally many tokens");
  }
  const at::Tensor last = at::full({1}, clean.length() - 1, at::kLong);
  const at::Tensor right = at::full({1}, one_token(tokenizer, argv[5]), at::kLong);
  const at::Tensor wrong = at::full({1}, one_token(tokenizer, argv[6]), at::kLong);
  const auto metric = [&](const plumb::Run& run) {
    return plumb::logit_diff(run.logits, last, right, wrong).item<double>();
  };

  const plumb::Run clean_run = plumb::run(model, clean, {.record = {z}});
  const double high = metric(clean_run);
  const double low = metric(plumb::run(model, corrupt));
  std::printf("logit_diff: clean %.4f, corrupt %.4f\n", high, low);

  const at::Tensor& value = clean_run.cache.at(z);
  for (std::int64_t head = 0; head < model.config().heads; ++head) {
    plumb::Plan plan;
    plan.interventions.push_back(
        {.site = z, .where = {.heads = {head}}, .edit = plumb::Put{value.narrow(2, head, 1)}});
    const double patched = metric(plumb::run(model, corrupt, plan));
    std::printf("%s: %.4f, restores %.3f\n",
                plumb::to_string(plumb::SlicedSite{z, {.heads = {head}}}).c_str(), patched,
                (patched - low) / (high - low));
  }
  return 0;
} catch (const plumb::Error& error) {
  std::fprintf(stderr, "patch_head: %s\n", error.what());
  return plumb::exit_code(error.kind());
}
