#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The tokenizers that fulmen convert takes over from checkpoint folders, without a device.

    test_convert_tokenizers.py FULMEN SOURCE_ROOT

The vocabularies are those of the tokenizer fixtures, written in the forms in which checkpoints have them. Ends with
`N passed, N failed, N skipped`.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(sys.argv[2]) / "tests/support"))

import checkpoint_files as files    # pylint: disable=wrong-import-position
from checkpoint_back import fixture_checkpoint, write_folder
from checkpoint_files import Tensor
from convert_runner import ROOT, expect, main, refused, run, test, tests

TOKENIZERS = ROOT / "tests/fixtures/tokenizers"
TOKENIZER_KEYS = ("tokens", "token_type", "bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id")
CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|", r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
PRE_REGEX = {"llama-bpe": r"\p{N}{1,3}".join(CL100K), "qwen2": r"\p{N}".join(CL100K)}


def vocabulary_folder(folder, rows):
    """The tiny Llama with an embedding of that many rows."""
    config, _, tensors = fixture_checkpoint("llama-tied")
    width = config["hidden_size"]
    tensors["model.embed_tokens.weight"] = Tensor("F32", (rows, width), bytes(4 * rows * width))
    write_folder(folder, config | {"vocab_size": rows}, None, tensors)


def bpe_json(meta, pairs=False):
    tokens, kinds, pre = (meta[f"tokenizer.ggml.{key}"] for key in ("tokens", "token_type", "pre"))
    split = {"type": "Split", "pattern": {"Regex": PRE_REGEX.get(pre)}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": pre == "gpt-2"}
    merges = meta["tokenizer.ggml.merges"]
    return {"version": "1.0", "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
            "pre_tokenizer": level if pre == "gpt-2" else {"type": "Sequence", "pretokenizers": [split, level]},
            "added_tokens": [{"id": i, "content": t, "special": k == 3} for i, (t, k) in enumerate(zip(tokens, kinds)) if k in (3, 4)],
            "model": {"type": "BPE", "byte_fallback": False, "ignore_merges": pre == "llama-bpe",
                      "vocab": {t: i for i, (t, k) in enumerate(zip(tokens, kinds)) if k == 1},
                      "merges": [m.split(" ") for m in merges] if pairs else merges}}


def special_texts(meta):
    names = {"bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "pad": "padding_token_id"}
    return {f"{ours}_token": meta["tokenizer.ggml.tokens"][meta[f"tokenizer.ggml.{theirs}"]]
            for ours, theirs in names.items() if f"tokenizer.ggml.{theirs}" in meta}


def check_tokenizer(folder, wanted, keys):
    found = files.read_gguf(folder / "out.gguf")[0]
    for key in keys:
        key = f"tokenizer.ggml.{key}"
        expect(found.get(key) == wanted.get(key), f"{key}: {str(found.get(key))[:200]}, expected {str(wanted.get(key))[:200]}")
    return found


def byte_level(name, pairs):
    def body(folder):
        wanted = files.read_gguf(TOKENIZERS / f"{name}.gguf")[0]
        vocabulary_folder(folder, len(wanted["tokenizer.ggml.tokens"]))
        (folder / "tokenizer.json").write_text(json.dumps(bpe_json(wanted, pairs)))
        (folder / "tokenizer_config.json").write_text(json.dumps(
            special_texts(wanted) | {"add_bos_token": True, "chat_template": [
                {"name": "tool", "template": "x"}, {"name": "default", "template": "{{ messages }}"}]}))
        run("convert", folder, "-o", folder / "out.gguf")
        found = check_tokenizer(folder, wanted, ("model", "pre", "merges") + TOKENIZER_KEYS)
        expect(found["tokenizer.ggml.add_bos_token"] is True, "add_bos_token")
        expect(found["tokenizer.chat_template"] == "{{ messages }}", "chat template")
    return body


for model, as_pairs in (("gpt2", False), ("llama3", False), ("qwen2", True)):
    tests.append((f"tokenizer.json of {model}", byte_level(model, as_pairs)))


def spm_folder(folder, more_rows=0):
    wanted = files.read_gguf(TOKENIZERS / "spm.gguf")[0]
    tokens, scores, kinds = (wanted[f"tokenizer.ggml.{key}"] for key in ("tokens", "scores", "token_type"))
    vocabulary_folder(folder, len(tokens) + more_rows)
    (folder / "tokenizer.model").write_bytes(files.sentencepiece(tokens, scores, kinds))
    return wanted


@test
def tokenizer_model_of_sentencepiece(folder):
    wanted = spm_folder(folder, 3)
    n = len(wanted["tokenizer.ggml.tokens"])
    (folder / "added_tokens.json").write_text(json.dumps({"<tool>": n}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": {"content": "<s>"}, "eos_token": "</s>",
        "added_tokens_decoder": {str(n + 1): {"content": "<|end|>", "special": True}, "0": {"content": "<unk>", "special": True}}}))
    run("convert", folder, "-o", folder / "out.gguf")
    found = files.read_gguf(folder / "out.gguf")[0]
    g = {key.removeprefix("tokenizer.ggml."): value for key, value in found.items()}
    w = {key.removeprefix("tokenizer.ggml."): value for key, value in wanted.items()}
    expect(g["model"] == "llama" and g["tokens"][:n] == w["tokens"] and g["token_type"][:n] == w["token_type"], "pieces")
    expect(g["scores"][:n] == w["scores"], "scores")
    expect(g["tokens"][n:] == ["<tool>", "<|end|>", f"[PAD{n + 2}]"] and g["token_type"][n:] == [4, 3, 5], "added tokens")
    expect(g["bos_token_id"] == 1 and g["eos_token_id"] == 2 and g["unknown_token_id"] == 0 and "padding_token_id" not in g, "ids")
    expect(g["add_space_prefix"] is True, "the dummy prefix")


@test
def tokenizer_json_with_byte_fallback_stands_for_sentencepiece(folder):
    wanted = files.read_gguf(TOKENIZERS / "spm.gguf")[0]
    tokens, scores, kinds = (wanted[f"tokenizer.ggml.{key}"] for key in ("tokens", "scores", "token_type"))
    known = {t: i for i, t in enumerate(tokens)}
    merges = []
    for text, kind in zip(tokens, kinds):
        merges += [(scores[known[text]], [text[:i], text[i:]]) for i in range(1, len(text))
                   if kind == 1 and text[:i] in known and text[i:] in known]
    merges.sort(key=lambda m: -m[0])
    vocabulary_folder(folder, len(tokens))
    (folder / "tokenizer.json").write_text(json.dumps({
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}]}, "pre_tokenizer": None,
        "added_tokens": [{"id": i, "content": t, "special": True} for i, (t, k) in enumerate(zip(tokens, kinds)) if k in (2, 3)],
        "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": True, "vocab": known, "merges": [m for _, m in merges]}}))
    run("convert", folder, "-o", folder / "out.gguf")
    found = check_tokenizer(folder, wanted, ("model", "tokens", "token_type"))
    made = found["tokenizer.ggml.scores"]
    by_score = [known["".join(pair)] for _, pair in merges]
    ranks = list(dict.fromkeys(by_score))
    expect(all(made[a] > made[b] for a, b in zip(ranks, ranks[1:])), "scores are not in the order of the merges")
    expect(found["tokenizer.ggml.add_space_prefix"] is True, "the dummy prefix")


@test
def pre_tokenizers_are_known_by_their_parts(folder):
    """The forms in which the published tokenizers come, whatever their vocabulary."""
    wanted = files.read_gguf(TOKENIZERS / "gpt2.gguf")[0]
    vocabulary_folder(folder, len(wanted["tokenizer.ggml.tokens"]))
    made = bpe_json(wanted)
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    threes = {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated"}
    split = {"type": "Split", "pattern": {"Regex": PRE_REGEX["llama-bpe"]}}
    for pre, parts, normalizer, ignore in (
            ("gpt-2", [level], None, False), ("mpt", [level], "NFC", False), ("smollm", [digits, level], None, False),
            ("llama-bpe", [split, level | {"use_regex": False}], None, True),
            ("dbrx", [split, level | {"use_regex": False}], None, False),
            ("falcon", [{"type": "Punctuation", "behavior": "Contiguous"}, level, {"type": "Digits", "individual_digits": False},
                        threes], None, False),
            (None, [digits, split, level], None, False), (None, [split, level], None, True), (None, [level, digits], None, False),
            (None, [split | {"behavior": "Removed"}, level | {"use_regex": False}], None, False)):
        made["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": parts}
        made["normalizer"] = {"type": normalizer} if normalizer else None
        made["model"]["ignore_merges"] = ignore
        (folder / "tokenizer.json").write_text(json.dumps(made))
        if pre is None:
            refused(folder, says="is none of gpt-2")
            continue
        run("convert", folder, "-o", folder / "out.gguf")
        found = files.read_gguf(folder / "out.gguf")[0]["tokenizer.ggml.pre"]
        expect(found == pre, f"{parts} came out as {found}, expected {pre}")


@test
def unknown_pre_tokenizer_is_named_and_can_be_given(folder):
    wanted = files.read_gguf(TOKENIZERS / "gpt2.gguf")[0]
    vocabulary_folder(folder, len(wanted["tokenizer.ggml.tokens"]))
    made = bpe_json(wanted)
    made["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "\\w+"}},
                                                                  {"type": "ByteLevel", "use_regex": False}]}
    (folder / "tokenizer.json").write_text(json.dumps(made))
    refused(folder, says="the pre-tokenizer (\\w+) is none of gpt-2")
    run("convert", folder, "-o", folder / "out.gguf", "--pre", "gpt-2")
    expect(files.read_gguf(folder / "out.gguf")[0]["tokenizer.ggml.pre"] == "gpt-2", "--pre")
    refused(folder, "--pre", "martian", says="martian")
    (folder / "tokenizer.json").unlink()
    refused(folder, "--pre", "gpt-2", says="there is no byte-level tokenizer.json")


@test
def damaged_tokenizers_are_refused(folder):
    wanted = spm_folder(folder)
    good = (folder / "tokenizer.model").read_bytes()
    for bad, says in ((good[:-3], "cannot be read"), (b"\xff" * 40, "cannot be read"), (b"", "its beginning"),
                      (files.sentencepiece(["a"], [0.0], [1], model_type=1), "unigram"),
                      (files.sentencepiece(["a"], [0.0], [9]), "has type 9")):
        (folder / "tokenizer.model").write_bytes(bad)
        refused(folder, says=says)
    (folder / "tokenizer.model").unlink()
    wanted = files.read_gguf(TOKENIZERS / "gpt2.gguf")[0]
    vocabulary_folder(folder, len(wanted["tokenizer.ggml.tokens"]))
    for change, says in (({"vocab": {"a": -1}}, "the id of 'a'"), ({"vocab": {"a": 0, "b": 0}}, "id 0 is both 'a' and 'b'"),
                         ({"vocab": []}, "expected an object"), ({"merges": ["ab"]}, "'model.merges[0]'"),
                         ({"merges": 5}, "expected a list")):
        made = bpe_json(wanted)
        made["model"] |= change
        (folder / "tokenizer.json").write_text(json.dumps(made))
        refused(folder, says=says)


if __name__ == "__main__":
    sys.exit(main())
