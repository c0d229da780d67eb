// SPDX-License-Identifier: MIT
// What a tokenizer makes of a text, as a check of cmocka.
#ifndef FM_TESTS_EXPECT_IDS_H
#define FM_TESTS_EXPECT_IDS_H

#include "text/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static inline void expect_ids(const struct fm_tokenizer *tok, const char *text, size_t text_bytes, unsigned flags,
                              const uint32_t *want, size_t want_count)
{
    uint32_t *ids = NULL;
    size_t count = 0;
    assert_int_equal(fm_tokenizer_encode(tok, text, text_bytes, flags, &ids, &count), FM_OK);
    assert_non_null(ids);
    assert_int_equal(count, want_count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(ids[i], want[i]);
    fm_tokens_free(ids);
}

// The ids of a string literal, NULs and all.
#define EXPECT(tok, text, flags, ...)                                         \
    do {                                                                      \
        const uint32_t want[] = {__VA_ARGS__};                                \
        expect_ids(tok, text, sizeof(text) - 1, flags, want, FM_COUNT(want)); \
    } while (0)

#endif
