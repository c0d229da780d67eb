// SPDX-License-Identifier: MIT
// Metadata keys that several architectures share, range-checked before anything is allocated from them.
#include "models/arch.h"

#include <math.h>
#include <stdio.h>

#define KEY_BYTES 128
#define MAX_WIDTH (1u << 24)
#define MAX_CONTEXT (1u << 30)
#define MAX_CONV 8u
#define MAX_STATE 1024u
#define TOKEN_TYPE_UNUSED 5

static const char *key_of(const char *arch, const char *name, char *out)
{
    snprintf(out, KEY_BYTES, "%s.%s", arch, name);
    return out;
}

enum fm_result fm_keys_size(const struct fm_file *file, const char *arch, const char *name, uint32_t max,
                               uint32_t fallback, uint32_t *out_value)
{
    char key[KEY_BYTES];
    return fm_meta_u32(file, key_of(arch, name, key), fallback == 0, 1, max, fallback, out_value);
}

enum fm_result fm_keys_positive(const struct fm_file *file, const char *arch, const char *name, double fallback,
                                double *out_value)
{
    char key[KEY_BYTES];
    float value = 0;
    bool required = isnan(fallback);
    key_of(arch, name, key);
    if (!required && !fm_file_meta_find(file, key)) {
        *out_value = fallback;
        return FM_OK;
    }
    enum fm_result r = fm_meta_f32(file, key, required, 0, &value);
    if (r != FM_OK)
        return r;
    if (!(value > 0 && value <= 1e12f))
        return fm_fail(FM_FORMAT, "%s: %s is %g, expected a positive number", fm_file_path(file), key, (double)value);
    *out_value = (double)value;
    return FM_OK;
}

// Rows of the embedding table, and how many of them the tokenizer uses: converters pad the list with tokens of type
// "unused".
static enum fm_result vocabulary(const struct fm_file *file, const char *arch, struct fm_config *config)
{
    char key[KEY_BYTES];
    const struct fm_tensor *table = fm_file_find(file, "token_embd.weight");
    if (!table)
        return fm_fail(FM_FORMAT, "%s: tensor 'token_embd.weight' is missing", fm_file_path(file));
    if (table->n_dims != 2 || table->dims[0] > MAX_WIDTH || table->dims[0] == 0)
        return fm_fail(FM_FORMAT,
                       "%s: tensor 'token_embd.weight' has %u dimensions and %llu rows, expected 2 and at most %u",
                       fm_file_path(file), table->n_dims, (unsigned long long)table->dims[0], MAX_WIDTH);
    uint32_t rows = (uint32_t)table->dims[0], said = rows;
    enum fm_result r = fm_meta_u32(file, key_of(arch, "vocab_size", key), false, 1, UINT32_MAX, rows, &said);
    if (r != FM_OK)
        return r;
    if (said != rows)
        fm_log(FM_LOG_WARN, "%s: %s is %u, but token_embd.weight has %u rows, which counts", fm_file_path(file), key,
               said, rows);
    config->vocab = config->vocab_real = rows;
    const struct fm_meta *tokens = fm_file_meta_find(file, "tokenizer.ggml.tokens");
    if (!tokens || tokens->kind != FM_META_ARRAY || tokens->count == 0)
        return FM_OK;
    if (tokens->count > rows)
        return fm_fail(FM_FORMAT, "%s: tokenizer.ggml.tokens has %llu entries, token_embd.weight only %u rows",
                       fm_file_path(file), (unsigned long long)tokens->count, rows);
    uint32_t real = (uint32_t)tokens->count;
    const struct fm_meta *types = fm_file_meta_find(file, "tokenizer.ggml.token_type");
    bool typed = types && types->kind == FM_META_ARRAY && types->count == tokens->count &&
                 (types->elem_kind == FM_META_INT || types->elem_kind == FM_META_UINT);
    while (typed && real > 1 && fm_meta_int_at(types, real - 1) == TOKEN_TYPE_UNUSED)
        real--;
    config->vocab_real = real;
    return FM_OK;
}

enum fm_result fm_keys_recurrent(const struct fm_file *file, const char *arch, struct fm_config *config)
{
    enum fm_result r;
    if ((r = fm_keys_size(file, arch, "block_count", FM_MAX_LAYERS, 0, &config->n_layers)) != FM_OK ||
        (r = fm_keys_size(file, arch, "embedding_length", MAX_WIDTH, 0, &config->width)) != FM_OK ||
        (r = fm_keys_size(file, arch, "context_length", MAX_CONTEXT, 0, &config->context)) != FM_OK)
        return r;
    config->tied = !fm_file_find(file, "output.weight");
    return vocabulary(file, arch, config);
}

enum fm_result fm_keys_ssm(const struct fm_file *file, const char *arch, struct fm_config *config)
{
    enum fm_result r;
    if ((r = fm_keys_size(file, arch, "ssm.conv_kernel", MAX_CONV, 0, &config->conv)) != FM_OK ||
        (r = fm_keys_size(file, arch, "ssm.inner_size", MAX_WIDTH, 0, &config->inner)) != FM_OK ||
        (r = fm_keys_size(file, arch, "ssm.state_size", MAX_STATE, 0, &config->state)) != FM_OK ||
        (r = fm_keys_size(file, arch, "ssm.time_step_rank", MAX_WIDTH, 0, &config->dt_rank)) != FM_OK)
        return r;
    if (config->conv < 2)
        return fm_fail(FM_UNSUPPORTED, "%s: %s.ssm.conv_kernel is 1, expected 2 to %u", fm_file_path(file), arch, MAX_CONV);
    return FM_OK;
}

enum fm_result fm_keys_dual_chunk(const struct fm_file *file, const char *arch, struct fm_config *config)
{
    char key[KEY_BYTES];
    uint32_t local = 0;
    enum fm_result r;
    if (!fm_file_meta_find(file, key_of(arch, "attention.dual_chunk.chunk_size", key)))
        return FM_OK;
    if ((r = fm_keys_size(file, arch, "attention.dual_chunk.chunk_size", MAX_CONTEXT, 0, &config->cap)) != FM_OK ||
        (r = fm_keys_size(file, arch, "attention.dual_chunk.local_size", MAX_CONTEXT, 0, &local)) != FM_OK ||
        (r = fm_meta_u32(file, key_of(arch, "attention.dual_chunk.original_context_length", key), false, 0, MAX_CONTEXT, 0,
                         &config->original)) != FM_OK)
        return r;
    if (local >= config->cap)
        return fm_fail(FM_FORMAT, "%s: %s.attention.dual_chunk.local_size is %u, expected less than chunk_size, %u",
                       fm_file_path(file), arch, local, config->cap);
    config->chunk = config->cap - local;
    return FM_OK;
}

enum fm_result fm_keys_decoder(const struct fm_file *file, const char *arch, struct fm_config *config)
{
    char key[KEY_BYTES];
    uint32_t value_length, experts;
    enum fm_result r;
    if ((r = fm_keys_size(file, arch, "block_count", FM_MAX_LAYERS, 0, &config->n_layers)) != FM_OK ||
        (r = fm_keys_size(file, arch, "embedding_length", MAX_WIDTH, 0, &config->width)) != FM_OK ||
        (r = fm_keys_size(file, arch, "feed_forward_length", MAX_WIDTH, 0, &config->ffn)) != FM_OK ||
        (r = fm_keys_size(file, arch, "context_length", MAX_CONTEXT, 0, &config->context)) != FM_OK ||
        (r = fm_keys_size(file, arch, "attention.head_count", MAX_WIDTH, 0, &config->heads)) != FM_OK ||
        (r = fm_keys_size(file, arch, "attention.head_count_kv", MAX_WIDTH, config->heads, &config->heads_kv)) != FM_OK)
        return r;
    if (config->heads % config->heads_kv != 0)
        return fm_fail(FM_FORMAT, "%s: %s.attention.head_count is %u, expected a multiple of head_count_kv, %u",
                       fm_file_path(file), arch, config->heads, config->heads_kv);
    uint32_t head = config->width / config->heads;
    if (!fm_file_meta_find(file, key_of(arch, "attention.key_length", key)) && head * config->heads != config->width)
        return fm_fail(
            FM_FORMAT,
            "%s: %s.embedding_length is %u, expected a multiple of attention.head_count, %u, where there is no %s",
            fm_file_path(file), arch, config->width, config->heads, key);
    if ((r = fm_keys_size(file, arch, "attention.key_length", 1u << 16, head, &config->head)) != FM_OK ||
        (r = fm_keys_size(file, arch, "attention.value_length", 1u << 16, config->head, &value_length)) != FM_OK ||
        (r = fm_meta_u32(file, key_of(arch, "expert_count", key), false, 0, UINT32_MAX, 0, &experts)) != FM_OK)
        return r;
    if (experts != 0)
        return fm_fail(FM_UNSUPPORTED, "%s: %s is %u: mixtures of experts are not supported", fm_file_path(file), key,
                       experts);
    if (value_length != config->head)
        return fm_fail(FM_UNSUPPORTED, "%s: %s.attention.value_length is %u, expected key_length, %u",
                       fm_file_path(file), arch, value_length, config->head);
    if ((uint64_t)config->heads * config->head > MAX_WIDTH)
        return fm_fail(FM_FORMAT, "%s: %u heads of %u elements, expected at most %u in all", fm_file_path(file),
                       config->heads, config->head, MAX_WIDTH);
    config->tied = !fm_file_find(file, "output.weight");
    return vocabulary(file, arch, config);
}

// --- RoPE ----------------------------------------------------------------------------------------------------------

// Llama 3.1's scaling ("llama3" in Hugging Face configurations): long waves slowed by `factor`, short ones kept, a ramp
// between.
static enum fm_result llama3_divisors(const struct fm_file *file, const char *arch, const struct fm_config *config,
                                      double *divisors)
{
    double factor, low, high;
    uint32_t old;
    enum fm_result r;
    if ((r = fm_keys_positive(file, arch, "rope.scaling.factor", NAN, &factor)) != FM_OK ||
        (r = fm_keys_size(file, arch, "rope.scaling.original_context_length", MAX_CONTEXT, 8192, &old)) != FM_OK ||
        (r = fm_keys_positive(file, arch, "rope.scaling.low_freq_factor", 1, &low)) != FM_OK ||
        (r = fm_keys_positive(file, arch, "rope.scaling.high_freq_factor", 4, &high)) != FM_OK)
        return r;
    if (!(high > low))
        return fm_fail(FM_FORMAT, "%s: %s.rope.scaling.high_freq_factor is %g, expected more than low_freq_factor, %g",
                       fm_file_path(file), arch, high, low);
    for (uint32_t m = 0; m < config->rotated / 2; m++) {
        double f = pow(config->rope_base, -2.0 * m / config->rotated), wave = 2 * 3.14159265358979323846 / f;
        double smooth = (old / wave - low) / (high - low);
        if (wave < old / high)
            divisors[m] = 1;
        else if (wave > old / low)
            divisors[m] = factor;
        else
            divisors[m] = 1 / ((1 - smooth) / factor + smooth);
    }
    return FM_OK;
}

// The tensor rope_freqs.weight [R]: one divisor per pair.
static enum fm_result tensor_divisors(const struct fm_file *file, const struct fm_tensor *tensor, uint32_t pairs,
                                      double *divisors)
{
    if (tensor->type != FM_TYPE_F32 || tensor->n_dims != 1 || tensor->dims[0] != pairs)
        return fm_fail(FM_FORMAT, "%s: tensor '%s' is %s with %llu elements in %u dimensions, expected f32 [%u]",
                       fm_file_path(file), FM_QUOTE_Z(tensor->name), fm_type_info(tensor->type)->name,
                       (unsigned long long)tensor->dims[0], tensor->n_dims, pairs);
    for (uint32_t m = 0; m < pairs; m++) {
        float value;
        enum fm_result r = fm_tensor_read(tensor, (uint64_t)m * sizeof(value), sizeof(value), &value);
        if (r != FM_OK)
            return r;
        if (!(value > 0 && value <= 1e12f))
            return fm_fail(FM_FORMAT, "%s: tensor '%s': element %u is %g, expected a positive divisor",
                           fm_file_path(file), FM_QUOTE_Z(tensor->name), m, (double)value);
        divisors[m] = (double)value;
    }
    return FM_OK;
}

static bool text_is(struct fm_text text, const char *word)
{
    return text.bytes == strlen(word) && memcmp(text.data, word, (size_t)text.bytes) == 0;
}

// rope.scaling.*: `divisors` were set from the tensor where there is one (`have_tensor`), else they are 1.
static enum fm_result scale_divisors(const struct fm_file *file, const char *arch, const struct fm_config *config,
                                     bool have_tensor, double *divisors)
{
    char key[KEY_BYTES];
    struct fm_text type;
    double factor = 1;
    enum fm_result r = fm_meta_string(file, key_of(arch, "rope.scaling.type", key), false, &type);
    if (r != FM_OK)
        return r;
    if (!type.data) { // older files; a factor without a type is linear too
        r = fm_keys_positive(file, arch, "rope.scale_linear", 1, &factor);
        if (r == FM_OK)
            r = fm_keys_positive(file, arch, "rope.scaling.factor", factor, &factor);
    } else if (text_is(type, "linear"))
        r = fm_keys_positive(file, arch, "rope.scaling.factor", NAN, &factor);
    else if (text_is(type, "llama3"))
        return have_tensor ? FM_OK : llama3_divisors(file, arch, config, divisors);
    else if (!text_is(type, "none") && !text_is(type, "default"))
        return fm_fail(FM_UNSUPPORTED, "%s: %s is '%s', known are none, linear, llama3", fm_file_path(file), key,
                       FM_QUOTE_TEXT(type));
    for (uint32_t m = 0; m < config->rotated / 2 && r == FM_OK; m++)
        divisors[m] *= factor;
    return r;
}

enum fm_result fm_keys_rope(const struct fm_file *file, const char *arch, struct fm_arena *arena,
                            struct fm_config *config)
{
    enum fm_result r;
    if ((r = fm_keys_size(file, arch, "rope.dimension_count", 1u << 16, config->head, &config->rotated)) != FM_OK ||
        (r = fm_keys_positive(file, arch, "rope.freq_base", 10000, &config->rope_base)) != FM_OK)
        return r;
    if (config->rotated > config->head || config->rotated % 2 != 0)
        return fm_fail(FM_FORMAT,
                       "%s: %s.rope.dimension_count is %u, expected an even number of at most %u, the head width",
                       fm_file_path(file), arch, config->rotated, config->head);
    uint32_t pairs = config->rotated / 2;
    const struct fm_tensor *tensor = fm_file_find(file, "rope_freqs.weight");
    double *divisors = fm_arena_alloc(arena, pairs, sizeof(*divisors));
    if (!divisors)
        return fm_nomem();
    for (uint32_t m = 0; m < pairs; m++)
        divisors[m] = 1;
    if (tensor && (r = tensor_divisors(file, tensor, pairs, divisors)) != FM_OK)
        return r;
    if ((r = scale_divisors(file, arch, config, tensor != NULL, divisors)) != FM_OK)
        return r;
    config->rope_divisors = divisors;
    return FM_OK;
}
