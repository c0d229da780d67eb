// SPDX-License-Identifier: MIT
// The only malloc in the library: overflow checks, and failure injected at the n-th call for tests.
#include "base/base.h"

#include <stdatomic.h>
#include <stdlib.h>

static _Atomic uint64_t made;                   // allocations since the last fm_alloc_fail_at
static _Atomic uint64_t fail_index = UINT64_MAX; // the one that fails

uint64_t fm_alloc_fail_at(uint64_t n)
{
    atomic_store(&fail_index, UINT64_MAX);
    uint64_t count = atomic_exchange(&made, 0);
    atomic_store(&fail_index, n);
    return count;
}

static bool injected(void)
{
    uint64_t index = atomic_fetch_add_explicit(&made, 1, memory_order_relaxed);
    return index == atomic_load_explicit(&fail_index, memory_order_relaxed);
}

// Bytes of count elements, at least 1 so that NULL always means failure. false on overflow.
static bool array_bytes(size_t count, size_t elem_bytes, size_t *out_bytes)
{
    if (elem_bytes != 0 && count > SIZE_MAX / elem_bytes)
        return false;
    *out_bytes = FM_MAX(count * elem_bytes, (size_t)1);
    return true;
}

void *fm_alloc(size_t size_bytes)
{
    if (injected())
        return NULL;
    return malloc(FM_MAX(size_bytes, (size_t)1));
}

void *fm_alloc_zero(size_t count, size_t elem_bytes)
{
    size_t size_bytes;
    if (injected() || !array_bytes(count, elem_bytes, &size_bytes))
        return NULL;
    return calloc(1, size_bytes);
}

void *fm_realloc(void *ptr, size_t count, size_t elem_bytes)
{
    size_t size_bytes;
    if (injected() || !array_bytes(count, elem_bytes, &size_bytes))
        return NULL;
    return realloc(ptr, size_bytes);
}

void fm_free(void *ptr)
{
    free(ptr);
}

char *fm_strdup(const char *text)
{
    size_t size_bytes = strlen(text) + 1;
    char *copy = fm_alloc(size_bytes);
    if (copy != NULL)
        memcpy(copy, text, size_bytes);
    return copy;
}

enum fm_result fm_nomem(void)
{
    return fm_fail(FM_NOMEM, "out of host memory");
}

enum fm_result fm_array_reserve(void **ptr, size_t *cap, size_t need, size_t elem_bytes)
{
    if (need <= *cap)
        return FM_OK;
    size_t grown = *cap > SIZE_MAX / 2 ? SIZE_MAX : *cap * 2;
    grown = FM_MAX(FM_MAX(grown, need), (size_t)8);
    void *moved = fm_realloc(*ptr, grown, elem_bytes);
    if (moved == NULL)
        return fm_nomem();
    *ptr = moved;
    *cap = grown;
    return FM_OK;
}
