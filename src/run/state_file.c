// SPDX-License-Identifier: MIT
// A slot in a file (run/state_check.h says what is in it). The header says what model, cache type and length the rest is of,
// so that the size of a good file is known before anything of it is used.
#include "base/map.h"
#include "base/os.h"
#include "base/writer.h"
#include "run/session.h"
#include "run/state_check.h"

#include <string.h>

#define SAMPLE_BYTES 64u // of every tensor's beginning and middle

enum fm_result fm_state_model_identity(const struct fm_model *model, uint64_t *out_identity)
{
    uint64_t hash = fm_hash64(model->arch->name, strlen(model->arch->name), FM_HASH_SEED);
    uint8_t sample[SAMPLE_BYTES];
    enum fm_result result = FM_OK;
    if (model->file == NULL) {
        hash = fm_hash64(model->path, strlen(model->path), hash);
        *out_identity = fm_hash64(&model->random_type, sizeof(model->random_type), hash);
        return FM_OK;
    }
    uint64_t directory = fm_file_hash(model->file);
    hash = fm_hash64(&directory, sizeof(directory), hash);
    for (uint32_t i = 0; i < fm_file_tensor_count(model->file) && result == FM_OK; i++) {
        const struct fm_tensor *t = fm_file_tensor(model->file, i);
        uint64_t some = FM_MIN(t->data_bytes, SAMPLE_BYTES), middle = (t->data_bytes - some) / 2;
        const uint64_t places[] = {0, middle};
        for (size_t p = 0; p < FM_COUNT(places) && result == FM_OK; p++) {
            result = fm_tensor_read(t, places[p], some, sample);
            if (result == FM_OK)
                hash = fm_hash64(sample, (size_t)some, hash);
        }
    }
    *out_identity = hash;
    return result;
}

// What a state's bytes mean: its name, type, shape without slots, context and versions; and how positions were turned.
static uint64_t layout_identity(const struct fm_session *session)
{
    const struct fm_graph *graph = fm_blueprint_graph(&session->blueprint);
    uint64_t hash = FM_HASH_SEED;
    for (size_t i = 0; i < graph->n_values; i++) {
        const struct fm_value *v = &graph->values[i];
        if (v->kind != FM_VALUE_STATE || v->alias != FM_NONE)
            continue;
        hash = fm_hash64(v->name, strlen(v->name), hash);
        hash = fm_hash64(&v->type, sizeof(v->type), hash);
        hash = fm_hash64(v->dims, v->n_dims * sizeof(v->dims[0]), hash);
    }
    for (size_t i = 0; i < graph->n_nodes; i++)
        if (graph->nodes[i].op == FM_OP_ATTEND)
            hash = fm_hash64(&graph->nodes[i].attr.chunk, sizeof(uint32_t), hash);
    return hash;
}

// ---- saving ------------------------------------------------------------------------------------------------------

struct saving {
    struct fm_session *session;
    struct fm_writer *file;
    uint8_t *piece; // [FM_STATE_PIECE_BYTES], of which `used` wait to be written
    size_t used;
    uint64_t hash;
};

static enum fm_result flush(struct saving *s)
{
    enum fm_result result = fm_writer_write(s->file, s->piece, s->used);
    s->hash = fm_hash64(s->piece, s->used, s->hash);
    s->used = 0;
    return result;
}

static enum fm_result put(struct saving *s, const void *data, size_t bytes)
{
    const uint8_t *from = data;
    enum fm_result result = FM_OK;
    while (bytes > 0 && result == FM_OK) {
        size_t some = FM_MIN(bytes, FM_STATE_PIECE_BYTES - s->used);
        memcpy(s->piece + s->used, from, some);
        s->used += some;
        from += some;
        bytes -= some;
        result = s->used == FM_STATE_PIECE_BYTES ? flush(s) : FM_OK;
    }
    return result;
}

static enum fm_result put_range(void *user, uint64_t offset, uint64_t bytes)
{
    struct saving *s = user;
    enum fm_result result = FM_OK;
    while (bytes > 0 && result == FM_OK) {
        size_t some = (size_t)FM_MIN(bytes, FM_STATE_PIECE_BYTES - s->used);
        result = fm_vk_download(s->session->vk, s->session->state, offset, s->piece + s->used, some);
        s->used += some;
        offset += some;
        bytes -= some;
        if (result == FM_OK && s->used == FM_STATE_PIECE_BYTES)
            result = flush(s);
    }
    return result;
}

static enum fm_result count_range(void *user, uint64_t offset, uint64_t bytes)
{
    uint64_t *total = user;
    (void)offset;
    return fm_add_u64(*total, bytes, total) ? FM_OK : fm_fail(FM_NOSPACE, "a state of more than 2^64 bytes");
}

static enum fm_result save_all(struct saving *s, uint32_t slot, const struct fm_saved *saved)
{
    const struct fm_slot *of = &s->session->slots[slot];
    struct fm_state_header header = {.magic = FM_STATE_MAGIC, .model = s->session->model->identity,
                                     .layout = layout_identity(s->session), .seed = saved->seed, .tokens = of->count,
                                     .next = saved->token, .note_bytes = saved->note != NULL ? strlen(saved->note) : 0};
    enum fm_result result = fm_state_each(s->session, slot, of->count, count_range, &header.state_bytes);
    if (result == FM_OK)
        result = put(s, &header, sizeof(header));
    if (result == FM_OK)
        result = put(s, of->tokens, of->count * sizeof(uint32_t));
    if (result == FM_OK)
        result = fm_state_each(s->session, slot, of->count, put_range, s);
    if (result == FM_OK && header.note_bytes > 0)
        result = put(s, saved->note, (size_t)header.note_bytes);
    if (result == FM_OK && s->used > 0)
        result = flush(s);
    return result == FM_OK ? fm_writer_write(s->file, &s->hash, sizeof(s->hash)) : result;
}

enum fm_result fm_session_save(struct fm_session *session, uint32_t slot, const struct fm_saved *saved, const char *path)
{
    if (slot >= session->blueprint.n_slots)
        return fm_fail(FM_ARG, "slot %u of %u", slot, session->blueprint.n_slots);
    if (!fm_state_reaches(session, slot, session->slots[slot].count))
        return fm_fail(FM_UNSUPPORTED, "slot %u: its state is ahead of its tokens", slot);
    struct saving s = {.session = session, .hash = FM_HASH_SEED};
    enum fm_result result = fm_model_check_output(session->model, path);
    if (result == FM_OK && (s.piece = fm_alloc(FM_STATE_PIECE_BYTES)) == NULL)
        result = fm_nomem();
    if (result == FM_OK)
        result = fm_writer_open(path, FM_WRITER_PRIVATE, &s.file); // it holds what was said
    if (result == FM_OK)
        result = save_all(&s, slot, saved);
    if (result == FM_OK)
        result = fm_writer_finish(&s.file);
    fm_writer_discard(&s.file);
    fm_free(s.piece);
    return result;
}

// ---- loading -----------------------------------------------------------------------------------------------------

struct loading {
    struct fm_session *session;
    const struct fm_source *source;
    uint64_t at;    // next byte of the file; its size was checked
    uint8_t *piece; // [FM_STATE_PIECE_BYTES]
};

static enum fm_result take_range(void *user, uint64_t offset, uint64_t bytes)
{
    struct loading *l = user;
    enum fm_result result = FM_OK;
    for (uint64_t done = 0; done < bytes && result == FM_OK; done += FM_STATE_PIECE_BYTES) {
        uint64_t some = FM_MIN(bytes - done, (uint64_t)FM_STATE_PIECE_BYTES);
        result = fm_step_cancelled(l->session);
        if (result == FM_OK)
            result = fm_source_read(l->source, l->at + done, some, l->piece);
        if (result == FM_OK)
            result = fm_vk_upload(l->session->vk, l->session->state, offset + done, l->piece, some);
    }
    l->at += bytes;
    return result;
}

static bool is_cancelled(void *user)
{
    return fm_step_cancelled(user) != FM_OK;
}

// Everything that can be wrong is found here, before the slot is touched.
static enum fm_result check_file(struct fm_session *session, uint32_t slot, const struct fm_source *source,
                                 struct fm_state_file *out_file)
{
    enum fm_result result = fm_state_file_read(source, out_file);
    if (result != FM_OK)
        return result;
    const struct fm_state_header *h = &out_file->header;
    const char *path = source->path;
    uint64_t state_bytes = 0;
    if (h->model != session->model->identity)
        return fm_fail(FM_UNSUPPORTED, "%s: the state of another model than %s", path, session->model->path);
    if (h->layout != layout_identity(session))
        return fm_fail(FM_UNSUPPORTED, "%s: saved with another cache type or chunk size than this session has", path);
    if (h->tokens > session->blueprint.n_ctx)
        return fm_fail(FM_NOSPACE, "%s: %u tokens do not fit the context of %u (-c sets it)", path, h->tokens, session->blueprint.n_ctx);
    result = fm_state_each(session, slot, h->tokens, count_range, &state_bytes);
    if (result != FM_OK)
        return result;
    if (state_bytes != h->state_bytes)
        return fm_fail(FM_FORMAT, "%s: %llu bytes of state, expected %llu for %u tokens", path, (unsigned long long)h->state_bytes,
                       (unsigned long long)state_bytes, h->tokens);
    return fm_state_file_check(out_file, session->model->config.vocab, is_cancelled, session);
}

static enum fm_result load_checked(struct fm_session *session, uint32_t slot, const struct fm_source *source,
                                   const struct fm_state_file *file)
{
    struct loading l = {.session = session, .source = source, .at = file->state_offset, .piece = fm_alloc(FM_STATE_PIECE_BYTES)};
    struct fm_slot *s = &session->slots[slot];
    if (l.piece == NULL)
        return fm_nomem();
    s->count = 0; // from here on it holds neither what it held nor what it will
    enum fm_result result = fm_state_each(session, slot, file->header.tokens, take_range, &l);
    enum fm_result finished = fm_vk_upload_finish(session->vk);
    result = result != FM_OK ? result : finished;
    if (result == FM_OK)
        result = fm_source_unchanged(source); // it was read a second time
    fm_free(l.piece);
    if (result != FM_OK)
        return result;
    memcpy(s->tokens, file->tokens, file->header.tokens * sizeof(uint32_t));
    s->count = s->newest = s->oldest = file->header.tokens;
    return FM_OK;
}

enum fm_result fm_session_load(struct fm_session *session, uint32_t slot, const char *path, struct fm_saved *out_saved)
{
    struct fm_source source;
    struct fm_state_file file = {0};
    if (slot >= session->blueprint.n_slots)
        return fm_fail(FM_ARG, "slot %u of %u", slot, session->blueprint.n_slots);
    enum fm_result result = fm_source_open(path, path, &source);
    if (result != FM_OK)
        return result;
    result = check_file(session, slot, &source, &file);
    if (result == FM_OK)
        result = load_checked(session, slot, &source, &file);
    if (result == FM_OK) {
        *out_saved = (struct fm_saved){.token = file.header.next, .seed = file.header.seed, .note = file.note};
        file.note = NULL; // the caller's now
    }
    fm_state_file_finish(&file);
    fm_source_close(&source);
    return result;
}
