// SPDX-License-Identifier: MIT
#include "support/pipeline_make.h"

#include <stdlib.h>
#include <string.h>

#include "text/added.h"
#include "text/pairs.h"
#include "text/pipeline.h"

#define MARK "\xE2\x96\x81"

void pipeline_make(struct gguf_writer *w, const char *pipeline, uint32_t flags)
{
    static const struct vocab_token extra[] = {
        {MARK, -9, 0},       {"a", -9, 0},        {"b", -9, 0},  {MARK "a", -2, 0}, {MARK "b", -3, 0},
        {MARK MARK, -1, 0}, {"\xC3\xA9", -9, 0}, {"ab", -4, 0}, {"<u>", -99, 4},   {"sun", -99, 4},
    };
    static const uint32_t pairs[] = {
        PIPELINE_MARK, PIPELINE_MARK, PIPELINE_MARKS,  PIPELINE_MARK, PIPELINE_A, PIPELINE_MARK_A,
        PIPELINE_MARK, PIPELINE_B,    PIPELINE_MARK_B, PIPELINE_A,    PIPELINE_B, PIPELINE_AB,
    };
    uint32_t added[PIPELINE_COUNT] = {0};
    added[1] = added[2] = FM_ADDED | FM_ADDED_PIECE;
    added[PIPELINE_USER] = added[PIPELINE_SUN] = FM_ADDED | flags;
    vocab_make_spm(w, true, extra, sizeof(extra) / sizeof(*extra));
    gguf_write_string(w, FM_KEY_PIPELINE, pipeline);
    gguf_write_array(w, FM_KEY_ADDED_FLAGS, GGUF_U32, added, PIPELINE_COUNT);
    gguf_write_array(w, FM_KEY_PAIRS, GGUF_U32, pairs, sizeof(pairs) / sizeof(*pairs));
}

static void put_unit(uint8_t *units, uint32_t index, uint32_t unit)
{
    for (unsigned i = 0; i < 4; i++)
        units[4 * index + i] = (uint8_t)(unit >> 8 * i);
}

uint8_t *charsmap_make(size_t *out_bytes)
{
    enum { UNITS = 2048 };
    static const char texts[] = "b\0  ";
    uint8_t *out = calloc(1, 4 + 4 * UNITS + sizeof(texts));
    if (out == NULL)
        abort();
    const uint32_t leaf = 1u << 8, value = 1u << 31;
    *out_bytes = 4 + 4 * UNITS + sizeof(texts);
    put_unit(out, 0, 4 * UNITS);
    uint8_t *units = out + 4;
    // From a node the way leads to offset ^ byte, from there to its leaf at its own offset ^ 0.
    const uint32_t first = 256 ^ 'A', first_leaf = first ^ 512, second = first_leaf ^ 'A', second_leaf = second ^ 1024;
    put_unit(units, 0, 256u << 10);
    put_unit(units, first, 512u << 10 | leaf | 'A');
    put_unit(units, first_leaf, value | 0);
    put_unit(units, second, 1024u << 10 | leaf | 'A');
    put_unit(units, second_leaf, value | 2);
    memcpy(units + 4 * UNITS, texts, sizeof(texts));
    return out;
}
