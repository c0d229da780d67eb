// SPDX-License-Identifier: MIT
#include "run/state_check.h"

#include <string.h>

#include "base/map.h"
#include "fulmen/session.h"

#define SUM_BYTES sizeof(uint64_t)

enum fm_result fm_state_file_read(const struct fm_source *source, struct fm_state_file *out_file)
{
    struct fm_state_file f = {.source = source};
    const char *path = source->path;
    uint64_t size;
    if (source->size_bytes < sizeof(f.header) + SUM_BYTES)
        return fm_fail(FM_FORMAT, "%s: %llu bytes, expected the header of a saved state", path, (unsigned long long)source->size_bytes);
    enum fm_result result = fm_source_read(source, 0, sizeof(f.header), &f.header);
    if (result != FM_OK)
        return result;
    if (memcmp(f.header.magic, FM_STATE_MAGIC, sizeof(f.header.magic)) != 0)
        return fm_fail(FM_FORMAT, "%s: no saved state (it does not begin with " FM_STATE_MAGIC ")", path);
    if (f.header.reserved[0] != 0 || f.header.reserved[1] != 0)
        return fm_fail(FM_FORMAT, "%s: its header's reserved words are %u and %u, expected 0: damaged, or saved by a newer version", path,
                       f.header.reserved[0], f.header.reserved[1]);
    uint64_t tokens_bytes = (uint64_t)f.header.tokens * sizeof(uint32_t);
    if (!fm_add_u64(sizeof(f.header) + SUM_BYTES + tokens_bytes, f.header.state_bytes, &size) ||
        !fm_add_u64(size, f.header.note_bytes, &size) || size != source->size_bytes)
        return fm_fail(FM_FORMAT, "%s: %llu bytes, its header says %u tokens, %llu bytes of state and %llu of a note", path,
                       (unsigned long long)source->size_bytes, f.header.tokens, (unsigned long long)f.header.state_bytes,
                       (unsigned long long)f.header.note_bytes);
    f.state_offset = sizeof(f.header) + tokens_bytes;
    *out_file = f;
    return FM_OK;
}

enum fm_result fm_state_file_sum(const struct fm_source *source, fm_cancel_fn *cancel, void *user, uint64_t *out_sum)
{
    uint64_t hash = FM_HASH_SEED, end = source->size_bytes - SUM_BYTES;
    uint8_t *piece = fm_alloc((size_t)FM_MIN(end, (uint64_t)FM_STATE_PIECE_BYTES) + 1);
    enum fm_result result = piece != NULL ? FM_OK : fm_nomem();
    for (uint64_t at = 0; at < end && result == FM_OK; at += FM_STATE_PIECE_BYTES) {
        uint64_t some = FM_MIN(end - at, (uint64_t)FM_STATE_PIECE_BYTES);
        result = cancel != NULL && cancel(user) ? fm_fail(FM_CANCELLED, "cancelled") : fm_source_read(source, at, some, piece);
        if (result == FM_OK)
            hash = fm_hash64(piece, (size_t)some, hash);
    }
    fm_free(piece);
    *out_sum = hash;
    return result;
}

static enum fm_result read_texts(struct fm_state_file *file)
{
    const struct fm_state_header *h = &file->header;
    uint64_t tokens_bytes = (uint64_t)h->tokens * sizeof(uint32_t);
    file->tokens = fm_alloc((size_t)tokens_bytes + 1);
    if (file->tokens == NULL)
        return fm_nomem();
    enum fm_result result = fm_source_read(file->source, sizeof(*h), tokens_bytes, file->tokens);
    if (result != FM_OK || h->note_bytes == 0)
        return result;
    file->note = fm_alloc((size_t)h->note_bytes + 1);
    if (file->note == NULL)
        return fm_nomem();
    file->note[h->note_bytes] = '\0';
    return fm_source_read(file->source, file->state_offset + h->state_bytes, h->note_bytes, file->note);
}

enum fm_result fm_state_file_check(struct fm_state_file *file, uint32_t vocab, fm_cancel_fn *cancel, void *user)
{
    const struct fm_state_header *h = &file->header;
    const char *path = file->source->path;
    uint64_t said, sum = 0;
    enum fm_result result = fm_state_file_sum(file->source, cancel, user, &sum);
    if (result == FM_OK)
        result = fm_source_read(file->source, file->source->size_bytes - SUM_BYTES, SUM_BYTES, &said);
    if (result != FM_OK)
        return result;
    if (said != sum)
        return fm_fail(FM_FORMAT, "%s: damaged: its checksum is %016llx, its bytes give %016llx", path, (unsigned long long)said,
                       (unsigned long long)sum);
    if ((result = read_texts(file)) != FM_OK)
        return result;
    for (uint32_t i = 0; i < h->tokens; i++)
        if (file->tokens[i] >= vocab)
            return fm_fail(FM_FORMAT, "%s: token %u is %u, expected less than %u", path, i, file->tokens[i], vocab);
    if (h->next != FM_TOKEN_NONE && h->next >= vocab)
        return fm_fail(FM_FORMAT, "%s: the next token is %u, expected less than %u", path, h->next, vocab);
    return FM_OK;
}

void fm_state_file_finish(struct fm_state_file *file)
{
    fm_free(file->tokens);
    fm_free(file->note);
    *file = (struct fm_state_file){0};
}
