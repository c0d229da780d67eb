// SPDX-License-Identifier: MIT
// Writes the seeds of fuzz_safetensors, fuzz_torchbin and fuzz_checkpoint into corpus folders below the one given.
#include <stdio.h>

#include "support/checkpoint_make.h"

static const size_t storages[] = {96, 12};
static bool all_written = true;

// `kind`: the byte that tells the target what the rest is, or -1 for none. Takes over the bytes.
static void save(const char *folder, const char *name, int kind, struct gguf_bytes bytes)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    bool ok = file != NULL;
    if (ok && kind >= 0)
        ok = fputc(kind, file) != EOF;
    if (ok)
        ok = fwrite(bytes.data, 1, bytes.size_bytes, file) == bytes.size_bytes;
    if (file != NULL && fclose(file) != 0)
        ok = false;
    if (!ok)
        fprintf(stderr, "seeds_checkpoint: cannot write %s\n", path);
    all_written = all_written && ok;
    gguf_bytes_finish(&bytes);
}

static struct gguf_bytes text(const char *begin, const char *rest)
{
    struct gguf_bytes bytes = {0};
    gguf_put(&bytes, begin, strlen(begin));
    gguf_put(&bytes, rest, strlen(rest));
    return bytes;
}

static void save_safetensors(const char *folder)
{
    static const uint8_t data[32];
    const uint64_t dims[] = {2, 1, 2};
    struct safetensors_writer w = {0};
    safetensors_put(&w, "a.weight", "F32", 3, dims, data, 16);
    safetensors_put(&w, "b", "BF16", 1, dims, data, 4);
    safetensors_put(&w, "c", "I64", 0, NULL, data, 8);
    save(folder, "file", 0, safetensors_finish(&w));
    save(folder, "header", 1,
         text("\x06", "{\"__metadata__\":{\"format\":\"pt\",\"\\u00e9\":\"\\n\"},"
                      "\"w\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
                      "\"v\":{\"x\":[{}],\"data_offsets\":[4,6],\"shape\":[1,2],\"dtype\":\"F8_E4M3\"}} "));
    save(folder, "empty", 0, safetensors_make("{}", NULL, 0));
}

static struct gguf_bytes make_pickle(void)
{
    struct gguf_bytes p = {0};
    const struct pickle_tensor matrix = {"FloatStorage", "0", 24, 8, 2, {4, 4}, {0}},
                               scalar = {"HalfStorage", "1", 6, 5, 0, {0}, {0}};
    pickle_begin(&p);
    pickle_text(&p, "w");
    pickle_tensor(&p, &matrix);
    gguf_put(&p, "q\x01", 2);
    pickle_text(&p, "tied");
    gguf_put(&p, "h\x01", 2);
    pickle_text(&p, "p");
    pickle_global(&p, "torch._utils", "_rebuild_parameter");
    gguf_put(&p, "(", 1);
    pickle_tensor(&p, &scalar);
    gguf_put(&p, "\x88}tR", 4);
    gguf_put(&p, "u}", 2);
    pickle_text(&p, "_metadata");
    gguf_put(&p, "}sb.", 4);
    return p;
}

// Protocol 4, as torch.save writes it there.
static struct gguf_bytes make_pickle_4(void)
{
    static const char pickle[] =
        "\x80\x04}\x94(\x8c\x01w\x94\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_tensor_v2\x94\x93\x94((\x8c\x07storage\x94"
        "\x8c\x05torch\x94\x8c\x0f" "BFloat16Storage\x94\x93\x94\x8c\x01" "1\x94\x8c\x03" "cpu\x94K\x06t\x94QK\x01K\x02"
        "K\x02\x86\x94K\x02K\x01\x86\x94\x89}\x94t\x94R\x94u.";
    struct gguf_bytes p = {0};
    gguf_put(&p, pickle, sizeof(pickle) - 1);
    return p;
}

static void save_torchbin(const char *folder)
{
    struct gguf_bytes pickle = make_pickle();
    save(folder, "file", 0, torch_make(&pickle, storages, 2));
    save(folder, "pickle-2", 1, make_pickle());
    save(folder, "pickle-4", 1, make_pickle_4());
    struct zip_writer w = {.is_zip64 = true};
    pickle = make_pickle_4();
    zip_put(&w, "a/data.pkl", pickle.data, pickle.size_bytes);
    zip_put(&w, "a/data/1", "012345678901", 12);
    gguf_bytes_finish(&pickle);
    save(folder, "zip64", 0, zip_finish(&w));
}

static void save_checkpoint(const char *folder)
{
    save(folder, "index", -1,
         text("{\"metadata\": {\"total_size\": 64},\n", "\"weight_map\": {\"a\": \"model-1.safetensors\",\n"
                                                        "\"b\\u00e9\": \"model-2.safetensors\"}}\n"));
}

int main(int argc, char **argv)
{
    char folder[3][400];
    static const char *const names[] = {"safetensors", "torchbin", "checkpoint"};
    if (argc != 2) {
        fprintf(stderr, "usage: seeds_checkpoint CORPUS_FOLDER\n");
        return 2;
    }
    for (int i = 0; i < 3; i++)
        snprintf(folder[i], sizeof(folder[i]), "%s/%s", argv[1], names[i]);
    save_safetensors(folder[0]);
    save_torchbin(folder[1]);
    save_checkpoint(folder[2]);
    return all_written ? 0 : 1;
}
