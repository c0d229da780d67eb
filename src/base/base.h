// SPDX-License-Identifier: MIT
// Layer 0 umbrella: allocation with fault injection, errors, logging, checked arithmetic.
#ifndef FM_BASE_BASE_H
#define FM_BASE_BASE_H

#include "fulmen/base.h"

#include <string.h>

#define FM_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define FM_MIN(a, b) ((a) < (b) ? (a) : (b))
#define FM_MAX(a, b) ((a) > (b) ? (a) : (b))

// --- errors (result.c) ---------------------------------------------------------------------------------------------

// Record the message of an error on this thread and return `result`, so that a caller can write
// `return fm_fail(FM_FORMAT, "...", ...)`. The whole message goes through fm_quote and is cut at 4,095 bytes; text that comes
// from a file is quoted by the caller nevertheless (FM_QUOTE), which also bounds its length.
enum fm_result fm_fail(enum fm_result result, const char *fmt, ...) FM_PRINTF(2, 3);

// Put "prefix: " before the message already recorded, for callers that know where (a file's name, say).
enum fm_result fm_fail_prefix(enum fm_result result, const char *fmt, ...) FM_PRINTF(2, 3);

// --- untrusted text (quote.c; fm_quote is public) --------------------------------------------------------------------

// Text of a file for a message, cut at about 256 bytes: fm_fail(FM_FORMAT, "tensor '%s': ...", FM_QUOTE(name.data, name.bytes)).
// The result lives until the end of the block.
#define FM_QUOTE_BYTES 264
#define FM_QUOTE(text, text_bytes) fm_quote(text, (size_t)(text_bytes), (char[FM_QUOTE_BYTES]){0}, FM_QUOTE_BYTES)
#define FM_QUOTE_Z(text) FM_QUOTE(text, strlen(text))

// Add to the NUL-terminated text in `text` of text_bytes bytes, for lists in messages. What does not fit ends in "...".
void fm_append(char *text, size_t text_bytes, const char *fmt, ...) FM_PRINTF(3, 4);

// --- log (log.c) ---------------------------------------------------------------------------------------------------

void fm_log(enum fm_log_level level, const char *fmt, ...) FM_PRINTF(2, 3);

// --- memory (alloc.c) ----------------------------------------------------------------------------------------------

// malloc/calloc/realloc/free with overflow checks. All return NULL when out of memory (or when a fault is injected);
// they record no message. `fm_alloc_zero` and `fm_realloc` take count and element size. fm_free accepts NULL.
void *fm_alloc(size_t size_bytes);
void *fm_alloc_zero(size_t count, size_t elem_bytes);
void *fm_realloc(void *ptr, size_t count, size_t elem_bytes);
void fm_free(void *ptr);
char *fm_strdup(const char *text);
// Records and returns FM_NOMEM.
enum fm_result fm_nomem(void);

// Test hook: the n-th allocation from now (0 = the next) fails, and only it; UINT64_MAX = never. Returns how many
// allocations were made since the last call.
uint64_t fm_alloc_fail_at(uint64_t n);

// Grow *ptr (capacity *cap elements of elem_bytes) so that it holds at least `need` elements; doubles. FM_NOMEM leaves
// all as it was.
enum fm_result fm_array_reserve(void **ptr, size_t *cap, size_t need, size_t elem_bytes);

// --- checked arithmetic --------------------------------------------------------------------------------------------

// true on success, false on overflow (then *out is untouched).
static inline bool fm_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    if (a > UINT64_MAX - b)
        return false;
    *out = a + b;
    return true;
}

static inline bool fm_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    if (b != 0 && a > UINT64_MAX / b)
        return false;
    *out = a * b;
    return true;
}

// Round up to a multiple of `align` (a power of two). false on overflow.
static inline bool fm_align_u64(uint64_t a, uint64_t align, uint64_t *out)
{
    uint64_t up;
    if (!fm_add_u64(a, align - 1, &up))
        return false;
    *out = up & ~(align - 1);
    return true;
}

static inline uint32_t fm_ceil_div_u32(uint32_t a, uint32_t b)
{
    return a / b + (a % b != 0);
}

#endif
