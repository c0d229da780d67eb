// SPDX-License-Identifier: MIT
// Writes the seeds of fuzz_gguf into the folder given: a few small files that between them hold every value type and
// every tensor type.
#include <stdio.h>

#include "support/gguf_write.h"

static float values[512];

static bool save(struct gguf_writer *w, const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s.gguf", folder, name);
    bool ok = gguf_write_file(w, path);
    if (!ok)
        fprintf(stderr, "seeds_gguf: cannot write %s\n", path);
    gguf_write_finish(w);
    return ok;
}

static bool save_metas(const char *folder)
{
    struct gguf_writer w = {.version = 2, .alignment = 64};
    static const uint8_t zeros[16];
    const char *const texts[] = {"<s>", "", "\xe2\x96\x81"};
    for (int type = GGUF_U8; type <= GGUF_F64; type++) {
        char key[32];
        if (type == GGUF_STRING || type == GGUF_ARRAY)
            continue;
        snprintf(key, sizeof(key), "scalar.%d", type);
        gguf_write_scalar(&w, key, (enum gguf_value)type, zeros);
        snprintf(key, sizeof(key), "array.%d", type);
        gguf_write_array(&w, key, (enum gguf_value)type, zeros, 2);
    }
    gguf_write_string(&w, "general.architecture", "llama");
    gguf_write_strings(&w, "tokenizer.ggml.tokens", texts, FM_COUNT(texts));
    return save(&w, folder, "metadata");
}

static bool save_tensors(const char *folder)
{
    struct gguf_writer w = {0};
    const uint64_t dims[] = {1, 256};
    for (int type = 0; type < FM_TYPE_COUNT; type++)
        gguf_write_tensor_f32(&w, fm_type_info((enum fm_type)type)->name, (enum fm_type)type, 2, dims, values);
    return save(&w, folder, "tensors");
}

static bool save_small(const char *folder)
{
    struct gguf_writer w = {.alignment = 1};
    const uint64_t dims[] = {1, 1, 2, 2};
    gguf_write_u32(&w, "split.count", 1);
    gguf_write_tensor_f32(&w, "t", FM_TYPE_F16, 4, dims, values);
    gguf_write_tensor_f32(&w, "scalar", FM_TYPE_F32, 0, NULL, values);
    return save(&w, folder, "small");
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: seeds_gguf FOLDER\n");
        return 2;
    }
    for (size_t i = 0; i < FM_COUNT(values); i++)
        values[i] = (float)i / 64 - 4;
    struct gguf_writer empty = {0};
    bool ok = save_metas(argv[1]) && save_tensors(argv[1]) && save_small(argv[1]) && save(&empty, argv[1], "empty");
    return ok ? 0 : 1;
}
