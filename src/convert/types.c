// SPDX-License-Identifier: MIT
// Which type a tensor gets: the rules of llama.cpp's converter and of llama-quantize, so that files load elsewhere.
#include "convert/output.h"

#include <stdio.h>
#include <strings.h>

// general.file_type: what most matrices are.
static const struct {
    enum fm_type type;
    uint32_t file_type;
} file_types[] = {
    {FM_TYPE_F32, 0},   {FM_TYPE_F16, 1},   {FM_TYPE_Q4_0, 2},  {FM_TYPE_Q4_1, 3},  {FM_TYPE_Q8_0, 7},  {FM_TYPE_Q5_0, 8},
    {FM_TYPE_Q5_1, 9},  {FM_TYPE_Q4_K, 14}, {FM_TYPE_Q5_K, 16}, {FM_TYPE_Q6_K, 18}, {FM_TYPE_BF16, 32},
};

// The known type for a name of llama.cpp's that is none of them ("Q4_K_M", "IQ3_XS", "Q2_K"): what it is a mixture of, else the
// smallest with as many bits. FM_TYPE_NONE for other words.
static enum fm_type nearest_type(const char *name)
{
    size_t at = name[0] == 'i' || name[0] == 'I', bits, best_bits = 0;
    enum fm_type best = FM_TYPE_NONE;
    for (int t = 0; t < FM_TYPE_COUNT; t++) {
        const char *known = fm_type_info((enum fm_type)t)->name;
        size_t bytes = strlen(known);
        if (fm_type_info((enum fm_type)t)->is_weight && strncasecmp(known, name, bytes) == 0 && name[bytes] == '_')
            return (enum fm_type)t;
    }
    if ((name[at] != 'q' && name[at] != 'Q') || name[at + 1] < '1' || name[at + 1] > '8')
        return FM_TYPE_NONE;
    bits = (size_t)(name[at + 1] - '0');
    for (int t = 0; t < FM_TYPE_COUNT; t++) {
        const char *known = fm_type_info((enum fm_type)t)->name;
        size_t has = fm_type_info((enum fm_type)t)->is_weight && known[0] == 'q' ? (size_t)(known[1] - '0') : 0;
        // Of those with the same number of bits the one of superblocks is better.
        bool better = best == FM_TYPE_NONE || has < best_bits || (has == best_bits && known[strlen(known) - 1] == 'K');
        if (has >= bits && better) {
            best = (enum fm_type)t;
            best_bits = has;
        }
    }
    return best;
}

enum fm_result fm_conv_type(const char *name, enum fm_type *out_type)
{
    enum fm_type type = fm_type_from_name(name), near = nearest_type(name);
    char known[256] = "", hint[64] = "";
    if (type != FM_TYPE_NONE && fm_type_info(type)->is_weight) {
        *out_type = type;
        return FM_OK;
    }
    for (int t = 0; t < FM_TYPE_COUNT; t++)
        if (fm_type_info((enum fm_type)t)->is_weight)
            fm_append(known, sizeof(known), " %s", fm_type_info((enum fm_type)t)->name);
    if (near != FM_TYPE_NONE)
        snprintf(hint, sizeof(hint), " (the nearest is %s)", fm_type_info(near)->name);
    return fm_fail(FM_ARG, "type '%s' is unknown, expected one of%s%s", FM_QUOTE_Z(name), known, hint);
}

static bool ends_with(const char *name, const char *end)
{
    size_t name_bytes = strlen(name), end_bytes = strlen(end);
    return name_bytes >= end_bytes && strcmp(name + name_bytes - end_bytes, end) == 0;
}

// Vectors, and what is small and sensitive.
static bool stays_f32(const struct fm_output *o)
{
    static const char *const ends[] = {"_norm.weight", "ssm_conv1d.weight", "attn_lrpe.weight", "position_embd.weight",
                                       "rope_freqs.weight"};
    if (o->n_dims < 2 || !ends_with(o->name, ".weight"))
        return true;
    for (size_t i = 0; i < FM_COUNT(ends); i++)
        if (ends_with(o->name, ends[i]))
            return true;
    return false;
}

static bool quantised(enum fm_type type)
{
    return fm_type_info(type)->block_elems > 1;
}

static const struct fm_output *find(const struct fm_conv *conv, const char *name)
{
    for (size_t i = 0; i < conv->output_count; i++)
        if (strcmp(conv->outputs[i].name, name) == 0)
            return &conv->outputs[i];
    return NULL;
}

static bool fills(const struct fm_output *o, enum fm_type type)
{
    return o->dims[o->n_dims - 1] % fm_type_info(type)->block_elems == 0;
}

struct fallback {
    const struct fm_output *first;
    enum fm_type wanted; // of the first
    uint32_t q8_0, f16;
};

// The type that its source has; f32 for what is made.
static enum fm_type stored_type(const struct fm_output *o)
{
    for (uint32_t i = 0; i < o->n_parts; i++)
        if (o->parts[i].source != NULL)
            return o->parts[i].source->type;
    return FM_TYPE_F32;
}

static enum fm_type choose(const struct fm_conv *conv, const struct fm_output *o, const struct fm_output *head,
                           struct fallback *fallback)
{
    if (stays_f32(o))
        return FM_TYPE_F32;
    enum fm_type type = conv->want != FM_TYPE_NONE ? conv->want : stored_type(o);
    if (o == head && conv->want != FM_TYPE_NONE && quantised(conv->want) && conv->want != FM_TYPE_Q8_0)
        type = fills(o, FM_TYPE_Q6_K) ? FM_TYPE_Q6_K : FM_TYPE_Q8_0;
    if (fills(o, type))
        return type;
    if (fallback->first == NULL) {
        fallback->first = o;
        fallback->wanted = type;
    }
    if (fills(o, FM_TYPE_Q8_0)) {
        fallback->q8_0++;
        return FM_TYPE_Q8_0;
    }
    fallback->f16++;
    return FM_TYPE_F16;
}

// The type of most bytes among the matrices.
static enum fm_type main_type(const struct fm_conv *conv)
{
    uint64_t elems[FM_TYPE_COUNT] = {0};
    int best = FM_TYPE_F32;
    for (size_t i = 0; i < conv->output_count; i++) {
        const struct fm_output *o = &conv->outputs[i];
        if (!stays_f32(o))
            elems[o->type] += o->rows * o->cols;
    }
    for (int t = 0; t < FM_TYPE_COUNT; t++)
        if (elems[t] > elems[best])
            best = t;
    return (enum fm_type)best;
}

enum fm_result fm_conv_types(struct fm_conv *conv)
{
    const struct fm_output *head = find(conv, "output.weight");
    struct fallback fallback = {0};
    bool any_quantised = false;
    if (head == NULL)
        head = find(conv, "token_embd.weight");
    for (size_t i = 0; i < conv->output_count; i++) {
        struct fm_output *o = &conv->outputs[i];
        o->type = choose(conv, o, head, &fallback);
        any_quantised = any_quantised || quantised(o->type);
    }
    if (fallback.first != NULL)
        fm_log(FM_LOG_WARN, "rows that do not fill the blocks of %s: %u tensors became q8_0, %u f16; the first is '%s' with rows of %llu",
               fm_type_info(fallback.wanted)->name, fallback.q8_0, fallback.f16, FM_QUOTE_Z(fallback.first->name),
               (unsigned long long)fallback.first->dims[fallback.first->n_dims - 1]);
    enum fm_type most = conv->want != FM_TYPE_NONE ? conv->want : main_type(conv);
    for (size_t i = 0; i < FM_COUNT(file_types); i++)
        if (file_types[i].type == most)
            fm_gguf_put_u32(conv->writer, "general.file_type", file_types[i].file_type);
    if (any_quantised)
        fm_gguf_put_u32(conv->writer, "general.quantization_version", 2);
    return fm_gguf_error(conv->writer);
}
