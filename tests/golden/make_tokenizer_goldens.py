#!/usr/bin/env python3
"""Makes tests/data/tokenizers: tiny byte-level BPE tokenizers and the ids the reference gives.

Needs PyPI's `tokenizers` (made with 0.23.3). Run from anywhere:

    python3 make_tokenizer_goldens.py [SHARED_TOKENIZERS]

Each tiny tokenizer has a pre-tokenizer or option of its own. `golden.json` holds the texts, and for
every tokenizer the ids of every text. With SHARED_TOKENIZERS (a directory with `gpt2` and `gpt-neox`)
the ids of those two are made as well; their files are not copied.
"""

import json
import sys
from pathlib import Path

import tokenizers
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "data" / "tokenizers"

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

TEXTS = [
    "",
    "a",
    " ",
    "Hello, world!",
    " leading and trailing ",
    "I'm sure they've said it's fine, but we'd rather you didn't. DON'T! We'LL see; I'D go 'tis",
    "In 2024, 3.14159 * 1000000 = 3141590; call 555-0199 or +49 (0)30 1234567.",
    "\u0663\u0661\u0664 \u00bd \u2167 x\u00b2 \u2460 \u0967\u0968\u0969\u096a 12\u066334",
    "def f(x):\n    return x**2 + 1  # square\n\nprint(f(3))\n",
    "for (int i = 0; i < n; ++i) { a[i] ^= (b[i] << 3) & 0xFF; }\t// ok\r\n\r\n",
    "a  b   c    d\t\te\n\n\nf  \n  g",
    "   \n\n  \t \n",
    "\n", "\r\n\r\n", "x\n\n\n", "end with spaces   ", "  two", "a \n b\n \n c",
    "nbsp\u00a0\u00a0here\u2003em\u3000ideographic\u2028line\u2029para\u0085next\u1680ogham \u180e mongolian",
    "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002\u5317\u4eac\u662f\u4e2d\u56fd\u7684\u9996\u90fd\u3002\uc11c\uc6b8",
    "\u1112\u1161\u11ab\u1100\u1173\u11af \u30ab\u3099\u30ad\u3099 \ufb01sh \u212b \u2126",
    "Great job \U0001f44d\U0001f3fd see you at 5pm \U0001f389 \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1e9\U0001f1ea",
    "na\u00efve caf\u00e9 \u2014 nai\u0308ve cafe\u0301 Z\u0351\u036b\u0343\u036aA\u0310\u0317L\u0347G\u0301O\u0322",
    "q\u0307\u0323 q\u0323\u0307 \u1e69 s\u0323\u0307 \u0344 \u0958 \u0f73",
    "\u0417\u0434\u0440\u0430\u0432\u0441\u0442\u0432\u0443\u0439 \u043c\u0438\u0440! \u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u05e9\u05dc\u05d5\u05dd \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u0928\u092e\u0938\u094d\u0924\u0947",
    "nul\x00 bell\x07 esc\x1b[31m del\x7f c1\x80\x9f vt\x0b ff\x0c fs\x1c\x1d\x1e\x1f",
    "\ufeffbom \u200b zwsp \u202e rtl \ufffd replacement \U0010ffff last \ue000 private",
    "don\u2019t \u2018quoted\u2019 \u201cdouble\u201d \u2026 \u2013 \u2014 \u20ac5 \u00a35 $5 5%",
    "ha\u017f 'S 'T 'RE 'Ve \u2160's K'\u017f \u212a'M",
    "http://example.org/a?b=c&d=%20#frag user@host.example C:\\path\\file.txt",
    "<|endoftext|><|im_start|>user\nhi<|im_end|><|im_start|",
    "x<|endoftext|>y <|endoftext|> z", "[NOTE] [NOTES] [NOT] [NOTE",
    "  caf\u00e9-tok cafe\u0301-tok    eight        spaces",
    "!!!???...,,,;;;:::---___===+++***///\\\\\\|||~~~```^^^",
    "Donaudampfschifffahrtselektrizit\u00e4tenhauptbetriebswerkbauunterbeamtengesellschaft",
    "mamamama banana aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "the " * 20 + "the",
    "antidisestablishmentarianism" * 8 + "1234567890" * 8 + "!?" * 40,
    " " * 130 + "x" + "\n" * 70 + "\t" * 33,
]

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def corpus():
    texts = (ROOT.parent / "data" / "inputs" / "texts.txt").read_text(encoding="utf-8")
    return texts.splitlines() * 2 + TEXTS * 3


def train(pre_tokenizer, normalizer=None, vocab=420, alphabet=None, model=None, extra=()):
    tokenizer = Tokenizer(model or models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    if alphabet is None:
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=sorted(alphabet),
                                  special_tokens=SPECIALS + list(extra), show_progress=False,
                                  limit_alphabet=len(alphabet))
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def byte_level(prefix=False, regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)


def split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
                                    byte_level(regex=False)])


def tiny_tokenizers():
    out = {}
    out["gpt2"] = train(byte_level())
    out["prefix_space"] = train(byte_level(prefix=True))
    out["smollm"] = train(pre_tokenizers.Sequence([pre_tokenizers.Digits(True), byte_level()]))
    out["digit_runs"] = train(pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(False), byte_level(prefix=True)]))

    llama3 = train(split(LLAMA3))
    llama3.post_processor = processors.Sequence([
        processors.ByteLevel(),
        processors.TemplateProcessing(single="<|im_start|> $A", pair="<|im_start|> $A $B",
                                      special_tokens=[("<|im_start|>", 1)])])
    out["llama3"] = llama3

    qwen2 = train(split(QWEN2), normalizers.NFC())
    qwen2.add_tokens([AddedToken("[NOTE]", normalized=False), AddedToken("[NOTES]", normalized=False),
                      AddedToken("caf\u00e9-tok", normalized=True),
                      AddedToken("    ", normalized=True), AddedToken("  ", normalized=True)])
    out["qwen2"] = qwen2

    few = [c for c in pre_tokenizers.ByteLevel.alphabet() if ord(c) < 127] + ["\u0120", "\u010a"]
    out["unknown"] = train(byte_level(), alphabet=few, vocab=300, extra=["<unk>"],
                           model=models.BPE(unk_token="<unk>", fuse_unk=True))
    out["unknown_each"] = train(byte_level(), alphabet=few, vocab=300, extra=["<unk>"],
                                model=models.BPE(unk_token="<unk>", fuse_unk=False))
    literal = pre_tokenizers.Sequence([pre_tokenizers.Split("a.", behavior="isolated"),
                                       pre_tokenizers.Split(Regex(r"\s+$|^[A-Z]+"), "isolated"),
                                       byte_level()])
    out["literal"] = train(literal)
    return out


def with_changes(name, document):
    """What the training interface cannot express."""
    if name == "llama3":
        document["model"]["ignore_merges"] = True
        vocab = document["model"]["vocab"]
        for word in ("Hello", "\u0120square", "eight"):  # tokens that no merge reaches
            if word not in vocab:
                vocab[word] = max(max(vocab.values()), 2) + 1
    if name in ("gpt2", "smollm"):  # the older spelling of merges
        document["model"]["merges"] = [" ".join(m) if isinstance(m, list) else m
                                       for m in document["model"]["merges"]]
    if name == "gpt2":  # as in GPT-2's own file
        del document["model"]["type"]
    return document


def main():
    golden = {"made_with": f"tokenizers {tokenizers.__version__}", "texts": TEXTS, "ids": {}}
    for name, tokenizer in tiny_tokenizers().items():
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(with_changes(name, json.loads(tokenizer.to_str())), ensure_ascii=False,
                          separators=(",", ":"))
        (folder / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
        reread = text if name != "gpt2" else text.replace('"model":{', '"model":{"type":"BPE",')
        reader = Tokenizer.from_str(reread)
        golden["ids"][name] = [reader.encode(t, add_special_tokens=False).ids for t in TEXTS]
    if len(sys.argv) > 1:
        for name in ("gpt2", "gpt-neox"):
            reader = Tokenizer.from_file(str(Path(sys.argv[1]) / name / "tokenizer.json"))
            golden["ids"]["shared/" + name] = [
                reader.encode(t, add_special_tokens=False).ids for t in TEXTS]
    with (OUT / "golden.json").open("w", encoding="ascii") as file:
        parts = [f'"made_with":{json.dumps(golden["made_with"])}',
                 '"texts":[\n' + ",\n".join(json.dumps(t) for t in TEXTS) + "]"]
        rows = [f'{json.dumps(name)}:[\n' + ",\n".join(
            json.dumps(ids, separators=(",", ":")) for ids in all_ids) + "]"
            for name, all_ids in golden["ids"].items()]
        parts.append('"ids":{\n' + ",\n".join(rows) + "}")
        file.write("{" + ",\n".join(parts) + "}\n")


main()
