"""Compares EAP-IG's scores with plumb's: compare_edges.py PEER.json INSPECT.json PLUMB.json...

PEER.json is what peer_edges.py printed, INSPECT.json what `plumb inspect --json` prints of the model, each
PLUMB.json what `plumb attribute --json` printed for one of its methods, all edges, on the same weights and
pairs. Stops if a score differs, or the order of the strongest edges does beyond near ties; then prints
seconds, their ratios to the peer and to the bare passes (a plain forward of transformers counts one, a
backward two), and memory above the weights in float32: of plumb the whole process, LibTorch's own share included.
"""

import json
import re
import sys

TOLERANCE = 2e-4  # of the largest score: both add in float32, in other orders
TOP = 200


def by_key_head(edges, group):
    """The peer scores keys and values by query head: a key head's score is the sum of its group's."""
    summed = {}
    for name, score in edges.items():
        match = re.fullmatch(r"(.*->a\d+\.h)(\d+)(<[kv]>)", name)
        if match:
            name = f"{match[1]}{int(match[2]) // group}{match[3]}"
        summed[name] = summed.get(name, 0.0) + score
    return summed


def check_scores(peer, ours, what):
    if peer.keys() != ours.keys():
        sys.exit(f"{what}: {len(peer)} and {len(ours)} edges, not the same ones")
    largest = max(map(abs, peer.values()))
    worst = max(abs(peer[name] - ours[name]) for name in peer) / largest
    if not worst <= TOLERANCE:
        sys.exit(f"{what}: scores differ by {worst:.1e} of the largest")
    order = sorted(peer, key=lambda name: -abs(peer[name]))[:TOP]
    for before, after in zip(order, order[1:]):
        gap = abs(peer[before]) - abs(peer[after])
        if abs(ours[before]) < abs(ours[after]) and gap > 2 * TOLERANCE * largest:
            sys.exit(f"{what}: {before} and {after} come in another order")
    return worst


def passes_of(method, steps):
    """Plain forwards that the method cannot do without."""
    return 2 + 3 if method == "eap" else 2 + 3 * steps


def main():
    peer = json.load(open(sys.argv[1]))
    weights = 4 * json.load(open(sys.argv[2]))["parameters"]
    for name in sys.argv[3:]:
        ours = json.load(open(name))
        method = ours["method"]
        theirs = peer["methods"][method]
        group = ours["model"]["heads"] // ours["model"]["kv_heads"]
        worst = check_scores(by_key_head(theirs["edges"], group), dict(ours["edges"]), method)
        seconds, run = min(theirs["seconds"]), ours["run"]
        bare = passes_of(method, peer["steps"]) * peer["forward_s"]
        above = run["peak_bytes"] - weights
        print(f"{method:7} {peer['library']} {seconds:6.1f} s   plumb {run['seconds']:6.2f} s   "
              f"{seconds / run['seconds']:5.1f} times faster   "
              f"bare passes {bare:5.2f} s, {run['seconds'] / bare:.2f} of them   memory above the "
              f"model {theirs['above_model_bytes'] / 1e6:.0f} / {above / 1e6:.0f} MB   "
              f"{len(theirs['edges'])} edges equal to {worst:.0e}")


if __name__ == "__main__":
    main()
