#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fulmen convert: what a checkpoint says is used, or refused by name (no device).

    test_convert_extra.py FULMEN SOURCE_ROOT
"""

import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(sys.argv[2]) / "tests/support"))

import checkpoint_files as files    # pylint: disable=wrong-import-position
from checkpoint_back import fixture_checkpoint, unpermute, write_folder
from convert_runner import BAD_INPUT, expect, main, refused, run, test

BIASED = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
          "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def with_biases(tensors, layers):
    return tensors | {
        f"model.layers.{i}.{part}.bias": files.from_floats(
            [math.sin(j + i) for j in range(tensors[f"model.layers.{i}.{part}.weight"].shape[0])],
            tensors[f"model.layers.{i}.{part}.weight"].shape[:1]) for i in range(layers) for part in BIASED}


@test
def biases_of_a_llama_are_written(folder):
    """Those of q and k in the order of their rows."""
    config, _, tensors = fixture_checkpoint("llama")
    biased = with_biases(tensors, config["num_hidden_layers"])
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for flags in ({}, {"attention_bias": True, "mlp_bias": True}):
        write_folder(folder / "in", config | flags, None, biased)
        run("convert", folder / "in", "-o", folder / "out.gguf")
        found = files.read_gguf(folder / "out.gguf")[1]
        for part, name in BIASED.items():
            t, wanted = found[f"blk.1.{name}.bias"], biased[f"model.layers.1.{part}.bias"]
            back = unpermute(t, heads[name]) if name in heads else t
            expect(t.dtype == "F32" and back.data == wanted.data, f"{name}: other values")
            expect(name not in heads or t.data != wanted.data, f"{name}: rows were not turned")


@test
def flags_and_biases_must_agree(folder):
    config, _, tensors = fixture_checkpoint("llama")
    biased = with_biases(tensors, config["num_hidden_layers"])
    write_folder(folder / "a", config | {"attention_bias": False}, None, biased)
    refused(folder / "a", says="attention_bias")
    write_folder(folder / "b", config | {"mlp_bias": True}, None, tensors)
    refused(folder / "b", says="mlp_bias")
    del biased["model.layers.1.mlp.up_proj.bias"]
    write_folder(folder / "c", config | {"mlp_bias": True}, None, biased)
    refused(folder / "c", says="model.layers.1.mlp.up_proj.bias")


@test
def a_hybrid_of_a_biased_llama_is_refused(folder):
    config, _, tensors = fixture_checkpoint("llama")
    width = config["intermediate_size"]
    tensors |= {"model.layers.0.mlp.gate_proj.bias": files.from_floats([1.0] * width, (width,))}
    write_folder(folder / "in", config, None, tensors)
    run("convert", folder / "in", "-o", folder / "llama.gguf")
    err = run("convert", folder / "llama.gguf", "-o", folder / "out.gguf", "--to", "mambainllama", "--attention-layers", "1",
              status=BAD_INPUT)
    expect("blk.0.ffn_gate.bias" in err, f"expected the tensor's name:\n{err}")


@test
def unknown_tensors_are_refused(folder):
    for model, name, size in (("llama", "model.layers.0.self_attn.q_norm.weight", 16), ("llama", "model.norm.bias", 64),
                              ("qwen2", "model.layers.1.self_attn.o_proj.bias", 64), ("gpt2", "transformer.h.0.attn.c_gate.weight", 4),
                              ("mamba", "backbone.layers.0.mixer.B_layernorm.weight", 8)):
        config, _, tensors = fixture_checkpoint(model)
        write_folder(folder / "in", config, None, tensors | {name: files.from_floats([1.0] * size, (size,))})
        refused(folder / "in", says=name)
    config, _, tensors = fixture_checkpoint("llama")    # a buffer that rope_theta gives
    tensors |= {"model.layers.0.self_attn.rotary_emb.inv_freq": files.from_floats([1.0] * 8, (8,))}
    write_folder(folder / "in", config, None, tensors)
    run("convert", folder / "in", "-o", folder / "out.gguf")


@test
def members_that_change_the_mathematics(folder):
    cases = (
        ("llama", "logits_scaling", 8.0, 1.0), ("llama", "residual_multiplier", 0.22, 1),
        ("llama", "embedding_multiplier", 12.0, 1.0), ("llama", "attention_multiplier", 0.1, 1.0),
        ("llama", "attn_logit_softcapping", 50.0, None), ("llama", "final_logit_softcapping", 30.0, None),
        ("llama", "clip_qkv", 8.0, None), ("llama", "partial_rotary_factor", 0.5, 1.0), ("llama", "use_qk_norm", True, False),
        ("llama", "num_local_experts", 8, 0),
        ("llama", "layer_types", ["sliding_attention", "sliding_attention"], ["full_attention", "full_attention"]),
        ("llama", "use_mrope", True, False), ("llama", "no_rope_layers", [0, 1], []), ("llama", "alibi", True, False),
        ("llama", "rope_ratio_factor", 2.0, 1.0), ("qwen2", "use_sliding_window_pattern", 3, 0),
        ("qwen2", "qk_layernorm", True, False),
        ("qwen2", "layer_types", ["full_attention", "sliding_attention"], ["full_attention", "full_attention"]),
        ("gpt2", "add_cross_attention", True, False), ("gpt2", "scale_embedding", True, False),
        ("mamba", "dt_rms_norm", True, False), ("transnormer", "glu_act", "swish", "none"),
        ("transnormer", "causal", False, True), ("transnormer", "causal", False, None), ("llama", "is_causal", False, None),
        ("llama", "query_pre_attn_scalar", 144, None), ("llama", "attention_chunk_size", 8, None),
        ("llama", "swiglu_limit", 7.0, None), ("qwen2", "use_logn_attn", True, False), ("qwen2", "use_dynamic_ntk", True, False),
        ("llama", "ntk_alpha", 8, 1), ("llama", "use_bidirectional_attention", True, False),
        ("llama", "position_embedding_type", "alibi", "rope"), ("qwen2", "position_embedding_type", "absolute", "rotary"),
        ("gpt2", "position_embedding_type", "rope", "absolute"), ("mamba", "position_embedding_type", "rope", None),
        ("llama", "dim_model_base", 256, None), ("llama", "use_mup", True, False), ("llama", "attention_mask_type", "prefix", ""),
        ("llama", "quantization_config", {"quant_method": "fp8"}, None), ("llama", "num_experts", 8, 0),
        ("llama", "moe_topk", 2, None), ("llama", "logit_cap", 30.0, None), ("llama", "chunk_size", 256, 0),
        ("llama", "sliding_pattern", 2, None), ("gpt2", "dual_chunk_attention_config", {"chunk_size": 8}, None))
    for model, key, bad, neutral in cases:
        config, hybrid, tensors = fixture_checkpoint(model)
        write_folder(folder / "bad", config | {key: bad}, hybrid, tensors)
        refused(folder / "bad", says=f"'{key}'")
        write_folder(folder / "good", config | {key: neutral}, hybrid, tensors)
        run("convert", folder / "good", "-o", folder / "out.gguf")


@test
def usual_members_are_no_hindrance(folder):
    """What configurations of the hub hold beside what counts."""
    usual = {"architectures": ["LlamaForCausalLM"], "attention_dropout": 0.1, "bos_token_id": 1, "eos_token_id": 2,
             "initializer_range": 0.02, "max_sequence_length": 4096, "pad_token_id": 0, "pretraining_tp": 2,
             "rope_scaling": None, "sliding_window": 4096, "torch_dtype": "bfloat16", "transformers_version": "4.40.1",
             "unsloth_version": "2024.9", "use_cache": True, "is_decoder": True, "is_llama_config": True,
             "rope_interleaved": False, "quantization_config": {}, "task_specific_params": {"a": {"b": 1}},
             "tie_word_embeddings": False, "temperature": 0.7, "top_p": 0.9, "_name_or_path": "x", "layer_norm_eps": 1e-05}
    config, _, tensors = fixture_checkpoint("llama")
    write_folder(folder / "in", config | usual, None, tensors)
    run("convert", folder / "in", "-o", folder / "out.gguf")
    config, _, tensors = fixture_checkpoint("mamba")
    write_folder(folder / "mamba", config | {"rescale_prenorm_residual": True, "residual_in_fp32": True, "fused_add_norm": True,
                                             "rms_norm": True, "time_step_scale": 1.0, "time_step_max": 0.1, "use_mambapy": False},
                 None, tensors)
    run("convert", folder / "mamba", "-o", folder / "out.gguf")
    for model, more in (
            ("llama", {"max_position_embeddings": 2048, "original_max_position_embeddings": 2048, "pretraining_tp": 1, "top_k": 50,
                       "mask_token_id": None, "chunk_size_feed_forward": 0, "exponential_decay_length_penalty": None}),
            ("qwen2", {"use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 28, "attention_dropout": 0.0}),
            ("gpt2", {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False,
                      "n_ctx": None, "summary_activation": None, "attn_pdrop": 0.1}),
            ("mamba2", {"chunk_size": 256, "norm_before_gate": False, "rms_norm": True, "time_step_floor": 1e-4})):
        config, _, tensors = fixture_checkpoint(model)
        write_folder(folder / model, config | more, None, tensors)
        run("convert", folder / model, "-o", folder / "out.gguf")


if __name__ == "__main__":
    sys.exit(main())
