"""Prints the table of long_context.sh; first sees that the statistics agree.

    python3 tests/bench/compare_long_context.py MODEL_BYTES plumb-*.json -- peer-*.json
"""

import json
import sys

# Of float32 on both sides, thirty blocks deep.
TOLERANCE = 2e-4
# Two keys of one query may tie but for rounding; a share over a head's queries moves little.
SHARE_TOLERANCE = 1e-2


def load(paths):
    loaded = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            loaded.append(json.load(file))
    return loaded


def largest(a, b):
    return max(abs(x - y) for p, q in zip(a, b) for x, y in zip(p, q))


def check(plumb, peer, length):
    heads = peer["heads"]
    for name, mine, tolerance in [
            ("sink", plumb["sink"]["mean"], TOLERANCE),
            ("entropy", plumb["attention"]["entropy"], TOLERANCE * 10),
            ("top_at_zero", plumb["attention"]["top_at_zero"], SHARE_TOLERANCE)]:
        difference = largest(mine, heads[name])
        if difference > tolerance:
            sys.exit(f"{name} of a head differs by {difference} at {length} tokens: not the same run")


def main():
    split = sys.argv.index("--")
    model_bytes = int(sys.argv[1])
    plumb = {run["inputs"]["length"]: run for run in load(sys.argv[2:split])}
    peers = {(run["length"], run["how"]): run for run in load(sys.argv[split + 1:])}
    print("| tokens | plumb sink, s | GB above the weights | sdpa, s | GB | eager with attentions, s | GB "
          "| plumb / sdpa | eager / plumb |")
    print("|---|---|---|---|---|---|---|---|---|")
    for length, run in sorted(plumb.items()):
        sdpa = peers.get((length, "sdpa"))
        eager = peers.get((length, "eager"))
        if eager:
            check(run, eager, length)
        seconds = run["run"]["seconds"]
        above = (run["run"]["peak_bytes"] - model_bytes) / 1e9

        def both(peer):
            if not peer:
                return "not run | -"
            return f"{peer['seconds']:.2f} | {peer['above_model_bytes'] / 1e9:.2f}"

        to_sdpa = f"{seconds / sdpa['seconds']:.2f}" if sdpa else "-"
        to_eager = f"{eager['seconds'] / seconds:.2f}" if eager else "-"
        print(f"| {length} | {seconds:.2f} | {above:.2f} | {both(sdpa)} | {both(eager)} | {to_sdpa} | "
              f"{to_eager} |")


main()
