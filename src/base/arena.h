// SPDX-License-Identifier: MIT
// A bump allocator: many small objects with one lifetime (a graph, a plan, a vocabulary).
#ifndef FM_BASE_ARENA_H
#define FM_BASE_ARENA_H

#include "base/base.h"

struct fm_arena_block;

struct fm_arena {
    struct fm_arena_block *head; // newest block; NULL = empty
    size_t used_bytes;           // bytes handed out in `head`
    size_t total_bytes;          // bytes handed out in all blocks
};

// An all-zero struct is a valid empty arena. Memory is 16-byte aligned and zeroed. NULL when out of memory.
void *fm_arena_alloc(struct fm_arena *arena, size_t count, size_t elem_bytes);
char *fm_arena_strdup(struct fm_arena *arena, const char *text);
char *fm_arena_printf(struct fm_arena *arena, const char *fmt, ...) FM_PRINTF(2, 3);
void *fm_arena_copy(struct fm_arena *arena, const void *data, size_t size_bytes);
// Free everything; the arena is empty and usable again.
void fm_arena_finish(struct fm_arena *arena);

#endif
