"""Holds the tokenizer.json that `plumb convert` makes of a GGUF file's SentencePiece tokenizer to the
sentencepiece library.

    golden_env/bin/python tests/acceptance/converted_tokenizer.py build/release/apps/plumb/plumb

`golden_env` is that of tests/golden/make_decoder_goldens.py, with sentencepiece 0.2.3 and gguf 0.19.0.
For every tiny SentencePiece BPE model of tests/data/tokenizers this script writes a GGUF file with a
decoder of random weights around it, has the program convert that, loads the result with
transformers' AutoTokenizer, and asks it for the library's ids of the texts in golden.json and of runs
of spaces and letters. Exits with 1 when some differ.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import sentencepiece
import transformers

TOKENIZERS = pathlib.Path(__file__).resolve().parent.parent / "data" / "tokenizers"
MODELS = {"sp_bpe": True, "sp_bpe_bare": False}  # with the space in front?
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6


def kind(processor, piece):
    if processor.is_unknown(piece):
        return UNKNOWN
    if processor.is_control(piece):
        return CONTROL
    if processor.is_byte(piece):
        return BYTE
    return USER_DEFINED if processor.id_to_piece(piece) in ("<sep>", "\u2581\u2581") else NORMAL


def write_model(path, processor, space_in_front):
    w = gguf.GGUFWriter(path, "llama")
    size, width = processor.get_piece_size(), 8
    w.add_block_count(1)
    w.add_context_length(64)
    w.add_embedding_length(width)
    w.add_feed_forward_length(width)
    w.add_head_count(2)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(size)
    kinds = [kind(processor, i) for i in range(size)]
    pieces = [processor.id_to_piece(i) for i in range(size)]
    # The converters write user-defined spaces as such.
    pieces = [piece.replace("\u2581", " ") if kinds[i] == USER_DEFINED else piece
              for i, piece in enumerate(pieces)]
    w.add_tokenizer_model("llama")
    w.add_token_list(pieces)
    w.add_token_scores([processor.get_score(i) for i in range(size)])
    w.add_token_types(kinds)
    w.add_bos_token_id(processor.bos_id())
    w.add_eos_token_id(processor.eos_id())
    w.add_add_space_prefix(space_in_front)
    noise = np.random.RandomState(1)
    for name, shape in {"token_embd": (size, width), "output_norm": (width,),
                        **{f"blk.0.{part}": (width, width) for part in (
                            "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up",
                            "ffn_down")},
                        "blk.0.attn_norm": (width,), "blk.0.ffn_norm": (width,)}.items():
        w.add_tensor(name + ".weight", noise.standard_normal(shape).astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    texts = json.loads((TOKENIZERS / "golden.json").read_text(encoding="utf-8"))["texts"]
    # transformers finds special tokens in the text, which the library takes for letters.
    texts = [text for text in texts if "<s>" not in text]
    texts = texts + [mark * n for mark in (" ", "a", "o ", "0") for n in range(1, 40)]
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        for name, space_in_front in MODELS.items():
            processor = sentencepiece.SentencePieceProcessor(
                model_file=str(TOKENIZERS / name / "tokenizer.model"))
            path = pathlib.Path(scratch) / f"{name}.gguf"
            write_model(path, processor, space_in_front)
            out = pathlib.Path(scratch) / name
            subprocess.run([sys.argv[1], "convert", str(path), "--out", str(out), "--quiet"],
                           check=True, stdout=subprocess.DEVNULL)
            tokenizer = transformers.AutoTokenizer.from_pretrained(out)
            wrong = [text for text in texts
                     if tokenizer.encode(text, add_special_tokens=False) != processor.encode(text)]
            bos = tokenizer.encode("a")[0] == processor.bos_id()
            print(f"{name}: {len(texts) - len(wrong)} of {len(texts)} texts as the library has them; "
                  f"BOS in front: {bos}")
            for text in wrong[:5]:
                print("  ", repr(text), tokenizer.encode(text, add_special_tokens=False),
                      processor.encode(text))
            good = good and not wrong and bos
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
