// SPDX-License-Identifier: MIT
// Configuration keys that families share.
#include "convert/hf.h"

#include <math.h>
#include <stdio.h>

#define KEY_BYTES 128
#define PI 3.14159265358979323846

static const char *key_of(const struct fm_hf *hf, const char *key, char *buffer)
{
    snprintf(buffer, KEY_BYTES, "%s.%s", hf->family->arch, key);
    return buffer;
}

void fm_hf_put_u32(struct fm_hf *hf, const char *key, uint64_t value)
{
    char buffer[KEY_BYTES];
    fm_gguf_put_u32(hf->conv->writer, key_of(hf, key, buffer), (uint32_t)value);
}

void fm_hf_put_f32(struct fm_hf *hf, const char *key, double value)
{
    char buffer[KEY_BYTES];
    fm_gguf_put_f32(hf->conv->writer, key_of(hf, key, buffer), (float)value);
}

void fm_hf_put_bool(struct fm_hf *hf, const char *key, bool value)
{
    char buffer[KEY_BYTES];
    fm_gguf_put_bool(hf->conv->writer, key_of(hf, key, buffer), value);
}

void fm_hf_put_string(struct fm_hf *hf, const char *key, const char *value)
{
    char buffer[KEY_BYTES];
    fm_gguf_put_string(hf->conv->writer, key_of(hf, key, buffer), value);
}

enum fm_result fm_hf_size(const struct fm_hf *hf, const char *key, const char *other, uint64_t fallback, uint64_t *out_size)
{
    uint32_t size;
    const char *taken = other != NULL && fm_conf_get(&hf->config, NULL, key) == NULL &&
                                fm_conf_get(&hf->config, NULL, other) != NULL
                            ? other
                            : key;
    if (fallback > FM_HF_SIZE_MAX && fm_conf_get(&hf->config, NULL, taken) == NULL)
        return fm_fail(FM_FORMAT, "%s: '%s' comes to %llu, expected at most %u", hf->config.path, key,
                       (unsigned long long)fallback, FM_HF_SIZE_MAX);
    enum fm_result r = other != NULL ? fm_hf_same(hf, key, other) : FM_OK;
    if (r == FM_OK)
        r = fm_conf_u32(&hf->config, taken, fallback == 0, 1, FM_HF_SIZE_MAX, (uint32_t)fallback, &size);
    if (r == FM_OK)
        *out_size = size;
    return r;
}

enum fm_result fm_hf_refuse_true(const struct fm_hf *hf, const char *key)
{
    bool value;
    enum fm_result r = fm_conf_bool(&hf->config, key, false, &value);
    if (r == FM_OK && value)
        r = fm_fail(FM_UNSUPPORTED, "%s: '%s' is true, which is not supported for model_type '%s'", hf->config.path, key,
                    hf->family->model_type);
    return r;
}

enum fm_result fm_hf_expect_word(const struct fm_hf *hf, const char *key, const char *word, const char *other)
{
    const char *text;
    enum fm_result r = fm_conf_string(&hf->config, key, false, &text);
    if (r == FM_OK && text != NULL && strcmp(text, word) != 0 && strcmp(text, other) != 0)
        r = fm_fail(FM_UNSUPPORTED, "%s: '%s' is '%s', expected '%s'%s%s%s", hf->config.path, key, FM_QUOTE_Z(text), word,
                    strcmp(word, other) != 0 ? " or '" : "", strcmp(word, other) != 0 ? other : "",
                    strcmp(word, other) != 0 ? "'" : "");
    return r;
}

// ---- RoPE -----------------------------------------------------------------------------------------------------------

// Llama 3.1's scaling as divisors of the frequencies, one per pair.
static enum fm_result llama3(struct fm_hf *hf, const cJSON *scaling, const char *name, double theta)
{
    double factor, low, high, old;
    uint64_t head = hf->size[FM_S_C];
    enum fm_result r;
    if ((r = fm_conf_f64_of(&hf->config, scaling, name, "factor", true, 0, &factor)) != FM_OK ||
        (r = fm_conf_f64_of(&hf->config, scaling, name, "low_freq_factor", false, 1, &low)) != FM_OK ||
        (r = fm_conf_f64_of(&hf->config, scaling, name, "high_freq_factor", false, 4, &high)) != FM_OK ||
        (r = fm_conf_f64_of(&hf->config, scaling, name, "original_max_position_embeddings", false, 8192, &old)) != FM_OK)
        return r;
    if (!(factor > 0 && factor <= 1e6 && low > 0 && high > low && high <= 1e6 && old >= 1 && old <= 1e9))
        return fm_fail(FM_FORMAT, "%s: '%s': factor %g, low_freq_factor %g, high_freq_factor %g, old length %g make no ramp",
                       hf->config.path, name, factor, low, high, old);
    hf->rope_divisors = fm_arena_alloc(&hf->conv->arena, (size_t)(head / 2), sizeof(float));
    if (hf->rope_divisors == NULL)
        return fm_nomem();
    for (uint64_t m = 0; m < head / 2; m++) {
        double wave = 2 * PI * pow(theta, 2.0 * (double)m / (double)head), smooth = (old / wave - low) / (high - low);
        double divisor = wave < old / high ? 1 : wave > old / low ? factor : 1 / ((1 - smooth) / factor + smooth);
        hf->rope_divisors[m] = (float)divisor;
    }
    return FM_OK;
}

static enum fm_result scaling_of(struct fm_hf *hf, const cJSON *scaling, const char *name, double theta)
{
    double factor;
    enum fm_result r;
    const cJSON *type = fm_conf_get(&hf->config, scaling, "rope_type");
    if (!cJSON_IsString(type))
        return type == NULL && fm_conf_get(&hf->config, scaling, "factor") == NULL
                   ? FM_OK
                   : fm_fail(FM_FORMAT, "%s: '%srope_type' is missing or no string", hf->config.path, name);
    if (strcmp(type->valuestring, "default") == 0)
        return FM_OK;
    if (strcmp(type->valuestring, "llama3") == 0)
        return llama3(hf, scaling, name, theta);
    if (strcmp(type->valuestring, "linear") != 0)
        return fm_fail(FM_UNSUPPORTED, "%s: '%srope_type' is '%s', known are default, linear, llama3", hf->config.path,
                       name, FM_QUOTE_Z(type->valuestring));
    if ((r = fm_conf_f64_of(&hf->config, scaling, name, "factor", true, 0, &factor)) != FM_OK)
        return r;
    if (!(factor > 0 && factor <= 1e6))
        return fm_fail(FM_FORMAT, "%s: '%sfactor': expected a positive number, found %g", hf->config.path, name, factor);
    fm_hf_put_string(hf, "rope.scaling.type", "linear");
    fm_hf_put_f32(hf, "rope.scaling.factor", factor);
    return FM_OK;
}

static enum fm_result dual_chunk(struct fm_hf *hf)
{
    static const struct {
        const char *from, *to;
    } rows[] = {{"chunk_size", "attention.dual_chunk.chunk_size"},
                {"local_size", "attention.dual_chunk.local_size"},
                {"original_max_position_embeddings", "attention.dual_chunk.original_context_length"}};
    const cJSON *object;
    enum fm_result r = fm_conf_object(&hf->config, "dual_chunk_attention_config", false, &object);
    for (size_t i = 0; r == FM_OK && object != NULL && i < FM_COUNT(rows); i++) {
        const cJSON *item = fm_conf_get(&hf->config, object, rows[i].from);
        uint32_t value;
        if (item == NULL && i == 2)
            continue; // no scaling by length
        if (item == NULL || !fm_conf_whole(item, 1u << 30, &value) || value == 0)
            return fm_fail(FM_FORMAT, "%s: 'dual_chunk_attention_config.%s': expected a whole number from 1 to %u",
                           hf->config.path, rows[i].from, 1u << 30);
        fm_hf_put_u32(hf, rows[i].to, value);
    }
    return r;
}

static enum fm_result put_rope(struct fm_hf *hf, const cJSON *settings, const char *name)
{
    double theta, part;
    enum fm_result r;
    if ((r = fm_conf_f64_of(&hf->config, settings, name, "rope_theta", false, 10000, &theta)) != FM_OK ||
        (r = fm_conf_f64_of(&hf->config, settings, name, "partial_rotary_factor", false, 1, &part)) != FM_OK)
        return r;
    if (!(theta > 0 && theta <= 1e12))
        return fm_fail(FM_FORMAT, "%s: '%srope_theta': expected a number in (0, 1e12], found %g", hf->config.path, name, theta);
    if (part != 1)
        return fm_fail(FM_UNSUPPORTED, "%s: '%spartial_rotary_factor' is %g, expected 1", hf->config.path, name, part);
    fm_hf_put_f32(hf, "rope.freq_base", theta);
    return scaling_of(hf, settings, name, theta);
}

enum fm_result fm_hf_rope(struct fm_hf *hf)
{
    cJSON *settings;
    const char *name = fm_conf_get(&hf->config, NULL, "rope_parameters") != NULL ? "rope_parameters."
                       : fm_conf_get(&hf->config, NULL, "rope_scaling") != NULL  ? "rope_scaling."
                                                                                : "";
    enum fm_result r = fm_hf_rope_settings(hf, &settings);
    if (r != FM_OK)
        return r;
    r = put_rope(hf, settings, name);
    cJSON_Delete(settings);
    return r == FM_OK ? dual_chunk(hf) : r;
}

static double divisor_at(const struct fm_part *part, uint64_t index)
{
    return (double)part->values[index];
}

enum fm_result fm_hf_rope_freqs(struct fm_hf *hf)
{
    const uint64_t pairs = hf->size[FM_S_C] / 2;
    const struct fm_part part = {.rows = 1, .make = divisor_at, .values = hf->rope_divisors};
    return hf->rope_divisors == NULL ? FM_OK : fm_conv_add(hf->conv, "rope_freqs.weight", 1, &pairs, &part, 1);
}

// ---- Llama and relatives --------------------------------------------------------------------------------------------

enum fm_result fm_hf_llama_keys(struct fm_hf *hf)
{
    uint64_t layers = 0, heads = 0, heads_kv = 0, head = 0, *size = hf->size;
    double eps;
    enum fm_result r;
    if ((r = fm_hf_size(hf, "hidden_size", NULL, 0, &size[FM_S_D])) != FM_OK ||
        (r = fm_hf_size(hf, "intermediate_size", NULL, 0, &size[FM_S_F])) != FM_OK ||
        (r = fm_hf_size(hf, "num_hidden_layers", NULL, 0, &layers)) != FM_OK ||
        (r = fm_hf_size(hf, "num_attention_heads", NULL, 0, &heads)) != FM_OK ||
        (r = fm_hf_size(hf, "num_key_value_heads", NULL, heads, &heads_kv)) != FM_OK ||
        (r = fm_hf_size(hf, "vocab_size", NULL, 0, &size[FM_S_V])) != FM_OK ||
        (r = fm_hf_size(hf, "max_position_embeddings", NULL, 2048, &size[FM_S_P])) != FM_OK ||
        (r = fm_conf_f64(&hf->config, "rms_norm_eps", false, 1e-6, &eps)) != FM_OK ||
        (r = fm_hf_expect_word(hf, "hidden_act", "silu", "swish")) != FM_OK)
        return r;
    bool has_head = fm_conf_get(&hf->config, NULL, "head_dim") != NULL;
    if (heads % heads_kv != 0 || (!has_head && size[FM_S_D] % heads != 0))
        return fm_fail(FM_FORMAT, "%s: hidden_size %llu, num_attention_heads %llu, num_key_value_heads %llu do not divide",
                       hf->config.path, (unsigned long long)size[FM_S_D], (unsigned long long)heads,
                       (unsigned long long)heads_kv);
    if ((r = fm_hf_size(hf, "head_dim", NULL, FM_MAX(size[FM_S_D] / heads, (uint64_t)1), &head)) != FM_OK)
        return r;
    if (layers > FM_HF_LAYERS_MAX || head % 2 != 0 || heads * head > FM_HF_SIZE_MAX)
        return fm_fail(FM_UNSUPPORTED, "%s: %llu layers of %llu heads of %llu, expected at most %d layers and even heads",
                       hf->config.path, (unsigned long long)layers, (unsigned long long)heads,
                       (unsigned long long)head, FM_HF_LAYERS_MAX);
    hf->n_layers = (uint32_t)layers;
    hf->heads = (uint32_t)heads;
    hf->heads_kv = (uint32_t)heads_kv;
    size[FM_S_C] = head;
    size[FM_S_Q] = heads * head;
    size[FM_S_K] = heads_kv * head;
    fm_hf_put_u32(hf, "vocab_size", size[FM_S_V]);
    fm_hf_put_u32(hf, "context_length", size[FM_S_P]);
    fm_hf_put_u32(hf, "embedding_length", size[FM_S_D]);
    fm_hf_put_u32(hf, "block_count", layers);
    fm_hf_put_u32(hf, "feed_forward_length", size[FM_S_F]);
    fm_hf_put_u32(hf, "attention.head_count", heads);
    fm_hf_put_u32(hf, "attention.head_count_kv", heads_kv);
    fm_hf_put_u32(hf, "attention.key_length", head);
    fm_hf_put_u32(hf, "attention.value_length", head);
    fm_hf_put_u32(hf, "rope.dimension_count", head);
    fm_hf_put_f32(hf, "attention.layer_norm_rms_epsilon", eps);
    return fm_hf_rope(hf);
}
