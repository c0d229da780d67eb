// SPDX-License-Identifier: MIT
#include "run/state_check.h"

#include <string.h>

#include "base/map.h"
#include "fulmen/session.h"

#define SUM_BYTES sizeof(uint64_t)

enum fm_result fm_state_file_read(const void *data, uint64_t size_bytes, const char *path, struct fm_state_file *out_file)
{
    struct fm_state_file f = {.data = data, .size_bytes = size_bytes};
    uint64_t size;
    if (size_bytes < sizeof(f.header) + SUM_BYTES)
        return fm_fail(FM_FORMAT, "%s: %llu bytes, expected the header of a saved state", path, (unsigned long long)size_bytes);
    memcpy(&f.header, data, sizeof(f.header));
    if (memcmp(f.header.magic, FM_STATE_MAGIC, sizeof(f.header.magic)) != 0)
        return fm_fail(FM_FORMAT, "%s: no saved state (it does not begin with " FM_STATE_MAGIC ")", path);
    if (f.header.reserved[0] != 0 || f.header.reserved[1] != 0)
        return fm_fail(FM_FORMAT, "%s: its header's reserved words are %u and %u, expected 0: damaged, or saved by a newer version", path,
                       f.header.reserved[0], f.header.reserved[1]);
    uint64_t tokens_bytes = (uint64_t)f.header.tokens * sizeof(uint32_t);
    if (!fm_add_u64(sizeof(f.header) + SUM_BYTES + tokens_bytes, f.header.state_bytes, &size) ||
        !fm_add_u64(size, f.header.note_bytes, &size) || size != size_bytes)
        return fm_fail(FM_FORMAT, "%s: %llu bytes, its header says %u tokens, %llu bytes of state and %llu of a note", path,
                       (unsigned long long)size_bytes, f.header.tokens, (unsigned long long)f.header.state_bytes,
                       (unsigned long long)f.header.note_bytes);
    f.tokens = (const uint32_t *)(const void *)(f.data + sizeof(f.header));
    f.state = f.data + sizeof(f.header) + tokens_bytes;
    f.note = f.state + f.header.state_bytes;
    *out_file = f;
    return FM_OK;
}

uint64_t fm_state_file_sum(const void *data, uint64_t size_bytes)
{
    const uint8_t *bytes = data;
    uint64_t hash = FM_HASH_SEED, end = size_bytes - SUM_BYTES;
    for (uint64_t at = 0; at < end; at += FM_STATE_PIECE_BYTES)
        hash = fm_hash64(bytes + at, (size_t)FM_MIN(end - at, FM_STATE_PIECE_BYTES), hash);
    return hash;
}

enum fm_result fm_state_file_check(const struct fm_state_file *file, const char *path, uint32_t vocab)
{
    const struct fm_state_header *h = &file->header;
    uint64_t said, sum = fm_state_file_sum(file->data, file->size_bytes);
    memcpy(&said, file->data + file->size_bytes - SUM_BYTES, sizeof(said));
    if (said != sum)
        return fm_fail(FM_FORMAT, "%s: damaged: its checksum is %016llx, its bytes give %016llx", path, (unsigned long long)said,
                       (unsigned long long)sum);
    for (uint32_t i = 0; i < h->tokens; i++)
        if (file->tokens[i] >= vocab)
            return fm_fail(FM_FORMAT, "%s: token %u is %u, expected less than %u", path, i, file->tokens[i], vocab);
    if (h->next != FM_TOKEN_NONE && h->next >= vocab)
        return fm_fail(FM_FORMAT, "%s: the next token is %u, expected less than %u", path, h->next, vocab);
    return FM_OK;
}
