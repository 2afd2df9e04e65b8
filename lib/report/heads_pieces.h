// How heads attend, in each kind of report.
#pragma once

#include <string>

#include "plumb/archive.h"
#include "plumb/head_attention.h"
#include "report/json_pieces.h"

namespace plumb::report {

/// One line a layer: entropy, log-sum-exp and top keys, means over heads.
std::string attention_table(const HeadAttention& heads);
Json to_json(const HeadAttention& heads);
void put_heads(ArchiveWriter& file, const std::string& group, const HeadAttention& heads);

}  // namespace plumb::report
