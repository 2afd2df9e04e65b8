#include "report/circuit_archive.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <charconv>

#include "circuit/edge_text.h"
#include "plumb/archive.h"
#include "plumb/error.h"
#include "plumb/version.h"
#include "report/archive_pieces.h"

namespace plumb::report {
namespace {

constexpr std::int64_t kMost = 1 << 20;

std::int64_t whole(const Archive& file, const std::string& group, const std::string& name,
                   std::int64_t most, const std::string& where) {
  const std::string text = file.attribute(group, name);
  std::int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0 || value > most)
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: {} has no {} that can be", where, group, name));
  return value;
}

std::string text_of(const Archive& file, const std::string& group, const std::string& name) {
  const auto all = file.attributes(group);
  const auto found = all.find(name);
  return found == all.end() ? std::string() : found->second;
}

}  // namespace

void write_circuit_archive(const EdgeCircuit& circuit, const std::filesystem::path& path) {
  check(circuit);
  const EdgeSpace& space = circuit.space;
  const std::string group = "/circuit";
  ArchiveWriter file(path);
  file.attribute("/provenance", "plumb", std::string(version()));
  file.dataset(group + "/scores", at::tensor(circuit.scores, at::kDouble),
               {{"edge"}, "", circuit.convention});
  at::Tensor in = at::empty({space.edges()}, at::kLong);
  std::copy(circuit.in.begin(), circuit.in.end(), in.data_ptr<std::int64_t>());
  file.dataset(group + "/in_graph", in, {{"edge"}, "", "1 = in the circuit"});
  std::vector<std::string> senders;
  std::vector<std::string> receivers;
  std::vector<std::int64_t> first;
  for (std::int64_t s = 0; s < space.senders(); ++s) senders.push_back(space.sender_name(s));
  for (std::int64_t r = 0; r < space.receivers(); ++r) {
    receivers.push_back(space.receiver_name(r));
    first.push_back(space.first_edge(r));
  }
  put_column(file, group + "/senders", senders, "sender", "what writes, in order");
  put_column(file, group + "/receivers", receivers, "receiver", "what reads, in order");
  put_column(file, group + "/first_edge", first, "receiver", "",
             "the edge from sender 0; those from the next senders follow");
  file.attribute(group, "title", circuit.title);
  file.attribute(group, "convention", circuit.convention);
  file.attribute(group, "layers", std::int64_t{space.layers()});
  file.attribute(group, "heads", std::int64_t{space.heads()});
  file.attribute(group, "kv_heads", std::int64_t{space.kv_heads()});
  file.attribute(group, "parallel", std::int64_t{space.parallel() ? 1 : 0});
  file.attribute(group, "d_model", std::int64_t{circuit.d_model});
  file.close();
}

EdgeCircuit read_circuit_archive(const std::filesystem::path& path) {
  const Archive file(path);
  const std::string where = path.string();
  const bool scores_alone = !file.has("/circuit/scores") && file.has("/attribution/scores");
  const std::string group = scores_alone ? "/attribution" : "/circuit";
  const at::Tensor values = file.tensor(group + "/scores").to(at::kDouble);
  EdgeCircuit circuit;
  const EdgeSpace space = claimed_space(
      whole(file, group, "layers", kMost, where), whole(file, group, "heads", kMost, where),
      whole(file, group, "kv_heads", kMost, where), whole(file, group, "parallel", 1, where) != 0,
      static_cast<std::size_t>(values.nbytes()), where);
  try {
    circuit = scored_circuit({.space = space,
                              .values = scores_alone ? at::nan_to_num(values, 0.0) : values,
                              .method = text_of(file, group, scores_alone ? "method" : "title"),
                              .convention = text_of(file, group, "convention")});
  } catch (const Error& error) {
    throw Error(ErrorKind::bad_file, fmt::format("{}: {}", where, error.what()));
  }
  if (scores_alone) return circuit;
  circuit.d_model = static_cast<int>(whole(file, group, "d_model", 1 << 30, where));
  const at::Tensor in = file.tensor(group + "/in_graph");
  if (in.scalar_type() != at::kLong || in.dim() != 1 || in.size(0) != space.edges() ||
      in.lt(0).logical_or(in.gt(1)).any().item<bool>()) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: {}/in_graph is not 0 or 1 for each of {} edges", where, group,
                            space.edges()));
  }
  const at::Tensor plain = in.contiguous();
  for (std::size_t edge = 0; edge < circuit.in.size(); ++edge)
    circuit.in[edge] = static_cast<std::uint8_t>(plain.data_ptr<std::int64_t>()[edge]);
  return circuit;
}

}  // namespace plumb::report
