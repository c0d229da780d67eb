#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the seeds of fuzz_convert into the folder given (tests/fuzz/corpus/convert)."""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import checkpoint_files as files    # pylint: disable=wrong-import-position

LLAMA = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 96, "rms_norm_eps": 1e-5, "max_position_embeddings": 1024}
CHUNKS = {"chunk_size": 24, "local_size": 4, "original_max_position_embeddings": 40}
ROPE = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
        "original_max_position_embeddings": 128}
HYBRID = {"d_model": 64, "d_inner": 64, "d_xb": 32, "n_layer": 3, "intermediate_size": 96, "attn_layers": [1]}
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
SPLIT = {"type": "Split", "pattern": {"Regex": "\\p{N}"}}
MODEL = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "<0x0A>": 3, "<unk>": 4}, "merges": ["a b"]}

SEEDS = {
    "llama": (0, LLAMA | {"rope_scaling": {"type": "linear", "factor": 2}}),
    "llama3": (0, LLAMA | {"rope_parameters": ROPE, "head_dim": 16}),
    "qwen2": (0, LLAMA | {"model_type": "qwen2", "dual_chunk_attention_config": CHUNKS, "use_sliding_window": True,
                          "max_window_layers": 0, "sliding_window": 16}),
    "gpt2": (0, {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 96}),
    "mamba": (0, {"model_type": "falcon_mamba", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 96, "state_size": 8,
                  "time_step_rank": "auto", "mixer_rms_eps": 1e-6}),
    "mamba2": (0, {"model_type": "mamba2", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 96, "state_size": 16,
                   "num_heads": 4, "head_dim": 16, "n_groups": 2, "time_step_limit": [0.0, float("inf")]}),
    "state-spaces": (0, {"d_model": 32, "n_layer": 2, "vocab_size": 50, "ssm_cfg": {"layer": "Mamba2", "headdim": 16}}),
    "transnormer": (0, {"model_type": "transnormer", "decoder_embed_dim": 64, "decoder_layers": 2, "decoder_attention_heads": 4,
                        "glu_dim": -1, "vocab_size": 96, "linear_use_lrpe_list": [1, 0]}),
    "hybrid-1": (0, LLAMA, HYBRID | {"ssm_cfg": {"expand": 1, "dt_rank": "auto"}}),
    "hybrid-2": (0, LLAMA, HYBRID | {"ssm_cfg": {"ngroups": 4, "d_state": 16}}),
    "byte-level": (1, {"pre_tokenizer": LEVEL, "normalizer": {"type": "NFC"}, "model": MODEL,
                       "added_tokens": [{"id": 5, "content": "<e>", "special": True}],
                       "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {}}]}},
                   {"eos_token": {"content": "<e>"}, "chat_template": [{"name": "default", "template": "x"}]}),
    "split": (1, {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT, LEVEL | {"use_regex": False}]},
                  "model": MODEL | {"merges": [["a", "b"]], "ignore_merges": True}}),
    "byte-fallback": (1, {"normalizer": {"type": "Prepend"}, "model": MODEL | {"byte_fallback": True, "unk_token": "<unk>"}}),
    "added": (3, {"bos_token": "<s>", "add_bos_token": True, "added_tokens_decoder": {"6": {"content": "<x>", "special": True}}},
              {"<y>": 7}),
}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, (kind, *texts) in SEEDS.items():
        (folder / name).write_bytes(bytes([kind]) + b"\0".join(json.dumps(t).encode() for t in texts))
    model = files.sentencepiece(["<unk>", "<s>", "</s>", "<0x0A>", "a", "b", "ab"], [0.0] * 6 + [-1.0], [2, 3, 3, 6, 1, 1, 1])
    (folder / "sentencepiece").write_bytes(bytes([2]) + model)


main()
