// SPDX-License-Identifier: MIT
// The table of pre-tokenizers: names, expressions, traits. For pretok.c alone.
#ifndef FM_TEXT_PRETOK_RECIPES_H
#define FM_TEXT_PRETOK_RECIPES_H

#include "text/pretok.h"

#define FM_PRETOK_MAX_STAGES 5

enum fm_pretok_stage_kind {
    FM_STAGE_NONE,
    FM_STAGE_EXPRESSION,   // its matches are pieces, and so is what lies between them
    FM_STAGE_RANGES,       // the same with an expression that names code points, no categories
    FM_STAGE_THREES,       // an expression that matches runs of digits, which are cut in threes counted from their end
    FM_STAGE_BYTE_NUMBERS, // runs of bytes that GPT-2's alphabet writes as numbers; three digits 0-9 are a piece. The last stage
};

struct fm_pretok_stage {
    enum fm_pretok_stage_kind kind;
    const char *expression; // of PCRE2
};

// The stages apply one after the other, each to the pieces of the one before.
struct fm_pretok_recipe {
    struct fm_pretok_stage stages[FM_PRETOK_MAX_STAGES];
    struct fm_pretok_traits traits;
};

// The recipe of tokenizer.ggml.pre, or NULL.
const struct fm_pretok_recipe *fm_pretok_recipe_find(const char *name, size_t name_bytes);

// The name at `index`, in the order of error messages; NULL after the last.
const char *fm_pretok_name(size_t index);

#endif
