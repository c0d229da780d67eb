// SPDX-License-Identifier: MIT
// From a family's table of tensors to outputs. Strict: what the table says is what the checkpoint must hold, no more and
// no less. Every problem is told, not only the first.
#include <stdio.h>

#include "base/map.h"
#include "convert/hf.h"

#define NAME_BYTES 192
#define DIMS_BYTES 96
#define TOLD_MAX 20

struct matcher {
    struct fm_hf *hf;
    struct fm_map used; // names that a rule took
    uint32_t problems;
    char first[512];
};

static void problem(struct matcher *m, const char *fmt, ...) FM_PRINTF(2, 3);

// One problem alone is the message of the failure; several are logged.
static void problem(struct matcher *m, const char *fmt, ...)
{
    char line[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    if (m->problems == 0)
        memcpy(m->first, line, sizeof(line));
    if (m->problems == 1)
        fm_log(FM_LOG_ERROR, "%s", m->first);
    if (m->problems > 0 && m->problems < TOLD_MAX)
        fm_log(FM_LOG_ERROR, "%s", line);
    m->problems++;
}

static const char *dims_text(uint32_t n_dims, const uint64_t *dims, char out[DIMS_BYTES])
{
    size_t used = (size_t)snprintf(out, DIMS_BYTES, "[");
    for (uint32_t i = 0; i < n_dims && used < DIMS_BYTES; i++)
        used += (size_t)snprintf(out + used, DIMS_BYTES - used, "%s%llu", i > 0 ? "," : "", (unsigned long long)dims[i]);
    if (used < DIMS_BYTES)
        snprintf(out + used, DIMS_BYTES - used, "]");
    return out;
}

// "blk.%u.x" with the layer put in; a name without %u as it is.
static void name_of(const char *prefix, const char *pattern, uint32_t layer, char out[NAME_BYTES])
{
    const char *mark = strstr(pattern, "%u");
    if (mark == NULL)
        snprintf(out, NAME_BYTES, "%s%s", prefix, pattern);
    else
        snprintf(out, NAME_BYTES, "%s%.*s%u%s", prefix, (int)(mark - pattern), pattern, layer, mark + 2);
}

static const struct fm_tensor *find(const struct fm_hf *hf, const struct fm_rule *rule, uint32_t layer)
{
    static const char *const none[] = {"", NULL};
    const char *const *prefixes = hf->family->prefixes != NULL ? hf->family->prefixes : none;
    const char *const names[] = {rule->from, rule->alias};
    char name[NAME_BYTES];
    for (size_t n = 0; n < FM_COUNT(names); n++)
        for (size_t p = 0; names[n] != NULL && prefixes[p] != NULL; p++) {
            name_of(prefixes[p], names[n], layer, name);
            const struct fm_tensor *t = fm_checkpoint_find(hf->checkpoint, name);
            if (t != NULL)
                return t;
        }
    return NULL;
}

static uint32_t shape_of(const struct fm_hf *hf, const uint8_t *shape, uint32_t max, uint64_t *out_dims)
{
    uint32_t n = 0;
    for (; n < max && shape[n] != FM_S_END; n++)
        out_dims[n] = shape[n] == FM_S_1 ? 1 : hf->size[shape[n]];
    return n;
}

// Type and shape as the rule has them?
static bool fits(struct matcher *m, const struct fm_rule *rule, const struct fm_tensor *t)
{
    uint64_t dims[4];
    char found[DIMS_BYTES], expected[DIMS_BYTES];
    uint32_t n_dims = shape_of(m->hf, rule->shape, 4, dims);
    if (t->type != FM_TYPE_F32 && t->type != FM_TYPE_F16 && t->type != FM_TYPE_BF16) {
        problem(m, "tensor '%s' has type %s, expected F32, F16 or BF16", FM_QUOTE_Z(t->name), t->type_name);
        return false;
    }
    bool same = t->n_dims == n_dims;
    for (uint32_t i = 0; same && i < n_dims; i++)
        same = t->dims[i] == dims[i];
    if (!same)
        problem(m, "tensor '%s' is %s, expected %s", FM_QUOTE_Z(t->name), dims_text(t->n_dims, t->dims, found),
                dims_text(n_dims, dims, expected));
    return same;
}

// Dimensions of the output of `rule` alone.
static uint32_t out_dims(const struct fm_hf *hf, const struct fm_rule *rule, uint64_t *out)
{
    uint64_t dims[4];
    if (rule->out[0] != FM_S_END)
        return shape_of(hf, rule->out, 3, out);
    uint32_t n = shape_of(hf, rule->shape, 4, dims), kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (rule->shape[i] != FM_S_1)
            out[kept++] = dims[i];
    if (rule->flags & FM_R_TRANSPOSE) {
        uint64_t rows = out[0];
        out[0] = out[1];
        out[1] = rows;
    }
    return kept;
}

static struct fm_part part_of(const struct fm_hf *hf, const struct fm_rule *rule, const struct fm_tensor *t)
{
    struct fm_part part = {.source = t, .neg_exp = (rule->flags & FM_R_NEG_EXP) != 0, .rows = 1};
    uint64_t dims[4];
    uint32_t n_dims = out_dims(hf, rule, dims);
    if (rule->flags & (FM_R_PERMUTE_Q | FM_R_PERMUTE_K)) {
        part.move = FM_MOVE_PERMUTE;
        part.heads = rule->flags & FM_R_PERMUTE_Q ? hf->heads : hf->heads_kv;
    } else if (rule->flags & FM_R_TRANSPOSE) {
        part.move = FM_MOVE_TRANSPOSE;
    }
    // A vector whose elements move has as many rows.
    for (uint32_t i = 0; i + (part.move != FM_MOVE_NONE && n_dims == 1 ? 0 : 1) < n_dims; i++)
        part.rows *= dims[i];
    return part;
}

#define COMPARE_BYTES ((uint64_t)8 << 20)

// The same type and bytes? Tied weights of PyTorch files are one place in the file.
static enum fm_result same_data(const struct fm_tensor *a, const struct fm_tensor *b, bool *out_same)
{
    *out_same = a->type == b->type && a->data_bytes == b->data_bytes;
    if (!*out_same || (a->file == b->file && a->offset == b->offset))
        return FM_OK;
    uint8_t *bytes = fm_alloc(2 * COMPARE_BYTES);
    enum fm_result r = bytes != NULL ? FM_OK : fm_nomem();
    for (uint64_t at = 0; r == FM_OK && *out_same && at < a->data_bytes; at += COMPARE_BYTES) {
        uint64_t some = FM_MIN(COMPARE_BYTES, a->data_bytes - at);
        r = fm_tensor_read(a, at, some, bytes);
        if (r == FM_OK)
            r = fm_tensor_read(b, at, some, bytes + COMPARE_BYTES);
        *out_same = r == FM_OK && memcmp(bytes, bytes + COMPARE_BYTES, (size_t)some) == 0;
    }
    fm_free(bytes);
    return r;
}

// The head: what to write, or NULL for nothing. *out_missing: it should be there.
static enum fm_result head_of(struct matcher *m, const struct fm_tensor *found, const struct fm_tensor **out_head, bool *out_missing)
{
    const struct fm_hf *hf = m->hf;
    const struct fm_tensor *table = find(hf, &hf->family->rules[0], 0); // the embedding is every table's first row
    bool equal = false;
    enum fm_result r = found != NULL && table != NULL ? same_data(found, table, &equal) : FM_OK;
    *out_missing = found == NULL && !hf->tied;
    *out_head = equal && !hf->family->copies_head ? NULL : found;
    if (!hf->tied)
        return r;
    if (r == FM_OK && found != NULL && !equal)
        fm_log(FM_LOG_WARN, "tensor '%s' differs from the embedding, to which the configuration ties it: left out",
               FM_QUOTE_Z(found->name));
    *out_head = hf->family->copies_head ? table : NULL;
    return r;
}

static enum fm_result use(struct matcher *m, const struct fm_tensor *t)
{
    return fm_map_put(&m->used, t->name, strlen(t->name), 0, NULL);
}

// The rule at `first` with the JOINs after it, in one layer. Problems are not failures.
static enum fm_result apply(struct matcher *m, uint32_t first, uint32_t n, uint32_t layer)
{
    struct fm_hf *hf = m->hf;
    const struct fm_rule *rule = &hf->family->rules[first];
    struct fm_part parts[FM_PARTS_MAX];
    uint64_t dims[4], more[4];
    char name[NAME_BYTES];
    bool whole = true;
    enum fm_result r = FM_OK;
    uint32_t n_dims = out_dims(hf, rule, dims);
    for (uint32_t i = 0; r == FM_OK && i < n; i++) {
        const struct fm_tensor *t = find(hf, &rule[i], layer);
        bool missing = t == NULL && !(rule[i].flags & FM_R_OPTIONAL);
        if (t != NULL)
            r = use(m, t);
        if (r == FM_OK && (rule[i].flags & FM_R_HEAD))
            r = head_of(m, t, &t, &missing);
        if (r != FM_OK)
            return r;
        name_of("", rule[i].from, layer, name);
        if (missing)
            problem(m, "tensor '%s' is missing", FM_QUOTE_Z(name));
        whole = whole && t != NULL && fits(m, &rule[i], t);
        if (!whole)
            continue;
        parts[i] = part_of(hf, &rule[i], t);
        if (i > 0) {
            out_dims(hf, &rule[i], more);
            dims[0] += more[0];
        }
    }
    if (!whole)
        return FM_OK;
    name_of("", rule->to, layer, name);
    return fm_conv_add(hf->conv, name, n_dims, dims, parts, n);
}

static bool ignored(const struct fm_hf *hf, const char *name)
{
    size_t name_bytes = strlen(name);
    for (const char *const *end = hf->family->ignored; end != NULL && *end != NULL; end++) {
        size_t end_bytes = strlen(*end);
        if (name_bytes >= end_bytes && strcmp(name + name_bytes - end_bytes, *end) == 0)
            return true;
    }
    return false;
}

static void tell_extra(struct matcher *m)
{
    uint32_t value;
    char dims[DIMS_BYTES];
    for (uint32_t i = 0; i < fm_checkpoint_count(m->hf->checkpoint); i++) {
        const struct fm_tensor *t = fm_checkpoint_at(m->hf->checkpoint, i);
        // One without elements says nothing, whatever its name.
        if (!fm_map_get(&m->used, t->name, strlen(t->name), &value) && !ignored(m->hf, t->name) && t->data_bytes > 0)
            problem(m, "tensor '%s' %s belongs to no part of a model of type '%s'", FM_QUOTE_Z(t->name),
                    dims_text(t->n_dims, t->dims, dims), m->hf->family->model_type);
    }
}

// Rules of one layer: those of the whole model for FM_HF_LAYERS_MAX.
static enum fm_result apply_layer(struct matcher *m, uint32_t layer)
{
    const struct fm_family *family = m->hf->family;
    enum fm_result r = FM_OK;
    for (uint32_t i = 0, n; r == FM_OK && i < family->n_rules; i += n) {
        const struct fm_rule *rule = &family->rules[i];
        for (n = 1; i + n < family->n_rules && (family->rules[i + n].flags & FM_R_JOIN); n++)
            ;
        bool per_layer = layer < FM_HF_LAYERS_MAX;
        if (((rule->flags & FM_R_LAYER) != 0) != per_layer)
            continue;
        if (per_layer && (rule->flags & FM_R_KINDS) && !(m->hf->layer_kind[layer] & rule->flags & FM_R_KINDS))
            continue;
        r = apply(m, i, n, layer);
    }
    return r;
}

enum fm_result fm_hf_tensors(struct fm_hf *hf)
{
    struct matcher m = {.hf = hf};
    const char *path = fm_checkpoint_path(hf->checkpoint);
    enum fm_result r = apply_layer(&m, FM_HF_LAYERS_MAX);
    for (uint32_t layer = 0; r == FM_OK && layer < hf->n_layers; layer++)
        r = apply_layer(&m, layer);
    if (r == FM_OK)
        tell_extra(&m);
    if (r == FM_OK && m.problems == 1)
        r = fm_fail(FM_FORMAT, "%s: %s", path, m.first);
    else if (r == FM_OK && m.problems > 1)
        r = fm_fail(FM_FORMAT, "%s: %u tensors are missing, unknown or not as config.json has them; the first: %s", path,
                    m.problems, m.first);
    fm_map_finish(&m.used);
    return r;
}
