// SPDX-License-Identifier: MIT
// A pickle machine for state dicts: values, stack, memo, opcodes (those of Python's pickletools).
#include "format/pickle_impl.h"

#define STACK_MAX 65536 // Python's pickler puts down 1000 entries of a dict at a time
#define MEMO_MAX ((uint64_t)1 << 22) // about ten are put for a tensor
#define ARENA_BYTES_MAX ((size_t)256 << 20) // about 500 bytes are needed for a tensor
#define GLOBAL_BYTES_MAX 200

static const char *const kind_names[] = {
    [FM_PICKLE_UNSET] = "nothing",
    [FM_PICKLE_NONE] = "None",
    [FM_PICKLE_BOOL] = "a bool",
    [FM_PICKLE_INT] = "an integer",
    [FM_PICKLE_TEXT] = "text",
    [FM_PICKLE_TUPLE] = "a tuple",
    [FM_PICKLE_DICT] = "a dict",
    [FM_PICKLE_CALLABLE] = "a callable",
    [FM_PICKLE_STORAGE_CLASS] = "a class of storages",
    [FM_PICKLE_STORAGE] = "a storage",
    [FM_PICKLE_TENSOR] = "a tensor",
};

const char *fm_pickle_kind_name(enum fm_pickle_kind kind)
{
    return kind_names[kind];
}

// ---- stack -------------------------------------------------------------------------------------------------------

enum fm_result fm_pickle_fail(const struct fm_pickle *m, const char *what)
{
    return fm_fail(FM_FORMAT, "pickle, byte %llu: %s", (unsigned long long)m->op_at, what);
}

enum fm_result fm_pickle_fail_kind(const struct fm_pickle *m, const char *what, enum fm_pickle_kind expected,
                                   enum fm_pickle_kind found)
{
    return fm_fail(FM_FORMAT, "pickle, byte %llu: %s is %s, expected %s", (unsigned long long)m->op_at, what,
                   fm_pickle_kind_name(found), fm_pickle_kind_name(expected));
}

static enum fm_result fail_truncated(const struct fm_pickle *m)
{
    return fm_fail(FM_FORMAT, "pickle, byte %llu: its %llu bytes end here", (unsigned long long)m->op_at,
                   (unsigned long long)m->cursor.size_bytes);
}

enum fm_result fm_pickle_push(struct fm_pickle *m, struct fm_pickle_value value)
{
    if (m->count >= STACK_MAX)
        return fm_fail(FM_FORMAT, "pickle, byte %llu: more than %d values on its stack", (unsigned long long)m->op_at,
                       STACK_MAX);
    enum fm_result result = fm_array_reserve((void **)&m->stack, &m->stack_cap, m->count + 1, sizeof(*m->stack));
    if (result == FM_OK)
        m->stack[m->count++] = value;
    return result;
}

// Values above the latest mark.
static size_t available(const struct fm_pickle *m)
{
    return m->count - (m->mark_count > 0 ? m->marks[m->mark_count - 1] : 0);
}

enum fm_result fm_pickle_pop(struct fm_pickle *m, struct fm_pickle_value *out_value)
{
    if (available(m) == 0)
        return fm_pickle_fail(m, "takes a value from an empty stack");
    *out_value = m->stack[--m->count];
    return FM_OK;
}

// Take off the values above the latest mark, and the mark: they lie at stack[count] until something is pushed.
static enum fm_result pop_mark(struct fm_pickle *m, size_t *out_count)
{
    if (m->mark_count == 0)
        return fm_pickle_fail(m, "no mark on the stack");
    *out_count = available(m);
    m->count = m->marks[--m->mark_count];
    return FM_OK;
}

static enum fm_result push_tuple(struct fm_pickle *m, size_t count)
{
    if (available(m) < count)
        return fm_pickle_fail(m, "takes a value from an empty stack");
    struct fm_pickle_value tuple = {.kind = FM_PICKLE_TUPLE, .count = (uint32_t)count};
    m->count -= count;
    if (count > 0) {
        struct fm_pickle_value *items = fm_arena_alloc(&m->arena, count, sizeof(*items));
        if (items == NULL)
            return fm_nomem();
        memcpy(items, m->stack + m->count, count * sizeof(*items));
        tuple.items = items;
    }
    return fm_pickle_push(m, tuple);
}

enum fm_result fm_pickle_push_dict(struct fm_pickle *m)
{
    struct fm_pickle_value value = {.kind = FM_PICKLE_DICT};
    value.dict = fm_arena_alloc(&m->arena, 1, sizeof(*value.dict));
    return value.dict != NULL ? fm_pickle_push(m, value) : fm_nomem();
}

// The `count` values taken off the top become entries of the dict below them.
static enum fm_result set_items(struct fm_pickle *m, size_t count)
{
    if (available(m) == 0)
        return fm_pickle_fail(m, "takes a value from an empty stack");
    const struct fm_pickle_value *target = &m->stack[m->count - 1], *pairs = target + 1;
    if (target->kind != FM_PICKLE_DICT)
        return fm_pickle_fail_kind(m, "what gets entries", FM_PICKLE_DICT, target->kind);
    if (count % 2 != 0)
        return fm_pickle_fail(m, "a key without a value");
    for (size_t i = 0; i < count; i += 2) {
        if (pairs[i].kind != FM_PICKLE_TEXT)
            return fm_pickle_fail_kind(m, "the key of an entry", FM_PICKLE_TEXT, pairs[i].kind);
        struct fm_pickle_entry *entry = fm_arena_alloc(&m->arena, 1, sizeof(*entry));
        if (entry == NULL)
            return fm_nomem();
        *entry = (struct fm_pickle_entry){.key = pairs[i], .value = pairs[i + 1]};
        struct fm_pickle_dict *dict = target->dict;
        if (dict->last == NULL)
            dict->first = entry;
        else
            dict->last->next = entry;
        dict->last = entry;
    }
    return FM_OK;
}

// ---- memo --------------------------------------------------------------------------------------------------------

static enum fm_result memo_put(struct fm_pickle *m, uint64_t index)
{
    if (available(m) == 0)
        return fm_pickle_fail(m, "remembers a value of an empty stack");
    if (index > m->op_at || index >= MEMO_MAX) // picklers count up, and each put takes a byte or more
        return fm_pickle_fail(m, "the number of a remembered value is too high");
    enum fm_result result =
        fm_array_reserve((void **)&m->memo, &m->memo_cap, (size_t)index + 1, sizeof(*m->memo));
    if (result != FM_OK)
        return result;
    while (m->memo_count <= index)
        m->memo[m->memo_count++] = (struct fm_pickle_value){.kind = FM_PICKLE_UNSET};
    m->memo[index] = m->stack[m->count - 1];
    return FM_OK;
}

static enum fm_result memo_get(struct fm_pickle *m, uint64_t index)
{
    if (index >= m->memo_count || m->memo[index].kind == FM_PICKLE_UNSET)
        return fm_pickle_fail(m, "recalls a value that was not remembered");
    return fm_pickle_push(m, m->memo[index]);
}

// ---- opcodes -----------------------------------------------------------------------------------------------------

// A little-endian unsigned integer of `bytes`, at most 8.
static enum fm_result take_uint(struct fm_pickle *m, uint32_t bytes, uint64_t *out_value)
{
    const uint8_t *data;
    uint64_t value = 0;
    if (!fm_cursor_take(&m->cursor, bytes, &data))
        return fail_truncated(m);
    for (uint32_t i = bytes; i-- > 0;)
        value = value << 8 | data[i];
    *out_value = value;
    return FM_OK;
}

static enum fm_result push_int(struct fm_pickle *m, uint32_t bytes, bool is_signed)
{
    uint64_t value = 0;
    enum fm_result result = take_uint(m, bytes, &value);
    if (result != FM_OK)
        return result;
    if (is_signed && bytes > 0 && bytes < 8 && (value >> (8 * bytes - 1) & 1) != 0)
        value |= UINT64_MAX << 8 * bytes;
    int64_t integer;
    memcpy(&integer, &value, sizeof(integer));
    return fm_pickle_push(m, (struct fm_pickle_value){.kind = FM_PICKLE_INT, .integer = integer});
}

static enum fm_result push_long(struct fm_pickle *m)
{
    uint64_t bytes = 0;
    enum fm_result result = take_uint(m, 1, &bytes);
    if (result == FM_OK && bytes > 8)
        result = fm_pickle_fail(m, "an integer of more than 64 bits");
    return result == FM_OK ? push_int(m, (uint32_t)bytes, true) : result;
}

static enum fm_result push_text(struct fm_pickle *m, uint32_t length_bytes)
{
    uint64_t bytes = 0;
    const uint8_t *data;
    enum fm_result result = take_uint(m, length_bytes, &bytes);
    if (result != FM_OK)
        return result;
    if (!fm_cursor_take(&m->cursor, bytes, &data))
        return fm_fail(FM_FORMAT, "pickle, byte %llu: a text of %llu bytes, %llu are left",
                       (unsigned long long)m->op_at, (unsigned long long)bytes,
                       (unsigned long long)fm_cursor_left(&m->cursor));
    return fm_pickle_push(m, (struct fm_pickle_value){
                                 .kind = FM_PICKLE_TEXT, .count = (uint32_t)bytes, .text = (const char *)data});
}

static enum fm_result take_line(struct fm_pickle *m, struct fm_text *out_text)
{
    const uint8_t *begin = m->cursor.data + m->cursor.at;
    uint64_t limit = FM_MIN(fm_cursor_left(&m->cursor), (uint64_t)GLOBAL_BYTES_MAX);
    const uint8_t *end = limit > 0 ? memchr(begin, '\n', (size_t)limit) : NULL;
    if (end == NULL)
        return fm_pickle_fail(m, "the name of a callable does not end");
    *out_text = (struct fm_text){.data = (const char *)begin, .bytes = (uint64_t)(end - begin)};
    m->cursor.at += out_text->bytes + 1;
    return FM_OK;
}

static enum fm_result op_global(struct fm_pickle *m)
{
    struct fm_text module, name;
    enum fm_result result = take_line(m, &module);
    if (result == FM_OK)
        result = take_line(m, &name);
    return result == FM_OK ? fm_pickle_push_global(m, module, name) : result;
}

static enum fm_result op_stack_global(struct fm_pickle *m)
{
    struct fm_pickle_value module = {0}, name = {0};
    enum fm_result result = fm_pickle_pop(m, &name);
    if (result == FM_OK)
        result = fm_pickle_pop(m, &module);
    if (result != FM_OK)
        return result;
    if (name.kind != FM_PICKLE_TEXT || module.kind != FM_PICKLE_TEXT)
        return fm_pickle_fail_kind(m, "the name of a callable", FM_PICKLE_TEXT,
                                   name.kind != FM_PICKLE_TEXT ? name.kind : module.kind);
    return fm_pickle_push_global(m, fm_pickle_text(&module), fm_pickle_text(&name));
}

static enum fm_result op_proto(struct fm_pickle *m)
{
    uint64_t version = 0;
    enum fm_result result = take_uint(m, 1, &version);
    if (result == FM_OK && (version < 2 || version > 5))
        result = fm_fail(FM_UNSUPPORTED, "pickle protocol %llu, expected 2 to 5", (unsigned long long)version);
    return result;
}

static enum fm_result op_mark(struct fm_pickle *m)
{
    if (m->mark_count >= FM_PICKLE_MARKS_MAX)
        return fm_pickle_fail(m, "nested too deeply");
    m->marks[m->mark_count++] = m->count;
    return FM_OK;
}

static enum fm_result op_tuple(struct fm_pickle *m)
{
    size_t count = 0;
    enum fm_result result = pop_mark(m, &count);
    if (result != FM_OK)
        return result;
    m->count += count; // back on the stack, without the mark
    return push_tuple(m, count);
}

static enum fm_result op_set_items(struct fm_pickle *m, bool has_mark)
{
    size_t count = 2;
    if (has_mark) {
        enum fm_result result = pop_mark(m, &count);
        return result == FM_OK ? set_items(m, count) : result;
    }
    if (available(m) < 2)
        return fm_pickle_fail(m, "takes a value from an empty stack");
    m->count -= count;
    return set_items(m, count);
}

// Attributes of an object, such as the _metadata of a state dict: nothing that a tensor needs.
static enum fm_result op_build(struct fm_pickle *m)
{
    struct fm_pickle_value state = {0};
    enum fm_result result = fm_pickle_pop(m, &state);
    if (result != FM_OK)
        return result;
    if (available(m) == 0 || m->stack[m->count - 1].kind != FM_PICKLE_DICT)
        return fm_pickle_fail(m, "attributes of something that is no dict");
    return FM_OK;
}

static enum fm_result op_frame(struct fm_pickle *m)
{
    uint64_t bytes = 0;
    enum fm_result result = take_uint(m, 8, &bytes);
    if (result == FM_OK && bytes > fm_cursor_left(&m->cursor))
        result = fail_truncated(m);
    return result;
}

static enum fm_result op_memo(struct fm_pickle *m, uint32_t index_bytes, bool is_put)
{
    uint64_t index = m->memo_count; // for MEMOIZE, which has none
    enum fm_result result = index_bytes > 0 ? take_uint(m, index_bytes, &index) : FM_OK;
    if (result != FM_OK)
        return result;
    return is_put ? memo_put(m, index) : memo_get(m, index);
}

static enum fm_result run_opcode(struct fm_pickle *m, uint8_t opcode)
{
    switch (opcode) {
    case 0x80: // PROTO
        return op_proto(m);
    case 0x95: // FRAME
        return op_frame(m);
    case '.': // STOP
        m->stopped = true;
        return FM_OK;
    case '(': // MARK
        return op_mark(m);
    case 'N': // NONE
        return fm_pickle_push(m, (struct fm_pickle_value){.kind = FM_PICKLE_NONE});
    case 0x88: // NEWTRUE
    case 0x89: // NEWFALSE
        return fm_pickle_push(m, (struct fm_pickle_value){.kind = FM_PICKLE_BOOL, .integer = opcode == 0x88});
    case 'J': // BININT
        return push_int(m, 4, true);
    case 'K': // BININT1
        return push_int(m, 1, false);
    case 'M': // BININT2
        return push_int(m, 2, false);
    case 0x8a: // LONG1
        return push_long(m);
    case 'X': // BINUNICODE
        return push_text(m, 4);
    case 0x8c: // SHORT_BINUNICODE
        return push_text(m, 1);
    case ')': // EMPTY_TUPLE
        return push_tuple(m, 0);
    case 0x85: // TUPLE1
    case 0x86: // TUPLE2
    case 0x87: // TUPLE3
        return push_tuple(m, (size_t)opcode - 0x84);
    case 't': // TUPLE
        return op_tuple(m);
    case '}': // EMPTY_DICT
        return fm_pickle_push_dict(m);
    case 's': // SETITEM
    case 'u': // SETITEMS
        return op_set_items(m, opcode == 'u');
    case 'c': // GLOBAL
        return op_global(m);
    case 0x93: // STACK_GLOBAL
        return op_stack_global(m);
    case 'R': // REDUCE
        return fm_pickle_reduce(m);
    case 'b': // BUILD
        return op_build(m);
    case 'Q': // BINPERSID
        return fm_pickle_load_storage(m);
    case 'q': // BINPUT
        return op_memo(m, 1, true);
    case 'r': // LONG_BINPUT
        return op_memo(m, 4, true);
    case 0x94: // MEMOIZE
        return op_memo(m, 0, true);
    case 'h': // BINGET
        return op_memo(m, 1, false);
    case 'j': // LONG_BINGET
        return op_memo(m, 4, false);
    default:
        return fm_fail(FM_UNSUPPORTED, "pickle, byte %llu: opcode 0x%02x is not one that rebuilds tensors",
                       (unsigned long long)m->op_at, opcode);
    }
}

static enum fm_result run(struct fm_pickle *m)
{
    while (!m->stopped) {
        const uint8_t *opcode;
        m->op_at = m->cursor.at;
        if (!fm_cursor_take(&m->cursor, 1, &opcode))
            return fm_fail(FM_FORMAT, "pickle: its %llu bytes do not end it",
                           (unsigned long long)m->cursor.size_bytes);
        enum fm_result result = run_opcode(m, *opcode);
        if (result != FM_OK)
            return result;
        if (m->arena.total_bytes > ARENA_BYTES_MAX)
            return fm_fail(FM_FORMAT, "pickle, byte %llu: needs more than %zu bytes of memory",
                           (unsigned long long)m->op_at, ARENA_BYTES_MAX);
    }
    return FM_OK;
}

static enum fm_result hand_out(struct fm_pickle *m)
{
    struct fm_pickle_value top = {.kind = FM_PICKLE_UNSET};
    enum fm_result result = fm_pickle_pop(m, &top);
    if (result != FM_OK)
        return result;
    if (top.kind != FM_PICKLE_DICT)
        return fm_fail(FM_UNSUPPORTED, "the file holds %s, expected a dict of tensors", fm_pickle_kind_name(top.kind));
    for (const struct fm_pickle_entry *entry = top.dict->first; entry != NULL; entry = entry->next) {
        struct fm_text name = fm_pickle_text(&entry->key);
        if (entry->value.kind != FM_PICKLE_TENSOR)
            return fm_fail(FM_UNSUPPORTED, "entry '%s' is %s, expected a tensor; save the model's state dict alone",
                           FM_QUOTE_TEXT(name), fm_pickle_kind_name(entry->value.kind));
        result = m->host->add_tensor(m->host->user, name, entry->value.tensor);
        if (result != FM_OK)
            return result;
    }
    return FM_OK;
}

enum fm_result fm_pickle_read(const uint8_t *data, uint64_t size_bytes, const struct fm_pickle_host *host)
{
    struct fm_pickle m = {.host = host, .cursor = {.data = data, .size_bytes = size_bytes, .file_bytes = size_bytes}};
    enum fm_result result = run(&m);
    if (result == FM_OK)
        result = hand_out(&m);
    fm_free(m.stack);
    fm_free(m.memo);
    fm_arena_finish(&m.arena);
    return result;
}
