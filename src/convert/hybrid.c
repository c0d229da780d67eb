// SPDX-License-Identifier: MIT
// Mamba in the Llama, Algorithm 1 (Wang et al. 2024, arXiv 2408.15237): C, B, x and output take over the projections of
// queries, keys, values and output. What attention has no counterpart for is initialised as in the authors' code
// (github.com/jxiw/MambaInLlama): linear layers uniform in +-1/sqrt(inputs), the convolution in +-1/sqrt(width), steps
// log-uniform in [1e-3, 1e-1] before the inverse softplus, D = 1, norms 1; A = 1..N in Mamba-1, uniform in [1, 16] in
// Mamba-2. GGUF's llama has rows of q and k permuted for its RoPE; the hybrid has them as the checkpoints do.
#include <math.h>
#include <stdio.h>

#include "base/map.h"
#include "convert/output.h"
#include "fulmen/writer.h"
#include "models/arch.h"

#define NAME_BYTES 96
#define CONV_WIDTH 4
#define STATE_MAMBA1 16
#define DT_MIN 1e-3
#define DT_MAX 1e-1

struct hybrid {
    struct fm_conv conv;
    const struct fm_file *file;
    struct fm_config config;
    struct fm_arena arena; // of the configuration
    uint32_t mamba;    // kind of its layers: 1 or 2
    uint64_t seed;
    bool attention[FM_MAX_LAYERS];
    uint64_t d, q, kv; // width, query width (d_inner), key width (d_xb)
    uint64_t rank;     // Mamba-1: of the time step; Mamba-2: heads
    uint64_t state;
};

// ---- new parameters -------------------------------------------------------------------------------------------------

// Uniform in [0, 1), by counter: any element can be made alone, so that threads need no order. The mixing function is
// that of SplitMix64 (Steele, Lea, Flood 2014).
static double uniform(const struct fm_part *part, uint64_t index)
{
    uint64_t z = part->key + (index + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

static double make_uniform(const struct fm_part *part, uint64_t index)
{
    return (2 * uniform(part, index) - 1) * part->scale;
}

// softplus of it is log-uniform in [DT_MIN, DT_MAX].
static double make_dt_bias(const struct fm_part *part, uint64_t index)
{
    double dt = exp(uniform(part, index) * (log(DT_MAX) - log(DT_MIN)) + log(DT_MIN));
    return dt + log(-expm1(-dt));
}

// -A of Mamba-1, [rows, state]: every row is -1, -2 ... -state.
static double make_a_rows(const struct fm_part *part, uint64_t index)
{
    return -(double)(index % (uint64_t)part->scale + 1);
}

static double make_a_uniform(const struct fm_part *part, uint64_t index)
{
    return -(1 + 15 * uniform(part, index));
}

static double make_one(const struct fm_part *part, uint64_t index)
{
    (void)part;
    (void)index;
    return 1;
}

// Every tensor has random numbers of its own, whatever else is in the file.
static struct fm_part made(const struct hybrid *h, fm_make_fn *make, double scale, uint64_t rows, const char *name)
{
    return (struct fm_part){.make = make, .scale = scale, .rows = rows, .key = fm_hash64(name, strlen(name), FM_HASH_SEED ^ h->seed)};
}

static enum fm_result add_vector(struct hybrid *h, uint32_t layer, const char *what, fm_make_fn *make, double scale, uint64_t n)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof(name), "blk.%u.%s", layer, what);
    struct fm_part part = made(h, make, scale, 1, name);
    return fm_conv_add(&h->conv, name, 1, &n, &part, 1);
}

static enum fm_result add_matrix(struct hybrid *h, uint32_t layer, const char *what, fm_make_fn *make, double scale, uint64_t rows,
                                 uint64_t cols)
{
    char name[NAME_BYTES];
    const uint64_t dims[] = {rows, cols};
    snprintf(name, sizeof(name), "blk.%u.%s", layer, what);
    struct fm_part part = made(h, make, scale, rows, name);
    return fm_conv_add(&h->conv, name, 2, dims, &part, 1);
}

// ---- layers ---------------------------------------------------------------------------------------------------------

// A tensor of the Llama; its shape was checked when the graph was built.
static const struct fm_tensor *tensor(const struct hybrid *h, uint32_t layer, const char *what)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof(name), "blk.%u.%s", layer, what);
    return fm_file_find(h->file, name);
}

static struct fm_part taken(const struct hybrid *h, uint32_t layer, const char *what, uint64_t rows, uint32_t heads)
{
    return (struct fm_part){.source = tensor(h, layer, what), .rows = rows, .heads = heads,
                            .move = heads > 0 ? FM_MOVE_UNPERMUTE : FM_MOVE_NONE};
}

static enum fm_result add_taken(struct hybrid *h, const char *name, const struct fm_tensor *t, uint32_t heads)
{
    struct fm_part part = {.source = t, .rows = 1, .heads = heads, .move = heads > 0 ? FM_MOVE_UNPERMUTE : FM_MOVE_NONE};
    for (uint32_t d = 0; d + (heads > 0 && t->n_dims == 1 ? 0 : 1) < t->n_dims; d++)
        part.rows *= t->dims[d];
    return fm_conv_add(&h->conv, name, t->n_dims, t->dims, &part, 1);
}

// Rows z, x, B, C, dt of the input projection.
static enum fm_result add_input(struct hybrid *h, uint32_t layer)
{
    char name[NAME_BYTES];
    double scale = 1 / sqrt((double)h->d);
    snprintf(name, sizeof(name), "blk.%u.ssm_in.weight", layer);
    struct fm_part parts[] = {
        made(h, make_uniform, scale, h->q, name),
        taken(h, layer, "attn_v.weight", h->kv, 0),
        taken(h, layer, "attn_k.weight", h->kv, h->config.heads_kv),
        taken(h, layer, "attn_q.weight", h->q, h->config.heads),
        made(h, make_uniform, scale, h->rank, name),
    };
    parts[4].key = ~parts[4].key; // not the numbers of z again
    const uint64_t dims[] = {2 * h->q + 2 * h->kv + h->rank, h->d};
    return fm_conv_add(&h->conv, name, 2, dims, parts, FM_COUNT(parts));
}

static enum fm_result add_mamba(struct hybrid *h, uint32_t layer)
{
    bool first = h->mamba == 1;
    uint64_t channels = first ? h->q : h->q + 2 * h->kv;
    double conv_scale = 1 / sqrt((double)CONV_WIDTH);
    char name[NAME_BYTES];
    enum fm_result r = add_input(h, layer);
    if (r == FM_OK)
        r = add_matrix(h, layer, "ssm_conv1d.weight", make_uniform, conv_scale, channels, CONV_WIDTH);
    if (r == FM_OK)
        r = add_vector(h, layer, "ssm_conv1d.bias", make_uniform, conv_scale, channels);
    if (r == FM_OK && first)
        r = add_matrix(h, layer, "ssm_dt.weight", make_uniform, 1 / sqrt((double)h->rank), h->q, h->rank);
    if (r == FM_OK)
        r = add_vector(h, layer, "ssm_dt.bias", make_dt_bias, 0, first ? h->q : h->rank);
    if (r == FM_OK && first)
        r = add_matrix(h, layer, "ssm_a", make_a_rows, (double)h->state, h->q, h->state);
    else if (r == FM_OK)
        r = add_matrix(h, layer, "ssm_a", make_a_uniform, 0, h->rank, 1);
    if (r == FM_OK)
        r = first ? add_vector(h, layer, "ssm_d", make_one, 0, h->q) : add_matrix(h, layer, "ssm_d", make_one, 0, h->rank, 1);
    if (r == FM_OK && !first)
        r = add_vector(h, layer, "ssm_norm.weight", make_one, 0, h->q);
    snprintf(name, sizeof(name), "blk.%u.ssm_out.weight", layer);
    return r == FM_OK ? add_taken(h, name, tensor(h, layer, "attn_output.weight"), 0) : r;
}

// Attention tensors stay in attention layers; q and k lose their permutation.
static enum fm_result add_rest(struct hybrid *h, uint32_t layer)
{
    static const struct {
        const char *name;
        bool mixer, q, k;
    } rows[] = {{"attn_norm.weight", false, false, false}, {"attn_q.weight", true, true, false},
                {"attn_k.weight", true, false, true},      {"attn_v.weight", true, false, false},
                {"attn_output.weight", true, false, false}, {"ffn_norm.weight", false, false, false},
                {"ffn_gate.weight", false, false, false},  {"ffn_up.weight", false, false, false},
                {"ffn_down.weight", false, false, false}};
    enum fm_result r = FM_OK;
    for (size_t i = 0; r == FM_OK && i < FM_COUNT(rows); i++) {
        const struct fm_tensor *t = tensor(h, layer, rows[i].name);
        uint32_t heads = rows[i].q ? h->config.heads : rows[i].k ? h->config.heads_kv : 0;
        if (!rows[i].mixer || h->attention[layer])
            r = add_taken(h, t->name, t, heads);
    }
    return r;
}

static enum fm_result add_tensors(struct hybrid *h)
{
    static const char *const top[] = {"token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"};
    enum fm_result r = FM_OK;
    for (size_t i = 0; r == FM_OK && i < FM_COUNT(top); i++) {
        const struct fm_tensor *t = fm_file_find(h->file, top[i]);
        if (t != NULL)
            r = add_taken(h, t->name, t, 0);
    }
    for (uint32_t layer = 0; r == FM_OK && layer < h->config.n_layers; layer++) {
        r = add_rest(h, layer);
        if (r == FM_OK && !h->attention[layer])
            r = add_mamba(h, layer);
    }
    return r;
}

// ---- metadata -------------------------------------------------------------------------------------------------------

// llama.* becomes mambainllama.*; what else is there stays.
static enum fm_result copy_metas(struct hybrid *h)
{
    static const char *const own[] = {"general.architecture", "general.file_type", "general.quantization_version",
                                      "general.alignment"};
    struct fm_gguf_writer *w = h->conv.writer;
    fm_gguf_put_string(w, "general.architecture", "mambainllama");
    for (uint32_t i = 0; i < fm_file_meta_count(h->file); i++) {
        const struct fm_meta *meta = fm_file_meta(h->file, i);
        bool skip = false, llama = meta->key.bytes > 6 && memcmp(meta->key.data, "llama.", 6) == 0;
        for (size_t k = 0; k < FM_COUNT(own); k++)
            skip = skip || (meta->key.bytes == strlen(own[k]) && memcmp(meta->key.data, own[k], strlen(own[k])) == 0);
        if (skip)
            continue;
        const char *key = fm_arena_printf(&h->conv.arena, "%s%.*s", llama ? "mambainllama." : "",
                                          (int)FM_MIN(meta->key.bytes, (uint64_t)65535) - (llama ? 6 : 0),
                                          meta->key.data + (llama ? 6 : 0));
        if (key == NULL)
            return fm_nomem();
        fm_gguf_put_meta(w, key, meta);
    }
    return fm_gguf_error(w);
}

static enum fm_result put_keys(struct hybrid *h)
{
    struct fm_gguf_writer *w = h->conv.writer;
    uint32_t list[FM_MAX_LAYERS], count = 0;
    for (uint32_t layer = 0; layer < h->config.n_layers; layer++)
        if (h->attention[layer])
            list[count++] = layer;
    fm_gguf_put_array(w, "mambainllama.attention.layers", FM_GGUF_U32, list, count);
    fm_gguf_put_u32(w, "mambainllama.ssm.version", h->mamba);
    fm_gguf_put_u32(w, "mambainllama.ssm.conv_kernel", CONV_WIDTH);
    fm_gguf_put_u32(w, "mambainllama.ssm.inner_size", (uint32_t)h->q);
    fm_gguf_put_u32(w, "mambainllama.ssm.state_size", (uint32_t)h->state);
    fm_gguf_put_u32(w, "mambainllama.ssm.xb_size", (uint32_t)h->kv);
    fm_gguf_put_u32(w, "mambainllama.ssm.time_step_rank", (uint32_t)h->rank);
    if (h->mamba == 2)
        fm_gguf_put_u32(w, "mambainllama.ssm.group_count", h->config.heads);
    if (!fm_gguf_has_key(w, "mambainllama.vocab_size"))
        fm_gguf_put_u32(w, "mambainllama.vocab_size", h->config.vocab);
    return fm_gguf_error(w);
}

// ---- all of it ------------------------------------------------------------------------------------------------------

// The file as a Llama, shapes checked, and what the hybrid cannot have.
static enum fm_result open_llama(struct hybrid *h)
{
    static const char *const refused[] = {"attn_q.bias",   "attn_k.bias", "attn_v.bias",  "attn_output.bias",
                                          "ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"};
    const struct fm_arch *arch;
    struct fm_graph graph = {0};
    const struct fm_graph_options options = {.kv_type = {FM_TYPE_F32, FM_TYPE_F32}};
    enum fm_result r = fm_arch_open(h->file, &h->arena, &arch, &h->config);
    if (r == FM_OK && strcmp(arch->name, "llama") != 0)
        r = fm_fail(FM_UNSUPPORTED, "%s: general.architecture is '%s', expected llama", fm_file_path(h->file), arch->name);
    if (r == FM_OK)
        r = fm_arch_build(arch, &h->config, h->file, &options, &graph);
    fm_graph_finish(&graph);
    for (size_t i = 0; r == FM_OK && i < FM_COUNT(refused) * h->config.n_layers; i++) {
        const struct fm_tensor *t = tensor(h, (uint32_t)(i / FM_COUNT(refused)), refused[i % FM_COUNT(refused)]);
        if (t != NULL)
            r = fm_fail(FM_UNSUPPORTED, "%s: tensor '%s': a hybrid has no biases", fm_file_path(h->file), FM_QUOTE_Z(t->name));
    }
    if (r == FM_OK && h->config.rotated != h->config.head)
        r = fm_fail(FM_UNSUPPORTED, "%s: RoPE turns %u of %u elements of a head, expected all", fm_file_path(h->file),
                    h->config.rotated, h->config.head);
    return r;
}

static enum fm_result set_sizes(struct hybrid *h, const struct fm_hybrid_params *params)
{
    const struct fm_config *c = &h->config;
    h->d = c->width;
    h->q = (uint64_t)c->heads * c->head;
    h->kv = (uint64_t)c->heads_kv * c->head;
    h->state = h->mamba == 1 ? STATE_MAMBA1 : c->head;
    h->rank = h->mamba == 1 ? (h->d + 15) / 16 : c->heads;
    if (h->mamba == 1 && h->kv % STATE_MAMBA1 != 0)
        return fm_fail(FM_UNSUPPORTED, "%s: keys of %llu elements, Mamba-1 needs a multiple of its state size, %d",
                       fm_file_path(h->file), (unsigned long long)h->kv, STATE_MAMBA1);
    for (size_t i = 0; i < params->n_attention_layers; i++) {
        uint32_t layer = params->attention_layers[i];
        if (layer >= c->n_layers)
            return fm_fail(FM_ARG, "attention layer %u: %s has layers 0 to %u", layer, fm_file_path(h->file), c->n_layers - 1);
        h->attention[layer] = true;
    }
    return FM_OK;
}

static enum fm_result unchanged(const void *from)
{
    return fm_file_unchanged(from);
}

static enum fm_result convert(struct hybrid *h, const char *out_path, const struct fm_hybrid_params *params)
{
    enum fm_result r = open_llama(h);
    if (r == FM_OK)
        r = set_sizes(h, params);
    if (r == FM_OK)
        r = copy_metas(h);
    if (r == FM_OK)
        r = put_keys(h);
    if (r == FM_OK)
        r = add_tensors(h);
    h->conv.unchanged = unchanged;
    h->conv.from = h->file;
    return r == FM_OK ? fm_conv_write(&h->conv, out_path, true) : r;
}

enum fm_result fm_convert_mambainllama(const char *path, const char *out_path, const struct fm_hybrid_params *hybrid,
                                       const struct fm_convert_params *params)
{
    struct fm_file *file = NULL;
    if (hybrid == NULL || hybrid->ssm_version > 2)
        return fm_fail(FM_ARG, "ssm version %u, expected 1 or 2", hybrid != NULL ? hybrid->ssm_version : 0);
    struct hybrid *h = fm_alloc_zero(1, sizeof(*h));
    if (h == NULL)
        return fm_nomem();
    h->mamba = hybrid->ssm_version != 0 ? hybrid->ssm_version : 2;
    h->seed = hybrid->seed;
    enum fm_result r = fm_conv_init(&h->conv, params);
    if (r == FM_OK)
        r = fm_writer_check(out_path, &path, 1);
    if (r == FM_OK)
        r = fm_file_open(path, &file);
    h->file = file;
    if (r == FM_OK)
        r = convert(h, out_path, hybrid);
    fm_conv_finish(&h->conv);
    fm_arena_finish(&h->arena);
    fm_file_close(&file);
    fm_free(h);
    return r;
}
