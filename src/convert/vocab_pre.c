// SPDX-License-Identifier: MIT
// Which tokenizer a tokenizer.json describes, and which tokenizer.ggml.pre stands for its pre-tokenizer.
#include "convert/vocab_steps.h"

#include <stdio.h>

#define CL100K(digits)                                                                                               \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|" \
    "\\s+(?!\\S)|\\s+"
#define QWEN35                                                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|"   \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define WORDS(ending, digits)                                                                                        \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" ending "|"              \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" ending "|" digits "|"   \
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define BAILING                                                                                                      \
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|"         \
    "\\s+(?!\\S)|\\s+"
#define DEEPSEEK3                                                                                                    \
    "\\p{N}{1,3}\n[一-龥぀-ゟ゠-ヿ]+\n"                                                                                  \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"                \
    " ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

#define REGEX_BYTES 2048
#define ALL_ELSE "|\\s+(?!\\S)|\\s+" // how expressions end that leave nothing of a text over

// Pre-tokenizers as the published files have them. `parts` is a letter for each: S Split, L ByteLevel, G ByteLevel with
// GPT-2's own expression, D single digits, N runs of digits, P punctuation. `regexes` are those of the Splits, one a line. nfc
// and ignore_merges are what the name itself stands for.
static const struct pre {
    const char *parts, *regexes;
    bool nfc, ignore_merges;
    const char *name;
} known[] = {
    {"G", "", false, false, "gpt-2"},
    {"G", "", true, false, "mpt"}, // GPT-NeoX
    {"DG", "", false, false, "smollm"},
    {"SL", CL100K("\\p{N}{1,3}"), false, true, "llama-bpe"},
    {"SL", CL100K("\\p{N}{1,3}"), false, false, "dbrx"},
    {"SL", CL100K("\\p{N}"), true, false, "qwen2"},
    {"SL", CL100K("\\p{N}"), false, false, "deepseek-r1-qwen"},
    {"SL", QWEN35, true, false, "qwen35"},
    {"SL", WORDS("", "\\p{N}"), false, true, "tekken"},
    {"SL", WORDS("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "\\p{N}{1,3}"), false, false, "gpt-4o"},
    {"SL", BAILING, false, false, "bailingmoe"},
    {"SSSL", DEEPSEEK3, false, false, "deepseek-v3"},
    {"PGNS", "[0-9][0-9][0-9]", false, false, "falcon"},
};

struct shape {
    char parts[FM_PARTS_OF_MAX + 1];
    char regexes[REGEX_BYTES];
    bool level;          // some part is ByteLevel
    bool prefix_space;   // ByteLevel puts a space in front
    const cJSON *foreign; // the first part that is none of the letters
};

// The expression of a Split that keeps all parts of the text, or NULL.
static const char *split_regex(const cJSON *node)
{
    const char *regex = fm_vocab_string_of(cJSON_GetObjectItemCaseSensitive(node, "pattern"), "Regex");
    const char *behavior = fm_vocab_string_of(node, "behavior");
    bool invert = fm_vocab_flag_of(node, "invert", false);
    if (regex == NULL || behavior == NULL || (strcmp(behavior, "Isolated") == 0 && !invert))
        return regex;
    // "What does not match is cut away" is the same where everything matches.
    size_t bytes = strlen(regex), tail = strlen(ALL_ELSE);
    bool all = bytes >= tail && strcmp(regex + bytes - tail, ALL_ELSE) == 0;
    return strcmp(behavior, "Removed") == 0 && invert && all ? regex : NULL;
}

static char letter_of(const cJSON *node, struct shape *shape)
{
    const char *behavior = fm_vocab_string_of(node, "behavior");
    if (fm_vocab_type_is(node, "ByteLevel")) {
        shape->level = true;
        shape->prefix_space = shape->prefix_space || fm_vocab_flag_of(node, "add_prefix_space", false);
        return fm_vocab_flag_of(node, "use_regex", true) ? 'G' : 'L';
    }
    if (fm_vocab_type_is(node, "Digits"))
        return fm_vocab_flag_of(node, "individual_digits", false) ? 'D' : 'N';
    if (fm_vocab_type_is(node, "Punctuation") && behavior != NULL && strcmp(behavior, "Contiguous") == 0)
        return 'P';
    const char *regex = fm_vocab_type_is(node, "Split") ? split_regex(node) : NULL;
    size_t used = strlen(shape->regexes);
    if (regex == NULL || used + strlen(regex) + 2 > REGEX_BYTES)
        return 0;
    snprintf(shape->regexes + used, REGEX_BYTES - used, "%s%s", used > 0 ? "\n" : "", regex);
    return 'S';
}

static enum fm_result shape_of(const struct fm_conf *tokenizer, struct shape *out_shape)
{
    const cJSON *parts[FM_PARTS_OF_MAX];
    size_t count;
    *out_shape = (struct shape){0};
    enum fm_result r = fm_vocab_parts(tokenizer, "pre_tokenizer", "pretokenizers", parts, &count);
    for (size_t i = 0; i < count; i++) {
        char letter = letter_of(parts[i], out_shape);
        if (letter == 0 && out_shape->foreign == NULL)
            out_shape->foreign = parts[i];
        out_shape->parts[i] = letter != 0 ? letter : '?';
    }
    return r;
}

static enum fm_result fail_unknown(const struct fm_conf *tokenizer, const struct shape *shape)
{
    char names[512] = "";
    for (size_t i = 0; i < FM_COUNT(known); i++)
        fm_append(names, sizeof(names), " %s", known[i].name);
    const char *type = shape->foreign != NULL ? fm_vocab_string_of(shape->foreign, "type") : NULL;
    const char *behavior = shape->foreign != NULL ? fm_vocab_string_of(shape->foreign, "behavior") : NULL;
    const char *what = shape->regexes[0] != '\0' ? shape->regexes : type != NULL ? type : "ByteLevel, with other parts";
    return fm_fail(FM_UNSUPPORTED, "%s: the pre-tokenizer (%s%s%s%s%s) is none of%s; name the right one with --pre",
                   tokenizer->path, FM_QUOTE_Z(what), type != NULL ? "; " : "", type != NULL ? FM_QUOTE_Z(type) : "",
                   behavior != NULL ? " " : "", behavior != NULL ? FM_QUOTE_Z(behavior) : "", names);
}

static const struct pre *find_pre(const struct shape *shape, bool nfc, bool ignore_merges)
{
    const struct pre *best = NULL;
    for (size_t i = 0; i < FM_COUNT(known); i++) {
        const struct pre *pre = &known[i];
        if (strcmp(pre->parts, shape->parts) != 0 || strcmp(pre->regexes, shape->regexes) != 0 || (pre->nfc && !nfc))
            continue;
        // Of several the one that says more of what the file says.
        int score = 2 * (pre->nfc == nfc) + (pre->ignore_merges == ignore_merges);
        if (best == NULL || score > 2 * (best->nfc == nfc) + (best->ignore_merges == ignore_merges))
            best = pre;
    }
    return best;
}

enum fm_result fm_vocab_read_pre(const struct fm_conf *tokenizer, const char *given, struct fm_vocab_steps *steps,
                                 const char **out_pre)
{
    struct shape shape;
    enum fm_result r = shape_of(tokenizer, &shape);
    if (r != FM_OK)
        return r;
    if (shape.prefix_space && strcmp(shape.parts, "G") != 0)
        return fm_fail(FM_UNSUPPORTED,
                       "%s: pre_tokenizer 'ByteLevel' with 'add_prefix_space' behind other parts is not supported", tokenizer->path);
    steps->prefix_space = shape.prefix_space;
    const struct pre *pre = find_pre(&shape, steps->nfc, fm_vocab_flag_of(fm_conf_get(tokenizer, NULL, "model"), "ignore_merges", false));
    *out_pre = given != NULL ? given : pre != NULL ? pre->name : NULL;
    // The name alone stands for the steps, where they are no more than it says.
    bool nfc = given == NULL && pre != NULL && pre->nfc;
    steps->in_name = steps->only_nfc && !steps->prefix_space && nfc == steps->nfc;
    return *out_pre != NULL ? FM_OK : fail_unknown(tokenizer, &shape);
}

enum fm_result fm_vocab_kind_of(const struct fm_conf *tokenizer, enum fm_vocab_kind *out_kind)
{
    const cJSON *model = fm_conf_get(tokenizer, NULL, "model");
    const char *type = fm_vocab_string_of(model, "type");
    struct shape shape;
    *out_kind = FM_VOCAB_OTHER;
    if (!cJSON_IsObject(model) || (type != NULL && strcmp(type, "BPE") != 0) ||
        cJSON_GetObjectItemCaseSensitive(model, "merges") == NULL)
        return FM_OK;
    enum fm_result r = shape_of(tokenizer, &shape);
    if (r != FM_OK)
        return r;
    if (shape.level)
        *out_kind = FM_VOCAB_BYTE_LEVEL;
    else if (fm_vocab_flag_of(model, "byte_fallback", false))
        *out_kind = FM_VOCAB_BYTE_FALLBACK;
    return FM_OK;
}

enum fm_result fm_vocab_refuse_other(const struct fm_conf *tokenizer)
{
    const cJSON *model = fm_conf_get(tokenizer, NULL, "model");
    const char *type = fm_vocab_string_of(model, "type");
    return fm_fail(FM_UNSUPPORTED,
                   "%s: 'model.type' is '%s': this tokenizer is neither byte-level BPE nor BPE with byte fallback",
                   tokenizer->path, type != NULL ? FM_QUOTE_Z(type) : "not there");
}

// How many special tokens a template puts in front of the text, and behind it; *out_first is the name of the first one in front.
static void count_special(const cJSON *single, unsigned *out_front, unsigned *out_behind, const char **out_first)
{
    const cJSON *item;
    bool seen = false;
    *out_front = *out_behind = 0;
    *out_first = NULL;
    cJSON_ArrayForEach(item, single)
    {
        const cJSON *token = cJSON_GetObjectItemCaseSensitive(item, "SpecialToken");
        seen = seen || cJSON_GetObjectItemCaseSensitive(item, "Sequence") != NULL;
        if (token != NULL && !seen && *out_front == 0)
            *out_first = fm_vocab_string_of(token, "id");
        if (token != NULL)
            ++*(seen ? out_behind : out_front);
    }
}

// What the template's name stands for: special_tokens has its ids.
static enum fm_result read_template_id(const struct fm_conf *tokenizer, const cJSON *template, struct fm_vocab_front *front)
{
    const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(template, "special_tokens");
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(tokens, front->token), "ids");
    if (ids != NULL && (!cJSON_IsArray(ids) || cJSON_GetArraySize(ids) != 1 || !fm_conf_whole(ids->child, FM_HF_SIZE_MAX, &front->id)))
        return fm_fail(FM_UNSUPPORTED, "%s: post_processor 'TemplateProcessing': 'special_tokens': expected one id for '%s'",
                       tokenizer->path, FM_QUOTE_Z(front->token));
    return FM_OK;
}

enum fm_result fm_vocab_read_front(const struct fm_conf *tokenizer, struct fm_vocab_front *out_front)
{
    const cJSON *parts[FM_PARTS_OF_MAX];
    size_t count;
    unsigned front, behind;
    *out_front = (struct fm_vocab_front){.id = FM_NO_ID};
    enum fm_result r = fm_vocab_parts(tokenizer, "post_processor", "processors", parts, &count);
    for (size_t i = 0; r == FM_OK && i < count; i++) {
        if (fm_vocab_type_is(parts[i], "ByteLevel"))
            continue; // about offsets only
        if (!fm_vocab_type_is(parts[i], "TemplateProcessing"))
            return fm_fail(FM_UNSUPPORTED, "%s: post_processor '%s' is not supported", tokenizer->path,
                           FM_QUOTE_Z(fm_vocab_string_of(parts[i], "type")));
        *out_front = (struct fm_vocab_front){.known = true, .id = FM_NO_ID};
        count_special(cJSON_GetObjectItemCaseSensitive(parts[i], "single"), &front, &behind, &out_front->token);
        if (front > 1)
            return fm_fail(FM_UNSUPPORTED, "%s: post_processor 'TemplateProcessing' puts %u tokens in front of a text, expected at most 1",
                           tokenizer->path, front);
        if (front == 1 && out_front->token == NULL)
            return fm_fail(FM_FORMAT, "%s: post_processor 'TemplateProcessing': 'SpecialToken' without 'id'", tokenizer->path);
        if (behind > 0)
            fm_log(FM_LOG_WARN, "%s: post_processor 'TemplateProcessing' puts tokens behind a text, which is not taken over",
                   tokenizer->path);
        if (front == 1)
            r = read_template_id(tokenizer, parts[i], out_front);
    }
    return r;
}
