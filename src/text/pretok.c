// SPDX-License-Identifier: MIT
#include "text/pretok.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/utf8.h"

#define MAX_STAGES 5
#define BOUNDED_PIECE_BYTES 1024

// White space as Unicode defines it. PCRE2's own \s takes in U+180E, which no longer is.
#define SPACE "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define S "[" SPACE "]"
#define NOT_S "[^" SPACE "]"

#define CONTRACTION "'s|'t|'re|'ve|'m|'ll|'d"
#define GPT2 CONTRACTION "| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|" S "+(?!" NOT_S ")|" S "+"
// The expression of cl100k and its descendants, which differ in how many digits make a piece.
#define CL100K(digits)                                                                                      \
    "(?i:" CONTRACTION ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^" SPACE "\\p{L}\\p{N}]+[\\r\\n]*|" S \
    "*[\\r\\n]+|" S "+(?!" NOT_S ")|" S "+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define TEKKEN                                                                                                \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*|\\p{N}| ?[^" SPACE \
    "\\p{L}\\p{N}]+[\\r\\n/]*|" S "*[\\r\\n]+|" S "+(?!" NOT_S ")|" S "+"

// The expressions apply one after the other, each to the pieces of the one before; what none of them matches is a piece
// too.
struct recipe {
    const char *stages[MAX_STAGES];
    struct fm_pretok_traits traits;
};

enum recipe_id {
    RECIPE_DEFAULT,
    RECIPE_GPT2,
    RECIPE_NEOX,
    RECIPE_LLAMA3,
    RECIPE_DBRX,
    RECIPE_QWEN2,
    RECIPE_DIGITS1,
    RECIPE_SMOLLM,
    RECIPE_TEKKEN,
    RECIPE_DEEPSEEK_CODER,
    RECIPE_FALCON
};

static const struct recipe recipes[] = {
    [RECIPE_DEFAULT] = {{"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, {0}},
    [RECIPE_GPT2] = {{GPT2}, {0}},
    [RECIPE_NEOX] = {{GPT2}, {.nfc = true}},
    [RECIPE_LLAMA3] = {{CL100K("\\p{N}{1,3}")}, {.ignore_merges = true, .add_bos = true}},
    [RECIPE_DBRX] = {{CL100K("\\p{N}{1,3}")}, {0}},
    [RECIPE_QWEN2] = {{CL100K("\\p{N}")}, {.nfc = true}},
    [RECIPE_DIGITS1] = {{CL100K("\\p{N}")}, {0}},
    [RECIPE_SMOLLM] = {{"\\p{N}", GPT2}, {0}},
    [RECIPE_TEKKEN] = {{TEKKEN}, {.ignore_merges = true, .add_bos = true}},
    [RECIPE_DEEPSEEK_CODER] = {{"[\\r\\n]", S "?\\p{L}+", S "?\\p{P}+",
                                "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+", "\\p{N}"},
                               {0}},
    // Punctuation (ASCII's symbols count), GPT-2's words, numbers apart, in threes: as the tokenizer itself has it.
    [RECIPE_FALCON] = {{"[\\p{P}$+<=>^~|`]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, {0}},
};

// Names as converters write them; error messages list them in this order.
static const struct {
    const char *name;
    enum recipe_id recipe;
} names[] = {
    {"gpt-2", RECIPE_GPT2},
    {"phi-2", RECIPE_GPT2},
    {"gigachat", RECIPE_GPT2},
    {"jais", RECIPE_GPT2},
    {"trillion", RECIPE_GPT2},
    {"mellum", RECIPE_GPT2},
    {"mpt", RECIPE_NEOX},
    {"olmo", RECIPE_NEOX},
    {"llama-bpe", RECIPE_LLAMA3},
    {"llama3", RECIPE_LLAMA3},
    {"llama-v3", RECIPE_LLAMA3},
    {"falcon3", RECIPE_LLAMA3},
    {"dbrx", RECIPE_DBRX},
    {"smaug-bpe", RECIPE_DBRX},
    {"qwen2", RECIPE_QWEN2},
    {"megrez", RECIPE_DIGITS1},
    {"stablelm2", RECIPE_DIGITS1},
    {"deepseek-r1-qwen", RECIPE_DIGITS1},
    {"hunyuan", RECIPE_DIGITS1},
    {"smollm", RECIPE_SMOLLM},
    {"starcoder", RECIPE_SMOLLM},
    {"refact", RECIPE_SMOLLM},
    {"command-r", RECIPE_SMOLLM},
    {"codeshell", RECIPE_SMOLLM},
    {"exaone", RECIPE_SMOLLM},
    {"minerva-7b", RECIPE_SMOLLM},
    {"tekken", RECIPE_TEKKEN},
    {"default", RECIPE_DEFAULT},
    {"deepseek-coder", RECIPE_DEEPSEEK_CODER},
    {"falcon", RECIPE_FALCON},
};

struct fm_pretok {
    const struct recipe *recipe;
    pcre2_general_context *memory;
    pcre2_code *stages[MAX_STAGES];
    unsigned stage_count;
};

struct fm_pretok_scratch {
    pcre2_general_context *memory;
    pcre2_match_data *match;
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
    for (size_t i = 0; i < FM_COUNT(names); i++)
        fm_append(known, sizeof(known), "%s%s", i == 0 ? "" : " ", names[i].name);
    return fm_fail(FM_UNSUPPORTED, "metadata 'tokenizer.ggml.pre': unknown pre-tokenizer '%s', known are: %s",
                   FM_QUOTE(name, name_bytes), known);
}

// Every expression is a constant of this file, so a failure to compile can only be a lack of memory.
static enum fm_result compile_stages(struct fm_pretok *pretok)
{
    for (unsigned i = 0; i < MAX_STAGES && pretok->recipe->stages[i] != NULL; i++) {
        pcre2_compile_context *context = pcre2_compile_context_create(pretok->memory);
        if (context == NULL)
            return fm_nomem();
        int error;
        PCRE2_SIZE at;
        pretok->stages[i] = pcre2_compile((PCRE2_SPTR)pretok->recipe->stages[i], PCRE2_ZERO_TERMINATED,
                                          PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE, &error, &at, context);
        pcre2_compile_context_free(context);
        if (pretok->stages[i] == NULL)
            return fm_fail(FM_NOMEM, "pre-tokenizer expression %u: error %d at %zu", i, error, (size_t)at);
        pretok->stage_count = i + 1;
        // Without just-in-time compilation (a platform, or a policy against executable memory) matching is slower, not
        // wrong.
        if (pcre2_jit_compile(pretok->stages[i], PCRE2_JIT_COMPLETE) != 0)
            fm_log(FM_LOG_DEBUG, "pre-tokenizer expression %u is interpreted", i);
    }
    return FM_OK;
}

enum fm_result fm_pretok_create(const char *name, size_t name_bytes, struct fm_pretok **out_pretok)
{
    const struct recipe *recipe = NULL;
    for (size_t i = 0; i < FM_COUNT(names); i++) {
        if (strlen(names[i].name) == name_bytes && memcmp(names[i].name, name, name_bytes) == 0)
            recipe = &recipes[names[i].recipe];
    }
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
    for (unsigned i = 0; i < MAX_STAGES; i++)
        pcre2_code_free((*pretok)->stages[i]);
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
static enum fm_result find(const struct fm_pretok *pretok, struct fm_pretok_scratch *scratch, unsigned stage,
                           const char *text, size_t text_bytes, size_t from, size_t *out_begin, size_t *out_end)
{
    const pcre2_code *code = pretok->stages[stage];
    int rc = pcre2_match(code, (PCRE2_SPTR)text, text_bytes, from, PCRE2_NO_UTF_CHECK, scratch->match, NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(code, (PCRE2_SPTR)text, text_bytes, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, scratch->match,
                         NULL);
    if (rc == PCRE2_ERROR_NOMEMORY)
        return fm_nomem();
    const PCRE2_SIZE *ovector = pcre2_get_ovector_pointer(scratch->match);
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

static enum fm_result split_stage(const struct fm_pretok *pretok, struct fm_pretok_scratch *scratch, unsigned stage,
                                  const char *text, size_t text_bytes, fm_pretok_piece_fn *fn, void *user)
{
    if (text_bytes == 0)
        return FM_OK;
    if (stage == pretok->stage_count)
        return fn(user, text, text_bytes);
    enum fm_result r = FM_OK;
    size_t done = 0;
    while (r == FM_OK && done < text_bytes) {
        size_t begin = done, end = text_bytes;
        r = find(pretok, scratch, stage, text, text_bytes, done, &begin, &end);
        if (r == FM_OK)
            r = split_stage(pretok, scratch, stage + 1, text + done, begin - done, fn, user);
        if (r == FM_OK)
            r = split_stage(pretok, scratch, stage + 1, text + begin, end - begin, fn, user);
        done = end;
    }
    return r;
}

enum fm_result fm_pretok_split(const struct fm_pretok *pretok, struct fm_pretok_scratch *scratch, const char *text,
                               size_t text_bytes, fm_pretok_piece_fn *fn, void *user)
{
    return split_stage(pretok, scratch, 0, text, text_bytes, fn, user);
}
