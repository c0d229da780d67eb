// SPDX-License-Identifier: MIT
#include "support/model_make.h"

#include <stdio.h>
#include <stdlib.h>

uint64_t model_make_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

double model_make_uniform(uint64_t *state)
{
    return (double)(model_make_next(state) >> 11) * 0x1p-52 - 1;
}

const char *const model_make_archs[] = {"llama", "qwen2", "gpt2", NULL};

struct fm_config model_make_config(const char *arch)
{
    bool gpt2 = strcmp(arch, "gpt2") == 0;
    return (struct fm_config){.n_layers = 2,
                              .width = 64,
                              .heads = 4,
                              .heads_kv = gpt2 ? 4 : 2,
                              .head = 16,
                              .ffn = 96,
                              .vocab = 96,
                              .vocab_real = 96,
                              .context = 256,
                              .norm_eps = 1e-5f,
                              .rope_base = 10000,
                              .rotated = gpt2 ? 0 : 16,
                              .rope = strcmp(arch, "qwen2") == 0 ? FM_ROPE_NEOX : FM_ROPE_NORM,
                              .tied = false};
}

static uint64_t letter(const struct fm_config *c, uint8_t l)
{
    uint64_t hc = (uint64_t)c->heads * c->head, gc = (uint64_t)c->heads_kv * c->head;
    switch ((enum fm_letter)l) {
    case FM_L_V: return c->vocab;
    case FM_L_D: return c->width;
    case FM_L_F: return c->ffn;
    case FM_L_HC: return hc;
    case FM_L_GC: return gc;
    case FM_L_HCGC: return hc + gc;
    case FM_L_QKV: return hc + 2 * gc;
    case FM_L_P: return c->context;
    case FM_L_R: return c->rotated / 2;
    default: return 0; // letters of recurrent families: their files are fixtures
    }
}

void model_make_keys(struct gguf_writer *w, const char *arch, const struct fm_config *c)
{
    char key[96];
    bool gpt2 = strcmp(arch, "gpt2") == 0;
    gguf_write_string(w, "general.architecture", arch);
    const struct {
        const char *name;
        uint32_t value;
    } sizes[] = {{"block_count", c->n_layers},
                 {"embedding_length", c->width},
                 {"feed_forward_length", c->ffn},
                 {"context_length", c->context},
                 {"attention.head_count", c->heads},
                 {"attention.head_count_kv", c->heads_kv},
                 {"attention.key_length", c->head}};
    for (size_t i = 0; i < FM_COUNT(sizes); i++) {
        snprintf(key, sizeof(key), "%s.%s", arch, sizes[i].name);
        gguf_write_u32(w, key, sizes[i].value);
    }
    snprintf(key, sizeof(key), "%s.attention.layer_norm_%s", arch, gpt2 ? "epsilon" : "rms_epsilon");
    gguf_write_f32(w, key, c->norm_eps);
    if (gpt2)
        return;
    snprintf(key, sizeof(key), "%s.rope.freq_base", arch);
    gguf_write_f32(w, key, (float)c->rope_base);
    snprintf(key, sizeof(key), "%s.rope.dimension_count", arch);
    gguf_write_u32(w, key, c->rotated);
    snprintf(key, sizeof(key), "%s.attention.sliding_window", arch);
    if (c->window)
        gguf_write_u32(w, key, c->window);
}

static void put_tensor(struct gguf_writer *w, const struct fm_config *c, const struct fm_weight_spec *spec,
                       uint32_t layer, enum fm_type type, uint64_t *state)
{
    char name[96];
    uint64_t dims[FM_MAX_DIMS], elems = 1;
    uint32_t n = 0;
    const char *hole = strstr(spec->name, "%u");
    if (hole)
        snprintf(name, sizeof(name), "%.*s%u%s", (int)(hole - spec->name), spec->name, layer, hole + 2);
    else
        snprintf(name, sizeof(name), "%s", spec->name);
    for (; n < FM_MAX_DIMS && spec->shape[n] != FM_L_END; n++)
        dims[n] = letter(c, n == 0 && spec->tensor_rows != FM_L_END ? spec->tensor_rows : spec->shape[n]);
    for (uint32_t i = 0; i < n; i++)
        elems *= dims[i];
    float *values = calloc(elems, sizeof(*values));
    if (!values)
        exit(1);
    for (uint64_t i = 0; i < elems; i++)
        values[i] = (float)(0.25 * model_make_uniform(state) + (strstr(name, "norm.weight") ? 1 : 0));
    if (n == 1 || dims[n - 1] % fm_type_info(type)->block_elems != 0)
        type = FM_TYPE_F32;
    gguf_write_tensor_f32(w, name, type, n, dims, values);
    free(values);
}

void model_make_tensors(struct gguf_writer *w, const char *arch, const struct fm_config *config, enum fm_type type,
                        uint32_t seed)
{
    const struct fm_arch *a = fm_arch_find(arch, strlen(arch));
    uint64_t state = seed;
    for (uint32_t i = 0; i < a->n_weights; i++) {
        const struct fm_weight_spec *spec = &a->weights[i];
        // Roles that are parts of one tensor: the first one brings it.
        bool part = spec->row0 != FM_L_END;
        if ((spec->flags & FM_W_OPTIONAL) || part || ((spec->flags & FM_W_HEAD) && config->tied))
            continue;
        uint32_t count = spec->flags & FM_W_LAYER ? config->n_layers : 1;
        for (uint32_t layer = 0; layer < count; layer++)
            put_tensor(w, config, spec, layer, type, &state);
    }
}

void model_make(struct gguf_writer *w, const char *arch, const struct fm_config *config, enum fm_type type,
                uint32_t seed)
{
    model_make_keys(w, arch, config);
    model_make_tensors(w, arch, config, type, seed);
}
