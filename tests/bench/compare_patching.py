"""Compares the peers' numbers with plumb's:

    compare_patching.py MODEL_DIR TWIN.json PEER.json... -- PLUMB.json...

Each PEER.json is what a peer script printed, each PLUMB.json what `plumb patch --raw --json` printed for
some of the sweeps. Stops if a value or a plain run differs; then prints, beside each peer that has the
sweeps, seconds and their ratio (the peer's being its median a site times the number of sites), token-layer
evaluations, peak memory, and the share of the limit: the arithmetic of the evaluations made at the rate of
a bare matrix product, which the peer scripts measure, in the time that plumb took. TWIN.json is what
`plumb_bench_forward --patched` printed for the pairs' shape: beside it stands what one whole patched pass
of plumb's own for each site would take (that both give the same values is what the tests are for).
"""

import json
import os
import sys

# The peers keep their results in float32, and each adds in another order.
TOLERANCE = 2e-4


def at(values, site):
    for index in site.split(","):
        values = values[int(index)]
    return values


def check_values(peer, ours):
    """How many values were compared."""
    for which in ("clean", "corrupt"):
        if abs(peer[which] - ours["metric"][which]) > TOLERANCE:
            sys.exit(f"{which}: {peer[which]} and {ours['metric'][which]} differ")
    compared = 0
    for sweep in ours["sweeps"]:
        spec = spec_of(sweep)
        for site, value in peer["sweeps"][spec]["values"].items():
            if not abs(at(sweep["values"], site) - value) <= TOLERANCE:
                sys.exit(f"{spec} at {site}: {value} and {at(sweep['values'], site)} differ")
            compared += 1
    return compared


def spec_of(sweep):
    return sweep["site"] + ":" + ",".join(sweep["axes"])


def weights_of_a_block(directory):
    """Numbers in the matrices of one block."""
    with open(os.path.join(directory, "config.json")) as file:
        config = json.load(file)
    width = config.get("hidden_size", config.get("n_embd"))
    heads = config.get("num_attention_heads", config.get("n_head"))
    kv_heads = config.get("num_key_value_heads", heads)
    inner = config.get("intermediate_size", config.get("n_inner") or 4 * width)
    matrices = 3 if config["model_type"] == "llama" else 2
    return width * width * (2 + 2 * kv_heads / heads) + matrices * width * inner


def main():
    split = sys.argv.index("--")
    directory, twin, peers, names = sys.argv[1], sys.argv[2], sys.argv[3:split], sys.argv[split + 1:]
    passes = [one["median_s"] for one in json.load(open(twin))["results"][0]["patched"].values()]
    a_pass = sorted(passes)[len(passes) // 2]
    peers = [json.load(open(name)) for name in peers]
    block = weights_of_a_block(directory)
    for name in names:
        ours = json.load(open(name))
        run = ours["run"]
        specs = [spec_of(sweep) for sweep in ours["sweeps"]]
        made = ours["naive_evaluations"] // (ours["inputs"]["sequences"] * ours["inputs"]["length"] *
                                             ours["model"]["layers"])
        print(f"{made:5} passes, a whole one for each site: {made * a_pass:6.1f} s, plumb "
              f"{run['seconds']:6.1f} s   {made * a_pass / run['seconds']:5.1f} times faster")
        for peer in peers:
            if not all(spec in peer["sweeps"] for spec in specs):
                continue
            compared = check_values(peer, ours)
            seconds = sum(peer["sweeps"][spec]["median_s"] * peer["sweeps"][spec]["sites"]
                          for spec in specs)
            sites = sum(peer["sweeps"][spec]["sites"] for spec in specs)
            limit = 2 * block * ours["evaluations"] / peer["matrix_rate"]
            print(f"{sites:5} sites of {', '.join(sweep['site'] for sweep in ours['sweeps']):28} "
                  f"{peer['library']} {seconds:6.1f} s   plumb {run['seconds']:6.1f} s   "
                  f"{seconds / run['seconds']:5.1f} times faster   "
                  f"evaluations {ours['naive_evaluations'] / ours['evaluations']:.1f} times fewer   "
                  f"limit {limit:.1f} s ({100 * limit / run['seconds']:.0f} %)   "
                  f"memory {peer['peak_bytes'] / 1e9:.2f} / {run['peak_bytes'] / 1e9:.2f} GB   "
                  f"{compared} values equal")


if __name__ == "__main__":
    main()
