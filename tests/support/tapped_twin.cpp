#include "support/tapped_twin.h"

#include "support/naive_decoder.h"

namespace plumb::test {

TappedModel tapped_twin(const Model& model, const TwinOptions& options) {
  const auto forward = [model, options](const Tokens& tokens, const SiteTap& tap) {
    const auto weights = [model](Weight weight, int layer) { return model.weight(weight, layer); };
    const auto hook = [&](const Site& site, at::Tensor& value) {
      if (!options.hidden || !options.hidden(site)) value = tap(site, value);
    };
    return naive_forward(model.config(), weights, tokens.ids,
                         {.hook = hook, .heads = options.heads})
        .logits;
  };
  return {model.config(), forward, "twin"};
}

}  // namespace plumb::test
