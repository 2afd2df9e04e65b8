"""Runs every edit of `plumb edit`, holds what it writes to the reference library, and prints the page's table.

    python3 tests/acceptance/edited.py build/release/apps/plumb/plumb [--model smollm2-135m] [--out out/edited]
        [--sequences 16] [--length 64] [--threads N] [--only NAME ...]

For every edit, OUT/NAME keeps `edit.h5`, `edit.json` and `edit.txt`; a call that was stopped goes on where it
was. Of an edit that a checkpoint can hold, the reference library reads the written directory, and

  * its logits on the first sequences have to be those that `plumb record` gives of that directory,
  * its loss on all sequences has to be the loss that `plumb edit` measured before anything was written,
  * its logits have to differ from those of the model as it was, so that the comparison can fail.

All in float64 but the loss of `plumb edit`, which is float32's. Written weights are deleted once they are
compared. Of an edit that no checkpoint can hold, the program has to say why, and to write none. Exits with 1
where any of that fails. Needs torch, transformers and h5dump (hdf5-tools); SmolLM2 takes 3 GB of memory.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

EDITS = {  # name: flags, and whether a checkpoint of the Llama family can hold it
    "project-out": ("--project-out sink", True),
    "project-out-m11": ("--project-out sink --writers m11", True),
    "silence-m1-m2": ("--silence m1+m2", True),
    "silence-m11": ("--silence m11", True),
    "knock-out-m1-m2": ("--knock-out m1+m2", False),
    "knock-out-m11": ("--knock-out m11", False),
    "slot-0": ("--sink-slot 0", False),
    "slot-8": ("--sink-slot 8", False),
    "window-16": ("--window 16", False),
    "window-16-keep-4": ("--window 16 --keep 4", False),
}
COMPARED = 2  # sequences whose logits are compared
# The reference turns queries and keys by sines and cosines of float32 whatever the dtype of its weights.
LOGITS = 1e-3
LOSS = 1e-4  # of float32 arithmetic, thirty blocks deep, against float64
CHANGED = 0.1  # an edit of this list moves some logit by more than this


def plumb(program, *arguments):
    done = subprocess.run([program, *arguments, "--quiet"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"plumb {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def dataset(file, path, dtype):
    """The numbers of a dataset, flat."""
    with tempfile.NamedTemporaryFile() as raw:
        subprocess.run(["h5dump", "-d", path, "-b", "LE", "-o", raw.name, file], check=True,
                       stdout=subprocess.DEVNULL)
        return np.fromfile(raw.name, dtype=dtype)


def sequences_of(archive):
    lengths = dataset(archive, "/inputs/lengths", "<i8")
    rows = dataset(archive, "/inputs/tokens", "<i8").reshape(len(lengths), -1)
    return [row[:length] for row, length in zip(rows.tolist(), lengths)]


class Reference:
    def __init__(self, directory):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float64).eval()

    def logits(self, sequence):
        with torch.no_grad():
            return self.model(torch.tensor([sequence])).logits[0]

    def losses(self, sequences):
        return [torch.nn.functional.cross_entropy(self.logits(one)[:-1], torch.tensor(one[1:])).item()
                for one in sequences]


def plumb_logits(program, directory, sequence, scratch):
    ids = scratch / "ids.json"
    ids.write_text(json.dumps([sequence]))
    plumb(program, "record", str(directory), "--tokens", str(ids), "--sites", "logits", "--dtype", "f64",
          "--store", "f64", "--out", str(scratch))
    return torch.from_numpy(dataset(scratch / "record.h5", "/activations/logits", "<f8")).view(len(sequence), -1)


def apart(a, b):
    return (a - b).abs().max().item()


class Run:
    def __init__(self, options, scratch):
        self.options = options
        self.scratch = scratch
        self.base = None  # logits of the model as it is
        self.faults = []

    def edit(self, name):
        """The document of an edit, made unless it is there; weights are there only just after it."""
        out = self.options.out / name
        report = out / "edit.json"
        if not report.exists():
            plumb(self.options.program, "edit", self.options.model, *EDITS[name][0].split(), "--bos", "none",
                  "--sequences", str(self.options.sequences), "--length", str(self.options.length),
                  "--threads", str(self.options.threads), "--out", str(out))
        return json.loads(report.read_text())

    def demand(self, name, holds, what):
        if not holds:
            self.faults.append(f"{name}: {what}")

    def compare(self, name, report):
        """Against the reference; kept in compared.json, as the weights are not."""
        out = self.options.out / name
        kept = out / "compared.json"
        if kept.exists():
            return json.loads(kept.read_text())
        sequences = sequences_of(out / "edit.h5")
        if self.base is None:
            directory = self.scratch / "base"
            plumb(self.options.program, "convert", self.options.model, "--out", str(directory))
            reference = Reference(directory)
            self.base = [reference.logits(one) for one in sequences[:COMPARED]]
        reference = Reference(out)
        mine, moved = 0.0, 0.0
        for sequence, base in zip(sequences, self.base):
            theirs = reference.logits(sequence)
            mine = max(mine, apart(plumb_logits(self.options.program, out, sequence, self.scratch), theirs))
            moved = max(moved, apart(base, theirs))
        loss = float(np.mean(reference.losses(sequences)))
        found = {"logits": mine, "moved": moved, "loss": abs(loss - report["after"]["loss"]["mean"])}
        kept.write_text(json.dumps(found))
        for weights in out.glob("*.safetensors"):
            weights.unlink()
        return found

    def check(self, name):
        report = self.edit(name)
        written = report["edits"]["written"]
        if not EDITS[name][1]:
            self.demand(name, not written and report["edits"]["not_written"], "written, or no reason given")
            self.demand(name, not (self.options.out / name / "config.json").exists(), "left a model")
            return report, None
        self.demand(name, written, "not written")
        found = self.compare(name, report)
        self.demand(name, found["logits"] < LOGITS, f"logits differ by {found['logits']:.1e}")
        self.demand(name, found["loss"] < LOSS, f"the measured loss differs by {found['loss']:.1e}")
        self.demand(name, found["moved"] > CHANGED, f"moves no logit by more than {found['moved']:.1e}")
        return report, found


def number(value, digits=3):
    return "-" if value is None else f"{value['mean']:.{digits}f}"


def rounding(state, bits, kind, what):
    for one in state["rounded"]:
        if (one["bits"], one["rounding"]) == (bits, kind):
            return number(one[what])
    return "-"


def row(name, state):
    ratio = state["ratio"]["mean"]
    return " | ".join([
        name, number(state["loss"]), number(state["sink_rate"]), number(state["sink_mass"]),
        number(state["slot_mass"]), f"{state['largest']['mean']:.0f}", f"{ratio:.0f}",
        rounding(state, 8, "per_tensor", "others_error"), rounding(state, 8, "per_token", "others_error"),
        rounding(state, 8, "per_tensor", "loss_change"), rounding(state, 8, "per_token", "loss_change"),
        rounding(state, 4, "per_tensor", "loss_change"), rounding(state, 4, "per_token", "loss_change")])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/edited"))
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=list(EDITS), default=list(EDITS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    rows, compared = [], []
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(options, pathlib.Path(scratch))
        for name in options.only:
            report, found = run.check(name)
            if not rows:
                rows.append(row("none", report["before"]))
            rows.append(row(f"`{EDITS[name][0]}`", report["after"]))
            if found:
                compared.append(f"`{EDITS[name][0]}` | {found['logits']:.1e} | {found['loss']:.1e} | "
                                f"{found['moved']:.1f}")
            print(f"{name}: done", file=sys.stderr, flush=True)
    print("| edit | loss | sink rate | sink mass | slot mass | max h | max h / median | error later, 8 bits a "
          "sequence | a token | cost of 8 bits a sequence | a token | cost of 4 bits a sequence | a token |")
    print("|" + "---|" * 13)
    for line in rows:
        print(f"| {line} |")
    print("\n| written | logits apart from the reference's | loss apart | logits moved by the edit |")
    print("|" + "---|" * 4)
    for line in compared:
        print(f"| {line} |")
    for fault in run.faults:
        print(fault, file=sys.stderr)
    return 1 if run.faults else 0


if __name__ == "__main__":
    sys.exit(main())
