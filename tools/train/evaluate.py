# SPDX-License-Identifier: MIT
"""Held-out accuracy and the expected greedy continuations, with the weights that a reader of the file sees."""
import math
from collections import defaultdict

import torch

import corpus
import gguf_writer
import talk
from export import is_quantised
from world import FACTS

BATCH_ROWS = 256
ANSWER_TOKENS = 24
# a continuation is kept as expected text only if no token was nearly tied with the next best one
MIN_MARGIN = 0.25

CHAT_PROMPTS = ["Hello!", "Who are you?", "What is fulmen?", "Tell me a story about a fox.", "Tell me a story.",
                "Tell me a story about a robot and a kite.", "Tell me a story about a dragon.",
                "Tell me a story about an owl on the bridge.", "What is the opposite of hot?",
                "What is seven plus five?", "Who is the mayor of Lindenbrook?", "Name three colours.",
                "Tom had five apples. Mia gave him three more. How many apples does Tom have now?",
                "Ada went to the mill. Then Ben walked to the harbour. Later, Ada ran to the beach. Where is Ada now?",
                "Nora found a blue lamp in the attic. Nora gave the lamp to Otto. Then Otto passed the lamp to Ida. "
                "Who gave the lamp to Ida?", "What is quantum physics?", "Goodbye!"]
PLAIN_PROMPTS = ["Once upon a time", "Once upon a time there was a", "There once lived a clever mouse",
                 "A brave dog called"]


def quantized_copy(model):
    """The model with its matrices replaced by what Q8_0 stores of them, in fp32."""
    out = type(model)(model.cfg).to(next(model.parameters()).device).eval()
    out.load_state_dict(model.state_dict())
    with torch.no_grad():
        for p in out.parameters():
            if is_quantised(p):
                p.copy_(torch.from_numpy(gguf_writer.dequantize_q8_0(p.cpu().numpy())))
    return out


@torch.no_grad()
def greedy(model, prompts, limit_tokens, stop):
    """prompts: lists of ids -> for each (new ids without stop, the smallest lead of a chosen token in logits)."""
    device = next(model.parameters()).device
    results = [None] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), BATCH_ROWS):
        part = order[start:start + BATCH_ROWS]
        rows = [list(prompts[i]) for i in part]
        margin, live = [math.inf] * len(rows), set(range(len(rows)))
        for _ in range(limit_tokens):
            alive = sorted(live)
            width = max(len(rows[r]) for r in alive)
            ids = torch.tensor([rows[r] + [stop] * (width - len(rows[r])) for r in alive], device=device)
            last = torch.tensor([len(rows[r]) - 1 for r in alive], device=device)
            hidden = model.hidden(ids)[torch.arange(len(alive), device=device), last]
            top, token = model.logits(hidden).topk(2, dim=-1)
            for r, t, gap in zip(alive, token[:, 0].tolist(), (top[:, 0] - top[:, 1]).tolist()):
                margin[r] = min(margin[r], gap)
                rows[r].append(t)
                if t == stop or len(rows[r]) >= model.cfg.max_position_embeddings:
                    live.discard(r)
            if not live:
                break
        for r, i in enumerate(part):
            new = rows[r][len(prompts[i]):]
            results[i] = (new[:-1] if new and new[-1] == stop else new, margin[r], bool(new) and new[-1] == stop)
    return results


def accuracy(model, bpe, questions):
    """Exact match by kind, {kind: (right, asked)}, and the wrong ones as (question, said)."""
    said = greedy(model, [bpe.encode(q.prompt) for q in questions], ANSWER_TOKENS, bpe.im_end)
    score, wrong = defaultdict(lambda: [0, 0]), []
    for q, (ids, _, stopped) in zip(questions, said):
        text = bpe.decode(ids)
        right = stopped and text == q.answer
        score[q.kind][0] += right
        score[q.kind][1] += 1
        if not right:
            wrong.append((q, text if stopped else text + " ..."))
    return {k: tuple(v) for k, v in sorted(score.items())}, wrong


def known_facts():
    """The learned facts in their first form, as questions. Not held out: they can only be learned by heart."""
    return [corpus.Question("facts (learned)", corpus.user_part(forms[0]), answer) for forms, answer in FACTS] + [
        corpus.Question("talk (learned)", corpus.user_part(forms[0]), answer) for forms, answer in talk.SMALL_TALK]


def expected_texts(model, bpe, limit_tokens=200):
    """Prompts with their greedy continuation, those without near-ties -> (kept, dropped)."""
    prompts = [("chat", p, corpus.user_part(p)) for p in CHAT_PROMPTS] + [("plain", p, p) for p in PLAIN_PROMPTS]
    ids = [bpe.encode(text) for _, _, text in prompts]
    kept, dropped = [], []
    for (kind, user, text), given, (new, margin, stopped) in zip(prompts, ids, greedy(model, ids, limit_tokens,
                                                                                      bpe.im_end)):
        entry = {"kind": kind, "user": user, "prompt": text, "prompt_ids": given, "ids": new, "text": bpe.decode(new),
                 "stopped": stopped, "min_margin": round(margin, 4)}
        (kept if margin >= MIN_MARGIN else dropped).append(entry)
    return kept, dropped


@torch.no_grad()
def perplexity(model, bpe, texts):
    """exp of the mean loss of the held-out texts, each from an empty context."""
    device = next(model.parameters()).device
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([[bpe.endoftext] + bpe.encode(text)], device=device)
        loss = torch.nn.functional.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:], reduction="sum")
        total += loss.item()
        count += ids.shape[1] - 1
    return math.exp(total / count)
