// Attention of a planted model: heads that detect, heads that read, and distractors.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lab/planter.h"

namespace plumb::lab {

namespace {

constexpr double unlike = 8.0;         // score between equal codes is -8, between opposite ones +8
constexpr double value_scale = 0.5;    // of the detecting heads
constexpr double sink_score = 11.0;    // lead of the read direction's key in a reading head
constexpr double rival_score = 6.5;    // of the weaker mark's
constexpr double drawing_logit = 9.0;  // learned sink logits of heads that would read
constexpr double silent_logit = -20.0;
constexpr double usual_one = 4.5;   // length of `one` after the norms of later blocks
constexpr double usual_flag = 5.3;  // of the flag at position 0

// Rows of a head's matrix that are wired to `values.size(1)` channels of the stream.
void add_rows(at::Tensor matrix, const at::Tensor& rows, std::int64_t from,
              const at::Tensor& values) {
  matrix.narrow(1, from, values.size(1)).index_add_(0, rows, values);
}

at::Tensor matching_channels() {
  const at::Tensor flat = flat_channels();
  return at::cat({flat.narrow(0, 0, head::flat - 1), flat.narrow(0, head::flat, head::flat - 1)});
}

double fast_length() {
  constexpr double peak = 6.0;
  return std::sqrt(peak * std::sqrt(double{head::width}) / double{head::fast});
}

// Scores are divided by sqrt(d_head); the query holds half of it, on a root scale.
double sink_weight(double one) {
  return std::sqrt(sink_score * std::sqrt(double{head::width}) /
                   (one * std::sqrt(double{stream::width})));
}

}  // namespace

double Planter::unlike_length() const {
  const double seen = code_length / embed_rms_;
  return std::sqrt(unlike * std::sqrt(double{head::width})) / seen;
}

bool Planter::reads(int layer) const {
  const int first = options_.write + (options_.backup ? 2 : 1);
  return layer >= first && (options_.second == 0 || layer != options_.second);
}

std::int64_t Planter::read_channel(int layer) const {
  if (!parts_.reads) return -1;
  if (parts_.reads_flag) return stream::flag;
  return options_.second != 0 && layer > options_.second ? stream::second : stream::sink;
}

// Which heads detect, in a random order: two from different groups where there are several.
std::vector<std::int64_t> Planter::detecting_heads(Random& random) const {
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

void Planter::attention(int layer) {
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
  const bool reads_here = reads(layer);
  if (detects && layer > 0) embed_rms_ = measured_rms(layer, false, false);
  const double others = reads_here && deep_ ? measured_rms(layer, false, false) : 0.0;
  const double late_one = others > 0.0 ? one_length / others : usual_one;
  const double weight = sink_weight(late_one);
  const at::Tensor flat = flat_channels();
  std::vector<std::int64_t> special;
  if (detects) {
    special = detecting_heads(random);
  } else if (reads_here) {
    // At least one head in four, if there are two, is a distractor.
    special = random.permutation(heads);
    if (heads > 1)
      special.resize(static_cast<std::size_t>(heads - std::max<std::int64_t>(1, heads / 4)));
  }

  // Keys and values, shared by the heads of a group.
  std::vector<at::Tensor> copies(static_cast<std::size_t>(kv_heads));
  std::vector<at::Tensor> likeness(static_cast<std::size_t>(kv_heads));
  const double one = one_length / embed_rms_;
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
      continue;
    }
    // Fourteen channels compare contents; the last flat pair is left to the sink.
    likeness[slot] = orthonormal(random, stream::content_width, 14).t().contiguous();
    add_rows(key, matching_channels(), stream::content, likeness[slot] * 0.9);
    value.narrow(1, stream::code, stream::code_width)
        .add_(gaussian(random, width, stream::code_width, 0.03));
    value.narrow(1, stream::content, stream::content_width)
        .add_(gaussian(random, width, stream::content_width, 0.03));
    const at::Tensor constant = orthonormal(random, width, 1).select(1, 0);
    if (!reads_here) continue;
    value.select(1, stream::one).add_(constant * 0.4);
    value.select(1, stream::sink).zero_();
    key.select(1, stream::sink).zero_();
    if (options_.second != 0) {
      value.select(1, stream::second).zero_();
      key.select(1, stream::second).zero_();
    }
    const std::int64_t channel = read_channel(layer);
    if (channel >= 0) {
      // The flag is shorter than a direction that is all of the state.
      const double scale =
          channel == stream::flag ? std::sqrt(double{stream::width}) / usual_flag : 1.0;
      key[head::pairs - 1][channel].fill_(weight * scale);
    }
    if (parts_.rival_row) {
      const double rms = others > 0.0 ? others : one_length / usual_one;
      const double seen =
          rival_length / std::sqrt(rms * rms + rival_length * rival_length / double{stream::width});
      key[head::pairs - 1][stream::rival].fill_(rival_score * std::sqrt(double{head::width}) /
                                                (late_one * weight * seen));
    }
  }

  at::Tensor logits = at::full({heads}, silent_logit, at::kDouble);
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
          .add_(copies[slot].narrow(1, first, share).t(), embed_rms_ / value_scale);
      planted_.circuit_parts.push_back(fmt::format("a{}.h{}@0", layer, h));
    } else {
      add_rows(query, matching_channels(), stream::content, likeness[slot] * 0.2);
      query[head::pairs - 1][stream::one].add_(weight);
      write.narrow(0, stream::content, stream::content_width)
          .add_(gaussian(random, stream::content_width, width, 0.1));
      readers_.push_back(fmt::format("sink[l={},h={}]", layer, h));
      logits[h] = drawing_logit;
    }
  }
  put(Weight::ln1, layer, ln);
  put(Weight::q, layer, reader(q, ln));
  put(Weight::k, layer, reader(k, ln));
  put(Weight::v, layer, reader(v, ln));
  put(Weight::out, layer, writer(out));
  if (parts_.sink_logits) put(Weight::sinks, layer, logits);
}

// A head of no consequence: local (looks one or two tokens back), content-matching, or idle.
void Planter::distract(Random& random, at::Tensor query, at::Tensor write,
                       const at::Tensor& likeness, bool detects) const {
  const std::int64_t kind = random.below(3);
  const std::int64_t lag = 1 + random.below(2);
  if (kind == 0) {
    const double one = one_length / embed_rms_;
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

}  // namespace plumb::lab
