// Edge circuits as EAP-IG's tensors in a safetensors file.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "checkpoint/atomic_file.h"
#include "checkpoint/json.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/write_safetensors.h"
#include "circuit/edge_nodes.h"
#include "circuit/edge_text.h"
#include "plumb/edge_formats.h"
#include "plumb/error.h"

namespace plumb {
namespace {

constexpr std::int64_t kMost = 1 << 20;

struct Matrices {
  at::Tensor scores = {};  // [senders, receivers] float64
  at::Tensor in = {};      // the same, bool
};

Matrices matrices_of(const EdgeCircuit& wide) {
  const EdgeSpace& space = wide.space;
  Matrices made{at::zeros({space.senders(), space.receivers()}, at::kDouble),
                at::zeros({space.senders(), space.receivers()}, at::kBool)};
  auto* const scores = made.scores.data_ptr<double>();
  auto* const in = made.in.data_ptr<bool>();
  for (std::int64_t receiver = 0; receiver < space.receivers(); ++receiver) {
    for (std::int64_t sender = 0; sender < space.seen_by(receiver); ++sender) {
      const std::int64_t edge = space.first_edge(receiver) + sender;
      const std::int64_t place = sender * space.receivers() + receiver;
      scores[place] = score(wide, edge);
      in[place] = has(wide, edge);
    }
  }
  return made;
}

// A tensor of the file, once its dtype and shape are as expected.
const std::byte* data_of(const std::vector<StoredTensor>& tensors, const std::string& name,
                         const std::string& dtype, const std::vector<std::int64_t>& shape,
                         const std::string& where) {
  const StoredTensor* const found = find_tensor(tensors, name);
  if (found == nullptr)
    throw Error(ErrorKind::bad_file, fmt::format("{}: there is no tensor {}", where, name));
  if (found->info.dtype != dtype || found->info.shape != shape) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: {} should be {} {}, but is {} {}", where, name, dtype,
                            shape_text(shape), found->info.dtype, shape_text(found->info.shape)));
  }
  return found->data;
}

}  // namespace

void write_tensors(const EdgeCircuit& circuit, const std::filesystem::path& path) {
  const EdgeCircuit wide = ungrouped(circuit);
  const EdgeSpace& space = wide.space;
  const Matrices made = matrices_of(wide);
  const auto used = senders_in(wide);
  const std::vector<std::int64_t> shape = {space.senders(), space.receivers()};
  const std::string cfg = fmt::format(
      "{{\"n_layers\": {}, \"n_heads\": {}, \"parallel_attn_mlp\": {}, \"d_model\": {}}}",
      space.layers(), space.heads(), space.parallel(), circuit.d_model);
  const std::map<std::string, std::string> words = {
      {"cfg", cfg},
      {"title", circuit.title},
      {"convention", circuit.convention},
      {"kv_heads", std::to_string(circuit.space.kv_heads())}};
  AtomicFile file(path);
  write_safetensors(file,
                    {{"edges_scores", at::kDouble, shape, [&] { return made.scores; }},
                     {"edges_in_graph", at::kBool, shape, [&] { return made.in; }},
                     {"nodes_in_graph",
                      at::kBool,
                      {space.senders()},
                      [&] {
                        at::Tensor nodes = at::zeros({space.senders()}, at::kBool);
                        auto* const data = nodes.data_ptr<bool>();
                        for (std::size_t i = 0; i < used.size(); ++i) data[i] = used[i] != 0;
                        return nodes;
                      }}},
                    words);
  file.commit();
}

EdgeCircuit edge_circuit_from_tensors(const std::filesystem::path& path,
                                      std::optional<int> kv_heads) {
  const std::string where = path.string();
  const MappedFile file(path);
  const std::vector<StoredTensor> tensors = read_safetensors(file);
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);  // bounded by read_safetensors
  const Json header = parse_json(file.text().substr(sizeof length, length), where, 4);
  const Fields words = Fields(header, where).object("__metadata__");
  const Json parsed = parse_json(words.text("cfg"), where + ": cfg", 2);
  const Fields cfg(parsed, where + ": cfg");
  const std::int64_t heads = cfg.integer("n_heads", 1, kMost);
  EdgeCircuit circuit = empty_circuit(claimed_space(cfg.integer("n_layers", 1, kMost), heads, heads,
                                                    cfg.flag("parallel_attn_mlp", false),
                                                    static_cast<std::size_t>(file.size()), where));
  circuit.d_model = static_cast<int>(cfg.integer("d_model", 0, 1 << 30, 0));
  circuit.title = words.text("title", "");
  circuit.convention = words.text("convention", "");
  if (!kv_heads) {
    const std::string text = words.text("kv_heads", std::to_string(heads));
    const Json number = parse_json(text, where + ": kv_heads", 1);
    if (!number.is_number_integer() || number.get<std::int64_t>() < 1 ||
        heads % number.get<std::int64_t>() != 0)
      throw Error(ErrorKind::bad_file, fmt::format("{}: {} heads and a number of key heads that "
                                                   "does not divide them",
                                                   where, heads));
    kv_heads = static_cast<int>(number.get<std::int64_t>());
  } else if (*kv_heads < 1 || heads % *kv_heads != 0) {
    throw Error(ErrorKind::bad_file, fmt::format("{}: {} heads are no multiple of {} key heads",
                                                 where, heads, *kv_heads));
  }
  const EdgeSpace& space = circuit.space;
  const std::vector<std::int64_t> shape = {space.senders(), space.receivers()};
  const std::byte* const scores = data_of(tensors, "edges_scores", "F64", shape, where);
  const std::byte* const in = data_of(tensors, "edges_in_graph", "BOOL", shape, where);
  file.check_unchanged();
  for (std::int64_t sender = 0; sender < space.senders(); ++sender) {
    for (std::int64_t receiver = 0; receiver < space.receivers(); ++receiver) {
      const auto place = static_cast<std::size_t>(sender * space.receivers() + receiver);
      double value = 0.0;
      std::memcpy(&value, scores + place * sizeof value, sizeof value);
      const auto flag = std::to_integer<int>(in[place]);
      const bool can_be = sender < space.seen_by(receiver);
      if (flag > 1 || !std::isfinite(value) || (!can_be && (flag != 0 || value != 0.0))) {
        throw Error(ErrorKind::bad_file,
                    fmt::format("{}: {} -> {} is {}", where, space.sender_name(sender),
                                space.receiver_name(receiver),
                                !can_be ? "no edge, but is in or has a score"
                                        : "neither in nor out, or its score is not finite"));
      }
      if (!can_be) continue;
      const auto edge = static_cast<std::size_t>(space.first_edge(receiver) + sender);
      circuit.scores[edge] = value;
      circuit.in[edge] = flag != 0 ? 1 : 0;
    }
  }
  circuit = grouped(circuit, *kv_heads);
  try {
    check(circuit);
  } catch (const Error& error) {
    throw Error(ErrorKind::bad_file, where + ": " + error.what());
  }
  return circuit;
}

}  // namespace plumb
