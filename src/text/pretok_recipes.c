// SPDX-License-Identifier: MIT
#include "text/pretok_recipes.h"

#include "text/unicode_han.inc"

// White space as Unicode defines it. PCRE2's own \s takes in U+180E, which no longer is.
#define SPACE "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define S "[" SPACE "]"
#define NOT_S "[^" SPACE "]"
#define SPACES S "+(?!" NOT_S ")|" S "+"

#define CONTRACTION "'s|'t|'re|'ve|'m|'ll|'d"
#define GPT2 CONTRACTION "| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|" SPACES
#define PUNCTUATION "| ?[^" SPACE "\\p{L}\\p{N}]+[\\r\\n]*|"
#define LINES S "*[\\r\\n]+|"
// The expression of cl100k and its descendants, which differ in how many digits make a piece.
#define CL100K(digits) "(?i:" CONTRACTION ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits PUNCTUATION LINES SPACES
// Qwen 3.5's, in which marks belong to words.
#define QWEN35                                                                                                     \
    "(?i:" CONTRACTION ")|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" SPACE "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" \
    LINES SPACES
// Ling's: a possessive character before a word, and one line break at a time.
#define BAILING                                                                                                     \
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^" SPACE "\\p{L}\\p{N}]++[\\r\\n]*|" S "*[\\r\\n]|" \
    SPACES
#define SEED_CODER                                                                                             \
    "(?i:" CONTRACTION ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" SPACE "\\p{L}\\p{N}\\r\\n]+|" LINES SPACES

// Words that begin in upper case or continue in lower case, as tekken, o200k and Kimi K2 have them.
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
// The same without Han: all that is in none of the other categories.
#define UPPER_NOT_HAN "[^\\p{Ll}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}" HAN "]"
#define LOWER_NOT_HAN "[^\\p{Lu}\\p{Lt}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}" HAN "]"
#define WORDS(upper, lower, ending)                                                                                 \
    "[^\\r\\n\\p{L}\\p{N}]?" upper "*" lower "+" ending "|[^\\r\\n\\p{L}\\p{N}]?" upper "+" lower "*" ending "|"
#define ENDING "(?i:" CONTRACTION ")?"
#define PATHS "| ?[^" SPACE "\\p{L}\\p{N}]+[\\r\\n/]*|"
#define TEKKEN WORDS(UPPER, LOWER, "") "\\p{N}" PATHS LINES SPACES
#define O200K WORDS(UPPER, LOWER, ENDING) "\\p{N}{1,3}" PATHS LINES SPACES
#define KIMI "[" HAN "]+|" WORDS(UPPER_NOT_HAN, LOWER_NOT_HAN, ENDING) "\\p{N}{1,3}" PUNCTUATION LINES SPACES

// DeepSeek V3's words: ASCII punctuation goes with letters of ASCII behind it.
#define DEEPSEEK3                                                                                                    \
    "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINES SPACES
// Scripts that Arcee's tokenizer keeps together: CJK, Thai, Lao, Khmer, Burmese, Hangul.
#define ASIAN                                                                                                       \
    "[\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{f900}-\\x{faff}\\x{3040}-\\x{30ff}\\x{ff65}-\\x{ff9f}\\x{2f00}-"    \
    "\\x{2fdf}\\x{e40}-\\x{e7f}\\x{e80}-\\x{eff}\\x{1780}-\\x{17ff}\\x{1000}-\\x{109f}\\x{aa60}-\\x{aa7f}\\x{a9e0}-" \
    "\\x{a9ff}\\x{ac00}-\\x{d7af}\\x{1100}-\\x{11ff}]+"
// A run of digits at whose end a word ends: in the middle of a word, digits stay with what is around them.
#define WHOLE_DIGITS "(?<!\\p{Nd})\\p{Nd}++(?![\\p{L}\\p{M}\\p{N}\\p{Pc}])"

enum recipe_id {
    RECIPE_DEFAULT,
    RECIPE_GPT2,
    RECIPE_NEOX,
    RECIPE_LLAMA3,
    RECIPE_DBRX,
    RECIPE_QWEN2,
    RECIPE_QWEN35,
    RECIPE_DIGITS1,
    RECIPE_SMOLLM,
    RECIPE_TEKKEN,
    RECIPE_O200K,
    RECIPE_DEEPSEEK_CODER,
    RECIPE_DEEPSEEK3,
    RECIPE_FALCON,
    RECIPE_BAILING,
    RECIPE_SEED_CODER,
    RECIPE_KIMI,
    RECIPE_AFMOE,
    RECIPE_MINICPM5,
    RECIPE_TINY_AYA,
};

#define EXPRESSION(text) {FM_STAGE_EXPRESSION, text}
#define RANGES(text) {FM_STAGE_RANGES, text}
#define THREES(text) {FM_STAGE_THREES, text}

static const struct fm_pretok_recipe recipes[] = {
    [RECIPE_DEFAULT] = {{EXPRESSION("[\\p{P}$+<=>^~|]+"), EXPRESSION(GPT2), EXPRESSION("\\p{N}+"),
                         EXPRESSION("[0-9][0-9][0-9]")},
                        {0}},
    [RECIPE_GPT2] = {{EXPRESSION(GPT2)}, {0}},
    [RECIPE_NEOX] = {{EXPRESSION(GPT2)}, {.nfc = true}},
    [RECIPE_LLAMA3] = {{EXPRESSION(CL100K("\\p{N}{1,3}"))}, {.ignore_merges = true, .add_bos = true}},
    [RECIPE_DBRX] = {{EXPRESSION(CL100K("\\p{N}{1,3}"))}, {0}},
    [RECIPE_QWEN2] = {{EXPRESSION(CL100K("\\p{N}"))}, {.nfc = true}},
    [RECIPE_QWEN35] = {{EXPRESSION(QWEN35)}, {.nfc = true}},
    [RECIPE_DIGITS1] = {{EXPRESSION(CL100K("\\p{N}"))}, {0}},
    [RECIPE_SMOLLM] = {{EXPRESSION("\\p{N}"), EXPRESSION(GPT2)}, {0}},
    [RECIPE_TEKKEN] = {{EXPRESSION(TEKKEN)}, {.ignore_merges = true, .add_bos = true}},
    [RECIPE_O200K] = {{EXPRESSION(O200K)}, {0}},
    [RECIPE_DEEPSEEK_CODER] = {{EXPRESSION("[\\r\\n]"), EXPRESSION(S "?\\p{L}+"), EXPRESSION(S "?\\p{P}+"),
                                RANGES("[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"), EXPRESSION("\\p{N}")},
                               {0}},
    [RECIPE_DEEPSEEK3] = {{EXPRESSION("\\p{N}{1,3}"), RANGES("[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{30ff}]+"),
                           EXPRESSION(DEEPSEEK3)},
                          {0}},
    // Punctuation (ASCII's symbols count), then GPT-2's words. Only then come the numbers: the tokenizer looks for them in
    // words that are already written in GPT-2's alphabet, where any byte of a character may be one.
    [RECIPE_FALCON] = {{EXPRESSION("[\\p{P}$+<=>^~|`]+"), EXPRESSION(GPT2), {FM_STAGE_BYTE_NUMBERS, NULL}}, {0}},
    [RECIPE_BAILING] = {{EXPRESSION(BAILING)}, {0}},
    [RECIPE_SEED_CODER] = {{EXPRESSION(SEED_CODER)}, {0}},
    [RECIPE_KIMI] = {{EXPRESSION(KIMI)}, {0}},
    [RECIPE_AFMOE] = {{THREES("\\p{N}+"), RANGES(ASIAN), EXPRESSION(DEEPSEEK3)}, {0}},
    [RECIPE_MINICPM5] = {{EXPRESSION("\\p{N}{1,3}"), EXPRESSION(CL100K("\\p{N}+"))}, {.ignore_merges = true}},
    [RECIPE_TINY_AYA] = {{THREES(WHOLE_DIGITS), EXPRESSION(O200K)}, {0}},
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
    {"a.x-4.0", RECIPE_GPT2},
    {"exaone4", RECIPE_GPT2},
    {"granite-docling", RECIPE_GPT2},
    {"mpt", RECIPE_NEOX},
    {"olmo", RECIPE_NEOX},
    {"llama-bpe", RECIPE_LLAMA3},
    {"llama3", RECIPE_LLAMA3},
    {"llama-v3", RECIPE_LLAMA3},
    {"falcon3", RECIPE_LLAMA3},
    {"falcon-h1", RECIPE_LLAMA3},
    {"pixtral", RECIPE_LLAMA3},
    {"lfm2", RECIPE_LLAMA3},
    {"midm-2.0", RECIPE_LLAMA3},
    {"dbrx", RECIPE_DBRX},
    {"smaug-bpe", RECIPE_DBRX},
    {"glm4", RECIPE_DBRX},
    {"chatglm-bpe", RECIPE_DBRX},
    {"qwen2", RECIPE_QWEN2},
    {"f2llmv2", RECIPE_QWEN2},
    {"kormo", RECIPE_QWEN2},
    {"solar-open", RECIPE_DIGITS1},
    {"qwen35", RECIPE_QWEN35},
    {"megrez", RECIPE_DIGITS1},
    {"stablelm2", RECIPE_DIGITS1},
    {"deepseek-r1-qwen", RECIPE_DIGITS1},
    {"hunyuan", RECIPE_DIGITS1},
    {"grok-2", RECIPE_DIGITS1},
    {"smollm", RECIPE_SMOLLM},
    {"starcoder", RECIPE_SMOLLM},
    {"refact", RECIPE_SMOLLM},
    {"command-r", RECIPE_SMOLLM},
    {"codeshell", RECIPE_SMOLLM},
    {"exaone", RECIPE_SMOLLM},
    {"minerva-7b", RECIPE_SMOLLM},
    {"mellum2", RECIPE_SMOLLM},
    {"tekken", RECIPE_TEKKEN},
    {"gpt-4o", RECIPE_O200K},
    {"llama4", RECIPE_O200K},
    {"kanana2", RECIPE_O200K},
    {"talkie", RECIPE_O200K},
    {"minimax-m2", RECIPE_O200K},
    {"default", RECIPE_DEFAULT},
    {"deepseek-coder", RECIPE_DEEPSEEK_CODER},
    {"deepseek-v3", RECIPE_DEEPSEEK3},
    {"hunyuan-dense", RECIPE_DEEPSEEK3},
    {"joyai-llm", RECIPE_DEEPSEEK3},
    {"falcon", RECIPE_FALCON},
    {"bailingmoe", RECIPE_BAILING},
    {"bailingmoe2", RECIPE_BAILING},
    {"llada-moe", RECIPE_BAILING},
    {"seed-coder", RECIPE_SEED_CODER},
    {"kimi-k2", RECIPE_KIMI},
    {"afmoe", RECIPE_AFMOE},
    {"minicpm5", RECIPE_MINICPM5},
    {"tiny_aya", RECIPE_TINY_AYA},
};

const struct fm_pretok_recipe *fm_pretok_recipe_find(const char *name, size_t name_bytes)
{
    for (size_t i = 0; i < FM_COUNT(names); i++) {
        if (strlen(names[i].name) == name_bytes && memcmp(names[i].name, name, name_bytes) == 0)
            return &recipes[names[i].recipe];
    }
    return NULL;
}

const char *fm_pretok_name(size_t index)
{
    return index < FM_COUNT(names) ? names[index].name : NULL;
}
