"""Makes tests/golden/gguf: blocks of quantised types, and two small models in GGUF files.

Needs PyPI's gguf 0.19.0 and numpy; the tests need neither. Run from the project's root:
    python tests/golden/make_gguf_goldens.py
"""

import hashlib
import json
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

OUT = pathlib.Path(__file__).parent / "gguf"
RNG = np.random.default_rng(20240607)


def blocks():
    """Random blocks, and scales at the edges of the half format."""
    out = {}
    scales = [1.0, -0.37, 6.1e-5, 5.96e-8, 3.1e-6, 60000.0, 0.0, -0.0]
    for kind, size, halves in ((Type.Q4_0, 18, 1), (Type.Q4_1, 20, 2), (Type.Q8_0, 34, 1)):
        raw = RNG.integers(0, 256, (len(scales), size), dtype=np.uint8)
        for row, scale in zip(raw, scales):
            row[:2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
            if halves == 2:
                offset = np.float16(-scale * RNG.normal())
                if not np.isfinite(offset):
                    offset = np.float16(1)
                row[2:4] = np.frombuffer(offset.tobytes(), np.uint8)
        out[kind.name] = block(raw, kind)
    return out


# Offsets of the half-precision numbers in a block. MXFP4 begins with a power of two in one byte.
HALVES = {Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
          Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2],
          Type.Q6_K: [208], Type.Q8_K: [], Type.MXFP4: []}
UPPER = {Type.Q8_K: [3], Type.MXFP4: [0]}
POWERS = [127, 0, 1, 2, 128, 64, 252, 118]  # of MXFP4: 2^-128 and 2^-127 are subnormal


def dequantize(raw, kind):
    """PyPI's gguf; it leaves out Q8_K, which is a float d, 256 int8 q and 16 int16 sums of q."""
    if kind != Type.Q8_K:
        return gguf.quants.dequantize(raw, kind).astype(np.float32)
    d = raw[:, :4].copy().view(np.float32)
    return d * raw[:, 4:260].copy().view(np.int8).astype(np.float32)


def block(raw, kind):
    values = np.ascontiguousarray(dequantize(raw, kind))
    return {"bytes": raw.tobytes().hex(), "float32": values.tobytes().hex()}


def more_blocks():
    """The types of `blocks` that came later: every edge of the half format as each scale."""
    rng = np.random.default_rng(20260722)
    scales = [1.0, -0.37, 6.1e-5, 5.96e-8, -3.1e-6, 60000.0, 0.0, -0.0]
    out = {}
    for kind in (Type.Q5_0, Type.Q5_1, Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K,
                 Type.Q8_K, Type.MXFP4):
        size = gguf.GGML_QUANT_SIZES[kind][1]
        raw = rng.integers(0, 256, (len(scales), size), dtype=np.uint8)
        for i, row in enumerate(raw):
            for j, at in enumerate(HALVES[kind]):
                value = np.float16(scales[(i + 3 * j) % len(scales)])
                row[at:at + 2] = np.frombuffer(value.tobytes(), np.uint8)
            if kind == Type.Q8_K:  # float: the smallest subnormal among them
                value = np.float32(1e-45 if i == 3 else scales[i])
                row[:4] = np.frombuffer(value.tobytes(), np.uint8)
            if kind == Type.MXFP4:
                row[0] = POWERS[i]
        out[kind.name] = block(raw, kind)
    return out


def many_blocks(count=4096):
    """SHA-256 of the values of many random blocks, which the test makes as here: the upper bytes of
    a linear congruential generator, the scales kept finite by clearing their top exponent bit."""
    out = {}
    for kind, halves in HALVES.items():
        size = gguf.GGML_QUANT_SIZES[kind][1]
        state, stream = np.uint64(int(kind) + 1), np.empty(count * size, np.uint8)
        with np.errstate(over="ignore"):
            for i in range(stream.size):
                state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
                stream[i] = state >> np.uint64(56)
        raw = stream.reshape(count, size)
        for at in UPPER.get(kind, [half + 1 for half in halves]):
            raw[:, at] &= 0xBF
        values = np.ascontiguousarray(dequantize(raw, kind))
        assert np.isfinite(values).all()
        out[kind.name] = hashlib.sha256(values.tobytes()).hexdigest()
    return out


def interleave(weight, heads):
    """Rows of each head from half-split order to pairs (2i, 2i + 1), as Llama's GGUF files hold."""
    rows = weight.shape[0] // heads
    split = weight.reshape(heads, 2, rows // 2, *weight.shape[1:])
    return split.swapaxes(1, 2).reshape(weight.shape)


def uninterleave(weight, heads):
    rows = weight.shape[0] // heads
    pairs = weight.reshape(heads, rows // 2, 2, *weight.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


class Model:
    def __init__(self, path, architecture, **split):
        self.writer = gguf.GGUFWriter(path, architecture, **split)
        self.hashes = {}

    def tensor(self, name, shape, kind, canonical, heads=0):
        """Stores random values; `canonical` maps weight names to the rows they are."""
        values = RNG.normal(size=shape).astype(np.float32)
        stored = interleave(values, heads) if heads else values
        packed = gguf.quants.quantize(stored, kind)
        self.writer.add_tensor(name, packed, raw_dtype=kind)
        read = gguf.quants.dequantize(packed, kind).astype(np.float32).reshape(shape)
        if heads:
            read = uninterleave(read, heads)
        for weight, rows in canonical.items():
            self.hashes[weight] = hashlib.sha256(np.ascontiguousarray(read[rows]).tobytes()).hexdigest()

    def close(self):
        self.writer.write_header_to_file()  # of every part, where the model is split
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()
        return self.hashes


ALL = slice(None)


def llama(name="llama.gguf", **split):
    model = Model(OUT / name, "llama", **split)
    w = model.writer
    w.add_block_count(1)
    w.add_context_length(48)
    w.add_embedding_length(64)
    w.add_feed_forward_length(96)
    w.add_head_count(4)
    w.add_head_count_kv(2)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(5000.0)
    w.add_rope_dimension_count(16)
    w.add_vocab_size(20)
    w.add_tokenizer_model("gpt2")
    w.add_token_list([f"t{i}" for i in range(20)])
    w.add_array("test.numbers", [1, 2, 3])
    model.tensor("token_embd.weight", (20, 64), Type.Q8_0, {"embed": ALL})
    model.tensor("output.weight", (20, 64), Type.BF16, {"unembed": ALL})
    model.tensor("output_norm.weight", (64,), Type.F32, {"final_norm": ALL})
    model.tensor("blk.0.attn_norm.weight", (64,), Type.F32, {"L0.ln1": ALL})
    model.tensor("blk.0.ffn_norm.weight", (64,), Type.F32, {"L0.ln2": ALL})
    model.tensor("blk.0.attn_q.weight", (64, 64), Type.Q4_1, {"L0.q": ALL}, heads=4)
    model.tensor("blk.0.attn_k.weight", (32, 64), Type.Q4_0, {"L0.k": ALL}, heads=2)
    model.tensor("blk.0.attn_v.weight", (32, 64), Type.F16, {"L0.v": ALL})
    model.tensor("blk.0.attn_q.bias", (64,), Type.F32, {"L0.q_bias": ALL}, heads=4)
    model.tensor("blk.0.attn_k.bias", (32,), Type.F32, {"L0.k_bias": ALL}, heads=2)
    model.tensor("blk.0.attn_v.bias", (32,), Type.F32, {"L0.v_bias": ALL})
    model.tensor("blk.0.attn_output.weight", (64, 64), Type.Q8_0, {"L0.out": ALL})
    model.tensor("blk.0.ffn_gate.weight", (96, 64), Type.Q4_0, {"L0.gate": ALL})
    model.tensor("blk.0.ffn_up.weight", (96, 64), Type.Q4_1, {"L0.up": ALL})
    model.tensor("blk.0.ffn_down.weight", (64, 96), Type.Q8_0, {"L0.down": ALL})
    return model.close()


def gpt2():
    model = Model(OUT / "gpt2.gguf", "gpt2")
    w = model.writer
    w.add_block_count(1)
    w.add_context_length(8)
    w.add_embedding_length(32)
    w.add_feed_forward_length(64)
    w.add_head_count(2)
    w.add_layer_norm_eps(1e-5)
    thirds = [slice(0, 32), slice(32, 64), slice(64, 96)]
    model.tensor("token_embd.weight", (10, 32), Type.F16, {"embed": ALL})
    model.tensor("position_embd.weight", (8, 32), Type.F32, {"pos_embed": ALL})
    model.tensor("output_norm.weight", (32,), Type.F32, {"final_norm": ALL})
    model.tensor("output_norm.bias", (32,), Type.F32, {"final_norm_bias": ALL})
    for part, ours in (("attn_norm", "ln1"), ("ffn_norm", "ln2")):
        model.tensor(f"blk.0.{part}.weight", (32,), Type.F32, {f"L0.{ours}": ALL})
        model.tensor(f"blk.0.{part}.bias", (32,), Type.F32, {f"L0.{ours}_bias": ALL})
    model.tensor("blk.0.attn_qkv.weight", (96, 32), Type.Q8_0,
                 {f"L0.{name}": rows for name, rows in zip("qkv", thirds)})
    model.tensor("blk.0.attn_qkv.bias", (96,), Type.F32,
                 {f"L0.{name}_bias": rows for name, rows in zip("qkv", thirds)})
    model.tensor("blk.0.attn_output.weight", (32, 32), Type.F16, {"L0.out": ALL})
    model.tensor("blk.0.attn_output.bias", (32,), Type.F32, {"L0.out_bias": ALL})
    model.tensor("blk.0.ffn_up.weight", (64, 32), Type.Q4_0, {"L0.up": ALL})
    model.tensor("blk.0.ffn_up.bias", (64,), Type.F32, {"L0.up_bias": ALL})
    model.tensor("blk.0.ffn_down.weight", (32, 64), Type.Q4_1, {"L0.down": ALL})
    model.tensor("blk.0.ffn_down.bias", (32,), Type.F32, {"L0.down_bias": ALL})
    return model.close()


OUT.mkdir(exist_ok=True)
expected = {"blocks": blocks() | more_blocks(), "sha256 of 4096 blocks": many_blocks(),
            "sha256 of float32": {"llama": llama(), "gpt2": gpt2(),
                                  "split": llama("split.gguf", split_max_tensors=6)}}
(OUT / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
