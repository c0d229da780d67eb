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

JOB_ROWS = 1024
WARMUP_STEPS = 200
SHOWN_STEPS = 100
HARD_SHARE = 0.3        # of the loss with a teacher: cross entropy; the rest is the divergence from the teacher
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


def make_rows(tokenizer_path, seed, buckets, steps, workers):
    """Rows for `steps` training steps; buckets: (width, rows a step) -> one (ids, codes) pair for each bucket."""
    out = []
    context = multiprocessing.get_context("fork")
    with context.Pool(workers, _start_worker, (tokenizer_path,)) as pool:
        for width, rows_per_step in buckets:
            total = steps * rows_per_step
            jobs = [(f"{seed}/{i}", width, min(JOB_ROWS, total - i)) for i in range(0, total, JOB_ROWS)]
            made = pool.map(_make_rows, jobs, chunksize=1)
            out.append((np.concatenate([c[0] for c in made]), np.concatenate([c[1] for c in made])))
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


class Goal:
    """What is minimised: cross entropy, and with a teacher the divergence from its distribution, a token by its weight."""

    def __init__(self, device, teacher=None):
        self.teacher = teacher
        self.table = torch.tensor(WEIGHTS, device=device)
        self.device_type = device.type

    def autocast(self):
        return torch.autocast(self.device_type, torch.bfloat16)

    def weights(self, codes):
        return self.table[codes]

    def loss_sum(self, model, ids, weights):
        """Weighted sum of the token losses. ids i64 [B,T+1], weights f32 [B,T+1]."""
        logits = model(ids[:, :-1]).flatten(0, 1).float()
        loss = F.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none")
        if self.teacher is not None:
            with torch.no_grad():
                wanted = self.teacher(ids[:, :-1]).flatten(0, 1).float().log_softmax(-1)
            apart = F.kl_div(logits.log_softmax(-1), wanted, reduction="none", log_target=True).sum(-1)
            loss = HARD_SHARE * loss + (1 - HARD_SHARE) * apart
        return (loss * weights[:, 1:].flatten()).sum()


def _rate(step, done, peak):
    """done: share of the run that is over, by steps or by time."""
    if step < WARMUP_STEPS:
        return peak * (step + 1) / WARMUP_STEPS
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def _step(model, optimizer, buckets, goal):
    batches = [b.next() for b in buckets]
    weights = [goal.weights(codes) for _, codes in batches]
    total = sum(w[:, 1:].sum() for w in weights)
    loss_sum = 0
    for (ids, _), w in zip(batches, weights):
        with goal.autocast():
            part = goal.loss_sum(model, ids, w) / total
        part.backward()
        loss_sum = loss_sum + part.detach()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss_sum


def _try_compiled(model, buckets, goal, log):
    """Compile the blocks and run each bucket once; on any failure go back to eager execution."""
    began = time.time()
    models = [m for m in (model, goal.teacher) if m is not None]
    try:
        for m in models:
            m.compile_blocks()
        for b in buckets:
            ids, codes = b.next()
            with goal.autocast():
                loss = goal.loss_sum(model, ids, goal.weights(codes))
            loss.backward()
            if not torch.isfinite(loss):
                raise FloatingPointError("the compiled loss is not finite")
        log(f"compiled in {time.time() - began:.0f} s")
    except Exception as error:      # the compiler may fail in any way: training goes on without it
        for block in (b for m in models for b in m.model.layers):
            block._compiled_call_impl = None
        log(f"torch.compile failed, training goes on without: {type(error).__name__}: {str(error)[:200]}")
    model.zero_grad(set_to_none=True)


def _optimizer(model, peak_rate, kept_rate, fused):
    """AdamW; weight decay for matrices only. Parameters in model.kept() were trained before: their rate is another."""
    kept = {id(p) for p in model.kept()} if hasattr(model, "kept") else set()
    groups = []
    for share, chosen in ((1.0, lambda p: id(p) not in kept), (kept_rate / peak_rate, lambda p: id(p) in kept)):
        for decay, flat in ((0.1, False), (0.0, True)):
            part = [p for p in model.parameters() if chosen(p) and (p.dim() != 2) == flat]
            if part:
                groups.append({"params": part, "weight_decay": decay, "share": share})
    return torch.optim.AdamW(groups, lr=peak_rate, betas=(0.9, 0.95), fused=fused)


def train(model, rows, buckets, device, args, log, teacher=None):
    """Train model in place, args.steps steps or args.budget seconds, whichever ends first.

    rows: one (ids, codes) for each of buckets, (width, rows a step). args: steps, budget, rate, kept_rate, seed,
    no_compile as run.py has them. -> (steps made, seconds, last mean loss).
    """
    began = time.time()
    torch.manual_seed(args.seed)
    tokens_per_step = sum(width * n for width, n in buckets)
    buckets = [Batches(ids, codes, n, device, args.seed + i)
               for i, ((ids, codes), (_, n)) in enumerate(zip(rows, buckets))]
    goal = Goal(device, teacher)
    if not args.no_compile:
        _try_compiled(model, buckets, goal, log)
    optimizer = _optimizer(model, args.rate, args.kept_rate, device.type == "cuda")
    step, shown, since, mean, over = 0, torch.zeros((), device=device), 0, float("nan"), False
    while not over:
        done = max(step / args.steps, (time.time() - began) / args.budget)
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, done, args.rate) * group["share"]
        shown = shown + _step(model, optimizer, buckets, goal)
        step, since = step + 1, since + 1
        over = step >= args.steps or time.time() - began >= args.budget
        if step % SHOWN_STEPS == 0 or over:
            mean = shown.item() / since
            if not math.isfinite(mean):
                raise FloatingPointError(f"step {step}: the loss is not finite")
            took = time.time() - began
            log(f"step {step:5d}/{args.steps}  loss {mean:.4f}  {took:5.0f} s of {args.budget:.0f}  "
                f"{step * tokens_per_step / took / 1e6:.2f} Mtok/s")
            shown, since = torch.zeros((), device=device), 0
    return step, time.time() - began, mean
