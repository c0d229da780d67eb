// SPDX-License-Identifier: MIT
// Mamba, Falcon-Mamba and Mamba-2, from Hugging Face's configurations and from those of the authors (state-spaces).
// Hugging Face's defaults for mamba2 are those of one large model: sizes are never taken from them.
#include "convert/hf.h"

#include <math.h>

#define IN_LAYER(x) "backbone.layers.%u." x
#define BLK(x) "blk.%u." x
#define CONTEXT_LENGTH (1u << 20) // there is no limit; what GGUF files of these families say
#define NORM_EPS 1e-5             // a constant of the authors' code

#define TOP                                                                                                               \
    {.from = "backbone.embeddings.weight", .alias = "backbone.embedding.weight", .to = "token_embd.weight",                 \
     .shape = {FM_S_V, FM_S_D}},                                                                                          \
    {.from = "backbone.norm_f.weight", .to = "output_norm.weight", .shape = {FM_S_D}},                                      \
    {.from = "lm_head.weight", .to = "output.weight", .shape = {FM_S_V, FM_S_D}, .flags = FM_R_HEAD},                       \
    {.from = IN_LAYER("norm.weight"), .to = BLK("attn_norm.weight"), .shape = {FM_S_D}, .flags = FM_R_LAYER},               \
    {.from = IN_LAYER("mixer.out_proj.weight"), .to = BLK("ssm_out.weight"), .shape = {FM_S_D, FM_S_I}, .flags = FM_R_LAYER}

static const struct fm_rule mamba_rules[] = {
    TOP,
    {.from = IN_LAYER("mixer.in_proj.weight"), .to = BLK("ssm_in.weight"), .shape = {FM_S_IN, FM_S_D}, .flags = FM_R_LAYER},
    {.from = IN_LAYER("mixer.conv1d.weight"), .to = BLK("ssm_conv1d.weight"), .shape = {FM_S_I, FM_S_1, FM_S_W},
     .flags = FM_R_LAYER},
    {.from = IN_LAYER("mixer.conv1d.bias"), .to = BLK("ssm_conv1d.bias"), .shape = {FM_S_I}, .flags = FM_R_LAYER},
    {.from = IN_LAYER("mixer.x_proj.weight"), .to = BLK("ssm_x.weight"), .shape = {FM_S_X, FM_S_I}, .flags = FM_R_LAYER},
    {.from = IN_LAYER("mixer.dt_proj.weight"), .to = BLK("ssm_dt.weight"), .shape = {FM_S_I, FM_S_R}, .flags = FM_R_LAYER},
    {.from = IN_LAYER("mixer.dt_proj.bias"), .to = BLK("ssm_dt.bias"), .shape = {FM_S_I}, .flags = FM_R_LAYER},
    {.from = IN_LAYER("mixer.A_log"), .to = BLK("ssm_a"), .shape = {FM_S_I, FM_S_N}, .flags = FM_R_LAYER | FM_R_NEG_EXP},
    {.from = IN_LAYER("mixer.D"), .to = BLK("ssm_d"), .shape = {FM_S_I}, .flags = FM_R_LAYER},
};

static const struct fm_rule mamba2_rules[] = {
    TOP,
    {.from = IN_LAYER("mixer.in_proj.weight"), .to = BLK("ssm_in.weight"), .shape = {FM_S_IN, FM_S_D}, .flags = FM_R_LAYER},
    {.from = IN_LAYER("mixer.conv1d.weight"), .to = BLK("ssm_conv1d.weight"), .shape = {FM_S_CH, FM_S_1, FM_S_W},
     .flags = FM_R_LAYER},
    {.from = IN_LAYER("mixer.conv1d.bias"), .to = BLK("ssm_conv1d.bias"), .shape = {FM_S_CH}, .flags = FM_R_LAYER},
    {.from = IN_LAYER("mixer.dt_bias"), .to = BLK("ssm_dt.bias"), .shape = {FM_S_H}, .flags = FM_R_LAYER},
    {.from = IN_LAYER("mixer.A_log"), .to = BLK("ssm_a"), .shape = {FM_S_H}, .out = {FM_S_H, FM_S_1},
     .flags = FM_R_LAYER | FM_R_NEG_EXP},
    {.from = IN_LAYER("mixer.D"), .to = BLK("ssm_d"), .shape = {FM_S_H}, .out = {FM_S_H, FM_S_1}, .flags = FM_R_LAYER},
    {.from = IN_LAYER("mixer.norm.weight"), .to = BLK("ssm_norm.weight"), .shape = {FM_S_I}, .out = {FM_S_G, FM_S_IG},
     .flags = FM_R_LAYER},
};

static const char *const prefixes[] = {"", "model.", NULL};
static const char *const keys[] = {"layer_norm_epsilon", "use_bias", "use_conv_bias", "hidden_act", "mixer_rms_eps", "conv_kernel",
                                   NULL};
static const char *const keys2[] = {"layer_norm_epsilon", "use_bias", "use_conv_bias", "hidden_act", "conv_kernel", "rms_norm",
                                    "norm_before_gate", "time_step_limit", "chunk_size", NULL};

// What Mamba-1 and Mamba-2 both put, from sizes that are set.
static enum fm_result put_shared(struct fm_hf *hf, uint64_t layers, double eps)
{
    const uint64_t *size = hf->size;
    if (layers > FM_HF_LAYERS_MAX || size[FM_S_I] == 0 || size[FM_S_I] > FM_HF_SIZE_MAX / 4)
        return fm_fail(FM_FORMAT, "%s: %llu layers with an inner width of %llu, expected at most %d and %u", hf->config.path,
                       (unsigned long long)layers, (unsigned long long)size[FM_S_I], FM_HF_LAYERS_MAX, FM_HF_SIZE_MAX / 4);
    hf->n_layers = (uint32_t)layers;
    fm_hf_put_u32(hf, "context_length", CONTEXT_LENGTH);
    fm_hf_put_u32(hf, "embedding_length", size[FM_S_D]);
    fm_hf_put_u32(hf, "feed_forward_length", 0);
    fm_hf_put_u32(hf, "attention.head_count", 0);
    fm_hf_put_u32(hf, "block_count", layers);
    fm_hf_put_u32(hf, "ssm.conv_kernel", size[FM_S_W]);
    fm_hf_put_u32(hf, "ssm.inner_size", size[FM_S_I]);
    fm_hf_put_u32(hf, "ssm.state_size", size[FM_S_N]);
    fm_hf_put_f32(hf, "attention.layer_norm_rms_epsilon", eps);
    return FM_OK;
}

static enum fm_result put_mamba(struct fm_hf *hf, uint64_t layers, double eps, bool normed)
{
    uint64_t *size = hf->size;
    enum fm_result r = put_shared(hf, layers, eps);
    if (r != FM_OK)
        return r;
    size[FM_S_IN] = 2 * size[FM_S_I];
    size[FM_S_X] = size[FM_S_R] + 2 * size[FM_S_N];
    fm_hf_put_u32(hf, "ssm.time_step_rank", size[FM_S_R]);
    fm_hf_put_bool(hf, "ssm.dt_b_c_rms", normed);
    return FM_OK;
}

// size[H]: heads of the state.
static enum fm_result put_mamba2(struct fm_hf *hf, uint64_t layers, double eps)
{
    uint64_t *size = hf->size;
    enum fm_result r = put_shared(hf, layers, eps);
    if (r != FM_OK)
        return r;
    if (size[FM_S_I] % size[FM_S_H] != 0 || size[FM_S_H] % size[FM_S_G] != 0)
        return fm_fail(FM_FORMAT, "%s: %llu heads in %llu groups do not divide the inner width of %llu", hf->config.path,
                       (unsigned long long)size[FM_S_H], (unsigned long long)size[FM_S_G],
                       (unsigned long long)size[FM_S_I]);
    size[FM_S_IG] = size[FM_S_I] / size[FM_S_G];
    size[FM_S_CH] = size[FM_S_I] + 2 * size[FM_S_G] * size[FM_S_N];
    size[FM_S_IN] = size[FM_S_CH] + size[FM_S_I] + size[FM_S_H];
    fm_hf_put_u32(hf, "ssm.time_step_rank", size[FM_S_H]); // so it is called in GGUF
    fm_hf_put_u32(hf, "ssm.group_count", size[FM_S_G]);
    return FM_OK;
}

// ---- Hugging Face ---------------------------------------------------------------------------------------------------

// A key that must not be false.
static enum fm_result expect_true(const struct fm_hf *hf, const char *key)
{
    bool value;
    enum fm_result r = fm_conf_bool(&hf->config, key, true, &value);
    if (r == FM_OK && !value)
        r = fm_fail(FM_UNSUPPORTED, "%s: '%s' is false, expected true", hf->config.path, key);
    return r;
}

static enum fm_result hf_shared(struct fm_hf *hf, uint64_t *out_layers, double *out_eps)
{
    uint64_t *size = hf->size, expand;
    enum fm_result r;
    if ((r = fm_hf_size(hf, "hidden_size", "d_model", 0, &size[FM_S_D])) != FM_OK ||
        (r = fm_hf_size(hf, "num_hidden_layers", "n_layer", 0, out_layers)) != FM_OK ||
        (r = fm_hf_size(hf, "vocab_size", NULL, 0, &size[FM_S_V])) != FM_OK ||
        (r = fm_hf_size(hf, "state_size", "d_state", 0, &size[FM_S_N])) != FM_OK ||
        (r = fm_hf_size(hf, "conv_kernel", "d_conv", 4, &size[FM_S_W])) != FM_OK ||
        (r = fm_hf_size(hf, "expand", NULL, 2, &expand)) != FM_OK ||
        // Falcon-Mamba's `expand` is wrong: the explicit width counts.
        (r = fm_hf_size(hf, "intermediate_size", "d_inner", expand * size[FM_S_D], &size[FM_S_I])) != FM_OK ||
        (r = fm_conf_f64(&hf->config, "layer_norm_epsilon", false, NORM_EPS, out_eps)) != FM_OK ||
        (r = fm_hf_refuse_true(hf, "use_bias")) != FM_OK || (r = expect_true(hf, "use_conv_bias")) != FM_OK ||
        (r = fm_hf_expect_word(hf, "hidden_act", "silu", "swish")) != FM_OK)
        return r;
    return FM_OK;
}

// Widths that may be a word: "auto" is the fallback.
static enum fm_result size_or_auto(const struct fm_hf *hf, const char *key, uint64_t fallback, uint64_t *out_size)
{
    const cJSON *item = fm_conf_get(&hf->config, NULL, key);
    if (item == NULL || (cJSON_IsString(item) && strcmp(item->valuestring, "auto") == 0)) {
        *out_size = fallback;
        return FM_OK;
    }
    return fm_hf_size(hf, key, NULL, 0, out_size);
}

static enum fm_result mamba_config(struct fm_hf *hf)
{
    uint64_t layers;
    double eps, mixer_eps;
    bool falcon = hf->family == &fm_family_falcon_mamba;
    enum fm_result r;
    if ((r = hf_shared(hf, &layers, &eps)) != FM_OK ||
        (r = size_or_auto(hf, "time_step_rank", (hf->size[FM_S_D] + 15) / 16, &hf->size[FM_S_R])) != FM_OK ||
        (r = fm_conf_bool(&hf->config, "tie_word_embeddings", true, &hf->tied)) != FM_OK ||
        (r = fm_conf_f64(&hf->config, "mixer_rms_eps", false, 1e-6, &mixer_eps)) != FM_OK)
        return r;
    if (falcon) // a key of ours: others take the epsilon of the layers for these norms too
        fm_hf_put_f32(hf, "ssm.dt_b_c_rms_epsilon", mixer_eps);
    return put_mamba(hf, layers, eps, falcon);
}

// A number, or what newer writers put for one that JSON does not know: {"__float__": "Infinity"}.
static bool number_of(const cJSON *item, double *out_value)
{
    const cJSON *word = cJSON_IsObject(item) ? cJSON_GetObjectItemCaseSensitive(item, "__float__") : NULL;
    if (cJSON_IsNumber(item))
        *out_value = item->valuedouble;
    else if (word != NULL && cJSON_IsString(word) && strcmp(word->valuestring, "Infinity") == 0)
        *out_value = INFINITY;
    else
        return false;
    return true;
}

// Clamped time steps have no place in GGUF.
static enum fm_result refuse_limits(const struct fm_hf *hf)
{
    const cJSON *limit;
    enum fm_result r = fm_conf_array(&hf->config, "time_step_limit", false, &limit);
    if (r != FM_OK || limit == NULL)
        return r;
    double low, high;
    if (cJSON_GetArraySize(limit) != 2 || !number_of(cJSON_GetArrayItem(limit, 0), &low) ||
        !number_of(cJSON_GetArrayItem(limit, 1), &high))
        return fm_fail(FM_FORMAT, "%s: 'time_step_limit': expected two numbers", hf->config.path);
    if (low > 0 || isfinite(high))
        return fm_fail(FM_UNSUPPORTED, "%s: 'time_step_limit' is [%g, %g], expected [0, Infinity]", hf->config.path, low,
                       high);
    return FM_OK;
}

static enum fm_result mamba2_config(struct fm_hf *hf)
{
    uint64_t layers, head, *size = hf->size;
    double eps;
    enum fm_result r;
    if ((r = hf_shared(hf, &layers, &eps)) != FM_OK || (r = fm_hf_size(hf, "head_dim", "headdim", 64, &head)) != FM_OK ||
        (r = fm_hf_size(hf, "num_heads", NULL, FM_MAX(size[FM_S_I] / head, (uint64_t)1), &size[FM_S_H])) != FM_OK ||
        (r = fm_hf_size(hf, "n_groups", "ngroups", 1, &size[FM_S_G])) != FM_OK || (r = expect_true(hf, "rms_norm")) != FM_OK ||
        (r = fm_hf_refuse_true(hf, "norm_before_gate")) != FM_OK || (r = refuse_limits(hf)) != FM_OK ||
        (r = fm_conf_bool(&hf->config, "tie_word_embeddings", false, &hf->tied)) != FM_OK)
        return r;
    if (size[FM_S_H] * head != size[FM_S_I])
        return fm_fail(FM_FORMAT, "%s: %llu heads of %llu make no inner width of %llu", hf->config.path,
                       (unsigned long long)size[FM_S_H], (unsigned long long)head, (unsigned long long)size[FM_S_I]);
    return put_mamba2(hf, layers, eps);
}

// ---- state-spaces ---------------------------------------------------------------------------------------------------

// A whole number of ssm_cfg.
static enum fm_result ssm_size(const struct fm_hf *hf, const cJSON *ssm, const char *key, uint64_t fallback, uint64_t *out_size)
{
    const cJSON *item = ssm != NULL ? fm_conf_get(&hf->config, ssm, key) : NULL;
    uint32_t value;
    *out_size = fallback;
    if (item == NULL || (cJSON_IsString(item) && strcmp(item->valuestring, "auto") == 0))
        return FM_OK;
    if (!fm_conf_whole(item, FM_HF_SIZE_MAX, &value) || value == 0)
        return fm_fail(FM_FORMAT, "%s: 'ssm_cfg.%s': expected a whole number from 1 to %u", hf->config.path, key, FM_HF_SIZE_MAX);
    *out_size = value;
    return FM_OK;
}

// What these models do not have, but the configuration could ask for.
static enum fm_result ssm_refuse(const struct fm_hf *hf, const cJSON *ssm)
{
    static const struct {
        const char *key;
        bool expected;
    } flags[] = {{"bias", false}, {"conv_bias", true}, {"rmsnorm", true}, {"norm_before_gate", false}, {"D_has_hdim", false}};
    const cJSON *layers;
    uint32_t ffn;
    enum fm_result r = fm_conf_array(&hf->config, "attn_layer_idx", false, &layers);
    if (r == FM_OK)
        r = fm_conf_u32(&hf->config, "d_intermediate", false, 0, FM_HF_SIZE_MAX, 0, &ffn);
    if (r == FM_OK)
        r = expect_true(hf, "rms_norm");
    if (r != FM_OK)
        return r;
    if (layers != NULL && layers->child != NULL)
        return fm_fail(FM_UNSUPPORTED, "%s: 'attn_layer_idx' is not empty: these hybrids are not supported", hf->config.path);
    if (ffn != 0)
        return fm_fail(FM_UNSUPPORTED, "%s: 'd_intermediate' is %u, expected 0", hf->config.path, ffn);
    for (size_t i = 0; ssm != NULL && i < FM_COUNT(flags); i++) {
        const cJSON *item = fm_conf_get(&hf->config, ssm, flags[i].key);
        if (item != NULL && (!cJSON_IsBool(item) || cJSON_IsTrue(item) != flags[i].expected))
            return fm_fail(FM_UNSUPPORTED, "%s: 'ssm_cfg.%s': expected %s", hf->config.path, flags[i].key,
                           flags[i].expected ? "true" : "false");
    }
    return FM_OK;
}

static enum fm_result ssm_shared(struct fm_hf *hf, uint64_t state, uint64_t multiple, const cJSON **out_ssm, uint64_t *out_layers)
{
    uint64_t *size = hf->size, expand, pad;
    enum fm_result r;
    if ((r = fm_conf_object(&hf->config, "ssm_cfg", false, out_ssm)) != FM_OK || (r = ssm_refuse(hf, *out_ssm)) != FM_OK ||
        (r = fm_hf_size(hf, "d_model", NULL, 0, &size[FM_S_D])) != FM_OK ||
        (r = fm_hf_size(hf, "n_layer", NULL, 0, out_layers)) != FM_OK ||
        (r = fm_hf_size(hf, "vocab_size", NULL, 0, &size[FM_S_V])) != FM_OK ||
        (r = fm_hf_size(hf, "pad_vocab_size_multiple", NULL, multiple, &pad)) != FM_OK ||
        (r = ssm_size(hf, *out_ssm, "d_state", state, &size[FM_S_N])) != FM_OK ||
        (r = ssm_size(hf, *out_ssm, "d_conv", 4, &size[FM_S_W])) != FM_OK ||
        (r = ssm_size(hf, *out_ssm, "expand", 2, &expand)) != FM_OK ||
        (r = fm_conf_bool(&hf->config, "tie_embeddings", true, &hf->tied)) != FM_OK)
        return r;
    size[FM_S_I] = expand * size[FM_S_D];
    size[FM_S_V] = (size[FM_S_V] + pad - 1) / pad * pad; // the table has as many rows
    return FM_OK;
}

static enum fm_result mamba_ssm_config(struct fm_hf *hf)
{
    const cJSON *ssm = NULL;
    uint64_t layers = 0;
    enum fm_result r = ssm_shared(hf, 16, 8, &ssm, &layers);
    if (r == FM_OK)
        r = ssm_size(hf, ssm, "dt_rank", (hf->size[FM_S_D] + 15) / 16, &hf->size[FM_S_R]);
    return r == FM_OK ? put_mamba(hf, layers, NORM_EPS, false) : r;
}

static enum fm_result mamba2_ssm_config(struct fm_hf *hf)
{
    const cJSON *ssm = NULL;
    uint64_t layers = 0, head = 64;
    enum fm_result r = ssm_shared(hf, 128, 8, &ssm, &layers);
    if (r == FM_OK)
        r = ssm_size(hf, ssm, "headdim", 64, &head);
    if (r == FM_OK)
        r = ssm_size(hf, ssm, "ngroups", 1, &hf->size[FM_S_G]);
    if (r == FM_OK && (hf->size[FM_S_I] == 0 || hf->size[FM_S_I] % head != 0))
        r = fm_fail(FM_FORMAT, "%s: 'ssm_cfg.headdim' is %llu, which does not divide the inner width of %llu", hf->config.path,
                    (unsigned long long)head, (unsigned long long)hf->size[FM_S_I]);
    if (r != FM_OK)
        return r;
    hf->size[FM_S_H] = hf->size[FM_S_I] / head;
    return put_mamba2(hf, layers, NORM_EPS);
}

#define MAMBA(type, fn) \
    {.model_type = type, .arch = "mamba", .rules = mamba_rules, .n_rules = FM_COUNT(mamba_rules), .prefixes = prefixes, \
     .keys = keys, .config = fn}
#define MAMBA2(type, fn) \
    {.model_type = type, .arch = "mamba2", .rules = mamba2_rules, .n_rules = FM_COUNT(mamba2_rules), .prefixes = prefixes, \
     .keys = keys2, .config = fn}

const struct fm_family fm_family_mamba = MAMBA("mamba", mamba_config);
const struct fm_family fm_family_falcon_mamba = MAMBA("falcon_mamba", mamba_config);
const struct fm_family fm_family_mamba_ssm = MAMBA("mamba_ssm", mamba_ssm_config);
const struct fm_family fm_family_mamba2 = MAMBA2("mamba2", mamba2_config);
const struct fm_family fm_family_mamba2_ssm = MAMBA2("mamba2_ssm", mamba2_ssm_config);
