// A circuit like one of a first wave, with every kind of edge.
#pragma once

#include "plumb/circuit.h"

namespace plumb::test {

inline Circuit sample_circuit() {
  Circuit circuit;
  circuit.title = "a \"small\" circuit & its <drain>";
  circuit.convention = "share of the sink lost by a knock-out; positive = writes the sink";
  circuit.nodes = {
      {"input@0", "input", -1},
      {"a0@0", "attention", 0, 0.08},
      {"m0@0", "mlp", 0, 0.31, {{"zero", "0.1 [0.0, 0.2]"}, {"path", "C:\\x \"y\"\n水"}}},
      {"m1@0", "mlp", 1, 0.1 + 0.2},
      {"m2.n90@0", "neuron", 2, 0.74},
      {"m2@0", "mlp", 2, 0.91},
      {"sink[3-9]", "sink", 3, 0.83},
      {"m8@0", "mlp", 8, -0.4},
      {"m9@0", "mlp", 9, -0.55}};
  circuit.edges = {{"input@0", "a0@0", 0.05},
                   {"input@0", "m0@0", 0.3},
                   {"a0@0", "m0@0", -0.08},
                   {"m0@0", "m1@0", 0.22, "or"},
                   {"m0@0", "m2@0", 1e-300, "or"},
                   {"m1@0", "m2@0", 0.31, "", ScoreInterval{0.1 + 0.2, 1.0 / 3.0}},
                   {"m0@0", "m2.n90@0", 0.6},
                   {"m2.n90@0", "m2@0", 0.74},
                   {"m2@0", "sink[3-9]", 0.91},
                   {"m2@0", "m8@0", 0.4},
                   {"m2@0", "m9@0", 0.2},
                   {"m8@0", "sink[3-9]", -0.4, "eraser", ScoreInterval{-0.5, -1e-300}},
                   {"m9@0", "sink[3-9]", -0.55, "eraser"}};
  return circuit;
}

}  // namespace plumb::test
