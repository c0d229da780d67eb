// SPDX-License-Identifier: MIT
// tokenizer.json of Hugging Face's tokenizers: byte-level BPE (GPT-2, Llama 3, Qwen2), and BPE with byte fallback, which
// stands for a SentencePiece model.
#include "base/map.h"
#include "convert/vocab.h"

#define LIST_MAX 64 // parts of a pre-tokenizer

static bool type_is(const cJSON *node, const char *type)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, "type");
    return cJSON_IsString(item) && strcmp(item->valuestring, type) == 0;
}

static bool flag_of(const cJSON *node, const char *key, bool fallback)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, key);
    return cJSON_IsBool(item) ? cJSON_IsTrue(item) : fallback;
}

// The parts of a node that may be a sequence of others; at most LIST_MAX.
static size_t parts_of(const cJSON *node, const char *list_key, const cJSON *out_parts[LIST_MAX])
{
    const cJSON *list = type_is(node, "Sequence") ? cJSON_GetObjectItemCaseSensitive(node, list_key) : NULL, *item;
    size_t count = 0;
    if (list == NULL) {
        out_parts[0] = node;
        return cJSON_IsObject(node) ? 1 : 0;
    }
    cJSON_ArrayForEach(item, list)
    {
        if (count < LIST_MAX)
            out_parts[count++] = item;
    }
    return count;
}

// ---- which pre-tokenizer --------------------------------------------------------------------------------------------

#define CL100K(letters, digits) \
    letters "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define ENDINGS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TEKKEN                                                                                                         \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"                        \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}|"                 \
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

#define THREE_DIGITS "[0-9][0-9][0-9]"

// What may stand beside the expression.
enum { PART_LEVEL_REGEX = 1 /* ByteLevel brings GPT-2's */, PART_DIGITS = 2 /* each apart */, PART_NUMBERS = 4, PART_PUNCTUATION = 8 };

// Expressions as the published files have them. nfc and merges: -1 = either.
static const struct {
    const char *regex; // of the one Split; NULL: there is none
    unsigned parts;
    int nfc, ignore_merges;
    const char *pre;
} known[] = {
    {NULL, PART_LEVEL_REGEX, 0, -1, "gpt-2"},
    {NULL, PART_LEVEL_REGEX, 1, -1, "mpt"}, // GPT-NeoX
    {NULL, PART_LEVEL_REGEX | PART_DIGITS, 0, -1, "smollm"},
    {CL100K(ENDINGS, "\\p{N}{1,3}"), 0, 0, 1, "llama-bpe"},
    {CL100K(ENDINGS, "\\p{N}{1,3}"), 0, 0, 0, "dbrx"},
    {CL100K(ENDINGS, "\\p{N}"), 0, 1, -1, "qwen2"},
    {CL100K(ENDINGS, "\\p{N}"), 0, 0, -1, "deepseek-r1-qwen"},
    {TEKKEN, 0, 0, -1, "tekken"},
    {THREE_DIGITS, PART_LEVEL_REGEX | PART_NUMBERS | PART_PUNCTUATION, 0, -1, "falcon"},
};

struct shape {
    const char *regex;
    unsigned splits, parts;
    bool level, foreign, nfc;
};

static void look_at(const cJSON *node, struct shape *shape)
{
    const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(node, "pattern");
    const cJSON *regex = cJSON_GetObjectItemCaseSensitive(pattern, "Regex");
    const cJSON *behavior = cJSON_GetObjectItemCaseSensitive(node, "behavior");
    if (type_is(node, "ByteLevel")) {
        shape->level = true;
        shape->parts |= flag_of(node, "use_regex", true) ? PART_LEVEL_REGEX : 0;
        shape->foreign = shape->foreign || flag_of(node, "add_prefix_space", false);
    } else if (type_is(node, "Digits")) {
        shape->parts |= flag_of(node, "individual_digits", false) ? PART_DIGITS : PART_NUMBERS;
    } else if (type_is(node, "Punctuation") && cJSON_IsString(behavior) && strcmp(behavior->valuestring, "Contiguous") == 0) {
        shape->parts |= PART_PUNCTUATION;
    } else if (type_is(node, "Split") && cJSON_IsString(regex)) {
        shape->regex = regex->valuestring;
        shape->splits++;
    } else {
        shape->foreign = true;
    }
}

static struct shape shape_of(const struct fm_conf *tokenizer)
{
    struct shape shape = {0};
    const cJSON *parts[LIST_MAX];
    size_t n = parts_of(fm_conf_get(tokenizer, NULL, "pre_tokenizer"), "pretokenizers", parts);
    for (size_t i = 0; i < n; i++)
        look_at(parts[i], &shape);
    n = parts_of(fm_conf_get(tokenizer, NULL, "normalizer"), "normalizers", parts);
    for (size_t i = 0; i < n; i++) {
        shape.nfc = shape.nfc || type_is(parts[i], "NFC");
        shape.foreign = shape.foreign || !type_is(parts[i], "NFC");
    }
    return shape;
}

enum fm_result fm_vocab_pre(const struct fm_conf *tokenizer, const char **out_pre)
{
    struct shape shape = shape_of(tokenizer);
    const cJSON *model = fm_conf_get(tokenizer, NULL, "model");
    bool ignore_merges = model != NULL && flag_of(model, "ignore_merges", false);
    bool plain = !shape.foreign && shape.level && shape.splits <= 1;
    for (size_t i = 0; plain && i < FM_COUNT(known); i++) {
        bool regex = shape.regex == NULL ? known[i].regex == NULL
                                         : known[i].regex != NULL && strcmp(known[i].regex, shape.regex) == 0;
        if (regex && known[i].parts == shape.parts && (known[i].nfc < 0 || known[i].nfc == shape.nfc) &&
            (known[i].ignore_merges < 0 || known[i].ignore_merges == ignore_merges)) {
            *out_pre = known[i].pre;
            return FM_OK;
        }
    }
    char known_names[2048] = "";
    for (size_t i = 0; i < FM_COUNT(known); i++)
        fm_append(known_names, sizeof(known_names), " %s", known[i].pre);
    return fm_fail(FM_UNSUPPORTED, "%s: the pre-tokenizer (%s) is none of%s; name the right one with --pre", tokenizer->path,
                   FM_QUOTE_Z(shape.regex != NULL ? shape.regex : shape.level ? "byte level, with other parts" : "not byte level"),
                   known_names);
}

enum fm_vocab_kind fm_vocab_kind_of(const struct fm_conf *tokenizer)
{
    const cJSON *model = fm_conf_get(tokenizer, NULL, "model");
    if (!cJSON_IsObject(model) || cJSON_GetObjectItemCaseSensitive(model, "merges") == NULL)
        return FM_VOCAB_OTHER;
    if (shape_of(tokenizer).level)
        return FM_VOCAB_BYTE_LEVEL;
    return flag_of(model, "byte_fallback", false) ? FM_VOCAB_BYTE_FALLBACK : FM_VOCAB_OTHER;
}

bool fm_vocab_adds_bos(const struct fm_conf *tokenizer, bool *out_known)
{
    const cJSON *parts[LIST_MAX];
    size_t n = parts_of(fm_conf_get(tokenizer, NULL, "post_processor"), "processors", parts);
    *out_known = false;
    for (size_t i = 0; i < n; i++) {
        if (!type_is(parts[i], "TemplateProcessing"))
            continue;
        const cJSON *single = cJSON_GetObjectItemCaseSensitive(parts[i], "single");
        *out_known = true;
        return cJSON_IsArray(single) && single->child != NULL &&
               cJSON_GetObjectItemCaseSensitive(single->child, "SpecialToken") != NULL;
    }
    return false;
}

// ---- tokens ---------------------------------------------------------------------------------------------------------

static struct fm_text text_of(const char *text)
{
    return (struct fm_text){.data = text, .bytes = strlen(text)};
}

// "<0x0A>" of a model with byte fallback.
static bool is_byte(const char *text)
{
    return strlen(text) == 6 && memcmp(text, "<0x", 3) == 0 && text[5] == '>';
}

static enum fm_result read_tokens(struct fm_vocab *vocab, const struct fm_conf *tokenizer, const cJSON *model)
{
    const cJSON *table = cJSON_GetObjectItemCaseSensitive(model, "vocab"), *item;
    const cJSON *unk = cJSON_GetObjectItemCaseSensitive(model, "unk_token");
    enum fm_result r = FM_OK;
    if (!cJSON_IsObject(table))
        return fm_fail(FM_FORMAT, "%s: 'model.vocab': expected an object", tokenizer->path);
    cJSON_ArrayForEach(item, table)
    {
        uint32_t id;
        int32_t type = vocab->spm && is_byte(item->string) ? FM_PIECE_BYTE : FM_PIECE_NORMAL;
        if (!fm_conf_whole(item, FM_HF_SIZE_MAX, &id))
            return fm_fail(FM_FORMAT, "%s: 'model.vocab': the id of '%s': expected a whole number up to %u", tokenizer->path,
                           FM_QUOTE_Z(item->string), FM_HF_SIZE_MAX);
        if (vocab->spm && cJSON_IsString(unk) && strcmp(unk->valuestring, item->string) == 0)
            type = FM_PIECE_UNKNOWN;
        if ((r = fm_vocab_set(vocab, tokenizer->path, id, text_of(item->string), 0, type, false)) != FM_OK)
            return r;
    }
    return FM_OK;
}

enum fm_result fm_vocab_read_added(struct fm_vocab *vocab, const struct fm_conf *tokenizer)
{
    const cJSON *list, *item;
    enum fm_result r = fm_conf_array(tokenizer, "added_tokens", false, &list);
    if (r != FM_OK || list == NULL)
        return r;
    cJSON_ArrayForEach(item, list)
    {
        const cJSON *content = cJSON_GetObjectItemCaseSensitive(item, "content");
        uint32_t id;
        if (!fm_conf_whole(cJSON_GetObjectItemCaseSensitive(item, "id"), FM_HF_SIZE_MAX, &id) || !cJSON_IsString(content))
            return fm_fail(FM_FORMAT, "%s: 'added_tokens': expected objects with 'id' and 'content'", tokenizer->path);
        int32_t type = flag_of(item, "special", false) ? FM_PIECE_CONTROL : FM_PIECE_USER;
        if (id < vocab->count && vocab->types[id] == FM_PIECE_UNKNOWN)
            type = FM_PIECE_UNKNOWN;
        if ((r = fm_vocab_set(vocab, tokenizer->path, id, text_of(content->valuestring), 0, type, true)) != FM_OK)
            return r;
    }
    return FM_OK;
}

// ---- merges ---------------------------------------------------------------------------------------------------------

// Both halves of a merge: "a b", or in newer files ["a", "b"].
static bool halves_of(const cJSON *item, struct fm_text *out_left, struct fm_text *out_right)
{
    if (cJSON_IsString(item)) {
        const char *space = item->valuestring[0] != '\0' ? strchr(item->valuestring + 1, ' ') : NULL;
        if (space == NULL)
            return false;
        *out_left = (struct fm_text){.data = item->valuestring, .bytes = (uint64_t)(space - item->valuestring)};
        *out_right = text_of(space + 1);
        return true;
    }
    const cJSON *left = cJSON_IsArray(item) ? item->child : NULL, *right = left != NULL ? left->next : NULL;
    if (!cJSON_IsString(left) || !cJSON_IsString(right) || right->next != NULL)
        return false;
    *out_left = text_of(left->valuestring);
    *out_right = text_of(right->valuestring);
    return true;
}

// "left right" in the arena.
static enum fm_result join(struct fm_arena *arena, struct fm_text left, struct fm_text right, const char *between,
                           struct fm_text *out_text)
{
    size_t gap = strlen(between);
    char *text = fm_arena_alloc(arena, (size_t)(left.bytes + right.bytes) + gap + 1, 1);
    if (text == NULL)
        return fm_nomem();
    memcpy(text, left.data, (size_t)left.bytes);
    memcpy(text + left.bytes, between, gap);
    memcpy(text + left.bytes + gap, right.data, (size_t)right.bytes);
    *out_text = (struct fm_text){.data = text, .bytes = left.bytes + right.bytes + gap};
    return FM_OK;
}

// SentencePiece merges the pair whose result has the highest score: the earlier a merge, the higher the score of what it
// makes.
static enum fm_result score(struct fm_vocab *vocab, const struct fm_map *ids, struct fm_text made, uint32_t rank)
{
    uint32_t id;
    if (fm_map_get(ids, made.data, (size_t)made.bytes, &id) && vocab->scores[id] == 0)
        vocab->scores[id] = -1.0f - (float)rank;
    return FM_OK;
}

static enum fm_result read_merges(struct fm_hf *hf, struct fm_vocab *vocab, const struct fm_conf *tokenizer, const cJSON *model)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(model, "merges"), *item;
    struct fm_arena scratch = {0};
    struct fm_map ids = {0};
    struct fm_text *lines = NULL, left = {0}, right = {0};
    uint32_t count = 0;
    enum fm_result r = FM_OK;
    if (!cJSON_IsArray(list))
        return fm_fail(FM_FORMAT, "%s: 'model.merges': expected a list", tokenizer->path);
    lines = fm_arena_alloc(&scratch, (size_t)cJSON_GetArraySize(list) + 1, sizeof(*lines));
    if (lines == NULL)
        r = fm_nomem();
    for (uint32_t id = 0; r == FM_OK && vocab->spm && id < vocab->count; id++)
        if (vocab->texts[id].data != NULL)
            r = fm_map_put(&ids, vocab->texts[id].data, (size_t)vocab->texts[id].bytes, id, NULL);
    cJSON_ArrayForEach(item, list)
    {
        if (r == FM_OK && !halves_of(item, &left, &right))
            r = fm_fail(FM_FORMAT, "%s: 'model.merges[%u]': expected two pieces", tokenizer->path, count);
        if (r == FM_OK)
            r = join(&scratch, left, right, vocab->spm ? "" : " ", &lines[count]);
        if (r == FM_OK && vocab->spm)
            r = score(vocab, &ids, lines[count], count);
        if (r != FM_OK)
            break;
        count++;
    }
    if (r == FM_OK && !vocab->spm)
        fm_gguf_put_texts(hf->conv->writer, "tokenizer.ggml.merges", lines, count);
    fm_map_finish(&ids);
    fm_arena_finish(&scratch);
    return r;
}

// Is a space put before the text? "Prepend" among the normalisers, or Metaspace that does not say "never".
static bool prefix_of(const struct fm_conf *tokenizer)
{
    const cJSON *parts[LIST_MAX];
    size_t n = parts_of(fm_conf_get(tokenizer, NULL, "normalizer"), "normalizers", parts);
    for (size_t i = 0; i < n; i++)
        if (type_is(parts[i], "Prepend"))
            return true;
    n = parts_of(fm_conf_get(tokenizer, NULL, "pre_tokenizer"), "pretokenizers", parts);
    for (size_t i = 0; i < n; i++) {
        const cJSON *scheme = cJSON_GetObjectItemCaseSensitive(parts[i], "prepend_scheme");
        if (type_is(parts[i], "Metaspace"))
            return cJSON_IsString(scheme) ? strcmp(scheme->valuestring, "never") != 0
                                          : flag_of(parts[i], "add_prefix_space", true);
    }
    return false;
}

enum fm_result fm_vocab_read_json(struct fm_hf *hf, struct fm_vocab *vocab, const struct fm_conf *tokenizer)
{
    const cJSON *model = fm_conf_get(tokenizer, NULL, "model");
    enum fm_result r = read_tokens(vocab, tokenizer, model);
    vocab->add_space_prefix = vocab->spm && prefix_of(tokenizer);
    if (r == FM_OK)
        r = read_merges(hf, vocab, tokenizer, model);
    return r == FM_OK ? fm_vocab_read_added(vocab, tokenizer) : r;
}
