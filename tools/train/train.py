# SPDX-License-Identifier: MIT
"""Training: documents are made and tokenised on all cores, kept on the device, and passed over a few times."""
import math
import multiprocessing
import random
import time

import numpy as np
import torch
import torch.nn.functional as F

import corpus
from bpe import Bpe

CHUNK_ROWS = 1024
WARMUP_STEPS = 200
MEASURED_STEPS = 60
WEIGHT_CODE = {0.0: 0, corpus.CONTEXT_WEIGHT: 1, corpus.ANSWER_WEIGHT: 2}
WEIGHTS = [0.0, corpus.CONTEXT_WEIGHT, corpus.ANSWER_WEIGHT]

_bpe = None


def _start_worker(path):
    global _bpe
    _bpe = Bpe.load(path)


def _make_rows(job):
    """(seed, width, rows) -> ids u16 [rows, width+1], weight codes u8 [rows, width+1]; unused places have code 0."""
    seed, width, rows = job
    rng = random.Random(f"train {seed} {width}")
    ids = np.full((rows, width + 1), _bpe.endoftext, dtype=np.uint16)
    codes = np.zeros((rows, width + 1), dtype=np.uint8)
    done = 0
    while done < rows:
        parts = corpus.document(rng, width + 1, lambda text: len(_bpe.encode(text)))
        if parts is None:
            continue
        at = 0
        for text, weight in parts:
            piece = _bpe.encode(text)
            ids[done, at:at + len(piece)] = piece
            codes[done, at:at + len(piece)] = WEIGHT_CODE[weight]
            at += len(piece)
        done += 1
    return ids, codes


def make_rows(tokenizer_path, seed, steps, workers):
    """Rows for `steps` training steps -> one (ids, codes) pair for each bucket."""
    out = []
    context = multiprocessing.get_context("fork")
    with context.Pool(workers, _start_worker, (tokenizer_path,)) as pool:
        for width, rows_per_step in corpus.BUCKETS:
            total = steps * rows_per_step
            jobs = [(f"{seed}/{i}", width, min(CHUNK_ROWS, total - i)) for i in range(0, total, CHUNK_ROWS)]
            chunks = pool.map(_make_rows, jobs, chunksize=1)
            out.append((np.concatenate([c[0] for c in chunks]), np.concatenate([c[1] for c in chunks])))
    return out


class Batches:
    """Rows of one bucket on the device, in a new order on each pass."""

    def __init__(self, ids, codes, rows_per_step, device, seed):
        self.ids = torch.from_numpy(ids.astype(np.int16)).to(device)
        self.codes = torch.from_numpy(codes).to(device)
        self.rows = rows_per_step
        self.device = device
        self.generator = torch.Generator(device="cpu").manual_seed(seed)
        self.order, self.at = None, 0

    def next(self):
        """-> ids i64 [rows, width+1], codes u8 [rows, width+1]."""
        if self.order is None or self.at + self.rows > len(self.order):
            self.order = torch.randperm(len(self.ids), generator=self.generator).to(self.device)
            self.at = 0
        take = self.order[self.at:self.at + self.rows]
        self.at += self.rows
        return self.ids[take].long(), self.codes[take].long()


def _loss_sum(model, ids, weights):
    """Weighted sum of the token losses. ids i64 [B,T+1], weights f32 [B,T+1]."""
    logits = model(ids[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
    return (loss * weights[:, 1:].flatten()).sum()


def _rate(step, steps, peak):
    if step < WARMUP_STEPS:
        return peak * (step + 1) / WARMUP_STEPS
    done = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def _step(model, optimizer, buckets, table, autocast):
    batches = [b.next() for b in buckets]
    weights = [table[codes] for _, codes in batches]
    total = sum(w[:, 1:].sum() for w in weights)
    loss_sum = 0
    for (ids, _), w in zip(batches, weights):
        with autocast():
            part = _loss_sum(model, ids, w) / total
        part.backward()
        loss_sum = loss_sum + part.detach()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss_sum


def _try_compiled(model, buckets, table, autocast, log):
    """Compile the blocks and run each bucket once; on any failure go back to eager execution."""
    began = time.time()
    try:
        model.compile_blocks()
        for b in buckets:
            ids, codes = b.next()
            with autocast():
                loss = _loss_sum(model, ids, table[codes])
            loss.backward()
            if not torch.isfinite(loss):
                raise FloatingPointError("the compiled loss is not finite")
        log(f"compiled in {time.time() - began:.0f} s")
    except Exception as error:      # the compiler may fail in any way: training goes on without it
        for block in model.model.layers:
            block._compiled_call_impl = None
        log(f"torch.compile failed, training goes on without: {type(error).__name__}: {str(error)[:200]}")
    model.zero_grad(set_to_none=True)


def train(model, rows, device, steps, budget_s, peak_rate, seed, use_compile, log):
    """Train model in place. The number of steps is cut after the first ones if they would outlast budget_s.

    -> (steps made, seconds, last mean loss).
    """
    began = time.time()
    torch.manual_seed(seed)
    buckets = [Batches(ids, codes, n, device, seed + i)
               for i, ((ids, codes), (_, n)) in enumerate(zip(rows, corpus.BUCKETS))]
    table = torch.tensor(WEIGHTS, device=device)

    def autocast():
        return torch.autocast(device.type, torch.bfloat16)
    if use_compile:
        _try_compiled(model, buckets, table, autocast, log)
    decay = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
                                  lr=peak_rate, betas=(0.9, 0.95), fused=device.type == "cuda")
    tokens_per_step = sum(w * n for w, n in corpus.BUCKETS)
    step, shown, measured_from = 0, torch.zeros((), device=device), None
    since, mean = 0, float("nan")
    while step < steps:
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, steps, peak_rate)
        shown = shown + _step(model, optimizer, buckets, table, autocast)
        step, since = step + 1, since + 1
        if step == 10:
            shown.item()
            measured_from = time.time()
        if step == 10 + MEASURED_STEPS:
            shown.item()
            each = (time.time() - measured_from) / MEASURED_STEPS
            left = int((budget_s - (time.time() - began)) / each)
            if step + left < steps:
                steps = max(step + left, WARMUP_STEPS + 1)
                log(f"{each * 1e3:.1f} ms a step: {steps} steps fit into the budget")
        if step % 250 == 0 or step == steps:
            mean = shown.item() / since
            if not math.isfinite(mean):
                raise FloatingPointError(f"step {step}: the loss is not finite")
            took = time.time() - began
            speed = step * tokens_per_step / took / 1e6
            log(f"step {step:5d}/{steps}  loss {mean:.4f}  {took:5.0f} s  {speed:.2f} Mtok/s")
            shown, since = torch.zeros((), device=device), 0
    return step, time.time() - began, mean
