"""Compares peer_patching.py's numbers with plumb's: compare_patching.py PEER.json PLUMB.json...

Each PLUMB.json is what `plumb patch --raw --json` printed for some of the sweeps. Stops if a value or a
plain run differs; then prints seconds and their ratio, the peer's being its median a site times the
number of sites.
"""

import json
import sys

# The peer keeps its results in float32, and the two add in another order.
TOLERANCE = 2e-4


def at(values, site):
    for index in site.split(","):
        values = values[int(index)]
    return values


def main():
    peer = json.load(open(sys.argv[1]))
    for name in sys.argv[2:]:
        ours = json.load(open(name))
        for which in ("clean", "corrupt"):
            if abs(peer[which] - ours["metric"][which]) > TOLERANCE:
                sys.exit(f"{which}: {peer[which]} and {ours['metric'][which]} differ")
        seconds, sites, compared = 0.0, 0, 0
        for sweep in ours["sweeps"]:
            spec = sweep["site"] + ":" + ",".join(sweep["axes"])
            theirs = peer["sweeps"][spec]
            for site, value in theirs["values"].items():
                if abs(at(sweep["values"], site) - value) > TOLERANCE:
                    sys.exit(f"{spec} at {site}: {value} and {at(sweep['values'], site)} differ")
                compared += 1
            seconds += theirs["median_s"] * theirs["sites"]
            sites += theirs["sites"]
        run = ours["run"]
        print(f"{sites:5} sites of {', '.join(s['site'] for s in ours['sweeps']):28} "
              f"peer {seconds:6.1f} s   plumb {run['seconds']:6.1f} s   "
              f"{seconds / run['seconds']:5.1f} times faster   "
              f"evaluations {ours['naive_evaluations'] / ours['evaluations']:.1f} times fewer   "
              f"memory {peer['peak_bytes'] / 1e9:.2f} / {run['peak_bytes'] / 1e9:.2f} GB   "
              f"{compared} values equal")


if __name__ == "__main__":
    main()
