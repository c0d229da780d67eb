#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What becomes of the parts of a tokenizer on their way into a file: converted and done, or refused by name. No device.

    test_convert_pipeline.py FULMEN SOURCE_ROOT

Ends with `N passed, N failed, N skipped`. The ids were worked out by hand; unit/test_tokenizer_corpus.c compares with the
official packages.
"""

import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(sys.argv[2]) / "tests/support"))

import checkpoint_files as files    # pylint: disable=wrong-import-position
from checkpoint_back import fixture_checkpoint, write_folder
from checkpoint_files import Tensor
from convert_runner import FULMEN, ROOT, expect, main, refused, run, test

ROWS = 300
MARK = "▁"
PIECES = [MARK, "m", "n", MARK + "m", MARK + "n", MARK + MARK, "mn", "é", "u", "s", "us"]
VOCAB = {t: i for i, t in enumerate(["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + PIECES)}
MERGES = [[MARK, MARK], [MARK, "m"], [MARK, "n"], ["m", "n"], ["u", "s"]]
LEGACY = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": MARK},
                                              {"type": "Replace", "pattern": {"String": " "}, "content": MARK}]}
PIECE_KINDS = [{0: 2, 1: 3, 2: 3}.get(i, 6 if i < 259 else 1) for i in range(len(VOCAB))]
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


def ids(*pieces):
    return [VOCAB[p] for p in pieces]


def token(content, **more):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} | more


def describe(normalizer=None, pre_tokenizer=None, added=(), model=(), **more):
    listed, vocab = [], dict(VOCAB)
    for t in [token("<unk>"), token("<s>"), token("</s>"), *added]:
        listed.append({"id": vocab.setdefault(t["content"], len(vocab))} | t)
    return {"version": "1.0", "added_tokens": listed, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
            "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "vocab": VOCAB,
                      "merges": MERGES} | dict(model)} | more


def rows_folder(folder, **config):
    base, _, tensors = fixture_checkpoint("llama-tied")
    width = base["hidden_size"]
    tensors["model.embed_tokens.weight"] = Tensor("F32", (ROWS, width), bytes(4 * ROWS * width))
    write_folder(folder, {k: v for k, v in base.items() if k not in ("bos_token_id", "eos_token_id")} |
                 {"vocab_size": ROWS} | config, None, tensors)


def tokenize(path, text, *arguments):
    done = subprocess.run([FULMEN, "tokenize", "-m", path, "--no-bos", "-p", text, *arguments], stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=60, check=True)
    return [int(line.split()[0]) for line in done.stdout.decode().splitlines() if line.split() and line.split()[0].isdigit()]


def check_rows(folder, made, rows):
    (folder / "tokenizer.json").write_text(json.dumps(made))
    run("convert", folder, "-o", folder / "out.gguf")
    for text, wanted in rows:
        found = tokenize(folder / "out.gguf", text)
        expect(found == wanted, f"{text!r} is {found}, expected {wanted}")


def metaspace(scheme=None, **more):
    return {"type": "Metaspace", "replacement": MARK} | ({"prepend_scheme": scheme} if scheme else {}) | more


@test
def metaspace_as_the_file_says(folder):
    rows_folder(folder)
    m, n = MARK + "m", MARK + "n"
    for pre, rows in (
            (metaspace("always", split=True), [("m  n", ids(m, MARK, n)), ("m</s>m", ids(m, "</s>", m)), (" m", ids(m))]),
            (metaspace("always", split=False), [("m  n", ids(m, MARK * 2, "n"))]),
            (metaspace("first", split=False), [("m</s>m", ids(m, "</s>", "m")), (" m", ids(m)), ("</s>m", ids("</s>", "m"))]),
            (metaspace("never"), [("m n", ids("m", n))]),
            (metaspace(add_prefix_space=True), [("m  n", ids(m, MARK, n))]),
            (metaspace(add_prefix_space=False), [("m n", ids("m", n))]),
            ({"type": "Sequence", "pretokenizers": [metaspace("never", split=False)]}, [("m  n", ids("m", MARK * 2, "n"))])):
        check_rows(folder, describe(pre_tokenizer=pre), rows)


@test
def normalizers_as_the_file_says(folder):
    rows_folder(folder)
    m, n = MARK + "m", MARK + "n"
    tail = LEGACY["normalizers"]
    for parts, rows in (
            ([{"type": "Lowercase"}, *tail], [("M", ids(m)), ("É", ids(MARK, "é"))]),
            ([{"type": "NFKC"}, *tail], [("ｍ\u00a0Ｎ", ids(m, MARK, "<0x4E>")), ("e\u0301", ids(MARK, "é"))]),
            ([{"type": "NFC"}, *tail], [("e\u0301", ids(MARK, "é"))]),
            ([{"type": "NFD"}, {"type": "StripAccents"}, *tail], [("m\u0302n\u0303", ids(m, "n"))]),
            ([{"type": "Strip", "strip_left": True, "strip_right": False}, *tail], [(" \n m ", ids(m, MARK))]),
            ([{"type": "Nmt"}, *tail], [("m\tn\x01", ids(m, n))]),
            ([{"type": "Replace", "pattern": {"String": "nn"}, "content": "m"}], [("nnn", ids("mn"))])):
        check_rows(folder, describe({"type": "Sequence", "normalizers": parts}), rows)
    gemma = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    check_rows(folder, describe(tail[1], gemma), [("m  n", ids("m", MARK * 2, "n"))])


@test
def flags_of_added_tokens(folder):
    rows_folder(folder)
    m, n, new = MARK + "m", MARK + "n", len(VOCAB)
    for added, rows in (
            (token("<|t|>", rstrip=True), [("<|t|>\n m<|t|> ", [new, *ids(m), new])]),
            (token("<|t|>", lstrip=True), [("m \n<|t|>n", [*ids(m), new, *ids(n)])]),
            (token("us", special=False, single_word=True), [("nus", ids(n, "us")), ("us us", ids("us", MARK * 2, "us"))]),
            (token("us", special=False, normalized=True), [("m us", ids(m, "us")), ("nus", ids(n, "us"))]),
            (token("m n", special=False), [("m n", [new]), ("mm n", [*ids(m), new])]),
            (token("é", special=False, normalized=True), [("é", ids("é"))])):
        check_rows(folder, describe(LEGACY, added=[added]), rows)
    # An added token that the vocabulary has is that one, whatever id the list says.
    made = describe(LEGACY, added=[token("us", special=False)])
    made["added_tokens"][-1]["id"] = new
    (folder / "tokenizer.json").write_text(json.dumps(made))
    err = run("convert", folder, "-o", folder / "out.gguf")
    expect("'us' has id" in err, err)
    expect(tokenize(folder / "out.gguf", "us") == ids("us"), "the id of 'us'")


@test
def flags_of_byte_level_tokens(folder):
    wanted = files.read_gguf(ROOT / "tests/fixtures/tokenizers/gpt2.gguf")[0]
    tokens, kinds = wanted["tokenizer.ggml.tokens"], wanted["tokenizer.ggml.token_type"]
    base, _, tensors = fixture_checkpoint("llama-tied")
    width, rows = base["hidden_size"], len(tokens) + 2
    tensors["model.embed_tokens.weight"] = Tensor("F32", (rows, width), bytes(4 * rows * width))
    write_folder(folder, base | {"vocab_size": rows}, None, tensors)
    vocab = {t: i for i, (t, k) in enumerate(zip(tokens, kinds)) if k == 1}
    listed = [token(t) for t, k in zip(tokens, kinds) if k == 3]
    made = {"pre_tokenizer": LEVEL, "normalizer": None, "added_tokens": listed + [token("<|t|>", rstrip=True)],
            "model": {"type": "BPE", "vocab": vocab, "merges": wanted["tokenizer.ggml.merges"]}}
    new = len(vocab) + len(listed)
    check_rows(folder, made, [("a<|t|> \n b", [vocab["a"], new, vocab["b"]])])
    made["pre_tokenizer"] = LEVEL | {"add_prefix_space": True}
    check_rows(folder, made, [("a", [vocab["Ġa"]]), (" a", [vocab["Ġa"]]), ("a<|t|>a", [vocab["Ġa"], new, vocab["Ġa"]])])
    made["pre_tokenizer"], made["normalizer"] = LEVEL, {"type": "NFKC"}
    check_rows(folder, made, [("ａ", [vocab["a"]])])


@test
def what_is_not_done_is_refused_by_name(folder):
    rows_folder(folder)
    tail = LEGACY["normalizers"]
    cut = {"type": "Strip", "strip_left": True, "strip_right": True}
    for made, says in (
            (describe({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": MARK}), "'Replace' with the regular expression"),
            (describe({"type": "Precompiled", "precompiled_charsmap": ""}), "normalizer 'Precompiled' is not supported"),
            (describe({"type": "BertNormalizer"}), "normalizer 'BertNormalizer' is not supported"),
            (describe({"type": "Sequence", "normalizers": [*tail, {"type": "Append", "append": "x"}]}), "normalizer 'Append'"),
            (describe(cut, metaspace("first")), "'prepend_scheme' 'first' behind normalizers"),
            (describe(None, metaspace("always") | {"replacement": "_"}), "'replacement' '_' is not supported"),
            (describe(None, metaspace("sometimes")), "'prepend_scheme' is 'sometimes'"),
            (describe(None, metaspace("always", add_prefix_space=False)), "contradicts"),
            (describe(LEGACY, {"type": "Digits", "individual_digits": True}), "pre_tokenizer 'Digits' is not supported"),
            (describe(None, {"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated"}), "pre_tokenizer 'Split' at ' '"),
            (describe(LEGACY, {"type": "Split", "pattern": {"Regex": "\\d"}, "behavior": "Isolated"}), "pre_tokenizer 'Split' at '\\d'"),
            (describe(LEGACY, model={"dropout": 0.1}), "'model.dropout' is 0.1"),
            (describe(LEGACY, model={"continuing_subword_prefix": "##"}), "'model.continuing_subword_prefix' is '##'"),
            (describe(LEGACY, model={"end_of_word_suffix": "</w>"}), "'model.end_of_word_suffix' is '</w>'"),
            (describe(LEGACY, model={"ignore_merges": True}), "'model.ignore_merges'"),
            (describe(LEGACY, model={"type": "Unigram"}), "'model.type' is 'Unigram'"),
            (describe(LEGACY, model={"type": "WordPiece"}), "'model.type' is 'WordPiece'"),
            (describe(LEGACY, model={"vocab": {k: v for k, v in VOCAB.items() if k != "<0x41>"}}), "without the token <0x41>"),
            (describe(LEGACY, model={"merges": [["m", "u"]]}), "'mu' is no token of 'model.vocab'"),
            (describe(LEGACY, post_processor={"type": "RobertaProcessing"}), "post_processor 'RobertaProcessing' is not supported"),
            (describe(LEGACY, post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}] * 2}),
             "puts 2 tokens in front"),
            (describe(3), "'normalizer': expected objects"),
            (describe(None, [metaspace("always")]), "'pre_tokenizer': expected objects")):
        (folder / "tokenizer.json").write_text(json.dumps(made))
        refused(folder, says=says)


@test
def tokenizer_model_rules(folder):
    rows_folder(folder)
    scores = [0.0 if k != 1 else -1.0 - i for i, k in enumerate(PIECE_KINDS)]
    plain = files.sentencepiece(list(VOCAB), scores, PIECE_KINDS)
    keep, escape = files.sentencepiece_rules(remove_extra=False), files.sentencepiece_rules(escape=False)
    for model, rows in ((plain, [("  m  n ", ids(MARK + "m", MARK + "n"))]), (plain + keep, [("m  n", ids(MARK + "m", MARK, MARK + "n"))])):
        (folder / "tokenizer.model").write_bytes(model)
        run("convert", folder, "-o", folder / "out.gguf")
        for text, wanted in rows:
            found = tokenize(folder / "out.gguf", text)
            expect(found == wanted, f"{text!r} is {found}, expected {wanted}")
    for legacy, wanted in ((True, ids(MARK + "m", "</s>", MARK + "m")), (False, ids(MARK + "m", "</s>", "m"))):
        (folder / "tokenizer_config.json").write_text(json.dumps({"legacy": legacy}))
        run("convert", folder, "-o", folder / "out.gguf")
        found = tokenize(folder / "out.gguf", "m</s>m")
        expect(found == wanted, f"with legacy {legacy} 'm</s>m' is {found}, expected {wanted}")
    for model, says in ((plain + escape, "'escape_whitespaces' is false"),
                        (files.sentencepiece(["<unk>", "m"], [0, 0], [2, 1]) + files.sentencepiece_bytes(), "0 byte pieces, expected 256")):
        (folder / "tokenizer.model").write_bytes(model)
        refused(folder, says=says)


@test
def vocab_json_and_merges_txt(folder):
    wanted = files.read_gguf(ROOT / "tests/fixtures/tokenizers/gpt2.gguf")[0]
    qwen = files.read_gguf(ROOT / "tests/fixtures/tokenizers/qwen2.gguf")[0]
    for meta, classes in ((wanted, ("GPT2Tokenizer", "GPT2TokenizerFast")), (qwen, ("Qwen2Tokenizer", "Qwen2TokenizerFast"))):
        tokens, kinds = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
        base, _, tensors = fixture_checkpoint("llama-tied")
        width = base["hidden_size"]
        tensors["model.embed_tokens.weight"] = Tensor("F32", (len(tokens), width), bytes(4 * len(tokens) * width))
        write_folder(folder, base | {"vocab_size": len(tokens)}, None, tensors)
        (folder / "vocab.json").write_text(json.dumps({t: i for i, (t, k) in enumerate(zip(tokens, kinds)) if k == 1}))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(meta["tokenizer.ggml.merges"]) + "\n", encoding="utf-8")
        decoder = {str(i): token(t) for i, (t, k) in enumerate(zip(tokens, kinds)) if k == 3}
        for name in classes:
            (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, "added_tokens_decoder": decoder}))
            run("convert", folder, "-o", folder / "out.gguf")
            found = files.read_gguf(folder / "out.gguf")[0]
            for key in ("model", "pre", "tokens", "merges", "token_type"):
                expect(found[f"tokenizer.ggml.{key}"] == meta[f"tokenizer.ggml.{key}"], f"{name}: tokenizer.ggml.{key}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "MarianTokenizer"}))
    refused(folder, says="of class 'MarianTokenizer', known are GPT2Tokenizer")


def slow_folder(folder, vocab, rows, merges=()):
    """A Llama with vocab.json and merges.txt of a GPT-2."""
    base, _, tensors = fixture_checkpoint("llama-tied")
    width = base["hidden_size"]
    tensors["model.embed_tokens.weight"] = Tensor("F32", (rows, width), bytes(4 * rows * width))
    write_folder(folder, base | {"vocab_size": rows}, None, tensors)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))


@test
def vocab_json_of_any_size(folder):
    count = 60000
    vocab = {f"t{i}": i for i in range(count)}
    slow_folder(folder, vocab, count + 5000)
    (folder / "added_tokens.json").write_text(json.dumps({f"<a{i}>": count + i for i in range(5000)}))
    run("convert", folder, "-o", folder / "out.gguf")
    tokens = files.read_gguf(folder / "out.gguf")[0]["tokenizer.ggml.tokens"]
    expect(tokens[:count] == list(vocab) and tokens[-1] == "<a4999>", "the tokens")
    (folder / "vocab.json").write_text(json.dumps(vocab)[:-1] + ', "t7": 1}')
    refused(folder, says="'t7' is there twice")


@test
def special_tokens_among_the_added_ones(folder):
    """added_tokens.json does not say which are special; its order is not that of the ids."""
    slow_folder(folder, {"a": 0, "b": 1}, 7)
    (folder / "added_tokens.json").write_text(json.dumps({"<|plain|>": 5, "<|sep|>": 3, "<|more|>": 4, "<|pad|>": 2}))
    (folder / "special_tokens_map.json").write_text(json.dumps(
        {"pad_token": "<|pad|>", "additional_special_tokens": ["<|sep|>", {"content": "<|more|>"}], "eos_token": "<|end|>"}))
    run("convert", folder, "-o", folder / "out.gguf")
    found = files.read_gguf(folder / "out.gguf")[0]
    tokens, kinds = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    expect(tokens == ["a", "b", "<|pad|>", "<|sep|>", "<|more|>", "<|plain|>", "<|end|>"], f"tokens {tokens}")
    expect(kinds == [1, 1, 3, 3, 3, 4, 3], f"types {kinds}")
    expect(found["tokenizer.ggml.padding_token_id"] == 2 and found["tokenizer.ggml.eos_token_id"] == 6, "pad and eos")


@test
def ids_of_added_tokens_decoder(folder):
    for name in (" 5", "-5", "+5", "5x", "", "99999999", "0x5"):
        slow_folder(folder, {"a": 0, "b": 1}, 7)
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer",
                                                                  "added_tokens_decoder": {name: token("<|x|>")}}))
        refused(folder, says=f"'added_tokens_decoder': '{name}' is no id")
        rows_folder(folder)
        (folder / "tokenizer.model").write_bytes(files.sentencepiece(list(VOCAB), [0.0] * len(VOCAB), PIECE_KINDS))
        refused(folder, says=f"'added_tokens_decoder': '{name}' is no id")
        (folder / "tokenizer.model").unlink()


@test
def added_tokens_of_a_sentencepiece_model(folder):
    rows_folder(folder)
    (folder / "tokenizer.model").write_bytes(files.sentencepiece(list(VOCAB), [0.0] * len(VOCAB), PIECE_KINDS))
    (folder / "added_tokens.json").write_text(json.dumps({"mn": VOCAB["mn"], "<|t|>": len(VOCAB)}))
    run("convert", folder, "-o", folder / "out.gguf")
    flags = files.read_gguf(folder / "out.gguf")[0]["fulmen.tokenizer.added_flags"]
    expect(flags[VOCAB["mn"]] == 33 and flags[len(VOCAB)] == 1, f"flags {flags[VOCAB['mn']]} and {flags[len(VOCAB)]}")
    (folder / "added_tokens.json").write_text(json.dumps({"<|t|>": VOCAB["mn"]}))
    refused(folder, says=f"id {VOCAB['mn']} is both 'mn' and '<|t|>'")


@test
def the_character_zero_is_refused(folder):
    rows_folder(folder)
    base = json.loads((folder / "config.json").read_text())
    good = json.dumps(describe(LEGACY))
    (folder / "tokenizer.json").write_text(good.replace('"mn"', r'"m\u0000n"'))
    refused(folder, says="holds the character U+0000")
    (folder / "tokenizer.json").write_text(good.replace('"mn"', '"m\0n"'))
    at = good.index('"mn"') + 2
    refused(folder, says=f"the string at byte {at} (line 1) holds the character U+0000")
    (folder / "tokenizer.json").write_text(good)
    (folder / "config.json").write_text(json.dumps(base | {"a": "\\u0000 and \\\\u0000"}))
    run("convert", folder, "-o", folder / "out.gguf")


@test
def the_token_in_front_of_a_text_is_bos(folder):
    def template(name, *found):
        return {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A"}}],
                "special_tokens": {name: {"id": name, "ids": list(found), "tokens": [name]}} if found else {}}
    for post, bos, says in (
            (template("<s>", 1), "<s>", None), (template("<s>"), "<s>", None), (template("</s>", 2), None, None),
            (template("</s>", 2), "<s>", "puts '</s>' (2) in front of a text, but the BOS is '<s>' (1)"),
            (template("</s>"), "<s>", "puts '</s>' (2) in front of a text, but the BOS is '<s>' (1)"),
            (template("<s>", 2), "<s>", "puts '</s>' (2) in front of a text, but the BOS is '<s>' (1)"),
            (template("<s>", 1, 2), "<s>", "expected one id for '<s>'"),
            (template("<q>"), "<s>", "puts '<q>' in front of a text, which is no"),
            (template("<s>", 400), None, "puts '<s>' in front of a text, which is no token with a row"),
            ({"type": "TemplateProcessing", "single": [{"SpecialToken": {}}]}, "<s>", "'SpecialToken' without 'id'")):
        rows_folder(folder)
        (folder / "tokenizer.json").write_text(json.dumps(describe(LEGACY, post_processor=post)))
        (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": bos} if bos else {}))
        if says is not None:
            refused(folder, says=says)
            continue
        run("convert", folder, "-o", folder / "out.gguf")
        found = files.read_gguf(folder / "out.gguf")[0]
        expect(found["tokenizer.ggml.add_bos_token"] is True, "add_bos_token")
        expect(found["tokenizer.ggml.bos_token_id"] == (1 if bos else 2), f"BOS is {found['tokenizer.ggml.bos_token_id']}")


@test
def only_a_space_in_front_is_a_space(folder):
    rows_folder(folder)
    for text, wanted in ((MARK, True), (" ", True), ("b", False), ("", False)):
        (folder / "tokenizer.json").write_text(json.dumps(describe({"type": "Prepend", "prepend": text})))
        run("convert", folder, "-o", folder / "out.gguf")
        found = files.read_gguf(folder / "out.gguf")[0]["tokenizer.ggml.add_space_prefix"]
        expect(found is wanted, f"'{text}' in front came out as {found}")


@test
def pieces_with_a_space_are_no_merges(folder):
    wanted = files.read_gguf(ROOT / "tests/fixtures/tokenizers/gpt2.gguf")[0]
    vocab = {t: i for i, t in enumerate(wanted["tokenizer.ggml.tokens"])}
    rows_folder(folder)
    for merge in (["a b", "c"], ["a", "b c"], "a b c"):
        (folder / "tokenizer.json").write_text(json.dumps(
            {"pre_tokenizer": LEVEL, "model": {"type": "BPE", "vocab": vocab, "merges": [["a", "b"], merge]}}))
        refused(folder, says="'model.merges[1]': 'a")


@test
def all_end_tokens_are_kept(folder):
    made = describe(LEGACY, added=[token("<|end|>"), token("<|turn|>")])
    end, turn = len(VOCAB), len(VOCAB) + 1
    for config, generation, tokenizer, wanted in (
            ({}, {"eos_token_id": [end, turn, 2]}, {"eos_token": "</s>"}, [2, end, turn]),
            ({"eos_token_id": [2, turn]}, {}, {"eos_token": {"content": "<|end|>"}}, [end, 2, turn]),
            ({"eos_token_id": [2000000, turn]}, {}, {}, turn), ({}, {"eos_token_id": [2000000, end]}, {}, end),
            ({"eos_token_id": turn}, {"eos_token_id": end}, {}, [turn, end]), ({"eos_token_id": 2}, {"eos_token_id": 2}, {}, 2)):
        rows_folder(folder, **config)
        (folder / "tokenizer.json").write_text(json.dumps(made))
        (folder / "generation_config.json").write_text(json.dumps(generation))
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
        run("convert", folder, "-o", folder / "out.gguf")
        found = files.read_gguf(folder / "out.gguf")[0]
        several = wanted if isinstance(wanted, list) else None      # one is in eos_token_id alone
        expect(found.get("tokenizer.ggml.eos_token_ids") == several, f"{found.get('tokenizer.ggml.eos_token_ids')}, expected {wanted}")
        expect(found["tokenizer.ggml.eos_token_id"] == (several[0] if several else wanted), "the first of them")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, "x"]}))
    refused(folder, says="'eos_token_id': expected a whole number or a list of them")


@test
def settings_of_rope_that_are_said_twice(folder):
    linear = {"rope_type": "linear", "factor": 4.0}
    for config, key, wanted in (
            ({"rope_parameters": {"rope_theta": 5e4}, "rope_scaling": {"type": "linear", "factor": 4}}, "rope.scaling.factor", 4.0),
            ({"rope_parameters": linear, "rope_scaling": {"type": "linear", "factor": 4}, "rope_theta": 3e4}, "rope.freq_base", 3e4)):
        rows_folder(folder, **({"rope_theta": None} | config))
        (folder / "tokenizer.json").write_text(json.dumps(describe(LEGACY)))
        run("convert", folder, "-o", folder / "out.gguf")
        found = files.read_gguf(folder / "out.gguf")[0]
        expect(found["llama." + key] == wanted, f"{key} is {found['llama.' + key]}, expected {wanted}")
    for config, says in (
            ({"rope_parameters": {"rope_theta": 5e4} | linear, "rope_scaling": {"type": "linear", "factor": 8}}, "'factor' is 4, but 8"),
            ({"rope_parameters": {"rope_type": "default"}, "rope_scaling": {"type": "linear", "factor": 8}}, "'rope_type' is"),
            ({"rope_parameters": {"rope_theta": 5e4}, "rope_theta": 6e4}, "'rope_theta' is 50000, but 60000"),
            ({"rope_scaling": {"rope_theta": 5e4, "type": "default"}, "rope_theta": 6e4}, "'rope_theta' is 50000, but 60000"),
            ({"rope_parameters": {"full_attention": linear}}, "'full_attention' of rope_parameters is an object"),
            ({"rope_parameters": {f"a{i}": 1 for i in range(65)}}, "'rope_parameters': expected at most 64 members"),
            ({"partial_rotary_factor": 0.5}, "partial_rotary_factor")):
        rows_folder(folder, **({"rope_theta": None} | config))
        refused(folder, says=says)


if __name__ == "__main__":
    sys.exit(main())
