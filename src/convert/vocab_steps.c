// SPDX-License-Identifier: MIT
// Normalisers, Metaspace and settings of the model in a tokenizer.json of Hugging Face's tokenizers. What this version cannot
// do as that library does it is refused by name: nothing is left out in silence.
#include "convert/vocab_steps.h"

#define DEPTH_MAX 8
#define SPACE_MARK "\xE2\x96\x81" // U+2581

bool fm_vocab_type_is(const cJSON *node, const char *type)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, "type");
    return cJSON_IsString(item) && strcmp(item->valuestring, type) == 0;
}

bool fm_vocab_flag_of(const cJSON *node, const char *key, bool fallback)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, key);
    return cJSON_IsBool(item) ? cJSON_IsTrue(item) : fallback;
}

const char *fm_vocab_string_of(const cJSON *node, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(node, key);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

// ---- parts ----------------------------------------------------------------------------------------------------------

static enum fm_result add_parts(const struct fm_conf *tokenizer, const char *key, const char *list_key, const cJSON *node,
                                unsigned depth, const cJSON *out_parts[FM_PARTS_OF_MAX], size_t *count)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(node, list_key), *item;
    enum fm_result r = FM_OK;
    if (fm_vocab_string_of(node, "type") == NULL || *count == FM_PARTS_OF_MAX || depth == DEPTH_MAX)
        return fm_fail(FM_FORMAT, "%s: '%s': expected objects with 'type', at most %d of them", tokenizer->path, key,
                       FM_PARTS_OF_MAX);
    if (!fm_vocab_type_is(node, "Sequence")) {
        out_parts[(*count)++] = node;
        return FM_OK;
    }
    if (!cJSON_IsArray(list))
        return fm_fail(FM_FORMAT, "%s: '%s': a Sequence without a list '%s'", tokenizer->path, key, list_key);
    cJSON_ArrayForEach(item, list)
    {
        if (r == FM_OK)
            r = add_parts(tokenizer, key, list_key, item, depth + 1, out_parts, count);
    }
    return r;
}

enum fm_result fm_vocab_parts(const struct fm_conf *tokenizer, const char *key, const char *list_key,
                              const cJSON *out_parts[FM_PARTS_OF_MAX], size_t *out_count)
{
    const cJSON *node = fm_conf_get(tokenizer, NULL, key);
    *out_count = 0;
    return node == NULL ? FM_OK : add_parts(tokenizer, key, list_key, node, 0, out_parts, out_count);
}

// ---- normalisers ----------------------------------------------------------------------------------------------------

static void add_word(struct fm_vocab_steps *steps, const char *word)
{
    steps->words[steps->n_words++] = (struct fm_text){.data = word, .bytes = strlen(word)};
}

static bool has_space(const char *text)
{
    return strchr(text, ' ') != NULL;
}

// One character, no more and no less.
static bool is_char(const char *text)
{
    size_t starts = 0;
    for (; *text != '\0'; text++)
        starts += ((uint8_t)*text & 0xC0) != 0x80;
    return starts == 1;
}

static enum fm_result read_replace(const struct fm_conf *tokenizer, const cJSON *node, struct fm_vocab_steps *steps)
{
    const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(node, "pattern");
    const char *what = fm_vocab_string_of(pattern, "String"), *regex = fm_vocab_string_of(pattern, "Regex");
    const char *by = fm_vocab_string_of(node, "content");
    if (regex != NULL)
        return fm_fail(FM_UNSUPPORTED, "%s: normalizer 'Replace' with the regular expression '%s' is not supported",
                       tokenizer->path, FM_QUOTE_Z(regex));
    if (what == NULL || by == NULL)
        return fm_fail(FM_FORMAT, "%s: normalizer 'Replace': expected 'pattern' with 'String', and 'content'", tokenizer->path);
    if (what[0] == '\0')
        return fm_fail(FM_UNSUPPORTED, "%s: normalizer 'Replace' of an empty text is not supported", tokenizer->path);
    add_word(steps, "replace");
    add_word(steps, what);
    add_word(steps, by);
    steps->has_space = has_space(by) || (steps->has_space && strcmp(what, " ") != 0);
    steps->keeps_head = steps->keeps_head && is_char(what) && by[0] != '\0';
    return FM_OK;
}

static enum fm_result read_prepend(const struct fm_conf *tokenizer, const cJSON *node, struct fm_vocab_steps *steps)
{
    const char *text = fm_vocab_string_of(node, "prepend");
    if (text == NULL)
        return fm_fail(FM_FORMAT, "%s: normalizer 'Prepend': expected a string 'prepend'", tokenizer->path);
    add_word(steps, "prepend");
    add_word(steps, text);
    steps->has_space = steps->has_space || has_space(text);
    steps->prepends_space = steps->prepends_space || strcmp(text, SPACE_MARK) == 0 || strcmp(text, " ") == 0;
    steps->keeps_head = false;
    return FM_OK;
}

static enum fm_result read_normalizer(const struct fm_conf *tokenizer, const cJSON *node, struct fm_vocab_steps *steps)
{
    static const struct {
        const char *type, *word;
        bool makes_space, moves_head;
    } plain[] = {{"NFC", "nfc", false, false},
                 {"NFD", "nfd", false, false},
                 {"NFKC", "nfkc", true, false},
                 {"NFKD", "nfkd", true, false},
                 {"Lowercase", "lowercase", false, false},
                 {"StripAccents", "strip_accents", false, true},
                 {"Nmt", "nmt", true, true}};
    if (steps->n_words > FM_STEP_WORDS_MAX - 3)
        return fm_fail(FM_UNSUPPORTED, "%s: 'normalizer' has more parts than are supported", tokenizer->path);
    for (size_t i = 0; i < FM_COUNT(plain); i++) {
        if (!fm_vocab_type_is(node, plain[i].type))
            continue;
        add_word(steps, plain[i].word);
        steps->has_space = steps->has_space || plain[i].makes_space;
        steps->keeps_head = steps->keeps_head && !plain[i].moves_head;
        return FM_OK;
    }
    if (fm_vocab_type_is(node, "Strip")) {
        // The library wants both; older files that leave one out never loaded.
        bool left = fm_vocab_flag_of(node, "strip_left", true), right = fm_vocab_flag_of(node, "strip_right", true);
        if (!left && !right)
            return FM_OK;
        add_word(steps, "strip");
        add_word(steps, left && right ? "both" : left ? "left" : "right");
        steps->keeps_head = steps->keeps_head && !left;
        return FM_OK;
    }
    if (fm_vocab_type_is(node, "Replace"))
        return read_replace(tokenizer, node, steps);
    if (fm_vocab_type_is(node, "Prepend"))
        return read_prepend(tokenizer, node, steps);
    return fm_fail(FM_UNSUPPORTED,
                   "%s: normalizer '%s' is not supported; known are NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Nmt, "
                   "Prepend and Replace of a string",
                   tokenizer->path, FM_QUOTE_Z(fm_vocab_string_of(node, "type")));
}

enum fm_result fm_vocab_read_normalizers(const struct fm_conf *tokenizer, struct fm_vocab_steps *out_steps)
{
    const cJSON *parts[FM_PARTS_OF_MAX];
    size_t count;
    *out_steps = (struct fm_vocab_steps){.has_space = true, .keeps_head = true, .only_nfc = true};
    enum fm_result r = fm_vocab_parts(tokenizer, "normalizer", "normalizers", parts, &count);
    for (size_t i = 0; r == FM_OK && i < count; i++) {
        bool nfc = fm_vocab_type_is(parts[i], "NFC");
        out_steps->nfc = out_steps->nfc || nfc;
        out_steps->only_nfc = out_steps->only_nfc && nfc;
        r = read_normalizer(tokenizer, parts[i], out_steps);
    }
    return r;
}

// ---- Metaspace ------------------------------------------------------------------------------------------------------

static enum fm_result read_metaspace(const struct fm_conf *tokenizer, const cJSON *node, struct fm_vocab_steps *steps)
{
    static const char *const schemes[] = {"always", "first", "never"};
    const char *replacement = fm_vocab_string_of(node, "replacement"), *scheme = fm_vocab_string_of(node, "prepend_scheme");
    const cJSON *old = cJSON_GetObjectItemCaseSensitive(node, "add_prefix_space");
    if (steps->metaspace != NULL)
        return fm_fail(FM_UNSUPPORTED, "%s: more than one pre_tokenizer 'Metaspace' is not supported", tokenizer->path);
    if (replacement != NULL && strcmp(replacement, SPACE_MARK) != 0)
        return fm_fail(FM_UNSUPPORTED, "%s: pre_tokenizer 'Metaspace' with 'replacement' '%s' is not supported, only U+2581",
                       tokenizer->path, FM_QUOTE_Z(replacement));
    if (scheme == NULL)
        scheme = cJSON_IsFalse(old) ? "never" : "always";
    else if (cJSON_IsFalse(old) && strcmp(scheme, "never") != 0)
        return fm_fail(FM_FORMAT, "%s: pre_tokenizer 'Metaspace': 'add_prefix_space' false contradicts 'prepend_scheme' '%s'",
                       tokenizer->path, FM_QUOTE_Z(scheme));
    for (size_t i = 0; i < FM_COUNT(schemes); i++)
        if (strcmp(scheme, schemes[i]) == 0)
            steps->metaspace = schemes[i];
    if (steps->metaspace == NULL)
        return fm_fail(FM_UNSUPPORTED, "%s: pre_tokenizer 'Metaspace': 'prepend_scheme' is '%s', known are always, first, never",
                       tokenizer->path, FM_QUOTE_Z(scheme));
    // The library tells by offsets whether a part begins the text, and these normalisers shift the offsets.
    if (strcmp(scheme, "first") == 0 && !steps->keeps_head)
        return fm_fail(FM_UNSUPPORTED,
                       "%s: pre_tokenizer 'Metaspace' with 'prepend_scheme' 'first' behind normalizers that change the "
                       "beginning of a text (Strip, StripAccents, Nmt, Prepend, Replace) is not supported",
                       tokenizer->path);
    steps->metaspace_split = fm_vocab_flag_of(node, "split", true);
    steps->has_space = false;
    return FM_OK;
}

enum fm_result fm_vocab_read_metaspace(const struct fm_conf *tokenizer, struct fm_vocab_steps *steps)
{
    const cJSON *parts[FM_PARTS_OF_MAX];
    size_t count;
    enum fm_result r = fm_vocab_parts(tokenizer, "pre_tokenizer", "pretokenizers", parts, &count);
    for (size_t i = 0; r == FM_OK && i < count; i++) {
        const char *at = fm_vocab_string_of(cJSON_GetObjectItemCaseSensitive(parts[i], "pattern"), "String");
        const char *regex = fm_vocab_string_of(cJSON_GetObjectItemCaseSensitive(parts[i], "pattern"), "Regex");
        bool split = fm_vocab_type_is(parts[i], "Split");
        if (fm_vocab_type_is(parts[i], "Metaspace"))
            r = read_metaspace(tokenizer, parts[i], steps);
        else if (split && at != NULL && strcmp(at, " ") == 0 && !steps->has_space && !fm_vocab_flag_of(parts[i], "invert", false))
            continue; // Gemma's: the normaliser left it no space to split at
        else if (split)
            r = fm_fail(FM_UNSUPPORTED, "%s: pre_tokenizer 'Split' at '%s' is not supported in a tokenizer with byte fallback",
                        tokenizer->path, FM_QUOTE_Z(at != NULL ? at : regex != NULL ? regex : ""));
        else
            r = fm_fail(FM_UNSUPPORTED, "%s: pre_tokenizer '%s' is not supported in a tokenizer with byte fallback",
                        tokenizer->path, FM_QUOTE_Z(fm_vocab_string_of(parts[i], "type")));
    }
    return r;
}

// ---- the model ------------------------------------------------------------------------------------------------------

enum fm_result fm_vocab_check_model(const struct fm_conf *tokenizer, bool byte_level)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    static const char *const outer[] = {"truncation", "padding"};
    const cJSON *model = fm_conf_get(tokenizer, NULL, "model");
    const cJSON *dropout = fm_conf_get(tokenizer, model, "dropout");
    if (dropout != NULL && !(cJSON_IsNumber(dropout) && dropout->valuedouble == 0))
        return fm_fail(FM_UNSUPPORTED, "%s: 'model.dropout' is %g: random tokens are not supported", tokenizer->path,
                       dropout->valuedouble);
    for (size_t i = 0; i < FM_COUNT(affixes); i++) {
        const cJSON *affix = fm_conf_get(tokenizer, model, affixes[i]);
        if (affix != NULL && !(cJSON_IsString(affix) && affix->valuestring[0] == '\0'))
            return fm_fail(FM_UNSUPPORTED, "%s: 'model.%s' is '%s', which is not supported", tokenizer->path, affixes[i],
                           FM_QUOTE_Z(cJSON_IsString(affix) ? affix->valuestring : "no string"));
    }
    if (!byte_level && fm_vocab_flag_of(model, "ignore_merges", false))
        return fm_fail(FM_UNSUPPORTED, "%s: 'model.ignore_merges' is not supported in a tokenizer with byte fallback",
                       tokenizer->path);
    for (size_t i = 0; i < FM_COUNT(outer); i++)
        if (fm_conf_get(tokenizer, NULL, outer[i]) != NULL)
            fm_log(FM_LOG_WARN, "%s: '%s' is not taken over: texts are neither cut nor filled up", tokenizer->path, outer[i]);
    return FM_OK;
}

// ---- keys -----------------------------------------------------------------------------------------------------------

void fm_vocab_put_steps(struct fm_hf *hf, const struct fm_vocab_steps *steps)
{
    struct fm_gguf_writer *w = hf->conv->writer;
    fm_gguf_put_string(w, "fulmen.tokenizer.pipeline", "tokenizers");
    if (steps->n_words > 0)
        fm_gguf_put_texts(w, "fulmen.tokenizer.normalizers", steps->words, steps->n_words);
    if (steps->metaspace != NULL) {
        fm_gguf_put_string(w, "fulmen.tokenizer.metaspace", steps->metaspace);
        fm_gguf_put_bool(w, "fulmen.tokenizer.metaspace_split", steps->metaspace_split);
    }
    if (steps->prefix_space)
        fm_gguf_put_bool(w, "fulmen.tokenizer.prefix_space", true);
}
