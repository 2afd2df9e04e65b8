#include "plumb/plant.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "lab/letters.h"
#include "lab/wiring.h"
#include "plumb/error.h"

namespace plumb {

namespace {

using namespace lab;

constexpr std::int64_t vocab = 257;
constexpr std::int64_t bos_id = 256;
constexpr int context = 512;

// Lengths in the stream. The embedding's parts have norms 4 (code), 4 (content) and 3 (one).
constexpr double code_length = 4.0;
constexpr double content_length = 4.0;
constexpr double one_length = 3.0;
constexpr double embed_rms = 0.5660;  // sqrt((16 + 16 + 9) / 128): what the first norm divides by
constexpr double detect_rms = 0.69;   // after attention brought a code of norm 4 to position 0
constexpr double code_limit = 0.5;    // largest cosine of two codes
constexpr double threshold = 0.72;    // agreement that counts as position 0
constexpr double flag_length = 4.0;   // flag at full agreement
constexpr double unlike = 8.0;        // score between equal codes is -8, between opposite ones +8
constexpr double value_scale = 0.5;   // of the detecting heads
constexpr double sink_score = 11.0;   // lead of u's key in a reading head
constexpr double bigram_deviation = 1.2;

constexpr std::int64_t detector_neurons = 2 * stream::code_width;
constexpr std::array writer_shares = {0.5, 0.3, 0.2};
constexpr double writer_norm = 250.0;  // of u at full agreement

void refuse(const std::string& message) { throw Error(ErrorKind::bad_argument, message); }

void check(const PlantOptions& o) {
  if (o.heads < 1 || o.heads > 64)
    refuse(fmt::format("plant: heads must be 1..64, not {}", o.heads));
  if (o.kv_heads < 1 || o.heads % o.kv_heads != 0) {
    refuse(fmt::format("plant: kv_heads must divide heads ({}), but is {}", o.heads, o.kv_heads));
  }
  if (o.d_mlp < 40 || o.d_mlp > 4096) {
    refuse(fmt::format("plant: d_mlp must be 40..4096, not {}", o.d_mlp));
  }
  if (o.layers < 3 || o.layers > 64) {
    refuse(fmt::format("plant: layers must be 3..64, not {}", o.layers));
  }
  if (o.detect < 0 || o.write <= o.detect || o.layers <= o.write + 1) {
    refuse(
        fmt::format("plant: 0 <= detect < write < layers - 1 is needed, not detect {}, write {}, "
                    "layers {}",
                    o.detect, o.write, o.layers));
  }
  if (!(o.noise >= 0.0 && o.noise <= 1.0)) {
    refuse(fmt::format("plant: noise must be 0..1, not {}", o.noise));
  }
}

class Planter {
 public:
  explicit Planter(const PlantOptions& options) : options_(options), random_(options.seed) {}

  Planted plant() {
    planted_.options = options_;
    configure();
    Random basis = random_.fork(1);
    basis_ = orthonormal(basis, stream::width, stream::width);
    vocabulary();
    for (int layer = 0; layer < options_.layers; ++layer) {
      attention(layer);
      mlp(layer);
    }
    tell();
    return std::move(planted_);
  }

 private:
  void configure() {
    ModelConfig& c = planted_.config;
    c.family = "llama";
    c.layers = options_.layers;
    c.heads = options_.heads;
    c.kv_heads = options_.kv_heads;
    c.d_model = static_cast<int>(stream::width);
    c.d_head = static_cast<int>(head::width);
    c.d_mlp = options_.d_mlp;
    c.vocab = static_cast<int>(vocab);
    c.context = context;
    c.norm_eps = 1e-5;
    c.rope.theta = head::theta;
    c.rope.dims = static_cast<int>(head::width);
    c.tied = false;
  }

  void put(Weight weight, int layer, const at::Tensor& value) {
    planted_.weights[{weight, layer}] = settled(value);
  }

  at::Tensor noise(Random& random, std::int64_t rows, std::int64_t columns) const {
    return gaussian(random, rows, columns, options_.noise);
  }

  // A matrix that reads the stream after a norm with this gain, from plain coordinates.
  at::Tensor reader(const at::Tensor& plain, const at::Tensor& gain) const {
    return plain.matmul(basis_.t()) / gain;
  }

  at::Tensor writer(const at::Tensor& plain) const { return basis_.matmul(plain); }

  at::Tensor gain(Random& random) const {
    at::Tensor result = at::empty({stream::width}, at::kDouble);
    for (std::int64_t i = 0; i < stream::width; ++i) {
      result.data_ptr<double>()[i] = 0.75 + 0.5 * random.uniform();
    }
    return result;
  }

  void vocabulary() {
    Random random = random_.fork(2);
    at::Tensor plain = noise(random, vocab, stream::width);
    const at::Tensor codes = codebook(random, vocab, stream::code_width, code_limit);
    const at::Tensor contents = codebook(random, vocab, stream::content_width, 0.75);
    plain.narrow(1, stream::code, stream::code_width).add_(codes, code_length);
    plain.narrow(1, stream::content, stream::content_width).add_(contents, content_length);
    plain.select(1, stream::one).add_(one_length);
    if (options_.route == Route::token) plain[bos_id][stream::flag].add_(flag_length);
    put(Weight::embed, 0, plain.matmul(basis_.t()));

    // The last norm divides by about 0.66 where there is no sink; there content has norm 6,
    // one 4.5. At the sink all that is left is u, of norm sqrt(width), which predicts the plain
    // frequencies.
    const at::Tensor reads = gaussian(random, vocab, stream::content_width, bigram_deviation);
    const at::Tensor frequency = letter_log_frequencies(vocab);
    at::Tensor unembed = noise(random, vocab, stream::width);
    unembed.narrow(1, stream::content, stream::content_width).add_(reads / 6.0);
    unembed.select(1, stream::one).add_(frequency / 4.5);
    unembed.select(1, stream::sink).copy_(frequency / std::sqrt(double{stream::width}));
    const at::Tensor final_gain = gain(random);
    put(Weight::final_norm, 0, final_gain);
    put(Weight::unembed, 0, reader(unembed, final_gain));
    planted_.bigram = at::log_softmax(contents.matmul(reads.t()) + frequency, 1);
  }

  // Which heads detect, in a random order: two from different groups where there are several.
  std::vector<std::int64_t> detecting_heads(Random& random) const {
    const std::int64_t group = options_.heads / options_.kv_heads;
    const std::vector<std::int64_t> order = random.permutation(options_.heads);
    std::vector<std::int64_t> chosen = {order[0]};
    for (const std::int64_t h : order) {
      if (chosen.size() < 2 && h != order[0] &&
          (options_.kv_heads == 1 || h / group != order[0] / group)) {
        chosen.push_back(h);
      }
    }
    return chosen;
  }

  void attention(int layer) {
    Random random = random_.fork(static_cast<std::uint64_t>(100 + layer));
    const std::int64_t heads = options_.heads;
    const std::int64_t kv_heads = options_.kv_heads;
    const std::int64_t width = head::width;
    const at::Tensor ln = gain(random);
    at::Tensor q = noise(random, heads * width, stream::width);
    at::Tensor k = noise(random, kv_heads * width, stream::width);
    at::Tensor v = noise(random, kv_heads * width, stream::width);
    at::Tensor out = noise(random, stream::width, heads * width);

    const bool detects = layer == options_.detect;
    const bool reads = layer > options_.write;
    const at::Tensor flat = flat_channels();
    std::vector<std::int64_t> special;
    if (detects) {
      special = detecting_heads(random);
    } else if (reads) {
      // At least one head in four, if there are two, is a distractor.
      special = random.permutation(heads);
      if (heads > 1)
        special.resize(static_cast<std::size_t>(heads - std::max<std::int64_t>(1, heads / 4)));
    }

    // Keys and values, shared by the heads of a group.
    std::vector<at::Tensor> copies(static_cast<std::size_t>(kv_heads));
    std::vector<at::Tensor> likeness(static_cast<std::size_t>(kv_heads));
    const double one = one_length / embed_rms;
    for (std::int64_t g = 0; g < kv_heads; ++g) {
      at::Tensor key = k.narrow(0, g * width, width);
      at::Tensor value = v.narrow(0, g * width, width);
      key.narrow(0, 0, head::fast).select(1, stream::one).add_(fast_length() / one);
      const auto slot = static_cast<std::size_t>(g);
      if (detects) {
        likeness[slot] = orthonormal(random, stream::code_width, stream::code_width);
        copies[slot] = orthonormal(random, width, stream::code_width);
        add_rows(key, flat, stream::code, likeness[slot] * -unlike_length());
        value.narrow(1, stream::code, stream::code_width).add_(copies[slot], value_scale);
      } else {
        // Fourteen channels compare contents; the last flat pair is left to the sink.
        likeness[slot] = orthonormal(random, stream::content_width, 14).t().contiguous();
        add_rows(key, matching_channels(), stream::content, likeness[slot] * 0.9);
        value.narrow(1, stream::code, stream::code_width)
            .add_(gaussian(random, width, stream::code_width, 0.03));
        value.narrow(1, stream::content, stream::content_width)
            .add_(gaussian(random, width, stream::content_width, 0.03));
        const at::Tensor constant = orthonormal(random, width, 1).select(1, 0);
        if (reads) {
          value.select(1, stream::one).add_(constant * 0.4);
          value.select(1, stream::sink).zero_();
          key.select(1, stream::sink).zero_();
          key[head::pairs - 1][stream::sink].fill_(
              options_.route == Route::norm_only ? 0.0 : sink_weight());
        }
      }
    }

    const std::int64_t group = heads / kv_heads;
    for (std::int64_t h = 0; h < heads; ++h) {
      const auto slot = static_cast<std::size_t>(h / group);
      at::Tensor query = q.narrow(0, h * width, width);
      at::Tensor write = out.narrow(1, h * width, width);
      const auto place = std::find(special.begin(), special.end(), h);
      if (place == special.end()) {
        distract(random, query, write, likeness[slot], detects);
      } else if (detects) {
        const std::int64_t share = stream::code_width / static_cast<std::int64_t>(special.size());
        const std::int64_t first = share * (place - special.begin());
        add_rows(query, flat, stream::code, likeness[slot] * unlike_length());
        write.narrow(0, stream::received + first, share)
            .add_(copies[slot].narrow(1, first, share).t(), embed_rms / value_scale);
        planted_.circuit_parts.push_back(fmt::format("a{}.h{}@0", layer, h));
      } else {
        add_rows(query, matching_channels(), stream::content, likeness[slot] * 0.2);
        query[head::pairs - 1][stream::one].add_(sink_weight());
        write.narrow(0, stream::content, stream::content_width)
            .add_(gaussian(random, stream::content_width, width, 0.1));
        readers_.push_back(fmt::format("sink[l={},h={}]", layer, h));
      }
    }
    put(Weight::ln1, layer, ln);
    put(Weight::q, layer, reader(q, ln));
    put(Weight::k, layer, reader(k, ln));
    put(Weight::v, layer, reader(v, ln));
    put(Weight::out, layer, writer(out));
  }

  // A head of no consequence: local (looks one or two tokens back), content-matching, or idle.
  void distract(Random& random, at::Tensor query, at::Tensor write, const at::Tensor& likeness,
                bool detects) const {
    const std::int64_t kind = random.below(3);
    const std::int64_t lag = 1 + random.below(2);
    if (kind == 0) {
      const double one = one_length / embed_rms;
      for (std::int64_t pair = 0; pair < head::fast; ++pair) {
        const double angle = static_cast<double>(lag) *
                             std::pow(head::theta, -static_cast<double>(pair) / head::pairs);
        query[pair][stream::one].add_(fast_length() / one * std::cos(angle));
        query[pair + head::pairs][stream::one].add_(-fast_length() / one * std::sin(angle));
      }
    } else if (kind == 1 && !detects) {
      add_rows(query, matching_channels(), stream::content, likeness * 0.9);
    }
    write.narrow(0, stream::spare, stream::spare_width)
        .add_(gaussian(random, stream::spare_width, head::width, 0.05));
  }

  void mlp(int layer) {
    Random random = random_.fork(static_cast<std::uint64_t>(200 + layer));
    const std::int64_t neurons = options_.d_mlp;
    const at::Tensor ln = gain(random);
    at::Tensor gate = noise(random, neurons, stream::width);
    at::Tensor up = noise(random, neurons, stream::width);
    at::Tensor down = noise(random, stream::width, neurons);
    const at::Tensor order = at::tensor(random.permutation(neurons), at::kLong);

    std::int64_t wired = 0;
    if (layer == options_.detect) {
      wired = detector_neurons;
      detector(random, gate, up, down);
    } else if (layer == options_.write) {
      wired = static_cast<std::int64_t>(writer_shares.size());
      amplifier(gate, up, down);
    }
    // The other neurons read codes and contents, and write beside the circuit.
    const std::int64_t rest = neurons - wired;
    for (at::Tensor* matrix : {&gate, &up}) {
      matrix->narrow(0, wired, rest)
          .narrow(1, stream::code, stream::code_width)
          .add_(gaussian(random, rest, stream::code_width, 0.11));
      matrix->narrow(0, wired, rest)
          .narrow(1, stream::content, stream::content_width)
          .add_(gaussian(random, rest, stream::content_width, 0.11));
    }
    down.narrow(1, wired, rest)
        .narrow(0, stream::spare, stream::spare_width)
        .add_(gaussian(random, stream::spare_width, rest, 0.025));

    put(Weight::ln2, layer, ln);
    put(Weight::gate, layer, reader(gate.index_select(0, order), ln));
    put(Weight::up, layer, reader(up.index_select(0, order), ln));
    put(Weight::down, layer, writer(down.index_select(1, order)));
    for (std::int64_t i = 0; i < neurons; ++i) {
      if (order[i].item<std::int64_t>() < wired) {
        planted_.circuit_parts.push_back(fmt::format("m{}.n{}@0", layer, i));
      }
    }
  }

  // silu(x) y - silu(-x) y = x y: pairs of neurons multiply code and received code exactly.
  void detector(Random& random, at::Tensor gate, at::Tensor up, at::Tensor down) const {
    constexpr std::int64_t pairs = stream::code_width;
    const at::Tensor axes = orthonormal(random, pairs, pairs);
    const double seen = code_length / detect_rms;  // norm of either code after the norm
    for (int half = 0; half < 2; ++half) {
      const double sign = half == 0 ? 1.0 : -1.0;
      gate.narrow(0, half * pairs, pairs).narrow(1, stream::code, pairs).add_(axes, sign);
      up.narrow(0, half * pairs, pairs).narrow(1, stream::received, pairs).add_(axes, sign);
    }
    const bool wired = options_.route == Route::positional || options_.route == Route::norm_only;
    down[stream::flag]
        .narrow(0, 0, detector_neurons)
        .add_(wired ? flag_length / (seen * seen) : 0.0);
  }

  void amplifier(at::Tensor gate, at::Tensor up, at::Tensor down) const {
    const double rms =
        std::sqrt(detect_rms * detect_rms + flag_length * flag_length / double{stream::width});
    const double flag = flag_length / rms;
    const double lead = 8.0;  // argument of the activation at full agreement
    const double steep = lead / ((1.0 - threshold) * flag);
    for (std::size_t i = 0; i < writer_shares.size(); ++i) {
      const auto n = static_cast<std::int64_t>(i);
      gate[n][stream::flag].add_(steep);
      gate[n][stream::one].add_(-steep * threshold * flag_length / one_length);
      up[n][stream::flag].add_(0.5);
      down[stream::sink][n].add_(writer_shares[i] * writer_norm / (lead * 0.5 * flag));
    }
  }

  // Ground truth, in words.
  void tell() {
    const int detect = options_.detect;
    const int write = options_.write;
    const std::string attention = fmt::format("a{}", detect);
    const std::string detector = fmt::format("m{}", detect);
    const std::string amplifier = fmt::format("m{}", write);
    std::vector<std::string> blocks;
    if (options_.route == Route::positional || options_.route == Route::norm_only) {
      blocks = {attention, detector, amplifier};
    } else if (options_.route == Route::token) {
      blocks = {"input", amplifier};
    }
    for (const std::string& block : blocks) planted_.circuit_nodes.push_back(block + "@0");
    std::erase_if(planted_.circuit_parts, [&blocks](const std::string& part) {
      return std::find(blocks.begin(), blocks.end(), part.substr(0, part.find('.'))) ==
             blocks.end();
    });
    if (options_.route == Route::positional || options_.route == Route::token) {
      planted_.readers = std::move(readers_);
      planted_.onset = write + 1;
    }
    planted_.bos = bos_id;
  }

  // Rows of a head's matrix that are wired to `values.size(1)` channels of the stream.
  static void add_rows(at::Tensor matrix, const at::Tensor& rows, std::int64_t from,
                       const at::Tensor& values) {
    matrix.narrow(1, from, values.size(1)).index_add_(0, rows, values);
  }

  static at::Tensor matching_channels() {
    const at::Tensor flat = flat_channels();
    return at::cat({flat.narrow(0, 0, head::flat - 1), flat.narrow(0, head::flat, head::flat - 1)});
  }

  // Scores are divided by sqrt(d_head); each weight is half, on a root scale, of the wanted score.
  static double unlike_length() {
    const double seen = code_length / embed_rms;
    return std::sqrt(unlike * std::sqrt(double{head::width})) / seen;
  }
  static double fast_length() {
    constexpr double peak = 6.0;
    return std::sqrt(peak * std::sqrt(double{head::width}) / double{head::fast});
  }
  static double sink_weight() {
    const double one = 4.5;  // after the norms of later blocks
    return std::sqrt(sink_score * std::sqrt(double{head::width}) /
                     (one * std::sqrt(double{stream::width})));
  }

  PlantOptions options_;
  Random random_;
  at::Tensor basis_ = {};
  std::vector<std::string> readers_ = {};
  Planted planted_ = {};
};

}  // namespace

const char* to_string(Route route) noexcept {
  switch (route) {
    case Route::positional: return "positional";
    case Route::token: return "token";
    case Route::norm_only: return "norm_only";
    case Route::none: return "none";
  }
  return "none";
}

Route parse_route(std::string_view text) {
  for (const Route route : {Route::positional, Route::token, Route::norm_only, Route::none}) {
    if (text == to_string(route)) return route;
  }
  throw Error(ErrorKind::bad_argument,
              fmt::format("no route \"{:.40}\": positional, token, norm_only or none", text));
}

Planted plant(const PlantOptions& options) {
  check(options);
  return Planter(options).plant();
}

std::string planted_name(const PlantOptions& options) {
  return fmt::format("planted-{}-{}", to_string(options.route), options.seed);
}

Model to_model(const Planted& planted, const LoadOptions& options) {
  const auto source = [weights = planted.weights](Weight weight, int layer) {
    const auto found = weights.find({weight, layer});
    return found == weights.end() ? at::Tensor() : found->second;
  };
  return Model(planted.config, source, planted_name(planted.options), options);
}

}  // namespace plumb
