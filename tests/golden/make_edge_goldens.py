"""EAP-IG's scores of every edge of two tiny models: tests/golden/edges.json.

The models, the prompts and what is adapted of the package are those of make_circuit_goldens.py.

    python tests/golden/make_edge_goldens.py tests/golden/edges.json
"""
import json
import sys

import torch
from make_circuit_goldens import build, difference, prompts
import eap.attribute
from eap.graph import Graph

METHODS = [("eap", "EAP", None), ("clean_corrupted", "clean-corrupted", None),
           ("eap_ig_inputs_m5", "EAP-IG-inputs", 5),
           ("eap_ig_activations_m2", "EAP-IG-activations", 2), ("exact", "exact", None)]


def scored(model, data, method, steps):
    graph = Graph.from_model(model)
    if method == "exact":
        metric = lambda *a: -difference(*a)
    else:
        metric = lambda *a: -difference(*a).mean()
    eap.attribute.attribute(model, graph, data, metric, method=method, ig_steps=steps, quiet=True)
    return graph


def main(path):
    clean, corrupt, answers = prompts()
    data = [(clean.tolist(), corrupt.tolist(), answers)]
    result = {"about": "EAP-IG 795f560 on tiny models, float64; see make_edge_goldens.py",
              "models": {}}
    for kind in ("gpt2", "llama"):
        model = build(kind)
        edges = {}
        for name, method, steps in METHODS:
            graph = scored(model, data, method, steps)
            if not edges:
                edges["sources"] = [n for n in graph.nodes if n != "logits"]
                edges["destinations"] = graph.get_dst_nodes()
            assert graph.scores.dtype == torch.float64
            edges[name] = {"batch": len(answers), "scores": graph.scores.tolist()}
        result["models"][kind] = {
            "tokens_clean": clean.tolist(), "tokens_corrupt": corrupt.tolist(),
            "answers": answers.tolist(), "edges": edges}
    with open(path, "w") as file:
        json.dump(result, file, separators=(",", ":"))
        file.write("\n")


main(sys.argv[1])
