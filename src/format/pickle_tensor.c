// SPDX-License-Identifier: MIT
// The callables of a state dict's pickle: a tensor is what torch/_utils.py rebuilds from (storage, offset, size,
// stride, requires_grad, hooks[, metadata]).
#include "format/pickle_impl.h"

enum callable { CALL_ORDERED_DICT, CALL_TENSOR, CALL_PARAMETER };

static const struct {
    const char *module, *name;
} callables[] = {
    [CALL_ORDERED_DICT] = {"collections", "OrderedDict"},
    [CALL_TENSOR] = {"torch._utils", "_rebuild_tensor_v2"},
    [CALL_PARAMETER] = {"torch._utils", "_rebuild_parameter"},
};

static bool equal(struct fm_text text, const char *word)
{
    return strlen(word) == text.bytes && memcmp(word, text.data, (size_t)text.bytes) == 0;
}

enum fm_result fm_pickle_push_global(struct fm_pickle *m, struct fm_text module, struct fm_text name)
{
    for (size_t i = 0; i < FM_COUNT(callables); i++)
        if (equal(module, callables[i].module) && equal(name, callables[i].name))
            return fm_pickle_push(m, (struct fm_pickle_value){.kind = FM_PICKLE_CALLABLE, .integer = (int64_t)i});
    const struct fm_dtype *dtype = equal(module, "torch") ? fm_dtype_by_storage(name) : NULL;
    if (dtype != NULL)
        return fm_pickle_push(m, (struct fm_pickle_value){.kind = FM_PICKLE_STORAGE_CLASS, .dtype = dtype});
    return fm_fail(FM_UNSUPPORTED, "pickle, byte %llu: callable %s.%s is not one that rebuilds tensors",
                   (unsigned long long)m->op_at, FM_QUOTE_TEXT(module), FM_QUOTE_TEXT(name));
}

// The name that a tensor being rebuilt will probably get: the text that was put down last.
static const char *name_near(const struct fm_pickle *m, char quoted[FM_QUOTE_BYTES])
{
    struct fm_text name = {.data = "?", .bytes = 1};
    for (size_t i = m->count; i > 0 && m->count - i < 8; i--) {
        if (m->stack[i - 1].kind == FM_PICKLE_TEXT) {
            name = fm_pickle_text(&m->stack[i - 1]);
            break;
        }
    }
    return fm_quote(name.data, (size_t)name.bytes, quoted, FM_QUOTE_BYTES);
}

// A tuple's items have the kinds of `kinds`; more items than that may follow.
static enum fm_result check_items(const struct fm_pickle *m, const char *what, const struct fm_pickle_value *tuple,
                                  const enum fm_pickle_kind *kinds, uint32_t count)
{
    if (tuple->kind != FM_PICKLE_TUPLE)
        return fm_pickle_fail_kind(m, what, FM_PICKLE_TUPLE, tuple->kind);
    if (tuple->count < count)
        return fm_fail(FM_FORMAT, "pickle, byte %llu: %s of %u items, expected %u", (unsigned long long)m->op_at, what,
                       tuple->count, count);
    for (uint32_t i = 0; i < count; i++)
        if (tuple->items[i].kind != kinds[i])
            return fm_fail(FM_FORMAT, "pickle, byte %llu: item %u of %s is %s, expected %s",
                           (unsigned long long)m->op_at, i, what, fm_pickle_kind_name(tuple->items[i].kind),
                           fm_pickle_kind_name(kinds[i]));
    return FM_OK;
}

// Integers of a tuple, none negative.
static enum fm_result read_integers(const struct fm_pickle *m, const char *quoted, const char *what,
                                    const struct fm_pickle_value *tuple, uint64_t *out_values)
{
    if (tuple->count > FM_TENSOR_DIMS)
        return fm_fail(FM_FORMAT, "tensor '%s': %u dimensions, expected at most %d", quoted, tuple->count,
                       FM_TENSOR_DIMS);
    for (uint32_t i = 0; i < tuple->count; i++) {
        if (tuple->items[i].kind != FM_PICKLE_INT)
            return fm_pickle_fail_kind(m, what, FM_PICKLE_INT, tuple->items[i].kind);
        if (tuple->items[i].integer < 0)
            return fm_fail(FM_FORMAT, "tensor '%s': %s %u is %lld, expected 0 or more", quoted, what, i,
                           (long long)tuple->items[i].integer);
        out_values[i] = (uint64_t)tuple->items[i].integer;
    }
    return FM_OK;
}

// Row-major without gaps, as files of other formats hold tensors. Strides of dimensions of one element do not matter, nor any
// where there are no elements.
static enum fm_result check_strides(const char *quoted, const struct fm_tensor *tensor, const uint64_t *strides)
{
    uint64_t expected = 1;
    for (uint32_t i = tensor->data_bytes > 0 ? tensor->n_dims : 0; i-- > 0;) {
        if (tensor->dims[i] != 1 && strides[i] != expected)
            return fm_fail(FM_UNSUPPORTED,
                           "tensor '%s': stride %llu of dimension %u, expected %llu; save it with .contiguous()", quoted,
                           (unsigned long long)strides[i], i, (unsigned long long)expected);
        expected *= tensor->dims[i]; // the product of all was checked
    }
    return FM_OK;
}

static enum fm_result rebuild_tensor(struct fm_pickle *m, const struct fm_pickle_value *args)
{
    static const enum fm_pickle_kind kinds[] = {FM_PICKLE_STORAGE, FM_PICKLE_INT,  FM_PICKLE_TUPLE,
                                                FM_PICKLE_TUPLE,   FM_PICKLE_BOOL, FM_PICKLE_DICT};
    char quoted[FM_QUOTE_BYTES];
    uint64_t dims[FM_TENSOR_DIMS], strides[FM_TENSOR_DIMS], elems = 0, begin = 0, end;
    struct fm_tensor tensor = {0};
    enum fm_result result = check_items(m, "what a tensor is made of", args, kinds, FM_COUNT(kinds));
    if (result != FM_OK)
        return result;
    name_near(m, quoted);
    const struct fm_pickle_value *item = args->items;
    const struct fm_pickle_storage *storage = item[0].storage;
    if (args->count > FM_COUNT(kinds) && item[6].kind != FM_PICKLE_NONE &&
        (item[6].kind != FM_PICKLE_DICT || item[6].dict->first != NULL)) // a lazy conjugate or negative
        return fm_fail(FM_UNSUPPORTED, "tensor '%s': it has metadata, which fulmen does not read", quoted);
    if (item[2].count != item[3].count)
        return fm_fail(FM_FORMAT, "tensor '%s': %u dimensions and %u strides", quoted, item[2].count, item[3].count);
    result = read_integers(m, quoted, "dimension", &item[2], dims);
    if (result == FM_OK)
        result = read_integers(m, quoted, "stride", &item[3], strides);
    if (result == FM_OK)
        result = fm_dtype_shape(storage->dtype, quoted, item[2].count, dims, &tensor, &elems);
    if (result == FM_OK)
        result = check_strides(quoted, &tensor, strides);
    if (result != FM_OK)
        return result;
    if (item[1].integer < 0 || !fm_mul_u64((uint64_t)item[1].integer, storage->dtype->bits / 8, &begin) ||
        !fm_add_u64(begin, tensor.data_bytes, &end) || end > storage->bytes)
        return fm_fail(FM_FORMAT, "tensor '%s': %llu elements from element %lld exceed its storage of %llu bytes of %s",
                       quoted, (unsigned long long)elems, (long long)item[1].integer, (unsigned long long)storage->bytes,
                       storage->dtype->name);
    tensor.offset = storage->offset + begin;
    const struct fm_tensor *copy = fm_arena_copy(&m->arena, &tensor, sizeof(tensor));
    if (copy == NULL)
        return fm_nomem();
    return fm_pickle_push(m, (struct fm_pickle_value){.kind = FM_PICKLE_TENSOR, .tensor = copy});
}

enum fm_result fm_pickle_reduce(struct fm_pickle *m)
{
    static const enum fm_pickle_kind parameter_kinds[] = {FM_PICKLE_TENSOR, FM_PICKLE_BOOL, FM_PICKLE_DICT};
    struct fm_pickle_value args, callable;
    enum fm_result result = fm_pickle_pop(m, &args);
    if (result == FM_OK)
        result = fm_pickle_pop(m, &callable);
    if (result != FM_OK)
        return result;
    if (callable.kind != FM_PICKLE_CALLABLE)
        return fm_pickle_fail_kind(m, "what is called", FM_PICKLE_CALLABLE, callable.kind);
    switch ((enum callable)callable.integer) {
    case CALL_ORDERED_DICT:
        if (args.kind != FM_PICKLE_TUPLE || args.count != 0)
            return fm_pickle_fail(m, "OrderedDict is called with arguments, expected none");
        return fm_pickle_push_dict(m);
    case CALL_TENSOR:
        return rebuild_tensor(m, &args);
    case CALL_PARAMETER:
        result = check_items(m, "what a parameter is made of", &args, parameter_kinds, FM_COUNT(parameter_kinds));
        return result == FM_OK ? fm_pickle_push(m, args.items[0]) : result;
    }
    return fm_pickle_fail(m, "an unknown callable");
}

// A persistent id: ("storage", class, key, location, elements).
enum fm_result fm_pickle_load_storage(struct fm_pickle *m)
{
    static const enum fm_pickle_kind kinds[] = {FM_PICKLE_TEXT, FM_PICKLE_STORAGE_CLASS, FM_PICKLE_TEXT,
                                                FM_PICKLE_TEXT, FM_PICKLE_INT};
    struct fm_pickle_value id;
    enum fm_result result = fm_pickle_pop(m, &id);
    if (result == FM_OK)
        result = check_items(m, "a persistent id", &id, kinds, FM_COUNT(kinds));
    if (result != FM_OK)
        return result;
    const struct fm_pickle_value *item = id.items;
    if (!equal(fm_pickle_text(&item[0]), "storage"))
        return fm_fail(FM_UNSUPPORTED, "pickle, byte %llu: a persistent id of '%s', expected 'storage'",
                       (unsigned long long)m->op_at, FM_QUOTE_TEXT(fm_pickle_text(&item[0])));
    struct fm_pickle_storage *storage = fm_arena_alloc(&m->arena, 1, sizeof(*storage));
    if (storage == NULL)
        return fm_nomem();
    storage->dtype = item[1].dtype;
    result = m->host->find_storage(m->host->user, fm_pickle_text(&item[2]), &storage->offset, &storage->bytes);
    if (result != FM_OK)
        return result;
    uint64_t bytes = 0;
    if (item[4].integer < 0 || !fm_mul_u64((uint64_t)item[4].integer, storage->dtype->bits / 8, &bytes) ||
        bytes != storage->bytes)
        return fm_fail(FM_FORMAT, "storage '%s': %llu bytes in the archive, expected %lld elements of %s",
                       FM_QUOTE_TEXT(fm_pickle_text(&item[2])), (unsigned long long)storage->bytes,
                       (long long)item[4].integer, storage->dtype->name);
    return fm_pickle_push(m, (struct fm_pickle_value){.kind = FM_PICKLE_STORAGE, .storage = storage});
}
