// SPDX-License-Identifier: MIT
// Members of config.json that the family does not read. What could change the mathematics is refused by name unless its value
// is neutral: a model that runs without it computes something else.
#include <stdio.h>

#include "convert/hf.h"

// Members with one of these words in their name are about the mathematics; others are about training, tokenizers, saving.
static const char *const risky_words[] = {
    "scale", "scaling", "multiplier", "factor", "softcap", "clip", "clamp", "rope", "rotary", "window", "norm", "bias",
    "expert", "moe", "alibi", "causal", "_act", "act_fn", "activation", "layer_types", "qk_", "sparse", "parallel", "mrope",
    "nextn", "attention_type", "attn_type", "logit", "temperature_tuning", "cross_attention", "sinks",
    "lora", "latent", "shared_", "_shared", "conv_", "gate_", "decay", "lrpe",
};
// Words of members that multiply: 1 is neutral, too.
static const char *const factors[] = {"scale", "multiplier", "factor"};

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

// Scalars: nothing, false, 0, a usual word, or 1 of what multiplies. Lists: all of that, as layer_types may be.
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

enum fm_result fm_hf_extra_keys(const struct fm_hf *hf)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, hf->config.root)
    {
        const char *name = item->string;
        if (is_listed(name, hf->family->keys) || !has_word(name, risky_words, FM_COUNT(risky_words)) || is_harmless(name) ||
            (is_listed(name, usually_true) ? cJSON_IsTrue(item) : is_neutral(item, has_word(name, factors, FM_COUNT(factors)))))
            continue;
        char *value = cJSON_PrintUnformatted(item);
        enum fm_result r = fm_fail(FM_UNSUPPORTED, "%s: '%s' is %s: model_type '%s' is converted without it, and would compute "
                                   "something else", hf->config.path, FM_QUOTE_Z(name),
                                   value != NULL ? FM_QUOTE_Z(value) : "set", hf->family->model_type);
        cJSON_free(value);
        return r;
    }
    return FM_OK;
}
