"""Trains a small model of each style and holds its held-out loss to the reference library's.

    python3 tests/acceptance/trained_models.py build/release/apps/plumb/plumb

Needs torch and transformers. The program computes in float32, the reference here in float64.
"""
import csv
import json
import os
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM

TOLERANCE = 1e-5  # float32 against float64, of a loss of 2 to 4 nats
SIZES = ("--steps 20 --warm-up 5 --d-model 32 --d-mlp 48 --vocab 32 --length 16 --probe-every 10 "
         "--held-out 4").split()


def main(program):
    worst = 0.0
    with tempfile.TemporaryDirectory() as directory:
        for style in ("llama", "nope", "gpt2"):
            out = os.path.join(directory, style)
            subprocess.run([program, "train", "--style", style, "--out", out, "--quiet", *SIZES],
                           check=True, stdout=subprocess.DEVNULL)
            model = AutoModelForCausalLM.from_pretrained(os.path.join(out, "step-000020"),
                                                         dtype=torch.float64).eval()
            with open(os.path.join(out, "held_out.json")) as file:
                ids = torch.tensor(json.load(file))
            with torch.no_grad():
                logits = model(ids).logits
            expected = torch.nn.functional.cross_entropy(
                logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1)).item()
            with open(os.path.join(out, "probes.csv")) as file:
                found = float(list(csv.DictReader(file))[-1]["loss"])
            worst = max(worst, abs(found - expected))
            print(f"{style:6} {type(model).__name__:20} reference {expected:.7f}  plumb {found:.7f}")
    if worst > TOLERANCE:
        sys.exit(f"a loss differs by {worst:.1e}, more than {TOLERANCE:.0e}")


if __name__ == "__main__":
    main(sys.argv[1])
