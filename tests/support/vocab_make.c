// SPDX-License-Identifier: MIT
#include "support/vocab_make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/file.h"

struct list {
    char **texts;
    float *scores;
    int32_t *types;
    size_t count;
};

static void *grown(void *ptr, size_t size_bytes)
{
    void *moved = realloc(ptr, size_bytes);
    if (moved == NULL)
        abort();
    return moved;
}

static void add(struct list *list, const char *text, float score, int32_t type)
{
    size_t count = list->count + 1;
    list->texts = grown(list->texts, count * sizeof(*list->texts));
    list->scores = grown(list->scores, count * sizeof(*list->scores));
    list->types = grown(list->types, count * sizeof(*list->types));
    list->texts[list->count] = strcpy(grown(NULL, strlen(text) + 1), text);
    list->scores[list->count] = score;
    list->types[list->count] = type;
    list->count = count;
}

static void add_extra(struct list *list, const struct vocab_token *extra, size_t extra_count)
{
    for (size_t i = 0; i < extra_count; i++)
        add(list, extra[i].text, extra[i].score, extra[i].type == 0 ? 1 : extra[i].type);
}

static void write_list(struct gguf_writer *w, struct list *list)
{
    gguf_write_strings(w, "tokenizer.ggml.tokens", (const char *const *)list->texts, list->count);
    gguf_write_array(w, "tokenizer.ggml.token_type", GGUF_I32, list->types, list->count);
    for (size_t i = 0; i < list->count; i++)
        free(list->texts[i]);
    free(list->texts);
    free(list->scores);
    free(list->types);
}

void vocab_byte_text(uint8_t byte, char out_text[3])
{
    // Bytes 0–32, 127–160 and 173 have stand-ins from U+0100 on.
    unsigned point = byte;
    if (byte <= 32)
        point = 0x100u + byte;
    else if (byte >= 127 && byte <= 160)
        point = 0x121u + (byte - 127u);
    else if (byte == 173)
        point = 0x143;
    if (point < 0x80) {
        out_text[0] = (char)point;
        out_text[1] = '\0';
    } else {
        out_text[0] = (char)(0xC0 | point >> 6);
        out_text[1] = (char)(0x80 | (point & 0x3F));
        out_text[2] = '\0';
    }
}

void vocab_make_bpe(struct gguf_writer *w, const char *pre, const char *const *merges, size_t merge_count,
                    const struct vocab_token *extra, size_t extra_count)
{
    struct list list = {0};
    for (unsigned b = 0; b < 256; b++) {
        char text[3];
        vocab_byte_text((uint8_t)b, text);
        add(&list, text, 0, 1);
    }
    for (size_t i = 0; i < merge_count; i++) {
        char *joint = strcpy(grown(NULL, strlen(merges[i]) + 1), merges[i]);
        char *space = strchr(joint + 1, ' ');
        if (space == NULL)
            abort();
        memmove(space, space + 1, strlen(space));
        add(&list, joint, 0, 1);
        free(joint);
    }
    add_extra(&list, extra, extra_count);
    gguf_write_string(w, "general.architecture", "llama");
    gguf_write_string(w, "tokenizer.ggml.model", "gpt2");
    if (pre != NULL)
        gguf_write_string(w, "tokenizer.ggml.pre", pre);
    gguf_write_strings(w, "tokenizer.ggml.merges", merges, merge_count);
    write_list(w, &list);
}

static void add_bytes(struct list *list)
{
    for (unsigned b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof(text), "<0x%02X>", b);
        add(list, text, 0, 6);
    }
}

void vocab_make_spm(struct gguf_writer *w, bool bytes, const struct vocab_token *extra, size_t extra_count)
{
    struct list list = {0};
    add(&list, "<unk>", 0, 2);
    add(&list, "<s>", 0, 3);
    add(&list, "</s>", 0, 3);
    if (bytes)
        add_bytes(&list);
    add_extra(&list, extra, extra_count);
    gguf_write_string(w, "general.architecture", "llama");
    gguf_write_string(w, "tokenizer.ggml.model", "llama");
    gguf_write_array(w, "tokenizer.ggml.scores", GGUF_F32, list.scores, list.count);
    write_list(w, &list);
}

void vocab_make_char_bpe(struct gguf_writer *w, const char *const *merges, size_t merge_count, const struct vocab_token *extra,
                         size_t extra_count)
{
    struct list list = {0};
    add(&list, "<pad>", 0, 3);
    add(&list, "<eos>", 0, 3);
    add(&list, "<bos>", 0, 3);
    add(&list, "<unk>", 0, 2);
    add_bytes(&list);
    add_extra(&list, extra, extra_count);
    gguf_write_string(w, "general.architecture", "llama");
    gguf_write_string(w, "tokenizer.ggml.model", "gemma4");
    gguf_write_u32(w, "tokenizer.ggml.bos_token_id", 2);
    gguf_write_u32(w, "tokenizer.ggml.eos_token_id", 1);
    gguf_write_strings(w, "tokenizer.ggml.merges", merges, merge_count);
    write_list(w, &list);
}

enum fm_result vocab_open(const struct gguf_writer *w, struct fm_tokenizer **out_tok)
{
    struct gguf_bytes bytes = gguf_write_make(w);
    struct fm_file *file = NULL;
    enum fm_result r = fm_file_open_memory(bytes.data, bytes.size_bytes, "test.gguf", &file);
    if (r == FM_OK)
        r = fm_tokenizer_create(file, out_tok);
    fm_file_close(&file);
    gguf_bytes_finish(&bytes);
    return r;
}
