// The options of the P0 job as JSON, for documents and archives.
#pragma once

#include "plumb/p0.h"
#include "report/json_pieces.h"

namespace plumb::report {

Json options_json(const P0Options& options);

}  // namespace plumb::report
