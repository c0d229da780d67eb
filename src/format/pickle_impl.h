// SPDX-License-Identifier: MIT
// The pickle machine: its values and stack (pickle.c), how tensors are rebuilt (pickle_tensor.c). Internal to those.
#ifndef FM_FORMAT_PICKLE_IMPL_H
#define FM_FORMAT_PICKLE_IMPL_H

#include "format/cursor.h"
#include "format/dtype.h"
#include "format/pickle.h"

#define FM_PICKLE_MARKS_MAX 256

enum fm_pickle_kind {
    FM_PICKLE_UNSET, // a place of the memo that nothing was put into
    FM_PICKLE_NONE,
    FM_PICKLE_BOOL,
    FM_PICKLE_INT,
    FM_PICKLE_TEXT,
    FM_PICKLE_TUPLE,
    FM_PICKLE_DICT,
    FM_PICKLE_CALLABLE,
    FM_PICKLE_STORAGE_CLASS,
    FM_PICKLE_STORAGE,
    FM_PICKLE_TENSOR,
};

struct fm_pickle_storage {
    const struct fm_dtype *dtype;
    uint64_t offset, bytes; // in the file
};

struct fm_pickle_value {
    enum fm_pickle_kind kind;
    uint32_t count; // bytes of a text, items of a tuple
    union {
        int64_t integer; // of an integer or bool, or an enum callable
        const char *text;
        const struct fm_pickle_value *items;
        struct fm_pickle_dict *dict;
        const struct fm_dtype *dtype; // of a class of storages
        const struct fm_pickle_storage *storage;
        const struct fm_tensor *tensor;
    };
};

struct fm_pickle_entry {
    struct fm_pickle_value key, value;
    struct fm_pickle_entry *next;
};

struct fm_pickle_dict {
    struct fm_pickle_entry *first, *last;
};

struct fm_pickle {
    const struct fm_pickle_host *host;
    struct fm_cursor cursor;
    struct fm_arena arena;
    struct fm_pickle_value *stack;
    size_t count, stack_cap;
    size_t marks[FM_PICKLE_MARKS_MAX]; // heights of the stack
    size_t mark_count;
    struct fm_pickle_value *memo;
    size_t memo_count, memo_cap;
    uint64_t op_at; // where the opcode being run lies
    bool stopped;
};

const char *fm_pickle_kind_name(enum fm_pickle_kind kind); // "a dict"

// FM_FORMAT with the place of the opcode being run; what: what is wrong.
enum fm_result fm_pickle_fail(const struct fm_pickle *m, const char *what);
// what: what has the wrong kind.
enum fm_result fm_pickle_fail_kind(const struct fm_pickle *m, const char *what, enum fm_pickle_kind expected,
                                   enum fm_pickle_kind found);

enum fm_result fm_pickle_push(struct fm_pickle *m, struct fm_pickle_value value);
enum fm_result fm_pickle_pop(struct fm_pickle *m, struct fm_pickle_value *out_value);
enum fm_result fm_pickle_push_dict(struct fm_pickle *m);

static inline struct fm_text fm_pickle_text(const struct fm_pickle_value *value)
{
    return (struct fm_text){.data = value->text, .bytes = value->count};
}

// Push the callable or class of this name. FM_UNSUPPORTED, naming it, for any that does not rebuild tensors.
enum fm_result fm_pickle_push_global(struct fm_pickle *m, struct fm_text module, struct fm_text name);
// Call: (callable, arguments) on the stack become the result.
enum fm_result fm_pickle_reduce(struct fm_pickle *m);
// A persistent id on the stack, ("storage", class, key, location, elements), becomes the storage.
enum fm_result fm_pickle_load_storage(struct fm_pickle *m);

#endif
