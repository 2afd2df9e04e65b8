#include "checkpoint/aligned_text.h"

#include <fmt/format.h>

#include "plumb/error.h"

namespace plumb {

void refuse_growth(std::size_t bytes) {
  throw Error(
      ErrorKind::too_large,
      fmt::format("the tokenizer's normalizer or pre-tokenizer makes more than {} bytes of a "
                  "text of {}; is its file damaged?",
                  longest_rewritten(bytes), bytes));
}

}  // namespace plumb
