"""Takes tiny checkpoints of every family through the whole search of `plumb p0`.

    golden_env/bin/python tests/acceptance/ladder.py build/release/apps/plumb/plumb \\
        [--control NAME=FOLDER ...] [CASE...]

`golden_env` is that of tests/golden/make_decoder_goldens.py. For every case there, the reference
library makes and saves a checkpoint with fresh random weights, and

    plumb p0 CHECKPOINT --tokens IDS --json

has to end well, give a verdict, and claim no circuit: no wave may be called positional with every
rung from L1 to L6 holding. A verdict other than none is a statement about these weights (a sink
there is, whoever made it), which is printed with the rungs that hold. `--control` does the same with a
trained model that is known to have no circuit; one that is not there is named as skipped.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROWS = 8
LENGTH = 16  # the shortest context among the cases


def locate(program, folder, ids, scratch):
    done = subprocess.run(
        [program, "p0", str(folder), "--tokens", str(ids), "--out", str(scratch), "--quiet",
         "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        return None, done.stderr.strip() or f"ended with {done.returncode}"
    return json.loads(done.stdout), ""


def judge(name, report, trouble):
    """Prints a line; whether nothing was claimed."""
    if report is None:
        print(f"{name:32s} FAILED: {trouble}", flush=True)
        return None, False
    waves, claimed = [], False
    for wave in report["waves"]:
        rungs = {rung["level"]: rung["holds"] for rung in wave["ladder"]}
        held = [level for level in sorted(rungs) if rungs[level] == "yes"]
        climbed = all(rungs.get(f"L{i}") == "yes" for i in range(1, 7))
        claimed |= wave["verdict"] == "positional" and climbed
        waves.append(f"{wave['verdict']} ({' '.join(held) or 'no rung'})")
    good = report["complete"] and not claimed
    print(f"{name:32s} {report['verdict']:17s} {'; '.join(waves)}" + ("" if good else "  CLAIMED"),
          flush=True)
    return report["verdict"], good


def write_ids(path, vocab, salt):
    noise = np.random.RandomState(salt)
    path.write_text(json.dumps(noise.randint(0, vocab, (ROWS, LENGTH)).tolist()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--control", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    options = parser.parse_args()
    import torch
    import transformers
    from families import fresh, goldens
    torch.set_default_dtype(torch.float64)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    verdicts, good, run = collections.Counter(), 0, 0
    with tempfile.TemporaryDirectory() as place:
        scratch = pathlib.Path(place)
        ids = scratch / "ids.json"
        for case in options.cases or goldens.CASES:
            fresh(case)
            folder = scratch / case
            folder.mkdir()
            goldens.write_checkpoint(case, folder)
            write_ids(ids, goldens.VOCAB, len(case))
            verdict, fine = judge(case, *locate(options.program, folder, ids, scratch / "out"))
            verdicts[verdict] += 1
            good, run = good + fine, run + 1
        for control in options.control:
            name, folder = control.split("=", 1)
            config = pathlib.Path(folder) / "config.json"
            if not config.exists():
                print(f"{name:32s} SKIPPED: no {config}")
                continue
            write_ids(ids, json.loads(config.read_text())["vocab_size"], 1)
            verdict, fine = judge(name, *locate(options.program, folder, ids, scratch / "out"))
            verdicts[verdict] += 1
            good, run = good + fine, run + 1
    print(f"{good} of {run} end well and claim no circuit; verdicts: "
          + ", ".join(f"{name} {count}" for name, count in verdicts.most_common()))
    return 0 if good == run else 1


if __name__ == "__main__":
    sys.exit(main())
