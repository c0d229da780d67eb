// SPDX-License-Identifier: MIT
// Bump allocation from a list of zeroed blocks.
#include "base/arena.h"

#include <stdio.h>

#define ALIGN_BYTES 16
#define FIRST_BLOCK_BYTES ((size_t)4096)
#define LARGEST_BLOCK_BYTES ((size_t)1 << 20)

struct fm_arena_block {
    _Alignas(ALIGN_BYTES) struct fm_arena_block *next;
    size_t capacity_bytes; // of what follows the header
};

static uint8_t *block_data(struct fm_arena_block *block)
{
    return (uint8_t *)(block + 1);
}

static struct fm_arena_block *block_create(size_t capacity_bytes)
{
    if (capacity_bytes > SIZE_MAX - sizeof(struct fm_arena_block))
        return NULL;
    struct fm_arena_block *block = fm_alloc_zero(1, sizeof(*block) + capacity_bytes);
    if (block != NULL)
        block->capacity_bytes = capacity_bytes;
    return block;
}

// An object too large for an ordinary block gets one of its own, behind the head, whose free rest stays in use.
static void *alloc_alone(struct fm_arena *arena, size_t size_bytes)
{
    struct fm_arena_block *block = block_create(size_bytes);
    if (block == NULL)
        return NULL;
    if (arena->head == NULL) {
        arena->head = block;
        arena->used_bytes = size_bytes;
    } else {
        block->next = arena->head->next;
        arena->head->next = block;
    }
    arena->total_bytes += size_bytes;
    return block_data(block);
}

void *fm_arena_alloc(struct fm_arena *arena, size_t count, size_t elem_bytes)
{
    if (elem_bytes != 0 && count > (SIZE_MAX - ALIGN_BYTES) / elem_bytes)
        return NULL;
    size_t wanted = FM_MAX(count * elem_bytes, (size_t)1);
    size_t size_bytes = (wanted + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;

    struct fm_arena_block *head = arena->head;
    if (head == NULL || size_bytes > head->capacity_bytes - arena->used_bytes) {
        size_t next_bytes = FIRST_BLOCK_BYTES;
        if (head != NULL)
            next_bytes = FM_MIN(FM_MAX(head->capacity_bytes, FIRST_BLOCK_BYTES) * 2, LARGEST_BLOCK_BYTES);
        if (size_bytes > next_bytes / 2)
            return alloc_alone(arena, size_bytes);
        struct fm_arena_block *block = block_create(next_bytes);
        if (block == NULL)
            return NULL;
        block->next = head;
        arena->head = head = block;
        arena->used_bytes = 0;
    }
    void *object = block_data(head) + arena->used_bytes;
    arena->used_bytes += size_bytes;
    arena->total_bytes += size_bytes;
    return object;
}

void *fm_arena_copy(struct fm_arena *arena, const void *data, size_t size_bytes)
{
    void *copy = fm_arena_alloc(arena, size_bytes, 1);
    if (copy != NULL && size_bytes > 0)
        memcpy(copy, data, size_bytes);
    return copy;
}

char *fm_arena_strdup(struct fm_arena *arena, const char *text)
{
    return fm_arena_copy(arena, text, strlen(text) + 1);
}

char *fm_arena_printf(struct fm_arena *arena, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    char *text = NULL;
    int length = vsnprintf(NULL, 0, fmt, args);
    if (length >= 0)
        text = fm_arena_alloc(arena, (size_t)length + 1, 1);
    if (text != NULL)
        vsnprintf(text, (size_t)length + 1, fmt, again);
    va_end(again);
    va_end(args);
    return text;
}

void fm_arena_finish(struct fm_arena *arena)
{
    struct fm_arena_block *block = arena->head;
    while (block != NULL) {
        struct fm_arena_block *next = block->next;
        fm_free(block);
        block = next;
    }
    *arena = (struct fm_arena){0};
}
