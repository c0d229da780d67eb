// SPDX-License-Identifier: MIT
// Llama, Mistral and Qwen2. GGUF's llama turns adjacent pairs (NORM), so that the rows of q and k are permuted; qwen2
// keeps them (NEOX).
#include "convert/hf.h"

#include <stdio.h>

#define IN_LAYER(x) "model.layers.%u." x
#define BLK(x) "blk.%u." x

#define TOP                                                                                               \
    {.from = "model.embed_tokens.weight", .to = "token_embd.weight", .shape = {FM_S_V, FM_S_D}},          \
    {.from = "model.norm.weight", .to = "output_norm.weight", .shape = {FM_S_D}},                         \
    {.from = "lm_head.weight", .to = "output.weight", .shape = {FM_S_V, FM_S_D}, .flags = FM_R_HEAD}
#define NORM(x, name)                                                                                     \
    {.from = IN_LAYER(x ".weight"), .to = BLK(name ".weight"), .shape = {FM_S_D}, .flags = FM_R_LAYER}
#define MATRIX(x, name, n, k, more)                                                                       \
    {.from = IN_LAYER(x ".weight"), .to = BLK(name ".weight"), .shape = {n, k}, .flags = FM_R_LAYER | (more)}
#define BIAS(x, name, n, more)                                                                            \
    {.from = IN_LAYER(x ".bias"), .to = BLK(name ".bias"), .shape = {n}, .flags = FM_R_LAYER | (more)}
#define FEED_FORWARD                                                                                      \
    NORM("post_attention_layernorm", "ffn_norm"), MATRIX("mlp.gate_proj", "ffn_gate", FM_S_F, FM_S_D, 0), \
        MATRIX("mlp.up_proj", "ffn_up", FM_S_F, FM_S_D, 0), MATRIX("mlp.down_proj", "ffn_down", FM_S_D, FM_S_F, 0)

static const struct fm_rule llama_rules[] = {
    TOP,
    NORM("input_layernorm", "attn_norm"),
    MATRIX("self_attn.q_proj", "attn_q", FM_S_Q, FM_S_D, FM_R_PERMUTE_Q),
    MATRIX("self_attn.k_proj", "attn_k", FM_S_K, FM_S_D, FM_R_PERMUTE_K),
    MATRIX("self_attn.v_proj", "attn_v", FM_S_K, FM_S_D, 0),
    MATRIX("self_attn.o_proj", "attn_output", FM_S_D, FM_S_Q, 0),
    BIAS("self_attn.q_proj", "attn_q", FM_S_Q, FM_R_OPTIONAL | FM_R_PERMUTE_Q),
    BIAS("self_attn.k_proj", "attn_k", FM_S_K, FM_R_OPTIONAL | FM_R_PERMUTE_K),
    BIAS("self_attn.v_proj", "attn_v", FM_S_K, FM_R_OPTIONAL),
    BIAS("self_attn.o_proj", "attn_output", FM_S_D, FM_R_OPTIONAL),
    FEED_FORWARD,
    BIAS("mlp.gate_proj", "ffn_gate", FM_S_F, FM_R_OPTIONAL),
    BIAS("mlp.up_proj", "ffn_up", FM_S_F, FM_R_OPTIONAL),
    BIAS("mlp.down_proj", "ffn_down", FM_S_D, FM_R_OPTIONAL),
};

static const struct fm_rule qwen2_rules[] = {
    TOP,
    NORM("input_layernorm", "attn_norm"),
    MATRIX("self_attn.q_proj", "attn_q", FM_S_Q, FM_S_D, 0),
    MATRIX("self_attn.k_proj", "attn_k", FM_S_K, FM_S_D, 0),
    MATRIX("self_attn.v_proj", "attn_v", FM_S_K, FM_S_D, 0),
    MATRIX("self_attn.o_proj", "attn_output", FM_S_D, FM_S_Q, 0),
    BIAS("self_attn.q_proj", "attn_q", FM_S_Q, 0),
    BIAS("self_attn.k_proj", "attn_k", FM_S_K, 0),
    BIAS("self_attn.v_proj", "attn_v", FM_S_K, 0),
    FEED_FORWARD,
};

static const char *const ignored[] = {"rotary_emb.inv_freq", NULL};
static const char *const llama_keys[] = {FM_HF_LLAMA_KEYS, NULL};
static const char *const mistral_keys[] = {FM_HF_LLAMA_KEYS, "sliding_window", NULL};
static const char *const qwen2_keys[] = {FM_HF_LLAMA_KEYS, "sliding_window", "use_sliding_window", "max_window_layers", "layer_types",
                                         NULL};
static const char *const hybrid_keys[] = {FM_HF_LLAMA_KEYS, NULL};

// A key that says whether projections have biases, and the tensors of every layer: they must agree. Without the key the
// tensors alone count.
static enum fm_result check_biases(const struct fm_hf *hf, const char *key, const char *const *parts, size_t n_parts)
{
    bool said;
    enum fm_result r = fm_conf_bool(&hf->config, key, false, &said);
    if (r != FM_OK || fm_conf_get(&hf->config, NULL, key) == NULL)
        return r;
    for (size_t i = 0; i < n_parts * hf->n_layers; i++) {
        char name[96];
        snprintf(name, sizeof(name), IN_LAYER("%s.bias"), (unsigned)(i / n_parts), parts[i % n_parts]);
        bool there = fm_checkpoint_find(hf->checkpoint, name) != NULL;
        if (there != said)
            return fm_fail(FM_FORMAT, "%s: '%s' is %s, but tensor '%s' is %s", hf->config.path, key, said ? "true" : "false",
                           FM_QUOTE_Z(name), there ? "there" : "missing");
    }
    return FM_OK;
}

static enum fm_result llama_extra(struct fm_hf *hf)
{
    static const char *const attention[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
    static const char *const feed_forward[] = {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
    enum fm_result r = check_biases(hf, "attention_bias", attention, FM_COUNT(attention));
    if (r == FM_OK)
        r = check_biases(hf, "mlp_bias", feed_forward, FM_COUNT(feed_forward));
    return r == FM_OK ? fm_hf_rope_freqs(hf) : r;
}

static enum fm_result llama_config(struct fm_hf *hf)
{
    uint32_t window;
    enum fm_result r = fm_hf_llama_keys(hf);
    if (r == FM_OK)
        r = fm_conf_bool(&hf->config, "tie_word_embeddings", false, &hf->tied);
    if (r == FM_OK)
        r = fm_conf_u32(&hf->config, "sliding_window", false, 1, 1u << 30, 0, &window);
    // Llama configurations may carry the key, but only Mistral's class looks at it.
    if (r == FM_OK && window > 0 && hf->family == &fm_family_mistral)
        fm_hf_put_u32(hf, "attention.sliding_window", window);
    return r;
}

// What each layer is called, where the configuration says it, must fit what it says of the window.
static enum fm_result check_layer_types(const struct fm_hf *hf, bool all_slide)
{
    const char *expected = all_slide ? "sliding_attention" : "full_attention";
    const cJSON *types = NULL, *item;
    enum fm_result r = fm_conf_array(&hf->config, "layer_types", false, &types);
    cJSON_ArrayForEach(item, types)
    {
        if (!cJSON_IsString(item))
            return fm_fail(FM_FORMAT, "%s: 'layer_types': expected strings", hf->config.path);
        if (strcmp(item->valuestring, expected) != 0)
            return fm_fail(FM_UNSUPPORTED, "%s: 'layer_types' has '%s', expected '%s' for all layers", hf->config.path,
                           FM_QUOTE_Z(item->valuestring), expected);
    }
    return r;
}

// The window of the layers from max_window_layers on; GGUF knows one for all layers or none.
static enum fm_result qwen2_window(struct fm_hf *hf)
{
    bool used;
    uint32_t window, first;
    enum fm_result r = fm_conf_bool(&hf->config, "use_sliding_window", false, &used);
    if (r == FM_OK)
        r = fm_conf_u32(&hf->config, "sliding_window", false, 1, 1u << 30, 4096, &window);
    if (r == FM_OK)
        r = fm_conf_u32(&hf->config, "max_window_layers", false, 0, UINT32_MAX, 28, &first);
    used = used && first < hf->n_layers;
    if (r == FM_OK)
        r = check_layer_types(hf, used && first == 0);
    if (r != FM_OK || !used)
        return r;
    if (first > 0)
        return fm_fail(FM_UNSUPPORTED, "%s: 'max_window_layers' is %u of %u layers: a window in some layers is not supported",
                       hf->config.path, first, hf->n_layers);
    fm_hf_put_u32(hf, "attention.sliding_window", window);
    return FM_OK;
}

static enum fm_result qwen2_config(struct fm_hf *hf)
{
    enum fm_result r = fm_hf_llama_keys(hf);
    if (r == FM_OK)
        r = fm_conf_bool(&hf->config, "tie_word_embeddings", false, &hf->tied);
    return r == FM_OK ? qwen2_window(hf) : r;
}

const struct fm_family fm_family_llama = {
    .model_type = "llama", .keys = llama_keys, .arch = "llama", .rules = llama_rules, .n_rules = FM_COUNT(llama_rules),
    .ignored = ignored,
    .config = llama_config, .extra = llama_extra};

const struct fm_family fm_family_mistral = {
    .model_type = "mistral", .keys = mistral_keys, .arch = "llama", .rules = llama_rules, .n_rules = FM_COUNT(llama_rules),
    .ignored = ignored, .config = llama_config, .extra = llama_extra};

const struct fm_family fm_family_qwen2 = {
    .model_type = "qwen2", .keys = qwen2_keys, .arch = "qwen2", .rules = qwen2_rules, .n_rules = FM_COUNT(qwen2_rules), .ignored = ignored,
    .config = qwen2_config, .extra = fm_hf_rope_freqs};

// ---- Mamba in the Llama ---------------------------------------------------------------------------------------------

#define ATTENTION FM_R_KIND_A
#define MAMBA FM_R_KIND_B
#define IN_MAMBA(x) IN_LAYER("mamba." x)
#define HYBRID_LAYERS                                                                                                      \
    TOP, NORM("input_layernorm", "attn_norm"), MATRIX("self_attn.q_proj", "attn_q", FM_S_Q, FM_S_D, ATTENTION),             \
        MATRIX("self_attn.k_proj", "attn_k", FM_S_K, FM_S_D, ATTENTION),                                                   \
        MATRIX("self_attn.v_proj", "attn_v", FM_S_K, FM_S_D, ATTENTION),                                                   \
        MATRIX("self_attn.o_proj", "attn_output", FM_S_D, FM_S_Q, ATTENTION), FEED_FORWARD
#define HYBRID_OUT                                                                                                        \
    {.from = IN_MAMBA("out_proj.weight"), .to = BLK("ssm_out.weight"), .shape = {FM_S_D, FM_S_I}, .flags = FM_R_LAYER | MAMBA}

// Version 1 keeps its input projections apart; the file has them as rows z, x, B, C, dt_low of one.
static const struct fm_rule hybrid1_rules[] = {
    HYBRID_LAYERS,
    {.from = IN_MAMBA("in_proj_z.weight"), .to = BLK("ssm_in.weight"), .shape = {FM_S_I, FM_S_D}, .flags = FM_R_LAYER | MAMBA},
    {.from = IN_MAMBA("in_proj_x.weight"), .shape = {FM_S_X, FM_S_D}, .flags = FM_R_LAYER | MAMBA | FM_R_JOIN},
    {.from = IN_MAMBA("B_proj.weight"), .shape = {FM_S_X, FM_S_D}, .flags = FM_R_LAYER | MAMBA | FM_R_JOIN},
    {.from = IN_MAMBA("C_proj.weight"), .shape = {FM_S_I, FM_S_D}, .flags = FM_R_LAYER | MAMBA | FM_R_JOIN},
    {.from = IN_MAMBA("dt_proj_down.weight"), .shape = {FM_S_R, FM_S_D}, .flags = FM_R_LAYER | MAMBA | FM_R_JOIN},
    {.from = IN_MAMBA("conv1d.weight"), .to = BLK("ssm_conv1d.weight"), .shape = {FM_S_I, FM_S_1, FM_S_W},
     .flags = FM_R_LAYER | MAMBA},
    {.from = IN_MAMBA("conv1d.bias"), .to = BLK("ssm_conv1d.bias"), .shape = {FM_S_I}, .flags = FM_R_LAYER | MAMBA},
    {.from = IN_MAMBA("dt_proj.weight"), .to = BLK("ssm_dt.weight"), .shape = {FM_S_I, FM_S_R}, .flags = FM_R_LAYER | MAMBA},
    {.from = IN_MAMBA("dt_proj.bias"), .to = BLK("ssm_dt.bias"), .shape = {FM_S_I}, .flags = FM_R_LAYER | MAMBA},
    {.from = IN_MAMBA("A_log"), .to = BLK("ssm_a"), .shape = {FM_S_I, FM_S_N}, .flags = FM_R_LAYER | MAMBA | FM_R_NEG_EXP},
    {.from = IN_MAMBA("D"), .to = BLK("ssm_d"), .shape = {FM_S_I}, .flags = FM_R_LAYER | MAMBA},
    HYBRID_OUT,
};

static const struct fm_rule hybrid2_rules[] = {
    HYBRID_LAYERS,
    {.from = IN_MAMBA("in_proj.weight"), .to = BLK("ssm_in.weight"), .shape = {FM_S_IN, FM_S_D}, .flags = FM_R_LAYER | MAMBA},
    {.from = IN_MAMBA("conv1d.weight"), .to = BLK("ssm_conv1d.weight"), .shape = {FM_S_CH, FM_S_1, FM_S_W},
     .flags = FM_R_LAYER | MAMBA},
    {.from = IN_MAMBA("conv1d.bias"), .to = BLK("ssm_conv1d.bias"), .shape = {FM_S_CH}, .flags = FM_R_LAYER | MAMBA},
    {.from = IN_MAMBA("dt_bias"), .to = BLK("ssm_dt.bias"), .shape = {FM_S_H}, .flags = FM_R_LAYER | MAMBA},
    {.from = IN_MAMBA("A_log"), .to = BLK("ssm_a"), .shape = {FM_S_H}, .out = {FM_S_H, FM_S_1},
     .flags = FM_R_LAYER | MAMBA | FM_R_NEG_EXP},
    {.from = IN_MAMBA("D"), .to = BLK("ssm_d"), .shape = {FM_S_H}, .out = {FM_S_H, FM_S_1}, .flags = FM_R_LAYER | MAMBA},
    {.from = IN_MAMBA("norm.weight"), .to = BLK("ssm_norm.weight"), .shape = {FM_S_I}, .flags = FM_R_LAYER | MAMBA},
    HYBRID_OUT,
};

// attn_layers: the layers that stay attention.
static enum fm_result attention_layers(struct fm_hf *hf)
{
    uint32_t list[FM_HF_LAYERS_MAX], count = 0;
    const cJSON *layers, *item;
    enum fm_result r = fm_conf_array(&hf->hybrid, "attn_layers", true, &layers);
    if (r != FM_OK)
        return r;
    for (uint32_t i = 0; i < hf->n_layers; i++)
        hf->layer_kind[i] = MAMBA;
    cJSON_ArrayForEach(item, layers)
    {
        uint32_t layer;
        if (!fm_conf_whole(item, hf->n_layers - 1, &layer))
            return fm_fail(FM_FORMAT, "%s: 'attn_layers': expected whole numbers from 0 to %u", hf->hybrid.path,
                           hf->n_layers - 1);
        hf->layer_kind[layer] = ATTENTION;
    }
    for (uint32_t i = 0; i < hf->n_layers; i++)
        if (hf->layer_kind[i] == ATTENTION)
            list[count++] = i;
    fm_gguf_put_array(hf->conv->writer, "mambainllama.attention.layers", FM_GGUF_U32, list, count);
    return FM_OK;
}

// A whole number of mamba_config.json, or of its ssm_cfg.
static enum fm_result hybrid_size(const struct fm_hf *hf, const cJSON *object, const char *key, uint64_t fallback,
                                  uint64_t *out_size)
{
    const cJSON *item = fm_conf_get(&hf->hybrid, object, key);
    uint32_t value;
    if (item == NULL) {
        *out_size = fallback;
        return FM_OK;
    }
    if (!fm_conf_whole(item, FM_HF_SIZE_MAX, &value) || value == 0)
        return fm_fail(FM_FORMAT, "%s: '%s': expected a whole number from 1 to %u", hf->hybrid.path, key, FM_HF_SIZE_MAX);
    *out_size = value;
    return FM_OK;
}

static enum fm_result hybrid_shared(struct fm_hf *hf, const cJSON **out_ssm)
{
    uint64_t expand = 0, width = 0, ffn = 0, layers = 0, *size = hf->size;
    enum fm_result r;
    if ((r = fm_hf_llama_keys(hf)) != FM_OK || (r = attention_layers(hf)) != FM_OK ||
        (r = fm_conf_bool(&hf->config, "tie_word_embeddings", false, &hf->tied)) != FM_OK ||
        (r = fm_conf_object(&hf->hybrid, "ssm_cfg", false, out_ssm)) != FM_OK ||
        (r = hybrid_size(hf, NULL, "d_model", size[FM_S_D], &width)) != FM_OK ||
        (r = hybrid_size(hf, NULL, "intermediate_size", size[FM_S_F], &ffn)) != FM_OK ||
        (r = hybrid_size(hf, NULL, "n_layer", hf->n_layers, &layers)) != FM_OK ||
        (r = hybrid_size(hf, *out_ssm, "expand", 1, &expand)) != FM_OK ||
        (r = hybrid_size(hf, NULL, "d_inner", expand * width, &size[FM_S_I])) != FM_OK ||
        (r = hybrid_size(hf, NULL, "d_xb", size[FM_S_K], &size[FM_S_X])) != FM_OK ||
        (r = hybrid_size(hf, *out_ssm, "d_conv", 4, &size[FM_S_W])) != FM_OK)
        return r;
    if (width != size[FM_S_D] || ffn != size[FM_S_F] || layers != hf->n_layers)
        return fm_fail(FM_FORMAT, "%s: d_model %llu, intermediate_size %llu, n_layer %llu; config.json has %llu, %llu, %u",
                       hf->hybrid.path, (unsigned long long)width, (unsigned long long)ffn, (unsigned long long)layers,
                       (unsigned long long)size[FM_S_D], (unsigned long long)size[FM_S_F], hf->n_layers);
    if (size[FM_S_I] > FM_HF_SIZE_MAX || size[FM_S_I] % size[FM_S_X] != 0)
        return fm_fail(FM_FORMAT, "%s: d_inner is %llu, expected a multiple of d_xb, %llu", hf->hybrid.path,
                       (unsigned long long)size[FM_S_I], (unsigned long long)size[FM_S_X]);
    fm_hf_put_u32(hf, "ssm.conv_kernel", size[FM_S_W]);
    fm_hf_put_u32(hf, "ssm.inner_size", size[FM_S_I]);
    fm_hf_put_u32(hf, "ssm.xb_size", size[FM_S_X]);
    return FM_OK;
}

static enum fm_result hybrid1_config(struct fm_hf *hf)
{
    const cJSON *ssm = NULL;
    uint64_t *size = hf->size;
    enum fm_result r = hybrid_shared(hf, &ssm);
    if (r == FM_OK)
        r = hybrid_size(hf, ssm, "d_state", 16, &size[FM_S_N]);
    const cJSON *rank = r == FM_OK ? fm_conf_get(&hf->hybrid, ssm, "dt_rank") : NULL;
    if (r == FM_OK && (rank == NULL || !cJSON_IsString(rank)))
        r = hybrid_size(hf, ssm, "dt_rank", (size[FM_S_D] + 15) / 16, &size[FM_S_R]);
    else if (r == FM_OK)
        size[FM_S_R] = (size[FM_S_D] + 15) / 16; // "auto"
    if (r != FM_OK)
        return r;
    if (size[FM_S_X] % size[FM_S_N] != 0)
        return fm_fail(FM_FORMAT, "%s: d_xb is %llu, expected a multiple of the state size, %llu", hf->hybrid.path,
                       (unsigned long long)size[FM_S_X], (unsigned long long)size[FM_S_N]);
    fm_hf_put_u32(hf, "ssm.version", 1);
    fm_hf_put_u32(hf, "ssm.state_size", size[FM_S_N]);
    fm_hf_put_u32(hf, "ssm.time_step_rank", size[FM_S_R]);
    return FM_OK;
}

static enum fm_result hybrid2_config(struct fm_hf *hf)
{
    const cJSON *ssm = NULL;
    uint64_t *size = hf->size;
    enum fm_result r = hybrid_shared(hf, &ssm);
    if (r == FM_OK)
        r = hybrid_size(hf, ssm, "d_state", 128, &size[FM_S_N]);
    if (r == FM_OK)
        r = hybrid_size(hf, ssm, "ngroups", 1, &size[FM_S_H]);
    if (r != FM_OK)
        return r;
    if (size[FM_S_H] * size[FM_S_N] != size[FM_S_I] || size[FM_S_X] % size[FM_S_N] != 0)
        return fm_fail(FM_FORMAT, "%s: ngroups %llu of d_state %llu make no d_inner of %llu with d_xb of %llu", hf->hybrid.path,
                       (unsigned long long)size[FM_S_H], (unsigned long long)size[FM_S_N],
                       (unsigned long long)size[FM_S_I], (unsigned long long)size[FM_S_X]);
    size[FM_S_CH] = size[FM_S_I] + 2 * size[FM_S_X];
    size[FM_S_IN] = 2 * size[FM_S_I] + 2 * size[FM_S_X] + size[FM_S_H];
    fm_hf_put_u32(hf, "ssm.version", 2);
    fm_hf_put_u32(hf, "ssm.state_size", size[FM_S_N]);
    fm_hf_put_u32(hf, "ssm.time_step_rank", size[FM_S_H]);
    fm_hf_put_u32(hf, "ssm.group_count", size[FM_S_H]);
    return FM_OK;
}

const struct fm_family fm_family_mambainllama1 = {
    .model_type = "mambainllama", .keys = hybrid_keys, .arch = "mambainllama", .rules = hybrid1_rules, .n_rules = FM_COUNT(hybrid1_rules),
    .ignored = ignored, .config = hybrid1_config, .extra = fm_hf_rope_freqs};

const struct fm_family fm_family_mambainllama2 = {
    .model_type = "mambainllama", .keys = hybrid_keys, .arch = "mambainllama", .rules = hybrid2_rules, .n_rules = FM_COUNT(hybrid2_rules),
    .ignored = ignored, .config = hybrid2_config, .extra = fm_hf_rope_freqs};
