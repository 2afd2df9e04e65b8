"""Compares single edges and a curve: compare_exact.py PEER.json DIRECT.json EXACT.json CURVE.json

PEER.json is what peer_exact.py printed; DIRECT.json and EXACT.json what `plumb attribute --json` printed for
direct (all edges) and exact (a random sample), CURVE.json what `plumb circuit evaluate --curve --json` did, on
the same weights, pairs and scores. Stops if a value differs; then prints seconds and ratios. One evaluation
per edge is extrapolated to all edges from those measured, and so is exact from its sample.
"""

import json
import statistics
import sys

TOLERANCE = 2e-4  # of the largest effect: float32 on both sides
ROUNDING = 1e-6  # in logits: an effect is a small difference of metrics, each rounded to float32
FAITHFULNESS_TOLERANCE = 2e-3


def load(name):
    with open(name) as file:
        return json.load(file)


def check(peer, ours, what):
    largest = max(map(abs, peer.values()))
    worst = 0.0
    for name, score in peer.items():
        error = abs(score - ours[name])
        worst = max(worst, error / largest)
        if not error <= TOLERANCE * largest + ROUNDING:
            sys.exit(f"{what}: {name} is {ours[name]:.6g}, and {score:.6g} by an evaluation of its own")
    return worst


def main():
    peer, direct, exact, curve = map(load, sys.argv[1:5])
    for method, ours in (("direct", direct), ("exact", exact)):
        found = peer[method]
        worst = check(found["scores"], dict(ours["edges"]), method)
        one, all_edges = statistics.median(found["seconds"]), peer["edges"]
        done = len(ours["edges"])
        seconds = ours["run"]["seconds"] * all_edges / done
        measured = "measured" if done == all_edges else f"extrapolated from {done} random edges, {ours['run']['seconds']:.1f} s"
        package = statistics.median(peer["exact"]["seconds"])
        print(f"{method:7} {all_edges} edges: plumb {seconds:.1f} s ({measured}); one evaluation per edge "
              f"(extrapolated from {len(found['seconds'])}): EAP-IG's package {package:.2f} s each, "
              f"{package * all_edges / 3600:.1f} h, {package * all_edges / seconds:.0f} times as long; "
              f"a forward with hooks {one:.2f} s; bare forwards of transformers "
              f"{peer['forward_s']:.3f} s each, {peer['forward_s'] * all_edges / seconds:.1f} times as long; "
              f"{len(found['scores'])} values equal to {worst:.0e} of the largest")
    worst = 0.0
    for order, values in peer["curve"]["curves"].items():
        own = next(one for one in curve["curves"] if one["name"] == order)
        for theirs, point in zip(values, own["points"]):
            error = abs(theirs - point["faithfulness"]["mean"])
            worst = max(worst, error)
            if not error <= FAITHFULNESS_TOLERANCE:
                sys.exit(f"{order} curve: {point['faithfulness']['mean']:.5f} at {point['fraction']}, {theirs:.5f} by the package")
    made = curve["forwards"]["made"]
    print(f"curves, both orders, {curve['forwards']['circuits']} circuits: plumb {made:.1f} forwards of all pairs "
          f"({curve['forwards']['plain']:.0f} of them plain), {curve['run']['seconds']:.1f} s; EAP-IG's package "
          f"{peer['curve']['forwards']} counted, {peer['curve']['seconds']:.1f} s: {made / peer['curve']['forwards']:.2f} of them; "
          f"of one for each circuit beside two plain ones ({curve['forwards']['one_each']}) {made / curve['forwards']['one_each']:.2f}; "
          f"faithfulness equal to {worst:.0e}")


if __name__ == "__main__":
    main()
