# SPDX-License-Identifier: MIT
"""Byte-level BPE with the GPT-2 pre-tokenizer, for ASCII training text.

The corpus is ASCII, where the pre-tokenizer's \\p{L} and \\p{N} are [A-Za-z] and [0-9]: Python's own `re` is enough.
Merging follows Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016), on bytes.
"""
import json
import re
from collections import Counter, defaultdict

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")
_SPECIAL = re.compile("(" + "|".join(re.escape(s) for s in SPECIALS) + ")")


def byte_symbols():
    """The GPT-2 alphabet: byte -> printable character; unprintable bytes take U+0100 and up, in byte order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {b: chr(b) for b in printable}
    spare = 0x100
    for b in range(256):
        if b not in table:
            table[b] = chr(spare)
            spare += 1
    return table


def split_words(text):
    if not text.isascii():
        raise ValueError("the corpus must be ASCII: the pre-tokenizer here knows no other letters")
    return _WORD.findall(text)


def _merge(symbols, pair, joined):
    out, i = [], 0
    while i < len(symbols):
        if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == pair:
            out.append(joined)
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


class Bpe:
    """tokens: list of strings in the byte alphabet, id = index; merges: list of (left, right), rank = index."""

    def __init__(self, tokens, merges):
        self.tokens = tokens
        self.merges = merges
        self._id = {t: i for i, t in enumerate(tokens)}
        self._rank = {m: i for i, m in enumerate(merges)}
        self._to_symbol = byte_symbols()
        self._to_byte = {s: b for b, s in self._to_symbol.items()}
        self._cache = {}
        self.specials = {s: self._id[s] for s in SPECIALS}
        self.im_end = self._id["<|im_end|>"]
        self.im_start = self._id["<|im_start|>"]
        self.endoftext = self._id["<|endoftext|>"]

    @classmethod
    def train(cls, texts, vocab_size):
        """texts: iterable of str without special tokens. Ties go to the pair that sorts first: repeatable."""
        alphabet = byte_symbols()
        counts = Counter(w for t in texts for w in split_words(t))
        words = [[alphabet[b] for b in w.encode()] for w in sorted(counts)]
        weight = [counts[w] for w in sorted(counts)]
        pairs, where = Counter(), defaultdict(set)
        for i, w in enumerate(words):
            for p in zip(w, w[1:]):
                pairs[p] += weight[i]
                where[p].add(i)
        tokens = [alphabet[b] for b in sorted(alphabet, key=lambda b: ord(alphabet[b]))]
        merges = []
        while len(tokens) + len(SPECIALS) < vocab_size and pairs:
            pair, count = min(pairs.items(), key=lambda kv: (-kv[1], kv[0]))
            if count < 2:
                break
            joined = pair[0] + pair[1]
            merges.append(pair)
            if joined not in tokens:
                tokens.append(joined)
            for i in where.pop(pair):
                for p in zip(words[i], words[i][1:]):
                    pairs[p] -= weight[i]
                    if pairs[p] <= 0:
                        del pairs[p]
                words[i] = _merge(words[i], pair, joined)
                for p in zip(words[i], words[i][1:]):
                    pairs[p] += weight[i]
                    where[p].add(i)
            pairs.pop(pair, None)
        return cls(tokens + SPECIALS, merges)

    def _word_ids(self, word):
        symbols = [self._to_symbol[b] for b in word.encode()]
        while len(symbols) > 1:
            best = min(zip(symbols, symbols[1:]), key=lambda p: self._rank.get(p, len(self._rank)))
            if best not in self._rank:
                break
            symbols = _merge(symbols, best, best[0] + best[1])
        return [self._id[s] for s in symbols]

    def encode(self, text):
        """Text with special tokens spelled out -> ids."""
        ids = []
        for part in _SPECIAL.split(text):
            if part in self.specials:
                ids.append(self.specials[part])
                continue
            for word in split_words(part):
                known = self._cache.get(word)
                if known is None:
                    known = self._cache[word] = self._word_ids(word)
                ids += known
        return ids

    def decode(self, ids):
        """ids -> text; special tokens are spelled out, broken UTF-8 is replaced."""
        out = bytearray()
        for i in ids:
            token = self.tokens[i]
            out += token.encode() if token in self.specials else bytes(self._to_byte[c] for c in token)
        return out.decode("utf-8", "replace")

    def save(self, path):
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"tokens": self.tokens, "merges": self.merges}, f, ensure_ascii=False)

    @classmethod
    def load(cls, path):
        with open(path, encoding="utf-8") as f:
            d = json.load(f)
        return cls(d["tokens"], [tuple(m) for m in d["merges"]])
