// Unicode's normalisation forms, with the origins of every byte.
#pragma once

#include "checkpoint/aligned_text.h"

namespace plumb {

enum class NormalForm { nfc, nfd, nfkc, nfkd };

/// The normalisation form of the well-formed stretches; ill-formed bytes stay. What a few
/// characters become comes from all of them together. Throws too_large when memory does not
/// suffice.
AlignedText normalised(const AlignedView& text, NormalForm form);

}  // namespace plumb
