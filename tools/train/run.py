#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the demo model from nothing: corpus, tokenizer, training, evaluation, files.

python3 tools/train/run.py --out DIR
"""
import argparse
import json
import os
import platform
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import torch

import corpus
import evaluate
import export
import train
from bpe import Bpe
from model import Config, Llama

TARGET_ACCURACY = 0.90
SHOWN_MISTAKES = 12


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, help="folder for the results")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--steps", type=int, default=6000, help="training steps at most")
    p.add_argument("--budget", type=float, default=280, help="seconds for training; fewer steps if need be")
    p.add_argument("--passes", type=float, default=3, help="how often each document is seen")
    p.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    p.add_argument("--layers", type=int, default=8)
    p.add_argument("--vocab", type=int, default=2048)
    p.add_argument("--questions", type=int, default=2000, help="held-out questions")
    p.add_argument("--workers", type=int, default=os.cpu_count())
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--no-compile", action="store_true")
    return p.parse_args()


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


def main():
    args = arguments()
    os.makedirs(args.out, exist_ok=True)

    def path(name):
        return os.path.join(args.out, name)
    log = Log(path("train.log"))
    log(f"python {platform.python_version()}, torch {torch.__version__}, device {args.device}")

    bpe = Bpe.train(corpus.sample_texts(args.seed, 40000), args.vocab)
    bpe.save(path("tokenizer.json"))
    check_tokenizer(bpe, list(corpus.sample_texts(args.seed + 1, 500)), log)
    log(f"tokenizer: {len(bpe.tokens)} tokens, {len(bpe.merges)} merges")
    rows = train.make_rows(path("tokenizer.json"), args.seed, max(1, int(args.steps / args.passes)), args.workers)
    tokens = sum(int((codes > 0).sum()) for _, codes in rows)
    log(f"corpus: {sum(len(ids) for ids, _ in rows)} documents, {tokens / 1e6:.1f} M tokens")

    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    model = Llama(Config(vocab_size=len(bpe.tokens), num_hidden_layers=args.layers)).to(device)
    parameters = sum(p.numel() for p in model.parameters())
    log(f"model: {parameters / 1e6:.2f} M parameters")
    steps, seconds, loss = train.train(model, rows, device, args.steps, args.budget, args.rate, args.seed,
                                       not args.no_compile, log)

    export.write_gguf(path("demo-llama.gguf"), model, bpe, "Q8_0")
    export.write_checkpoint(path("demo-llama-f16.safetensors"), model)
    log("files written")
    seen = evaluate.quantized_copy(model)
    metrics, kept, dropped = evaluate_all(seen, bpe, args, log)
    metrics |= {"parameters": parameters, "steps": steps, "training_seconds": round(seconds, 1), "loss": loss,
                "corpus_tokens": tokens, "seed": args.seed, "torch": torch.__version__,
                "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
                "gguf_bytes": os.path.getsize(path("demo-llama.gguf"))}
    with open(path("expected.json"), "w", encoding="utf-8") as f:
        json.dump(kept, f, indent=1)
    with open(path("metrics.json"), "w", encoding="utf-8") as f:
        json.dump(metrics, f, indent=1)
    with open(path("heldout.txt"), "w", encoding="utf-8") as f:
        f.write("\n".join(corpus.held_out_stories(args.seed, 300)) + "\n")
    table = results_table(metrics)
    with open(path("results.md"), "w", encoding="utf-8") as f:
        f.write(table)
    log(f"expected texts: {len(kept)} kept, {len(dropped)} with near-ties\n{table}")
    if not check_model(seen, bpe, log):
        return 1
    if metrics["held_out_accuracy"] < TARGET_ACCURACY:
        log(f"the held-out accuracy is below {TARGET_ACCURACY:.0%}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
