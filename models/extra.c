// SPDX-License-Identifier: MIT
// What a file says and its architecture does not read. Whatever could change the mathematics is refused by name, since a
// model that runs without it computes something else; the harmless rest is a short list with reasons.
#include "models/arch.h"

#include <math.h>
#include <stdio.h>

// ---- keys -----------------------------------------------------------------------------------------------------------

// A key under the architecture's name that it does not read, with a value that is not neutral, is refused when it is in one
// of these families or holds one of these words, else told.
static const char *const risky_families[] = {"attention.", "rope.", "ssm.", "altup.", "kda.", "wkv.", "shortconv."};
static const char *const risky_words[] = {
    "scale", "scaling", "cap", "rope", "rotary", "window", "norm", "bias", "expert", "moe", "factor", "mult", "clamp",
    "alibi", "causal", "pooling", "dense", "feed_forward", "nextn", "layer", "parallel", "epsilon", "sparsity",
    "temperature", "interval", "activation", "act_fn", "hidden_act", "deepstack", "classifier",
};
// Keys that multiply: 1 is neutral, too.
static const char *const factors[] = {"scale", "factor", "mult"};

// Keys that change nothing where they are not read.
static const struct {
    const char *key, *reason;
} harmless_keys[] = {
    {"attention.layer_norm_epsilon", "of a norm that the architecture does not have"},
    {"attention.layer_norm_rms_epsilon", "of a norm that the architecture does not have"},
    {"attention.group_norm_epsilon", "of a norm that the architecture does not have"},
    {"rope.scaling.finetuned", "how the model was trained"},
    {"rope.scaling.yarn_ext_factor", "of YaRN, which is refused by rope.scaling.type"},
    {"rope.scaling.yarn_attn_factor", "of YaRN"},
    {"rope.scaling.yarn_beta_fast", "of YaRN"},
    {"rope.scaling.yarn_beta_slow", "of YaRN"},
    {"rope.scaling.yarn_log_multiplier", "of YaRN"},
    {"tensor_data_layout", "tells of the order of the rows of q and k, which the architecture fixes"},
};

// What the value of a key may be besides 0, false, "none" and nothing.
enum neutral { NEUTRAL_TRUE, NEUTRAL_ONE, NEUTRAL_HEAD_SCALE, NEUTRAL_WINDOW, NEUTRAL_PATTERN };
static const struct {
    const char *key;
    enum neutral neutral;
} special_keys[] = {
    {"attention.causal", NEUTRAL_TRUE},
    {"attention.scale", NEUTRAL_HEAD_SCALE},            // 1 / sqrt(width of a head)
    {"attention.sliding_window", NEUTRAL_WINDOW},       // as long as the context
    {"attention.sliding_window_pattern", NEUTRAL_PATTERN}, // all layers, or there is no window
    {"interleave_moe_layer_step", NEUTRAL_ONE},
    {"full_attention_interval", NEUTRAL_ONE},           // every layer
    {"expert_gating_func", NEUTRAL_ONE},                // softmax, of no experts
};

static bool starts_with(struct fm_text text, const char *word, struct fm_text *out_rest)
{
    size_t bytes = strlen(word);
    if (text.bytes < bytes || memcmp(text.data, word, bytes) != 0)
        return false;
    *out_rest = (struct fm_text){.data = text.data + bytes, .bytes = text.bytes - bytes};
    return true;
}

static bool equals(struct fm_text text, const char *word)
{
    return text.bytes == strlen(word) && memcmp(text.data, word, (size_t)text.bytes) == 0;
}

static bool contains(struct fm_text text, const char *word)
{
    size_t bytes = strlen(word);
    for (uint64_t at = 0; at + bytes <= text.bytes; at++)
        if (memcmp(text.data + at, word, bytes) == 0)
            return true;
    return false;
}

static bool contains_any(struct fm_text text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (contains(text, words[i]))
            return true;
    return false;
}

static bool is_risky(struct fm_text rest)
{
    struct fm_text tail;
    for (size_t i = 0; i < FM_COUNT(risky_families); i++)
        if (starts_with(rest, risky_families[i], &tail))
            return true;
    return contains_any(rest, risky_words, FM_COUNT(risky_words));
}

// Is every element of the value `number`? False for text.
static bool all_are(const struct fm_meta *meta, double number)
{
    if (meta->elem_kind == FM_META_STRING)
        return false;
    for (uint64_t i = 0; i < meta->count; i++)
        if (fm_meta_float_at(meta, i) != number)
            return false;
    return true;
}

static bool is_nothing(const struct fm_meta *meta)
{
    if (meta->elem_kind != FM_META_STRING)
        return all_are(meta, 0);
    for (uint64_t i = 0; i < meta->count; i++)
        if (meta->texts[i].bytes > 0 && !equals(meta->texts[i], "none"))
            return false;
    return true;
}

static bool is_neutral(const struct fm_config *config, const struct fm_meta *meta, struct fm_text rest)
{
    double value = meta->kind == FM_META_ARRAY || meta->kind == FM_META_STRING ? NAN : fm_meta_float_at(meta, 0);
    size_t i = 0;
    while (i < FM_COUNT(special_keys) && !equals(rest, special_keys[i].key))
        i++;
    if (i < FM_COUNT(special_keys))
        switch (special_keys[i].neutral) {
        case NEUTRAL_TRUE: return value == 1;
        case NEUTRAL_ONE: return value == 0 || value == 1;
        case NEUTRAL_HEAD_SCALE: return value == 0 || fabs(value * sqrt((double)config->head) - 1) < 1e-5;
        case NEUTRAL_WINDOW: return value == 0 || value >= config->context;
        case NEUTRAL_PATTERN: return config->window == 0 || all_are(meta, 0) || (meta->kind == FM_META_ARRAY && all_are(meta, 1));
        }
    return is_nothing(meta) || (contains_any(rest, factors, FM_COUNT(factors)) && all_are(meta, 1));
}

// A value as it is told: a number, a text, or what it is.
static const char *value_text(const struct fm_meta *meta, char *out, size_t out_bytes)
{
    if (meta->kind == FM_META_ARRAY)
        snprintf(out, out_bytes, "an array of %llu", (unsigned long long)meta->count);
    else if (meta->kind == FM_META_STRING)
        snprintf(out, out_bytes, "'%s'", FM_QUOTE_TEXT(meta->texts[0]));
    else if (meta->kind == FM_META_BOOL)
        snprintf(out, out_bytes, "%s", fm_meta_int_at(meta, 0) ? "true" : "false");
    else
        snprintf(out, out_bytes, "%g", fm_meta_float_at(meta, 0));
    return out;
}

static bool is_read(const struct fm_arch *arch, struct fm_text rest)
{
    for (const char *const *key = arch->keys; *key; key++)
        if (equals(rest, *key))
            return true;
    return false;
}

// Why a key changes nothing, or NULL.
static const char *harmless_reason(struct fm_text rest)
{
    for (size_t i = 0; i < FM_COUNT(harmless_keys); i++)
        if (equals(rest, harmless_keys[i].key))
            return harmless_keys[i].reason;
    return NULL;
}

enum fm_result fm_extra_keys(const struct fm_arch *arch, const struct fm_config *config, const struct fm_file *file)
{
    char prefix[64], value[FM_QUOTE_BYTES + 8];
    snprintf(prefix, sizeof(prefix), "%s.", arch->name);
    for (uint32_t i = 0; i < fm_file_meta_count(file); i++) {
        const struct fm_meta *meta = fm_file_meta(file, i);
        struct fm_text rest = meta->key, tail;
        // Without a prefix, some writers' "rope.x" and "attention.x"; other first words are not about the graph.
        bool ours = starts_with(meta->key, prefix, &rest) || starts_with(meta->key, "rope.", &tail) ||
                    starts_with(meta->key, "attention.", &tail);
        if (!ours || is_read(arch, rest) || is_neutral(config, meta, rest))
            continue;
        const char *reason = harmless_reason(rest);
        if (reason == NULL && is_risky(rest))
            return fm_fail(FM_UNSUPPORTED, "%s: %s is %s: architecture %s does not apply this key, and would compute something else",
                           fm_file_path(file), FM_QUOTE_TEXT(meta->key), value_text(meta, value, sizeof(value)), arch->name);
        fm_log(reason != NULL ? FM_LOG_INFO : FM_LOG_WARN, "%s: %s is not used by architecture %s: %s", fm_file_path(file),
               FM_QUOTE_TEXT(meta->key), arch->name, reason != NULL ? reason : "it does not know it");
    }
    return FM_OK;
}

// ---- tensors --------------------------------------------------------------------------------------------------------

// Tensors that no text is computed with: beginnings and ends of names.
static const struct {
    const char *first, *last, *reason;
} harmless_tensors[] = {
    {"", "rotary_emb.inv_freq", "a buffer: the frequencies that rope.freq_base gives"},
    {"", "attn_rot_embd.weight", "the same, as older converters named it"},
    {"", "rope.freqs", "the same, as in the first checkpoints"},
    {"", ".attn.masked_bias", "a buffer: the score of a masked position"},
    {"blk.", ".attn.bias", "a buffer: the causal mask"},
    {"v.", "", "of a vision encoder, which text does not pass"},
    {"mm.", "", "of a projector of pictures or sounds"},
    {"a.", "", "of an audio encoder"},
    {"s.", "", "of a speech decoder"},
    {"mtp.", "", "of a head that drafts further tokens"},
};

const char *fm_extra_tensor_harmless(const char *name)
{
    size_t bytes = strlen(name);
    for (size_t i = 0; i < FM_COUNT(harmless_tensors); i++) {
        size_t first = strlen(harmless_tensors[i].first), last = strlen(harmless_tensors[i].last);
        if (bytes > first && bytes >= last && memcmp(name, harmless_tensors[i].first, first) == 0 &&
            memcmp(name + bytes - last, harmless_tensors[i].last, last) == 0)
            return harmless_tensors[i].reason;
    }
    return NULL;
}

struct found {
    const struct fm_file *file;
    const char *first; // that is not harmless
    uint32_t count;
};

static void on_unused(void *user, const struct fm_tensor *tensor)
{
    struct found *f = user;
    const char *reason = fm_extra_tensor_harmless(tensor->name);
    if (reason != NULL)
        fm_log(FM_LOG_INFO, "%s: tensor '%s' is not used: %s", fm_file_path(f->file), FM_QUOTE_Z(tensor->name), reason);
    else if (f->count++ == 0)
        f->first = tensor->name;
}

enum fm_result fm_extra_tensors(const struct fm_arch *arch, const struct fm_config *config, const struct fm_file *file)
{
    struct found f = {.file = file};
    char more[48] = "";
    enum fm_result r = fm_arch_unused(arch, config, file, on_unused, &f);
    if (r != FM_OK || f.count == 0)
        return r;
    if (f.count > 1)
        snprintf(more, sizeof(more), ", nor %u more", f.count - 1);
    return fm_fail(FM_UNSUPPORTED, "%s: tensor '%s' is not used by architecture %s%s: without it the model would compute something else",
                   fm_file_path(file), FM_QUOTE_Z(f.first), arch->name, more);
}
