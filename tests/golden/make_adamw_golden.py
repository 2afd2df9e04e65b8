"""Makes tests/golden/adamw.json: three parameters under torch.optim.AdamW, in float64.

Two decay groups, gradients clipped by torch.nn.utils.clip_grad_norm_ to norm 1. Gradients are stated
by a formula, so that the file holds numbers of PyTorch's alone:
gradient i of parameter p at step s: 2 cos(1 + i + 3 p + 5 s) + 0.1 i.

    python3 tests/golden/make_adamw_golden.py
"""
import json
import math
import os

import torch

SIZES = [6, 4, 3]
STEPS = 8
RATES = [0.01 * (s + 1) for s in range(STEPS)]


def gradient(p, s):
    return [2 * math.cos(1 + i + 3 * p + 5 * s) + 0.1 * i for i in range(SIZES[p])]


def main():
    values = [torch.tensor([math.sin(1 + i + p) for i in range(n)], dtype=torch.float64)
              for p, n in enumerate(SIZES)]
    parameters = [torch.nn.Parameter(v.clone()) for v in values]
    optimiser = torch.optim.AdamW(
        [{"params": parameters[:2], "weight_decay": 0.3}, {"params": parameters[2:], "weight_decay": 0.0}],
        lr=1.0, betas=(0.9, 0.99), eps=1e-8)
    steps = []
    for s in range(STEPS):
        for p, parameter in enumerate(parameters):
            parameter.grad = torch.tensor(gradient(p, s), dtype=torch.float64)
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimiser.param_groups:
            group["lr"] = RATES[s]
        optimiser.step()
        steps.append({"norm": float(norm), "values": [p.detach().tolist() for p in parameters]})
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "adamw.json")
    with open(path, "w") as out:
        json.dump({"torch": torch.__version__.split("+")[0], "rates": RATES, "sizes": SIZES,
                   "steps": steps}, out)
        out.write("\n")


if __name__ == "__main__":
    main()
