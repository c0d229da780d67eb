#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a demo model: corpus, tokenizer, training, evaluation, files.

python3 tools/train/run.py --out DIR
python3 tools/train/run.py --out DIR --model transnormer
python3 tools/train/run.py --out DIR --model hybrid

The Llama is made from nothing. The others take its tokenizer from its GGUF file (--teacher), and the hybrid starts from
its weights and learns from its distribution: Wang et al. 2024, "The Mamba in the Llama".
"""
import argparse
import json
import os
import platform
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "dev", "fixtures")]

import numpy as np
import torch

import corpus
import evaluate
import export
import gguf_reader
import oracle
import train
import transnormer
from bpe import Bpe
from hybrid import Hybrid, HybridConfig, load_llama
from model import Config, Llama

TARGET_ACCURACY = 0.90
SHOWN_MISTAKES = 12
FORM_TOLERANCE = 1e-4


# by --model: what differs of the settings
DEFAULTS = {"llama": dict(steps=6000, budget=280, passes=3, batch=1.0, rate=1.5e-3),
            "transnormer": dict(steps=5000, budget=190, passes=5, batch=0.5, rate=1.2e-3),
            "hybrid": dict(steps=5000, budget=190, passes=5, batch=0.5, rate=1e-3)}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, help="folder for the results")
    p.add_argument("--model", choices=sorted(DEFAULTS), default="llama")
    p.add_argument("--teacher", default=os.path.join(HERE, "..", "..", "models", "demo", "demo-llama.gguf"),
                   help="the demo Llama; not used for --model llama")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--steps", type=int, help="training steps at most")
    p.add_argument("--budget", type=float, help="seconds for training; fewer steps if need be")
    p.add_argument("--passes", type=float, help="how often each document is seen if all steps are made")
    p.add_argument("--batch", type=float, help="share of the rows of corpus.BUCKETS that make one step")
    p.add_argument("--rate", type=float, help="peak learning rate")
    p.add_argument("--kept-rate", type=float, default=3e-4, help="the same, for weights that come from the teacher")
    p.add_argument("--layers", type=int, help="another number of layers (not for the hybrid)")
    p.add_argument("--vocab", type=int, default=2048, help="tokens of the Llama's tokenizer")
    p.add_argument("--questions", type=int, default=2000, help="held-out questions")
    p.add_argument("--workers", type=int, default=os.cpu_count())
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--no-compile", action="store_true")
    args = p.parse_args()
    for name, value in DEFAULTS[args.model].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.layers and args.model == "hybrid":
        p.error("--layers: the hybrid has as many as its teacher")
    return args


class Log:
    def __init__(self, path):
        self._file = open(path, "w", encoding="utf-8")
        self._began = time.time()

    def __call__(self, text):
        line = f"[{time.time() - self._began:6.1f}] {text}"
        print(line, flush=True)
        print(line, file=self._file, flush=True)


def check_tokenizer(bpe, texts, log):
    """The same ids as the `tokenizers` package, where that is installed. Raises on a difference."""
    try:
        import tokenizers
    except ImportError:
        log("the tokenizers package is not installed: the BPE was not compared with it")
        return
    vocab = {t: i for i, t in enumerate(bpe.tokens)}
    other = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=bpe.merges))
    other.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    for text in texts:
        if other.encode(text).ids != bpe.encode(text):
            raise AssertionError(f"tokenizers gives other ids for {text!r}")
    log(f"the BPE agrees with tokenizers {tokenizers.__version__} on {len(texts)} texts")


def check_model(model, bpe, log):
    """Compare with Hugging Face's LlamaForCausalLM, where that is installed -> False if the logits differ."""
    try:
        import transformers
    except ImportError:
        log("the transformers package is not installed: the model was not compared with it")
        return True
    settings = model.cfg.as_dict()
    if int(transformers.__version__.split(".")[0]) >= 5:
        settings["rope_parameters"] = {"rope_type": "default", "rope_theta": settings.pop("rope_theta")}
    config = transformers.LlamaConfig(**settings, tie_word_embeddings=True, attn_implementation="eager")
    other = transformers.LlamaForCausalLM(config).float().eval()
    missing, unexpected = other.load_state_dict({k: v.cpu() for k, v in model.state_dict().items()}, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise AssertionError(f"LlamaForCausalLM: missing {missing}, unexpected {unexpected}")
    other.tie_weights()
    ids = torch.tensor([bpe.encode(corpus.user_part("Tell me a story about a fox.")) * 8])
    with torch.no_grad():
        ours, theirs = model(ids.to(next(model.parameters()).device)).cpu(), other(ids).logits
    difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    agrees = difference < 1e-3
    log(f"logits {'agree' if agrees else 'DISAGREE'} with LlamaForCausalLM of transformers "
        f"{transformers.__version__}: {difference:.1e} of the largest")
    return agrees


def evaluate_all(model, bpe, args, log):
    """-> (metrics, kept, dropped expected texts), all with the Q8_0 weights in fp32."""
    questions = corpus.held_out_questions(args.seed, args.questions)
    questions += corpus.held_out_tale_questions(args.seed, args.questions // 5)
    score, wrong = evaluate.accuracy(model, bpe, questions)
    right, asked = (sum(v[i] for v in score.values()) for i in (0, 1))
    known, unknown = evaluate.accuracy(model, bpe, evaluate.known_facts())
    for q, said in wrong[:SHOWN_MISTAKES] + unknown[:SHOWN_MISTAKES]:
        log(f"wrong ({q.kind}): {q.prompt[-300:]!r} expected {q.answer!r} said {said!r}")
    kept, dropped = evaluate.expected_texts(model, bpe)
    for e in kept + dropped:
        log(f"{'kept' if e in kept else 'near-tie'} (lead {e['min_margin']}): {e['user']!r} -> {e['text']!r}")
    metrics = {"held_out_accuracy": right / asked, "held_out_questions": asked, "by_kind": score, "learned": known,
               "held_out_perplexity": evaluate.perplexity(model, bpe, corpus.held_out_stories(args.seed, 300))}
    return metrics, kept, dropped


def results_table(m):
    """The measured numbers as the rows of models/demo/README.md."""
    rows = [("parameters", f"{m['parameters']:,}"), ("file", f"Q8_0, {m['gguf_bytes']:,} bytes"),
            ("corpus", f"{m['corpus_tokens'] / 1e6:.0f} M tokens of generated text"),
            ("training", f"{m['steps']} steps, {m['training_seconds']:.0f} s on one {m['device']}, "
                         f"last loss {m['loss']:.4f}"),
            ("held-out questions answered exactly",
             f"{100 * m['held_out_accuracy']:.2f} % of {m['held_out_questions']}"),
            ("perplexity on held-out stories", f"{m['held_out_perplexity']:.2f}")]
    rows += [(kind, f"{right} of {asked}, {100 * right / asked:.1f} %")
             for kind, (right, asked) in {**m["by_kind"], **m["learned"]}.items()]
    return "".join(f"| {name} | {value} |\n" for name, value in rows)


def check_form(model, bpe, path, log):
    """The file, read back and computed in fp64 by all pairs of positions, gives the model's logits -> False if not."""
    ids = bpe.encode(corpus.user_part("Tell me a story about a fox.") + "Once upon a time there was a fox. " * 8)
    with torch.no_grad():
        ours = model(torch.tensor([ids], device=next(model.parameters()).device))[0].double().cpu().numpy()
    wanted = oracle.logits(oracle.Model(path), ids)
    difference = float(np.abs(ours - wanted).max() / np.abs(wanted).max())
    agrees = difference < FORM_TOLERANCE
    log(f"logits {'agree' if agrees else 'DISAGREE'} with the fp64 form of the file: {difference:.1e} of the largest")
    return agrees


def make_tokenizer(args, path, log):
    """Trained for the Llama; the others have the Llama's."""
    if args.model == "llama":
        bpe = Bpe.train(corpus.sample_texts(args.seed, 40000), args.vocab)
    else:
        keys, _ = gguf_reader.read(args.teacher)
        bpe = Bpe(keys["tokenizer.ggml.tokens"], [tuple(m.split(" ")) for m in keys["tokenizer.ggml.merges"]])
    bpe.save(path)
    check_tokenizer(bpe, list(corpus.sample_texts(args.seed + 1, 500)), log)
    log(f"tokenizer: {len(bpe.tokens)} tokens, {len(bpe.merges)} merges")
    return bpe


def make_model(args, bpe, device, log):
    """-> (model, teacher or None)."""
    torch.manual_seed(args.seed)
    layers = {"num_hidden_layers": args.layers} if args.layers else {}
    teacher = None
    if args.model == "llama":
        model = Llama(Config(vocab_size=len(bpe.tokens), **layers))
    elif args.model == "transnormer":
        model = transnormer.TransNormer(transnormer.Config(vocab_size=len(bpe.tokens), **layers))
    else:
        teacher = load_llama(args.teacher).to(device).eval().requires_grad_(False)
        model = Hybrid(HybridConfig(**teacher.cfg.as_dict()))
        model.adopt(teacher)
    log(f"model: {args.model}, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")
    return model.to(device), teacher


def write_results(metrics, kept, dropped, args, path, log):
    """expected.json, metrics.json, results.md; their names begin with the model's where it is not the Llama."""
    prefix = "" if args.model == "llama" else args.model + "-"
    with open(path(prefix + "expected.json"), "w", encoding="utf-8") as f:
        json.dump(kept, f, indent=1)
    with open(path(prefix + "metrics.json"), "w", encoding="utf-8") as f:
        json.dump(metrics, f, indent=1)
    table = results_table(metrics)
    with open(path(prefix + "results.md"), "w", encoding="utf-8") as f:
        f.write(table)
    log(f"expected texts: {len(kept)} kept, {len(dropped)} with near-ties\n{table}")


def main():
    args = arguments()
    os.makedirs(args.out, exist_ok=True)

    def path(name):
        return os.path.join(args.out, name)
    log = Log(path("train.log" if args.model == "llama" else f"{args.model}-train.log"))
    log(f"python {platform.python_version()}, torch {torch.__version__}, device {args.device}, model {args.model}")

    tokens_path = path("tokenizer.json" if args.model == "llama" else f"{args.model}-tokenizer.json")
    bpe = make_tokenizer(args, tokens_path, log)
    buckets = [(width, max(1, round(args.batch * n))) for width, n in corpus.BUCKETS]
    rows = train.make_rows(tokens_path, args.seed, buckets, max(1, int(args.steps / args.passes)), args.workers)
    tokens = sum(int((codes > 0).sum()) for _, codes in rows)
    log(f"corpus: {sum(len(ids) for ids, _ in rows)} documents, {tokens / 1e6:.1f} M tokens")

    device = torch.device(args.device)
    model, teacher = make_model(args, bpe, device, log)
    steps, seconds, loss = train.train(model, rows, buckets, device, args, log, teacher)

    file = path(f"demo-{args.model}.gguf")
    export.write_gguf(file, model, bpe, "Q8_0")
    if args.model == "llama":
        export.write_checkpoint(path("demo-llama-f16.safetensors"), model)
        with open(path("heldout.txt"), "w", encoding="utf-8") as f:
            f.write("\n".join(corpus.held_out_stories(args.seed, 300)) + "\n")
    log("files written")
    seen = evaluate.quantized_copy(model)
    agrees = check_form(seen, bpe, file, log)
    metrics, kept, dropped = evaluate_all(seen, bpe, args, log)
    metrics |= {"parameters": sum(p.numel() for p in model.parameters()), "steps": steps,
                "training_seconds": round(seconds, 1), "loss": loss, "corpus_tokens": tokens, "seed": args.seed,
                "torch": torch.__version__, "gguf_bytes": os.path.getsize(file),
                "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu"}
    write_results(metrics, kept, dropped, args, path, log)
    if args.model == "llama" and not check_model(seen, bpe, log):
        return 1
    if metrics["held_out_accuracy"] < TARGET_ACCURACY:
        log(f"the held-out accuracy is below {TARGET_ACCURACY:.0%}")
        return 1
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
