// SPDX-License-Identifier: MIT
// vocab.json and merges.txt, as tokenizers were published before tokenizer.json: they say which tokens there are; how a text
// is cut, only the class of the tokenizer tells.
#include "convert/vocab_steps.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/os.h"

#define MERGES_BYTES_MAX ((size_t)256 << 20)

// Classes (without "Fast" at the end), and what their tokenizer.json says besides tokens and merges.
static const struct slow {
    const char *name, *model_type; // of config.json, where no class is named
    const char *normalizer, *pre_tokenizer;
    const char *special; // what is special unless other files say so
} classes[] = {
    {"GPT2Tokenizer", "gpt2", "null", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}", "<|endoftext|>"},
    {"CodeGenTokenizer", "codegen", "null", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}", "<|endoftext|>"},
    {"Qwen2Tokenizer", "qwen2", "{\"type\":\"NFC\"}",
     "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":"
     "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "
     "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}},"
     "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}",
     "<|endoftext|>"},
};

static enum fm_result class_of(const struct fm_hf *hf, const struct fm_vocab_files *files, const struct slow **out_class)
{
    const char *name = fm_vocab_string_of(files->config.root, "tokenizer_class"), *type = fm_vocab_string_of(hf->config.root, "model_type");
    size_t bytes = name != NULL ? strlen(name) : 0;
    if (bytes > 4 && strcmp(name + bytes - 4, "Fast") == 0)
        bytes -= 4;
    for (size_t i = 0; i < FM_COUNT(classes); i++) {
        *out_class = &classes[i];
        if (name != NULL ? strlen(classes[i].name) == bytes && memcmp(classes[i].name, name, bytes) == 0
                         : type != NULL && strcmp(type, classes[i].model_type) == 0)
            return FM_OK;
    }
    *out_class = &classes[0];
    if (hf->pre != NULL)
        return FM_OK;
    return fm_fail(FM_UNSUPPORTED,
                   "%s: vocab.json and merges.txt are of a tokenizer of class '%s', known are GPT2Tokenizer, CodeGenTokenizer and "
                   "Qwen2Tokenizer; name the pre-tokenizer with --pre, or save the tokenizer as tokenizer.json",
                   hf->folder, name != NULL ? FM_QUOTE_Z(name) : "that no file names");
}

// ---- tokens beside the vocabulary -----------------------------------------------------------------------------------

// The list that is being made, the texts that are in it, and those that some file names as special.
struct listed {
    cJSON *list;
    struct fm_map seen, special;
};

// Append {"id": …, "content": …, flags of `like`} unless the text is there; id FM_NO_ID = the next one.
static enum fm_result list_token(struct listed *listed, uint32_t id, const char *content, const cJSON *like, bool special)
{
    static const char *const flags[] = {"lstrip", "rstrip", "single_word", "normalized"};
    uint32_t other;
    if (fm_map_get(&listed->seen, content, strlen(content), &other))
        return FM_OK;
    enum fm_result r = fm_map_put(&listed->seen, content, strlen(content), id, NULL);
    cJSON *item = r == FM_OK ? cJSON_CreateObject() : NULL;
    if (item == NULL)
        return fm_nomem();
    bool ok = cJSON_AddStringToObject(item, "content", content) != NULL &&
              cJSON_AddBoolToObject(item, "special", fm_vocab_flag_of(like, "special", special)) != NULL &&
              (id == FM_NO_ID || cJSON_AddNumberToObject(item, "id", id) != NULL);
    for (size_t i = 0; i < FM_COUNT(flags); i++)
        ok = ok && cJSON_AddBoolToObject(item, flags[i], fm_vocab_flag_of(like, flags[i], false)) != NULL;
    if (!ok || !cJSON_AddItemToArray(listed->list, item)) {
        cJSON_Delete(item);
        return fm_nomem();
    }
    return FM_OK;
}

// bos_token and its like of tokenizer_config.json and special_tokens_map.json: a text, an object, or a list of them. Each is
// noted as special, or listed.
static enum fm_result walk_special(struct listed *listed, const cJSON *item, bool list)
{
    enum fm_result r = FM_OK;
    const cJSON *content = cJSON_IsObject(item) ? cJSON_GetObjectItemCaseSensitive(item, "content") : item, *entry;
    if (cJSON_IsArray(item)) {
        cJSON_ArrayForEach(entry, item)
        {
            if (r == FM_OK && !cJSON_IsArray(entry))
                r = walk_special(listed, entry, list);
        }
    } else if (cJSON_IsString(content)) {
        const char *text = content->valuestring;
        r = list ? list_token(listed, FM_NO_ID, text, item, true) : fm_map_put(&listed->special, text, strlen(text), 0, NULL);
    }
    return r;
}

static enum fm_result walk_files(const struct fm_vocab_files *files, struct listed *listed, bool list)
{
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "pad_token", "additional_special_tokens"};
    const struct fm_conf *const jsons[] = {&files->config, &files->special};
    enum fm_result r = FM_OK;
    for (size_t i = 0; i < FM_COUNT(jsons); i++)
        for (size_t k = 0; r == FM_OK && k < FM_COUNT(keys); k++)
            if (jsons[i]->root != NULL)
                r = walk_special(listed, fm_conf_get(jsons[i], NULL, keys[k]), list);
    return r;
}

static int by_id(const void *a, const void *b)
{
    uint32_t one = FM_NO_ID, two = FM_NO_ID;
    fm_conf_whole(cJSON_GetObjectItemCaseSensitive(*(cJSON *const *)a, "id"), FM_HF_SIZE_MAX, &one);
    fm_conf_whole(cJSON_GetObjectItemCaseSensitive(*(cJSON *const *)b, "id"), FM_HF_SIZE_MAX, &two);
    return (one > two) - (one < two);
}

// Put the list in the order of the ids, in which tokens are numbered later.
static enum fm_result sort_list(cJSON *list)
{
    size_t count = (size_t)cJSON_GetArraySize(list), i = 0;
    cJSON **items = fm_alloc_zero(count + 1, sizeof(*items)), *item;
    if (items == NULL)
        return fm_nomem();
    cJSON_ArrayForEach(item, list) items[i++] = item;
    qsort(items, count, sizeof(*items), by_id);
    for (i = 0; i < count; i++) {
        items[i]->next = i + 1 < count ? items[i + 1] : NULL;
        items[i]->prev = items[i > 0 ? i - 1 : count - 1]; // the first one's is the last one
    }
    list->child = count > 0 ? items[0] : NULL;
    fm_free(items);
    return FM_OK;
}

static enum fm_result list_added(const struct fm_vocab_files *files, const struct slow *class, struct listed *listed)
{
    const cJSON *decoder = NULL, *item;
    enum fm_result r = walk_files(files, listed, false);
    if (r == FM_OK && files->config.root != NULL)
        r = fm_conf_object(&files->config, "added_tokens_decoder", false, &decoder);
    cJSON_ArrayForEach(item, decoder)
    {
        uint32_t id;
        const char *content;
        if (r == FM_OK)
            r = fm_vocab_decoder_entry(&files->config, item, &id, &content);
        if (r == FM_OK)
            r = list_token(listed, id, content, item, false);
    }
    for (item = files->added.root != NULL ? files->added.root->child : NULL; r == FM_OK && item != NULL; item = item->next) {
        uint32_t id, other;
        if (!fm_conf_whole(item, FM_HF_SIZE_MAX, &id))
            r = fm_fail(FM_FORMAT, "%s: the id of '%s': expected a whole number up to %u", files->added.path,
                        FM_QUOTE_Z(item->string), FM_HF_SIZE_MAX);
        else
            r = list_token(listed, id, item->string, NULL, fm_map_get(&listed->special, item->string, strlen(item->string), &other));
    }
    if (r == FM_OK)
        r = sort_list(listed->list);
    if (r == FM_OK)
        r = walk_files(files, listed, true);
    return r == FM_OK && listed->list->child == NULL ? list_token(listed, FM_NO_ID, class->special, NULL, true) : r;
}

// ---- the document ---------------------------------------------------------------------------------------------------

// The lines of merges.txt; a first line "#version: …" is none of them.
static enum fm_result list_merges(char *text, size_t text_bytes, const char *path, cJSON *list)
{
    cJSON *last = NULL;
    size_t line = 0;
    for (char *at = text, *end = text + text_bytes; at < end; line++) {
        char *stop = memchr(at, '\n', (size_t)(end - at)), *next = stop != NULL ? stop + 1 : end;
        stop = stop != NULL ? stop : end;
        if (stop > at && stop[-1] == '\r')
            stop--;
        if (memchr(at, 0, (size_t)(stop - at)) != NULL)
            return fm_fail(FM_FORMAT, "%s: line %zu holds a zero byte", path, line + 1);
        *stop = '\0'; // the buffer has room for one more
        bool version = line == 0 && strncmp(at, "#version", 8) == 0;
        if (stop > at && !version) {
            cJSON *item = cJSON_CreateString(at);
            if (item == NULL)
                return fm_nomem();
            // Appended by hand: the library walks the list for each.
            if (last == NULL)
                list->child = item;
            else
                last->next = item;
            item->prev = last;
            list->child->prev = item;
            last = item;
        }
        at = next;
    }
    return FM_OK;
}

static enum fm_result add_item(cJSON *object, const char *key, cJSON *item)
{
    if (item != NULL && cJSON_AddItemToObject(object, key, item))
        return FM_OK;
    cJSON_Delete(item);
    return fm_nomem();
}

// Everything but the merges and added tokens, which are filled in.
static enum fm_result make_document(struct fm_conf *vocab, const struct slow *class, struct fm_conf *out_json, cJSON **out_merges,
                                    cJSON **out_added)
{
    cJSON *root = cJSON_CreateObject(), *model = cJSON_CreateObject();
    *out_merges = *out_added = NULL;
    memcpy(out_json->path, vocab->path, sizeof(out_json->path));
    out_json->root = root;
    if (root == NULL) {
        cJSON_Delete(model);
        return fm_nomem();
    }
    enum fm_result r = add_item(root, "model", model);
    if (r == FM_OK)
        r = add_item(model, "vocab", vocab->root);
    vocab->root = r == FM_OK ? NULL : vocab->root;
    if (r == FM_OK)
        r = add_item(root, "normalizer", cJSON_Parse(class->normalizer));
    if (r == FM_OK)
        r = add_item(root, "pre_tokenizer", cJSON_Parse(class->pre_tokenizer));
    if (r == FM_OK)
        r = add_item(model, "merges", cJSON_CreateArray());
    if (r == FM_OK)
        r = add_item(root, "added_tokens", cJSON_CreateArray());
    *out_merges = r == FM_OK ? cJSON_GetObjectItemCaseSensitive(model, "merges") : NULL;
    *out_added = r == FM_OK ? cJSON_GetObjectItemCaseSensitive(root, "added_tokens") : NULL;
    return r;
}

enum fm_result fm_vocab_read_slow(struct fm_hf *hf, struct fm_vocab_files *files)
{
    char path[FM_CONF_PATH_BYTES], *text = NULL;
    size_t text_bytes;
    struct fm_conf vocab = {0};
    const struct slow *class;
    cJSON *merges = NULL;
    struct listed listed = {0};
    struct stat info;
    bool prefix = false;
    if ((size_t)snprintf(path, sizeof(path), "%s/merges.txt", hf->folder) >= sizeof(path) || stat(path, &info) != 0)
        return FM_OK;
    enum fm_result r = fm_conf_load(hf->folder, "vocab.json", false, &vocab);
    if (r != FM_OK || vocab.root == NULL)
        return r;
    r = class_of(hf, files, &class);
    if (r == FM_OK)
        r = fm_source_read_whole(path, MERGES_BYTES_MAX, &text, &text_bytes);
    if (r == FM_OK)
        r = make_document(&vocab, class, &files->tokenizer, &merges, &listed.list);
    if (r == FM_OK)
        r = list_merges(text, text_bytes, path, merges);
    if (r == FM_OK)
        r = list_added(files, class, &listed);
    if (r == FM_OK && files->config.root != NULL)
        r = fm_conf_bool(&files->config, "add_prefix_space", false, &prefix);
    cJSON *pre = cJSON_GetObjectItemCaseSensitive(files->tokenizer.root, "pre_tokenizer");
    if (r == FM_OK && prefix && fm_vocab_type_is(pre, "ByteLevel") &&
        !cJSON_ReplaceItemInObjectCaseSensitive(pre, "add_prefix_space", cJSON_CreateTrue()))
        r = fm_nomem();
    fm_map_finish(&listed.seen);
    fm_map_finish(&listed.special);
    fm_conf_finish(&vocab);
    fm_free(text);
    return r;
}
