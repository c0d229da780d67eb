// SPDX-License-Identifier: MIT
// Members of config.json that the family does not read. What could change the mathematics is refused by name unless its value
// is neutral: a model that runs without it computes something else.
#include <stdio.h>

#include "convert/hf.h"

// Members with one of these words in their name are about the mathematics; others are about training, tokenizers, saving.
static const char *const risky_words[] = {
    "scal", "multiplier", "factor", "cap", "clip", "clamp", "limit", "rope", "rotary", "ntk", "yarn", "logn", "position_embedding",
    "position_encoding", "pos_emb", "alibi", "window", "sliding", "chunk", "mask", "causal", "bidirectional", "norm", "bias",
    "expert", "moe", "_act", "act_fn", "activation", "layer_types", "qk_", "sparse", "parallel", "nextn", "attention_type",
    "attn_type", "logit", "temperature_tuning", "cross_attention", "sinks", "lora", "latent", "shared_", "_shared", "conv_",
    "gate_", "decay", "lrpe", "mup", "dim_model", "quantization",
};
// Words of members that multiply: 1 is neutral, too.
static const char *const factors[] = {"scale", "scaling", "multiplier", "factor", "ratio", "ntk_alpha"};

// Members that change nothing, or that only training looks at.
static const struct {
    const char *key, *reason;
} harmless[] = {
    {"rescale_prenorm_residual", "how weights are drawn before training"},
    {"initializer_factor", "how weights are drawn before training"},
    {"time_step_scale", "how weights are drawn before training"},
    {"logits_to_keep", "which logits a call returns"},
    {"output_router_logits", "what a call returns"},
    {"router_aux_loss_coef", "of the loss"},
    {"max_position_embeddings", "how long texts may be"},
    {"original_max_position_embeddings", "of a scaling of RoPE, which is read where there is one"},
    {"mask_token_id", "of the tokenizer"},
    {"chunk_size_feed_forward", "how much is computed at once"},
    {"sliding_window", "the class of this model_type does not look at it"},
    {"max_window_layers", "the class of this model_type does not look at it"},
    {"layer_norm_eps", "of a norm that the family does not have"},
    {"layer_norm_epsilon", "of a norm that the family does not have"},
    {"rms_norm_eps", "of a norm that the family does not have"},
    {"summary_activation", "of a classifier"},
    {"fused_add_norm", "how a kernel computes the same"},
    {"residual_in_fp32", "how exactly the same is computed"},
    {"use_parallel_lm_head", "how the same is computed on several devices"},
};

// Values that say what the architecture does anyway.
static const struct {
    const char *arch, *key, *value;
} as_built[] = {
    {"gpt2", "position_embedding_type", "absolute"},
    {"llama", "position_embedding_type", "rope"},
    {"llama", "position_embedding_type", "rotary"},
    {"qwen2", "position_embedding_type", "rope"},
    {"qwen2", "position_embedding_type", "rotary"},
};

// Members that are as usual when they are true.
static const char *const usually_true[] = {"causal", "is_causal", "rms_norm", NULL};

// Values that mean "as usual", beside null, false, 0, "", {} and [].
static const char *const usual_words[] = {"none", "default", "full_attention", "full"};

static bool has_word(const char *name, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strstr(name, words[i]) != NULL)
            return true;
    return false;
}

static bool is_listed(const char *name, const char *const *list)
{
    for (; list != NULL && *list != NULL; list++)
        if (strcmp(name, *list) == 0)
            return true;
    return false;
}

// Nothing, false, 0, a usual word, or 1 where the member multiplies. A list is neutral when all its values are: layer_types is one.
static bool is_neutral(const cJSON *item, bool factor)
{
    if (cJSON_IsNumber(item))
        return item->valuedouble == 0 || (factor && item->valuedouble == 1);
    if (cJSON_IsString(item)) {
        for (size_t i = 0; i < FM_COUNT(usual_words); i++)
            if (strcmp(item->valuestring, usual_words[i]) == 0)
                return true;
        return item->valuestring[0] == '\0';
    }
    if (cJSON_IsArray(item)) {
        const cJSON *child;
        cJSON_ArrayForEach(child, item) if (!is_neutral(child, factor)) return false;
        return true;
    }
    return cJSON_IsNull(item) || cJSON_IsFalse(item) || (cJSON_IsObject(item) && item->child == NULL);
}

static bool is_harmless(const char *name)
{
    for (size_t i = 0; i < FM_COUNT(harmless); i++)
        if (strcmp(name, harmless[i].key) == 0) {
            fm_log(FM_LOG_DEBUG, "config.json: '%s' is not used: %s", harmless[i].key, harmless[i].reason);
            return true;
        }
    return false;
}

static bool is_as_built(const char *arch, const cJSON *item)
{
    for (size_t i = 0; i < FM_COUNT(as_built); i++)
        if (strcmp(arch, as_built[i].arch) == 0 && strcmp(item->string, as_built[i].key) == 0 && cJSON_IsString(item) &&
            strcmp(item->valuestring, as_built[i].value) == 0)
            return true;
    return false;
}

// Does the member's value say that all is as usual? Null does for every member.
static bool is_usual(const char *arch, const cJSON *item)
{
    if (cJSON_IsNull(item) || is_as_built(arch, item))
        return true;
    if (is_listed(item->string, usually_true))
        return cJSON_IsTrue(item);
    return is_neutral(item, has_word(item->string, factors, FM_COUNT(factors)));
}

enum fm_result fm_hf_extra_keys(const struct fm_hf *hf)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, hf->config.root)
    {
        const char *name = item->string;
        if (is_listed(name, hf->family->keys) || !has_word(name, risky_words, FM_COUNT(risky_words)) || is_harmless(name) ||
            is_usual(hf->family->arch, item))
            continue;
        char *value = cJSON_PrintUnformatted(item);
        const char *shown = value != NULL ? FM_QUOTE_Z(value) : "set";
        enum fm_result r = fm_fail(FM_UNSUPPORTED, "%s: '%s' is %s: model_type '%s' is converted without it, and would compute "
                                   "something else", hf->config.path, FM_QUOTE_Z(name), shown, hf->family->model_type);
        cJSON_free(value);
        return r;
    }
    return FM_OK;
}
