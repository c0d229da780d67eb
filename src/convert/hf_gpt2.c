// SPDX-License-Identifier: MIT
// GPT-2. Its Conv1D weights are [in, out]; GGUF wants [out, in].
#include "convert/hf.h"

#define IN_LAYER(x) "h.%u." x
#define BLK(x) "blk.%u." x
#define NORM(x, name)                                                                                          \
    {.from = IN_LAYER(x ".weight"), .to = BLK(name ".weight"), .shape = {FM_S_D}, .flags = FM_R_LAYER},        \
    {.from = IN_LAYER(x ".bias"), .to = BLK(name ".bias"), .shape = {FM_S_D}, .flags = FM_R_LAYER}
#define CONV1D(x, name, in, n)                                                                                 \
    {.from = IN_LAYER(x ".weight"), .to = BLK(name ".weight"), .shape = {in, n},                               \
     .flags = FM_R_LAYER | FM_R_TRANSPOSE},                                                                    \
    {.from = IN_LAYER(x ".bias"), .to = BLK(name ".bias"), .shape = {n}, .flags = FM_R_LAYER}

static const struct fm_rule rules[] = {
    {.from = "wte.weight", .to = "token_embd.weight", .shape = {FM_S_V, FM_S_D}},
    {.from = "wpe.weight", .to = "position_embd.weight", .shape = {FM_S_P, FM_S_D}},
    {.from = "ln_f.weight", .to = "output_norm.weight", .shape = {FM_S_D}},
    {.from = "ln_f.bias", .to = "output_norm.bias", .shape = {FM_S_D}},
    {.from = "lm_head.weight", .to = "output.weight", .shape = {FM_S_V, FM_S_D}, .flags = FM_R_HEAD},
    NORM("ln_1", "attn_norm"),
    CONV1D("attn.c_attn", "attn_qkv", FM_S_D, FM_S_3D),
    CONV1D("attn.c_proj", "attn_output", FM_S_D, FM_S_D),
    NORM("ln_2", "ffn_norm"),
    CONV1D("mlp.c_fc", "ffn_up", FM_S_D, FM_S_F),
    CONV1D("mlp.c_proj", "ffn_down", FM_S_F, FM_S_D),
};

static const char *const prefixes[] = {"transformer.", "", NULL};
static const char *const keys[] = {"activation_function", "layer_norm_epsilon", "scale_attn_weights",
                                   "scale_attn_by_inverse_layer_idx", NULL};
static const char *const ignored[] = {".attn.bias", ".attn.masked_bias", NULL};

static enum fm_result config(struct fm_hf *hf)
{
    uint64_t layers, heads, *size = hf->size;
    double eps;
    bool scaled;
    enum fm_result r;
    if ((r = fm_hf_size(hf, "n_embd", "hidden_size", 0, &size[FM_S_D])) != FM_OK ||
        (r = fm_hf_size(hf, "n_layer", "num_hidden_layers", 0, &layers)) != FM_OK ||
        (r = fm_hf_size(hf, "n_head", "num_attention_heads", 0, &heads)) != FM_OK ||
        (r = fm_hf_size(hf, "n_positions", "n_ctx", 0, &size[FM_S_P])) != FM_OK ||
        (r = fm_hf_size(hf, "n_inner", NULL, 4 * size[FM_S_D], &size[FM_S_F])) != FM_OK ||
        (r = fm_hf_size(hf, "vocab_size", NULL, 0, &size[FM_S_V])) != FM_OK ||
        (r = fm_conf_f64(&hf->config, "layer_norm_epsilon", false, 1e-5, &eps)) != FM_OK ||
        (r = fm_hf_expect_word(hf, "activation_function", "gelu_new", "gelu_pytorch_tanh")) != FM_OK ||
        (r = fm_hf_refuse_true(hf, "scale_attn_by_inverse_layer_idx")) != FM_OK ||
        (r = fm_conf_bool(&hf->config, "scale_attn_weights", true, &scaled)) != FM_OK ||
        (r = fm_conf_bool(&hf->config, "tie_word_embeddings", true, &hf->tied)) != FM_OK)
        return r;
    if (!scaled)
        return fm_fail(FM_UNSUPPORTED, "%s: 'scale_attn_weights' is false, expected true", hf->config.path);
    if (size[FM_S_D] % heads != 0 || layers > FM_HF_LAYERS_MAX)
        return fm_fail(FM_FORMAT, "%s: n_layer %llu, n_head %llu, n_embd %llu: expected at most %d layers and whole heads",
                       hf->config.path, (unsigned long long)layers, (unsigned long long)heads,
                       (unsigned long long)size[FM_S_D], FM_HF_LAYERS_MAX);
    hf->n_layers = (uint32_t)layers;
    size[FM_S_3D] = 3 * size[FM_S_D];
    fm_hf_put_u32(hf, "context_length", size[FM_S_P]);
    fm_hf_put_u32(hf, "embedding_length", size[FM_S_D]);
    fm_hf_put_u32(hf, "block_count", layers);
    fm_hf_put_u32(hf, "feed_forward_length", size[FM_S_F]);
    fm_hf_put_u32(hf, "attention.head_count", heads);
    fm_hf_put_f32(hf, "attention.layer_norm_epsilon", eps);
    return FM_OK;
}

const struct fm_family fm_family_gpt2 = {
    .model_type = "gpt2", .arch = "gpt2", .rules = rules, .n_rules = FM_COUNT(rules), .prefixes = prefixes, .keys = keys,
    .ignored = ignored, .copies_head = true, .config = config};
