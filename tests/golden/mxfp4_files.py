"""gpt-oss's experts in MXFP4, as its published checkpoints hold them: nibbles and powers of two."""

import json
import zlib

import numpy as np
import torch
from safetensors.torch import load_file, save_file

NUMBERS = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])  # of three bits; the fourth is the sign
EXPERTS = (".experts.gate_up_proj", ".experts.down_proj")


def pack(folder):
    """Replaces the experts' matrices of a checkpoint by random ones in MXFP4."""
    path = folder / "model.safetensors"
    state = load_file(path)
    for name in [name for name in state if name.endswith(EXPERTS)]:
        experts, inputs, outputs = state.pop(name).shape
        noise = np.random.RandomState(zlib.crc32(f"mxfp4/{name}".encode()) % 2**31)
        state[name + "_blocks"] = torch.from_numpy(
            noise.randint(0, 256, (experts, outputs, inputs // 32, 16)).astype(np.uint8))
        state[name + "_scales"] = torch.from_numpy(
            noise.randint(123, 126, (experts, outputs, inputs // 32)).astype(np.uint8))
    save_file(state, path, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def unpack(folder, target):
    """The same checkpoint with plain matrices, expanded by the reference's own function."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    state = load_file(folder / "model.safetensors")
    for name in [name.removesuffix("_blocks") for name in state if name.endswith("_blocks")]:
        state[name] = convert_moe_packed_tensors(
            state.pop(name + "_blocks"), state.pop(name + "_scales"), dtype=torch.float64)
    target.mkdir()
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (target / "config.json").write_text(json.dumps(config))


def expand(state):
    """Tensors by name, of which pairs are expanded from the definition to [E, inputs, outputs]."""
    for name in [name.removesuffix("_blocks") for name in state if name.endswith("_blocks")]:
        blocks, scales = (state.pop(name + end).astype(np.int64) for end in ("_blocks", "_scales"))
        nibbles = np.stack([blocks % 16, blocks // 16], -1).reshape(*blocks.shape[:3], 32)
        values = np.where(nibbles >= 8, -1.0, 1.0) * NUMBERS[nibbles % 8]
        values = values * 2.0 ** (scales[..., None] - 127)
        state[name] = values.reshape(*blocks.shape[:2], -1).transpose(0, 2, 1)
    return state
