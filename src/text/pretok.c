// SPDX-License-Identifier: MIT
#include "text/pretok.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "text/pretok_recipes.h"
#include "text/unicode.h"

#define BOUNDED_PIECE_BYTES 1024

struct fm_pretok {
    const struct fm_pretok_recipe *recipe;
    pcre2_general_context *memory;
    pcre2_code *codes[FM_PRETOK_MAX_STAGES]; // NULL for a stage without an expression
    unsigned stage_count;
};

struct fm_pretok_scratch {
    pcre2_general_context *memory;
    pcre2_match_data *match;
    char *pinned; // copy of the text by fm_unicode_pin
    size_t pinned_cap;
};

// One call of fm_pretok_split.
struct split {
    const struct fm_pretok *pretok;
    struct fm_pretok_scratch *scratch;
    const char *text;
    const char *pinned; // as long as the text; the text itself where nothing in it had to be replaced
    fm_pretok_piece_fn *fn;
    void *user;
};

static void *pcre_alloc(PCRE2_SIZE size_bytes, void *user)
{
    (void)user;
    return fm_alloc(size_bytes);
}

static void pcre_free(void *ptr, void *user)
{
    (void)user;
    fm_free(ptr);
}

static enum fm_result unknown_name(const char *name, size_t name_bytes)
{
    char known[2048] = "";
    for (size_t i = 0; fm_pretok_name(i) != NULL; i++)
        fm_append(known, sizeof(known), " %s", fm_pretok_name(i));
    return fm_fail(FM_UNSUPPORTED, "metadata 'tokenizer.ggml.pre': unknown pre-tokenizer '%s', known are:%s",
                   FM_QUOTE(name, name_bytes), known);
}

// Every expression is a constant, so a failure to compile can only be a lack of memory.
static enum fm_result compile_stage(struct fm_pretok *pretok, unsigned stage)
{
    pcre2_compile_context *context = pcre2_compile_context_create(pretok->memory);
    if (context == NULL)
        return fm_nomem();
    int error;
    PCRE2_SIZE at;
    pretok->codes[stage] = pcre2_compile((PCRE2_SPTR)pretok->recipe->stages[stage].expression, PCRE2_ZERO_TERMINATED,
                                         PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE, &error, &at, context);
    pcre2_compile_context_free(context);
    if (pretok->codes[stage] == NULL)
        return fm_fail(FM_NOMEM, "pre-tokenizer expression %u: error %d at %zu", stage, error, (size_t)at);
    // Without just-in-time compilation (a platform, or a policy against executable memory) matching is slower, not
    // wrong.
    if (pcre2_jit_compile(pretok->codes[stage], PCRE2_JIT_COMPLETE) != 0)
        fm_log(FM_LOG_DEBUG, "pre-tokenizer expression %u is interpreted", stage);
    return FM_OK;
}

static enum fm_result compile_stages(struct fm_pretok *pretok)
{
    enum fm_result r = FM_OK;
    const struct fm_pretok_stage *stages = pretok->recipe->stages;
    for (unsigned i = 0; r == FM_OK && i < FM_PRETOK_MAX_STAGES && stages[i].kind != FM_STAGE_NONE; i++) {
        if (stages[i].expression != NULL)
            r = compile_stage(pretok, i);
        pretok->stage_count = i + 1;
    }
    return r;
}

enum fm_result fm_pretok_create(const char *name, size_t name_bytes, struct fm_pretok **out_pretok)
{
    const struct fm_pretok_recipe *recipe = fm_pretok_recipe_find(name, name_bytes);
    if (recipe == NULL)
        return unknown_name(name, name_bytes);
    enum fm_result r = FM_OK;
    struct fm_pretok *pretok = fm_alloc_zero(1, sizeof(*pretok));
    if (pretok == NULL)
        return fm_nomem();
    pretok->recipe = recipe;
    pretok->memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    r = pretok->memory == NULL ? fm_nomem() : compile_stages(pretok);
    if (r != FM_OK) {
        fm_pretok_destroy(&pretok);
        return r;
    }
    *out_pretok = pretok;
    return FM_OK;
}

void fm_pretok_destroy(struct fm_pretok **pretok)
{
    if (pretok == NULL || *pretok == NULL)
        return;
    for (unsigned i = 0; i < FM_PRETOK_MAX_STAGES; i++)
        pcre2_code_free((*pretok)->codes[i]);
    pcre2_general_context_free((*pretok)->memory);
    fm_free(*pretok);
    *pretok = NULL;
}

const struct fm_pretok_traits *fm_pretok_traits(const struct fm_pretok *pretok)
{
    return &pretok->recipe->traits;
}

enum fm_result fm_pretok_scratch_create(struct fm_pretok_scratch **out_scratch)
{
    struct fm_pretok_scratch *scratch = fm_alloc_zero(1, sizeof(*scratch));
    if (scratch == NULL)
        return fm_nomem();
    scratch->memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (scratch->memory != NULL)
        scratch->match = pcre2_match_data_create(1, scratch->memory);
    if (scratch->match == NULL) {
        fm_pretok_scratch_destroy(&scratch);
        return fm_nomem();
    }
    *out_scratch = scratch;
    return FM_OK;
}

void fm_pretok_scratch_destroy(struct fm_pretok_scratch **scratch)
{
    if (scratch == NULL || *scratch == NULL)
        return;
    pcre2_match_data_free((*scratch)->match);
    pcre2_general_context_free((*scratch)->memory);
    fm_free((*scratch)->pinned);
    fm_free(*scratch);
    *scratch = NULL;
}

// End of a piece of at most BOUNDED_PIECE_BYTES that begins at `from` and cuts no character.
static size_t bounded_end(const char *text, size_t text_bytes, size_t from)
{
    if (text_bytes - from <= BOUNDED_PIECE_BYTES)
        return text_bytes;
    size_t end = from + BOUNDED_PIECE_BYTES;
    while (((uint8_t)text[end] & 0xC0) == 0x80)
        end--;
    return end;
}

// The next match of a stage at or after `from`. Without one *out_begin is text_bytes. Where the matcher gives up at a
// limit of its own, the text up to *out_end is taken for a match. FM_NOMEM.
static enum fm_result find(const pcre2_code *code, pcre2_match_data *match, const char *text, size_t text_bytes,
                           size_t from, size_t *out_begin, size_t *out_end)
{
    int rc = pcre2_match(code, (PCRE2_SPTR)text, text_bytes, from, PCRE2_NO_UTF_CHECK, match, NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(code, (PCRE2_SPTR)text, text_bytes, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match, NULL);
    if (rc == PCRE2_ERROR_NOMEMORY)
        return fm_nomem();
    const PCRE2_SIZE *ovector = pcre2_get_ovector_pointer(match);
    if (rc == PCRE2_ERROR_NOMATCH) {
        *out_begin = *out_end = text_bytes;
    } else if (rc < 0 || ovector[1] <= ovector[0]) {
        *out_begin = from;
        *out_end = bounded_end(text, text_bytes, from);
    } else {
        *out_begin = ovector[0];
        *out_end = ovector[1];
    }
    return FM_OK;
}

// The stages from `stage` on, for the text from `begin` to `end`.
static enum fm_result split_stage(const struct split *split, unsigned stage, size_t begin, size_t end);

// A run of digits: the first piece takes what threes leave over.
static enum fm_result split_threes(const struct split *split, unsigned stage, size_t begin, size_t end)
{
    enum fm_result r = FM_OK;
    size_t digits = 0, bytes;
    for (size_t at = begin; at < end; at += bytes, digits++)
        fm_unicode_point(split->text + at, &bytes);
    for (size_t at = begin; r == FM_OK && at < end;) {
        size_t from = at;
        do {
            fm_unicode_point(split->text + at, &bytes);
            at += bytes;
            digits--;
        } while (digits % 3 != 0);
        r = split_stage(split, stage + 1, from, at);
    }
    return r;
}

static enum fm_result split_expression(const struct split *split, unsigned stage, size_t begin, size_t end)
{
    const enum fm_pretok_stage_kind kind = split->pretok->recipe->stages[stage].kind;
    const char *text = (kind == FM_STAGE_RANGES ? split->text : split->pinned) + begin;
    const size_t text_bytes = end - begin;
    enum fm_result r = FM_OK;
    for (size_t done = 0; r == FM_OK && done < text_bytes;) {
        size_t from = done, to = text_bytes;
        r = find(split->pretok->codes[stage], split->scratch->match, text, text_bytes, done, &from, &to);
        if (r == FM_OK)
            r = split_stage(split, stage + 1, begin + done, begin + from);
        if (r == FM_OK && kind == FM_STAGE_THREES)
            r = split_threes(split, stage, begin + from, begin + to);
        else if (r == FM_OK)
            r = split_stage(split, stage + 1, begin + from, begin + to);
        done = to;
    }
    return r;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// Is what GPT-2's alphabet writes for this byte a number? Of Latin-1 that are the digits, superscripts and fractions.
static bool is_byte_number(char c)
{
    const uint8_t byte = (uint8_t)c;
    return is_digit(c) || byte == 0xB2 || byte == 0xB3 || byte == 0xB9 || (byte >= 0xBC && byte <= 0xBE);
}

static bool is_three_digits(const char *text, size_t begin, size_t end)
{
    return end - begin >= 3 && is_digit(text[begin]) && is_digit(text[begin + 1]) && is_digit(text[begin + 2]);
}

// End of the piece that begins at `begin`: three digits, or a run of numbers up to the next three digits, or of bytes that
// are no numbers.
static size_t byte_numbers_end(const char *text, size_t begin, size_t end)
{
    const bool number = is_byte_number(text[begin]);
    if (is_three_digits(text, begin, end))
        return begin + 3;
    size_t at = begin + 1;
    while (at < end && is_byte_number(text[at]) == number && !is_three_digits(text, at, end))
        at++;
    return at;
}

static enum fm_result split_byte_numbers(const struct split *split, size_t begin, size_t end)
{
    enum fm_result r = FM_OK;
    while (r == FM_OK && begin < end) {
        size_t to = byte_numbers_end(split->text, begin, end);
        r = split->fn(split->user, split->text + begin, to - begin);
        begin = to;
    }
    return r;
}

static enum fm_result split_stage(const struct split *split, unsigned stage, size_t begin, size_t end)
{
    if (begin == end)
        return FM_OK;
    if (stage == split->pretok->stage_count)
        return split->fn(split->user, split->text + begin, end - begin);
    if (split->pretok->recipe->stages[stage].kind == FM_STAGE_BYTE_NUMBERS)
        return split_byte_numbers(split, begin, end);
    return split_expression(split, stage, begin, end);
}

enum fm_result fm_pretok_split(const struct fm_pretok *pretok, struct fm_pretok_scratch *scratch, const char *text,
                               size_t text_bytes, fm_pretok_piece_fn *fn, void *user)
{
    struct split split = {.pretok = pretok, .scratch = scratch, .text = text, .pinned = text, .fn = fn, .user = user};
    if (fm_unicode_needs_pin(text, text_bytes)) {
        enum fm_result r = fm_array_reserve((void **)&scratch->pinned, &scratch->pinned_cap, text_bytes, 1);
        if (r != FM_OK)
            return r;
        fm_unicode_pin(text, text_bytes, scratch->pinned);
        split.pinned = scratch->pinned;
    }
    return split_stage(&split, 0, 0, text_bytes);
}
