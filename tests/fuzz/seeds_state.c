// SPDX-License-Identifier: MIT
// Writes the seeds of fuzz_state into the folder given.
#include <stdio.h>

#include "fulmen/session.h"
#include "run/state_check.h"

#define MOST_BYTES 512u

static bool save(const char *folder, const char *name, uint8_t kind, uint32_t tokens, uint32_t next, uint64_t state_bytes,
                 uint64_t note_bytes)
{
    uint8_t bytes[MOST_BYTES] = {0};
    struct fm_state_header header = {.magic = FM_STATE_MAGIC, .model = 1, .layout = 2, .seed = 3, .tokens = tokens, .next = next,
                                     .state_bytes = state_bytes, .note_bytes = note_bytes};
    size_t size = sizeof(header) + tokens * sizeof(uint32_t) + (size_t)(state_bytes + note_bytes) + sizeof(uint64_t);
    char path[512];
    memcpy(bytes, &header, sizeof(header));
    for (uint32_t i = 0; i < tokens; i++)
        memcpy(bytes + sizeof(header) + i * sizeof(i), &i, sizeof(i));
    struct fm_source source;
    uint64_t sum = 0;
    if (fm_source_memory(bytes, size, name, &source) != FM_OK || fm_state_file_sum(&source, NULL, NULL, &sum) != FM_OK)
        return false;
    fm_source_close(&source);
    memcpy(bytes + size - sizeof(sum), &sum, sizeof(sum));
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    bool ok = file != NULL && fputc(kind, file) != EOF && fwrite(bytes, 1, size, file) == size;
    if (file != NULL && fclose(file) != 0)
        ok = false;
    if (!ok)
        fprintf(stderr, "seeds_state: cannot write %s\n", path);
    return ok;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: seeds_state FOLDER\n");
        return 2;
    }
    bool ok = save(argv[1], "empty", 0, 0, FM_TOKEN_NONE, 0, 0);
    ok = save(argv[1], "small", 0, 3, 95, 40, 0) && ok;
    ok = save(argv[1], "made-good", 1, 5, 4, 8, 0) && ok;
    ok = save(argv[1], "note", 1, 2, 4, 8, 29) && ok;
    ok = save(argv[1], "token-too-large", 1, 100, 0, 0, 0) && ok;
    return ok ? 0 : 1;
}
