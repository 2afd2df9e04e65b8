"""Single edges and MIB's curve by EAP-IG's own package, one evaluation after another.

    build/peer_edges/bin/python tests/bench/peer_exact.py MODEL_DIR PAIRS.jsonl EXACT.json SCORES.json > peer.json

EXACT.json is what `plumb attribute --method exact --sample N --json` printed: of its edges the first few
are evaluated as the package's `exact` does (one evaluation of the graph without the edge), and as direct
effects (which the package has not) by a forward pass with hooks for each: the receiver reads the sender's
corrupt write, and what it then writes goes straight to the final stream. SCORES.json are scores of all
edges, whose curve is evaluated in both orders as MIB's track does; forward passes of the model are counted.
"""

import argparse
import json
import random
import re
import statistics
import sys
import time

import torch
import transformers

from peer_edges import hooked, eap, Graph

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def difference(logits, _, lengths, labels):
    last = logits[torch.arange(len(lengths)), lengths - 1].gather(1, labels)
    return last[:, 0] - last[:, 1]


def exact_of(model, graph, batch, names):
    """As get_scores_exact: all edges are in but one. Positive here = the edge raises the metric."""
    graph.in_graph |= graph.real_edge_mask
    graph.nodes_in_graph[:] = True
    baseline = eap.evaluate.evaluate_baseline(model, [batch], difference, quiet=True).mean().item()
    scores, seconds = {}, []
    for name in names:
        start = time.perf_counter()
        graph.edges[name].in_graph = False
        value = eap.evaluate.evaluate_graph(model, graph, [batch], difference, quiet=True).mean().item()
        graph.edges[name].in_graph = True
        seconds.append(time.perf_counter() - start)
        scores[name] = baseline - value
    return scores, seconds


def site_of(name):
    if name == "input":
        return "hook_embed", None
    head = re.fullmatch(r"a(\d+)\.h(\d+)", name)
    if head:
        return f"blocks.{head[1]}.attn.hook_result", int(head[2])
    return f"blocks.{name[1:]}.hook_mlp_out", None


def direct_of(model, pairs, labels, names):
    clean, corrupt = (torch.tensor([pair[which] for pair in pairs]) for which in ("clean", "corrupt"))
    wanted = re.compile(r"hook_embed|.*hook_result|.*hook_mlp_out|blocks.%d.hook_resid_post"
                        % (model.cfg.n_layers - 1)).fullmatch
    with torch.no_grad():
        _, own = model.run_with_cache(clean, names_filter=lambda name: bool(wanted(name)))
        _, other = model.run_with_cache(corrupt, names_filter=lambda name: bool(wanted(name)))
    final = own[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"]
    lengths = torch.full((len(pairs),), clean.shape[1])

    def metric(stream):
        return difference(model.unembed(model.ln_final(stream)), None, lengths, labels).mean().item()

    def at(values, site, head):
        return values if head is None else values[:, :, head]

    def effect(name):
        sender, receiver = name.split("->")
        site, head = site_of(sender)
        change = at(other[site], site, head) - at(own[site], site, head)
        if receiver == "logits":
            return metric(final + change)
        found = re.fullmatch(r"a(\d+)\.h(\d+)<([qkv])>", receiver)
        if found:
            reader, place = int(found[2]), f"blocks.{found[1]}.hook_{found[3]}_input"
            out, out_head = f"blocks.{found[1]}.attn.hook_result", reader
        else:
            reader, place = None, f"blocks.{receiver[1:]}.hook_mlp_in"
            out, out_head = f"blocks.{receiver[1:]}.hook_mlp_out", None
        written = {}

        def read(value, hook):
            value = value.clone()
            at(value, place, reader).add_(change)
            return value

        def write(value, hook):
            written["now"] = at(value, out, out_head) - at(own[out], out, out_head)

        with model.hooks([(place, read), (out, write)]):
            model(clean)
        return metric(final + written["now"])

    scores, seconds = {}, []
    with torch.no_grad():
        clean_metric = metric(final)
        for name in names:
            start = time.perf_counter()
            scores[name] = clean_metric - effect(name)
            seconds.append(time.perf_counter() - start)
    return scores, seconds


def curve_of(model, graph, batch, scores):
    """Faithfulness in both orders, as MIB's track finds it, and the forward passes that it took."""
    passes = [0]

    def count(*_):
        passes[0] += 1

    forward = type(model).forward

    def counted(self, *args, **kwargs):
        count()
        return forward(self, *args, **kwargs)

    type(model).forward = counted
    start = time.perf_counter()
    for name, score in scores.items():
        graph.edges[name].score = score
    curves = {}
    for order, absolute in (("signed", False), ("absolute", True)):
        def mean(n):
            graph.apply_topn(n, absolute, level="edge", prune=True)
            return eap.evaluate.evaluate_graph(model, graph, [batch], difference, quiet=True).mean().item()

        whole = eap.evaluate.evaluate_baseline(model, [batch], difference, quiet=True).mean().item()
        none = mean(0)
        curves[order] = [(mean(int(fraction * len(graph.edges))) - none) / (whole - none)
                         for fraction in FRACTIONS]
    type(model).forward = forward
    return dict(curves=curves, forwards=passes[0], seconds=time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("pairs")
    parser.add_argument("exact")
    parser.add_argument("scores")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--edges", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    with open(options.pairs) as file:
        pairs = [json.loads(line) for line in file]
    labels = torch.tensor([pair["answers"] for pair in pairs])
    batch = ([pair["clean"] for pair in pairs], [pair["corrupt"] for pair in pairs], labels)
    with open(options.exact) as file:
        names = sorted(name for name, _ in json.load(file)["edges"])
    with open(options.scores) as file:
        scores = dict(json.load(file)["edges"])
    names = random.Random(1).sample(names, min(options.edges, len(names)))
    hf = transformers.AutoModelForCausalLM.from_pretrained(
        options.model, attn_implementation="eager").float().eval()
    clean = torch.tensor(batch[0])
    forward = []
    with torch.no_grad():
        for _ in range(5):
            start = time.perf_counter()
            hf(clean)
            forward.append(time.perf_counter() - start)
    model = hooked(hf)
    del hf
    graph = Graph.from_model(model)
    exact, exact_seconds = exact_of(model, graph, batch, names)
    print(f"exact: {statistics.median(exact_seconds):.2f} s an edge", file=sys.stderr)
    direct, direct_seconds = direct_of(model, pairs, labels, names)
    curve = curve_of(model, graph, batch, scores)
    print(json.dumps(dict(edges=len(graph.edges), forward_s=statistics.median(forward[1:]),
                          exact=dict(scores=exact, seconds=exact_seconds),
                          direct=dict(scores=direct, seconds=direct_seconds), curve=curve)))


if __name__ == "__main__":
    main()
