"""Holds the held-out losses of trained models to the reference library's.

    python3 tests/acceptance/trained_models.py build/release/apps/plumb/plumb
    python3 tests/acceptance/trained_models.py --golden

Without --golden: trains a small model of each style, and reads the bundled models of data/models; the
program computes in float32, the reference in float64. With it: writes the reference's losses of the
bundled models to tests/golden/grown_models.json. Needs torch and transformers.
"""
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM

TOLERANCE = 1e-5  # float32 against float64, of a loss of 2 to 5 nats
SIZES = ("--steps 20 --warm-up 5 --d-model 32 --d-mlp 48 --vocab 32 --length 16 --probe-every 10 "
         "--held-out 4").split()
ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN_SEQUENCES = 8


def read_ids(file):
    return torch.tensor(json.loads(pathlib.Path(file).read_text()))


def reference_losses(directory, ids):
    """Mean nats per predicted token of each sequence, in float64."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float64).eval()
    with torch.no_grad():
        logits = model(ids).logits
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:],
                                               reduction="none").mean(1)
    return type(model).__name__, losses


def bundled():
    """The steps of the bundled trainings, and the sequences each held out."""
    for directory in sorted((ROOT / "data/models").glob("*/step-*")):
        yield f"{directory.parent.name}/{directory.name}", directory, directory.parent / "held_out.json"


def write_golden():
    golden = {}
    for name, directory, sequences in bundled():
        _, losses = reference_losses(directory, read_ids(sequences)[:GOLDEN_SEQUENCES])
        golden[name] = losses.tolist()
    (ROOT / "tests/golden/grown_models.json").write_text(json.dumps(golden, indent=1) + "\n")


def trained(program, directory):
    for style in ("llama", "nope", "gpt2"):
        out = os.path.join(directory, style)
        subprocess.run([program, "train", "--style", style, "--out", out, "--quiet", *SIZES],
                       check=True, stdout=subprocess.DEVNULL)
        kind, losses = reference_losses(os.path.join(out, "step-000020"),
                                        read_ids(os.path.join(out, "held_out.json")))
        with open(os.path.join(out, "probes.csv")) as file:
            found = float(list(csv.DictReader(file))[-1]["loss"])
        yield style, kind, losses.mean().item(), found


def read_back(program):
    for name, directory, sequences in bundled():
        kind, losses = reference_losses(directory, read_ids(sequences))
        told = subprocess.run([program, "sink", directory, "--tokens", sequences, "--bos", "none",
                               "--json", "--quiet"], check=True, capture_output=True).stdout
        yield name, kind, losses.mean().item(), json.loads(told)["loss"]


def main(program):
    worst = 0.0
    with tempfile.TemporaryDirectory() as directory:
        for part in (trained(program, directory), read_back(program)):
            for name, kind, expected, found in part:
                worst = max(worst, abs(found - expected))
                print(f"{name:26} {kind:20} reference {expected:.7f}  plumb {found:.7f}")
    if worst > TOLERANCE:
        sys.exit(f"a loss differs by {worst:.1e}, more than {TOLERANCE:.0e}")


if __name__ == "__main__":
    if sys.argv[1] == "--golden":
        write_golden()
    else:
        main(sys.argv[1])
