// SPDX-License-Identifier: MIT
// From an architecture's table of weights to values of the graph. Strict: what the table says is what the file must
// hold.
#include "models/arch.h"

#include <stdio.h>

#define NAME_BYTES 96
#define DIMS_TEXT_BYTES 96

const struct fm_arch *fm_arch_find(const char *name, size_t name_bytes)
{
    for (const struct fm_arch *const *a = fm_archs; *a; a++) {
        if (strlen((*a)->name) == name_bytes && memcmp((*a)->name, name, name_bytes) == 0)
            return *a;
        for (const char *const *alias = (*a)->aliases; alias && *alias; alias++)
            if (strlen(*alias) == name_bytes && memcmp(*alias, name, name_bytes) == 0)
                return *a;
    }
    return NULL;
}

enum fm_result fm_arch_open(const struct fm_file *file, struct fm_arena *arena, const struct fm_arch **out_arch,
                            struct fm_config *out_config)
{
    struct fm_text name;
    struct fm_config config = {0};
    if (strcmp(fm_file_format(file), "GGUF") != 0)
        return fm_fail(FM_UNSUPPORTED, "%s: a %s checkpoint, expected a GGUF file; fulmen convert makes one",
                       fm_file_path(file), fm_file_format(file));
    enum fm_result r = fm_meta_string(file, "general.architecture", true, &name);
    if (r != FM_OK)
        return r;
    const struct fm_arch *arch = fm_arch_find(name.data, (size_t)name.bytes);
    if (!arch) {
        char known[1024] = "";
        for (const struct fm_arch *const *a = fm_archs; *a; a++)
            fm_append(known, sizeof(known), "%s%s", known[0] ? ", " : "", (*a)->name);
        return fm_fail(FM_UNSUPPORTED, "%s: general.architecture is '%s', known are %s", fm_file_path(file),
                       FM_QUOTE_TEXT(name), known);
    }
    if ((r = arch->config(file, arena, &config)) != FM_OK || (r = fm_extra_keys(arch, &config, file)) != FM_OK)
        return r;
    *out_arch = arch;
    *out_config = config;
    return FM_OK;
}

uint32_t fm_weight(const struct fm_weights *weights, uint32_t layer, uint32_t role)
{
    uint32_t row = layer == FM_NONE ? weights->n_layers : layer;
    return weights->ids[(size_t)row * weights->n_roles + role];
}

// --- shapes --------------------------------------------------------------------------------------------------------

static uint64_t letter(const struct fm_config *c, uint8_t l)
{
    uint64_t hc = (uint64_t)c->heads * c->head, gc = (uint64_t)c->heads_kv * c->head;
    uint64_t e = c->inner, n = c->state, dt = c->dt_rank, xb = c->xb;
    uint64_t xbc = xb ? 2 * xb + e : e + 2 * (uint64_t)c->groups * n;
    const uint64_t values[FM_L_COUNT] = {
        [FM_L_V] = c->vocab,      [FM_L_D] = c->width,   [FM_L_F] = c->ffn,
        [FM_L_HC] = hc,           [FM_L_GC] = gc,        [FM_L_HCGC] = hc + gc,
        [FM_L_QKV] = hc + 2 * gc, [FM_L_P] = c->context, [FM_L_R] = c->rotated / 2,
        [FM_L_HEADS] = c->heads,  [FM_L_HEAD] = c->head,
        [FM_L_HC2] = 2 * hc,      [FM_L_HC3] = 3 * hc,   [FM_L_HC4] = 4 * hc,
        [FM_L_E] = e,             [FM_L_E2] = 2 * e,     [FM_L_W] = c->conv,
        [FM_L_N] = n,             [FM_L_DT] = dt,        [FM_L_DTN] = dt + n,
        [FM_L_DT2N] = dt + 2 * n, [FM_L_XB] = xb,        [FM_L_EXB] = e + xb,
        [FM_L_EXB2] = e + 2 * xb, [FM_L_E2XB2] = 2 * (e + xb), [FM_L_E2XB2DT] = 2 * (e + xb) + dt,
        [FM_L_XBC] = xbc,         [FM_L_EXBC] = e + xbc, [FM_L_EXBCDT] = e + xbc + dt,
    };
    return values[l];
}

// Dimensions of a role's value, or of the tensor that it is a part of.
static uint32_t spec_dims(const struct fm_config *config, const struct fm_weight_spec *spec, bool of_tensor,
                          uint64_t *dims)
{
    uint32_t n = 0;
    for (; n < FM_MAX_DIMS && spec->shape[n] != FM_L_END; n++)
        dims[n] = letter(config, spec->shape[n]);
    if (of_tensor && spec->tensor_rows != FM_L_END)
        dims[0] = letter(config, spec->tensor_rows);
    return n;
}

static const char *dims_text(uint32_t n, const uint64_t *dims, char *out)
{
    size_t at = 0;
    out[at++] = '[';
    for (uint32_t i = 0; i < n; i++) {
        int w = snprintf(out + at, DIMS_TEXT_BYTES - at, "%s%llu", i ? "," : "", (unsigned long long)dims[i]);
        at += w > 0 ? (size_t)w : 0;
    }
    snprintf(out + at, DIMS_TEXT_BYTES - at, "]");
    return out;
}

// --- binding -------------------------------------------------------------------------------------------------------

struct binder {
    const struct fm_arch *arch;
    const struct fm_config *config;
    const struct fm_file *file; // NULL: random weights
    enum fm_type random_type;
    struct fm_builder *builder;
    uint32_t *ids;    // see struct fm_weights
};

static void weight_name(const struct fm_weight_spec *spec, uint32_t layer, char *out)
{
    const char *hole = strstr(spec->name, "%u");
    if (hole)
        snprintf(out, NAME_BYTES, "%.*s%u%s", (int)(hole - spec->name), spec->name, layer, hole + 2);
    else
        snprintf(out, NAME_BYTES, "%s", spec->name);
}

// Index of a tensor, FM_NONE when absent. The directory is one array.
static uint32_t find_tensor(const struct binder *b, const char *name)
{
    const struct fm_tensor *tensor = fm_file_find(b->file, name);
    return tensor ? (uint32_t)(tensor - fm_file_tensor(b->file, 0)) : FM_NONE;
}

// Does a tensor have the shape, or as many elements where any shape of a vector will do?
static bool has_shape(const struct fm_weight_spec *spec, const struct fm_tensor *tensor, uint32_t n, const uint64_t *dims)
{
    if (tensor->n_dims == n && memcmp(tensor->dims, dims, n * sizeof(*dims)) == 0)
        return true;
    uint64_t elems = 1;
    for (uint32_t i = 0; i < tensor->n_dims; i++)
        if (!fm_mul_u64(elems, tensor->dims[i], &elems))
            return false;
    return (spec->flags & FM_W_FLAT) && n == 1 && elems == dims[0];
}

// Is the tensor there in this layer of this configuration, or an optional one that may be?
static bool belongs(const struct fm_config *c, const struct fm_weight_spec *spec, uint32_t layer)
{
    bool attention = c->attention != NULL && c->attention[layer];
    return !((spec->flags & FM_W_ATTENTION) && !attention) && !((spec->flags & FM_W_MIXER) && attention) &&
           !((spec->flags & FM_W_SSM1) && c->ssm != 1) && !((spec->flags & FM_W_SSM2) && c->ssm != 2);
}

static enum fm_result check_tensor(const struct binder *b, const struct fm_weight_spec *spec,
                                   const struct fm_tensor *tensor)
{
    uint64_t dims[FM_MAX_DIMS];
    char expected[DIMS_TEXT_BYTES], found[DIMS_TEXT_BYTES];
    uint32_t n = spec_dims(b->config, spec, true, dims);
    if (!has_shape(spec, tensor, n, dims))
        return fm_fail(FM_FORMAT, "%s: tensor '%s' is %s, expected %s", fm_file_path(b->file), FM_QUOTE_Z(tensor->name),
                       dims_text(tensor->n_dims, tensor->dims, found), dims_text(n, dims, expected));
    if (!fm_type_info(tensor->type)->is_weight)
        return fm_fail(FM_FORMAT, "%s: tensor '%s' is of type %s, expected a weight type", fm_file_path(b->file),
                       FM_QUOTE_Z(tensor->name), fm_type_info(tensor->type)->name);
    return FM_OK;
}

// Type of a random weight: the one asked for, where its blocks fit the rows.
static enum fm_type random_type(const struct binder *b, const struct fm_weight_spec *spec, uint64_t width)
{
    if (spec->flags & FM_W_F32)
        return FM_TYPE_F32;
    if (width % fm_type_info(b->random_type)->block_elems == 0)
        return b->random_type;
    return width % fm_type_info(FM_TYPE_Q8_0)->block_elems == 0 ? FM_TYPE_Q8_0 : FM_TYPE_F16;
}

static enum fm_result bind_one(struct binder *b, const struct fm_weight_spec *spec, uint32_t layer)
{
    char name[NAME_BYTES], expected[DIMS_TEXT_BYTES];
    uint64_t dims[FM_MAX_DIMS];
    uint32_t narrow[FM_MAX_DIMS], tensor_id = FM_NONE;
    bool wanted = !(spec->flags & FM_W_OPTIONAL) && !((spec->flags & FM_W_HEAD) && b->config->tied);
    enum fm_type type = FM_TYPE_F32;
    weight_name(spec, layer, name);
    if (b->file) {
        tensor_id = find_tensor(b, name);
        if (tensor_id == FM_NONE && wanted) {
            uint32_t rank = spec_dims(b->config, spec, true, dims);
            return fm_fail(FM_FORMAT, "%s: tensor '%s' is missing, expected %s", fm_file_path(b->file), FM_QUOTE_Z(name),
                           dims_text(rank, dims, expected));
        }
        if (tensor_id == FM_NONE)
            return FM_OK;
        const struct fm_tensor *tensor = fm_file_tensor(b->file, tensor_id);
        enum fm_result r = check_tensor(b, spec, tensor);
        if (r != FM_OK)
            return r;
        type = spec->flags & FM_W_F32 ? FM_TYPE_F32 : tensor->type;
    } else if (!wanted) {
        return FM_OK;
    }
    if (spec->flags & FM_W_CONFIG)
        return FM_OK;
    uint32_t n = spec_dims(b->config, spec, false, dims);
    if (!b->file)
        type = random_type(b, spec, dims[n - 1]);
    for (uint32_t i = 0; i < n; i++)
        narrow[i] = (uint32_t)dims[i];
    uint32_t row0 = spec->row0 == FM_L_END ? 0 : (uint32_t)letter(b->config, spec->row0);
    if (spec->tensor_rows != FM_L_END) {
        size_t at = strlen(name);
        snprintf(name + at, sizeof(name) - at, ":%u", row0);
    }
    uint32_t id = fm_build_weight(b->builder, name, type, tensor_id, n, narrow);
    if (b->builder->error != FM_OK)
        return b->builder->error;
    b->builder->graph->values[id].row0 = row0;
    uint32_t row = spec->flags & FM_W_LAYER ? layer : b->config->n_layers;
    b->ids[(size_t)row * b->arch->n_roles + spec->role] = id;
    return FM_OK;
}

enum fm_result fm_arch_unused(const struct fm_arch *arch, const struct fm_config *config, const struct fm_file *file,
                              void (*fn)(void *user, const struct fm_tensor *tensor), void *user)
{
    const struct binder b = {.arch = arch, .config = config, .file = file};
    uint32_t n_tensors = fm_file_tensor_count(file);
    char name[NAME_BYTES];
    uint8_t *used = fm_alloc_zero((size_t)n_tensors + 1, 1);
    if (!used)
        return fm_nomem();
    for (uint32_t i = 0; i < arch->n_weights; i++) {
        const struct fm_weight_spec *spec = &arch->weights[i];
        uint32_t count = spec->flags & FM_W_LAYER ? config->n_layers : 1;
        for (uint32_t layer = 0; layer < count; layer++) {
            if (!belongs(config, spec, layer))
                continue;
            weight_name(spec, layer, name);
            uint32_t id = find_tensor(&b, name);
            if (id != FM_NONE)
                used[id] = 1;
        }
    }
    for (uint32_t i = 0; i < n_tensors; i++)
        if (!used[i])
            fn(user, fm_file_tensor(file, i));
    fm_free(used);
    return FM_OK;
}

static enum fm_result bind_all(struct binder *b)
{
    for (uint32_t i = 0; i < b->arch->n_weights; i++) {
        const struct fm_weight_spec *spec = &b->arch->weights[i];
        uint32_t count = spec->flags & FM_W_LAYER ? b->config->n_layers : 1;
        for (uint32_t layer = 0; layer < count; layer++) {
            enum fm_result r = belongs(b->config, spec, layer) ? bind_one(b, spec, layer) : FM_OK;
            if (r != FM_OK)
                return r;
        }
    }
    return b->file ? fm_extra_tensors(b->arch, b->config, b->file) : FM_OK;
}

// What every architecture's build() relies on; files pass keys.c first, built-in shapes and callers' own only this.
static enum fm_result check_config(const struct fm_arch *arch, const struct fm_config *c)
{
    const uint64_t limit = 1u << 24;
    if (c->n_layers == 0 || c->n_layers > FM_MAX_LAYERS)
        return fm_fail(FM_ARG, "%s: %u layers, expected 1 to %d", arch->name, c->n_layers, FM_MAX_LAYERS);
    bool attention = c->ssm == 0 || c->attention != NULL; // or linear attention; else heads and feed-forward may be 0
    if (attention && (c->heads == 0 || c->heads_kv == 0 || c->head == 0 || c->heads % c->heads_kv != 0))
        return fm_fail(FM_ARG, "%s: %u query heads over %u key heads of %u elements", arch->name, c->heads, c->heads_kv,
                       c->head);
    const uint64_t sizes[] = {c->width, c->vocab, c->ffn, (uint64_t)c->heads * c->head, c->inner, c->state, c->conv, c->dt_rank};
    for (unsigned i = 0; i < FM_COUNT(sizes); i++)
        if (sizes[i] > limit || (sizes[i] == 0 && (i < 2 || (i < 4 ? attention : c->ssm != 0))))
            return fm_fail(FM_ARG, "%s: a width of %llu, expected 1 to %llu", arch->name, (unsigned long long)sizes[i],
                           (unsigned long long)limit);
    if (c->vocab_real == 0 || c->vocab_real > c->vocab || c->context == 0)
        return fm_fail(FM_ARG, "%s: %u of %u ids, context %u", arch->name, c->vocab_real, c->vocab, c->context);
    if (c->rotated > c->head || c->rotated % 2 != 0)
        return fm_fail(FM_ARG, "%s: %u rotated elements of a head of %u", arch->name, c->rotated, c->head);
    return FM_OK;
}

enum fm_result fm_arch_build(const struct fm_arch *arch, const struct fm_config *config, const struct fm_file *file,
                             const struct fm_graph_options *options, struct fm_graph *out_graph)
{
    struct fm_graph graph = {.logits = FM_NONE, .ids = FM_NONE};
    struct fm_builder builder = {.graph = &graph, .kv_type = {options->kv_type[0], options->kv_type[1]}};
    struct binder b = {
        .arch = arch, .config = config, .file = file, .random_type = options->random_type, .builder = &builder};
    enum fm_result r = check_config(arch, config);
    if (r != FM_OK)
        return r;
    size_t n_ids = ((size_t)config->n_layers + 1) * arch->n_roles;
    b.ids = fm_alloc_zero(n_ids, sizeof(*b.ids));
    if (!b.ids) {
        r = fm_nomem();
        goto fail;
    }
    for (size_t i = 0; i < n_ids; i++)
        b.ids[i] = FM_NONE;
    if ((r = bind_all(&b)) != FM_OK)
        goto fail;
    struct fm_weights weights = {.ids = b.ids, .n_roles = arch->n_roles, .n_layers = config->n_layers};
    arch->build(&builder, config, &weights);
    if ((r = builder.error) != FM_OK || (r = fm_graph_validate(&graph)) != FM_OK)
        goto fail;
    fm_free(b.ids);
    *out_graph = graph;
    return FM_OK;
fail:
    fm_free(b.ids);
    fm_graph_finish(&graph);
    return r;
}
