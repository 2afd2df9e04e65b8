#include "plumb/plant.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "lab/planter.h"
#include "plumb/error.h"

namespace plumb {

namespace {

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
  const int narrowest = static_cast<int>(lab::stream::width) + (o.norm == Norm::layer ? 1 : 0);
  if (o.d_model < narrowest || o.d_model > 4096) {
    refuse(fmt::format("plant: d_model must be {}..4096, not {}", narrowest, o.d_model));
  }
  if (o.experts != 0 && (o.experts < 2 || o.experts > 64)) {
    refuse(fmt::format("plant: experts must be 0 or 2..64, not {}", o.experts));
  }
  if (o.backup && o.layers <= o.write + 2) {
    refuse(fmt::format("plant: a backup in block {} needs a layer after it, but layers is {}",
                       o.write + 1, o.layers));
  }
  const int first_reader = o.write + (o.backup ? 2 : 1);
  if (o.second != 0 && (o.second <= first_reader || o.layers <= o.second + 1)) {
    refuse(fmt::format("plant: second must be 0 or {}..{}, not {}", first_reader + 1, o.layers - 2,
                       o.second));
  }
  if (o.erase && o.second == 0) refuse("plant: erase needs a second wave");
  const lab::RouteParts parts = lab::parts_of(o);
  if (o.second != 0 && !(parts.writes && parts.reads)) {
    refuse(fmt::format("plant: the route {} has no second wave", to_string(o.route)));
  }
}

}  // namespace

namespace lab {

Planter::Planter(const PlantOptions& options)
    : options_(options),
      parts_(parts_of(options)),
      random_(options.seed),
      deep_(options.detect > 0 || options.write > 1) {}

Planted Planter::plant() {
  planted_.options = options_;
  configure();
  make_basis();
  vocabulary();
  position_table();
  for (int layer = 0; layer < options_.layers; ++layer) {
    attention(layer);
    mlp(layer);
  }
  tell();
  return std::move(planted_);
}

}  // namespace lab

Planted plant(const PlantOptions& options) {
  check(options);
  return lab::Planter(options).plant();
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
