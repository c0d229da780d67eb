// SPDX-License-Identifier: MIT
// Opens bytes as a model file and uses everything that the interface hands out.
#include "fuzz_file.h"

#include <stdlib.h>

#include "support/tensor_data.h"

static volatile uint64_t seen; // keeps the reads from being optimised away

void fuzz_require(bool condition)
{
    if (!condition)
        abort();
}

void fuzz_shown(const char *text, bool lines)
{
    const uint8_t *s = (const uint8_t *)text;
    size_t bytes = strlen(text);
    fuzz_require(fm_utf8_valid_prefix(text, bytes) == bytes);
    for (size_t i = 0; i < bytes; i++) {
        bool kept = lines && (s[i] == '\n' || s[i] == '\t');
        fuzz_require((s[i] >= 0x20 && s[i] != 0x7F) || kept);
        fuzz_require(!(s[i] == 0xC2 && s[i + 1] < 0xA0)); // C1
        bool general = s[i] == 0xE2 && s[i + 1] == 0x80, isolate = s[i] == 0xE2 && s[i + 1] == 0x81;
        fuzz_require(!(general && s[i + 2] >= 0xA8 && s[i + 2] <= 0xAE)); // U+2028 to U+202E
        fuzz_require(!(isolate && s[i + 2] >= 0xA6 && s[i + 2] <= 0xA9)); // U+2066 to U+2069
    }
}

void fuzz_message(void)
{
    fuzz_require(fm_error_message()[0] != '\0');
    fuzz_shown(fm_error_message(), false);
}

static void walk_texts(const struct fm_meta *meta)
{
    for (uint64_t i = 0; i < meta->count; i++)
        for (uint64_t b = 0; b < meta->texts[i].bytes; b++)
            seen += (uint8_t)meta->texts[i].data[b];
}

static void walk_meta(const struct fm_file *file, const struct fm_meta *meta)
{
    char key[65536];
    uint32_t u32;
    float f32;
    bool flag;
    struct fm_text text;
    fuzz_require(meta->key.bytes < sizeof(key));
    memcpy(key, meta->key.data, (size_t)meta->key.bytes);
    key[meta->key.bytes] = '\0';
    fuzz_require(fm_file_meta_find(file, key) == meta);
    if (fm_meta_u32(file, key, true, 1, 1000, 0, &u32) == FM_OK)
        fuzz_require(u32 >= 1 && u32 <= 1000);
    if (fm_meta_f32(file, key, true, 0.0f, &f32) == FM_OK)
        fuzz_require(meta->kind == FM_META_FLOAT && f32 - f32 == 0.0f);
    if (fm_meta_bool(file, key, true, false, &flag) == FM_OK)
        fuzz_require(meta->kind == FM_META_BOOL);
    if (fm_meta_string(file, key, true, &text) == FM_OK)
        fuzz_require(meta->kind == FM_META_STRING);
    if (meta->texts != NULL) {
        walk_texts(meta);
        return;
    }
    for (uint64_t i = 0; i < meta->count; i++) {
        seen += (uint64_t)fm_meta_int_at(meta, i);
        double real = fm_meta_float_at(meta, i);
        seen += real > 0;
    }
}

static void walk_elements(const struct fm_tensor *tensor, const uint8_t *data, uint64_t elems)
{
    uint64_t bytes = 0;
    struct fm_pack pack;
    const struct fm_type_info *info = fm_type_info(tensor->type);
    fuzz_require(fm_type_bytes(tensor->type, elems, &bytes) && bytes == tensor->data_bytes);
    float values[256];
    fm_quant_decode(tensor->type, data, info->block_elems, values); // the first block
    seen += values[0] > 0;
    uint64_t k = tensor->n_dims == 0 ? 1 : tensor->dims[tensor->n_dims - 1];
    fuzz_require(fm_pack_layout(tensor->type, elems / k, k, &pack) && pack.bytes >= tensor->data_bytes);
}

static void walk_tensor(const struct fm_file *file, const struct fm_tensor *tensor)
{
    uint64_t elems = 1;
    fuzz_require(tensor->type_name != NULL && fm_file_find(file, tensor->name) == tensor);
    for (int i = 0; i < FM_TENSOR_DIMS; i++)
        fuzz_require(fm_mul_u64(elems, tensor->dims[i], &elems));
    fuzz_require((elems == 0) == (tensor->data_bytes == 0));
    uint8_t *data = tensor_data(tensor); // the whole range can be read
    fuzz_require(data != NULL);
    for (uint64_t b = 0; b < tensor->data_bytes; b++)
        seen += data[b];
    if (tensor->type != FM_TYPE_NONE && elems > 0) // others are only named
        walk_elements(tensor, data, elems);
    free(data);
}

void fuzz_file(const uint8_t *data, size_t size_bytes)
{
    struct fm_file *file = NULL;
    if (fm_file_open_memory(data, size_bytes, "fuzz", &file) != FM_OK) {
        fuzz_require(file == NULL);
        fuzz_message();
        return;
    }
    fuzz_require(fm_file_bytes(file) == size_bytes);
    for (uint32_t i = 0; i < fm_file_meta_count(file); i++)
        walk_meta(file, fm_file_meta(file, i));
    for (uint32_t i = 0; i < fm_file_tensor_count(file); i++)
        walk_tensor(file, fm_file_tensor(file, i));
    fm_file_close(&file);
}
