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

// Names, shapes and types of all tensors and metadata, and a sample of every tensor's bytes.
static uint64_t model_identity(const struct fm_model *model)
{
    uint64_t hash = fm_hash64(model->arch->name, strlen(model->arch->name), FM_HASH_SEED);
    if (model->file == NULL) {
        hash = fm_hash64(model->path, strlen(model->path), hash);
        return fm_hash64(&model->random_type, sizeof(model->random_type), hash);
    }
    uint64_t directory = fm_file_hash(model->file);
    hash = fm_hash64(&directory, sizeof(directory), hash);
    for (uint32_t i = 0; i < fm_file_tensor_count(model->file); i++) {
        const struct fm_tensor *t = fm_file_tensor(model->file, i);
        uint64_t some = FM_MIN(t->data_bytes, SAMPLE_BYTES), middle = (t->data_bytes - some) / 2;
        hash = fm_hash64(t->data, (size_t)some, hash);
        hash = fm_hash64(t->data + middle, (size_t)some, hash);
    }
    return hash;
}

// What a state's bytes mean: its name, type, shape without slots, context and versions; and how positions were turned.
static uint64_t layout_identity(const struct fm_session *session)
{
    const struct fm_graph *graph = &session->paper.bucket[0].graph;
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

// ---- saving
// ------------------------------------------------------------------------------------------------------------

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
    struct fm_state_header header = {.magic = FM_STATE_MAGIC, .model = model_identity(s->session->model),
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
    if (slot >= session->paper.n_slots)
        return fm_fail(FM_ARG, "slot %u of %u", slot, session->paper.n_slots);
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

// ---- loading
// -----------------------------------------------------------------------------------------------------------

struct loading {
    struct fm_session *session;
    const uint8_t *at; // what is left of the mapping; its size was checked
};

static enum fm_result take_range(void *user, uint64_t offset, uint64_t bytes)
{
    struct loading *l = user;
    enum fm_result result = FM_OK;
    for (uint64_t done = 0; done < bytes && result == FM_OK; done += FM_STATE_PIECE_BYTES)
        if ((result = fm_step_cancelled(l->session)) == FM_OK)
            result = fm_vk_upload(l->session->vk, l->session->state, offset + done, l->at + done,
                                  (size_t)FM_MIN(bytes - done, FM_STATE_PIECE_BYTES));
    l->at += bytes;
    return result;
}

// Everything that can be wrong is found here, before the slot is touched.
static enum fm_result check_file(const struct fm_session *session, uint32_t slot, const struct fm_mapping *map, const char *path,
                                 struct fm_state_file *out_file)
{
    enum fm_result result = fm_state_file_read(map->data, map->size_bytes, path, out_file);
    if (result != FM_OK)
        return result;
    const struct fm_state_header *h = &out_file->header;
    uint64_t state_bytes = 0;
    if (h->model != model_identity(session->model))
        return fm_fail(FM_UNSUPPORTED, "%s: the state of another model than %s", path, session->model->path);
    if (h->layout != layout_identity(session))
        return fm_fail(FM_UNSUPPORTED, "%s: saved with another cache type or chunk size than this session has", path);
    if (h->tokens > session->paper.n_ctx)
        return fm_fail(FM_NOSPACE, "%s: %u tokens do not fit the context of %u (-c sets it)", path, h->tokens, session->paper.n_ctx);
    result = fm_state_each(session, slot, h->tokens, count_range, &state_bytes);
    if (result != FM_OK)
        return result;
    if (state_bytes != h->state_bytes)
        return fm_fail(FM_FORMAT, "%s: %llu bytes of state, expected %llu for %u tokens", path, (unsigned long long)h->state_bytes,
                       (unsigned long long)state_bytes, h->tokens);
    return fm_state_file_check(out_file, path, session->model->config.vocab);
}

static char *copy_note(const struct fm_state_file *file)
{
    size_t bytes = (size_t)file->header.note_bytes;
    char *note = fm_alloc(bytes + 1);
    if (note != NULL) {
        memcpy(note, file->note, bytes);
        note[bytes] = '\0';
    }
    return note;
}

enum fm_result fm_session_load(struct fm_session *session, uint32_t slot, const char *path, struct fm_saved *out_saved)
{
    struct fm_mapping map;
    struct fm_state_file file;
    if (slot >= session->paper.n_slots)
        return fm_fail(FM_ARG, "slot %u of %u", slot, session->paper.n_slots);
    struct fm_slot *s = &session->slots[slot];
    enum fm_result result = fm_mapping_open(path, &map);
    if (result != FM_OK)
        return result;
    char *note = NULL;
    result = check_file(session, slot, &map, path, &file);
    const struct fm_state_header *h = &file.header;
    if (result == FM_OK && h->note_bytes > 0 && (note = copy_note(&file)) == NULL)
        result = fm_nomem();
    if (result == FM_OK) {
        struct loading l = {.session = session, .at = file.state};
        s->count = 0; // from here on it holds neither what it held nor what it will
        result = fm_state_each(session, slot, h->tokens, take_range, &l);
        enum fm_result finished = fm_vk_upload_finish(session->vk);
        result = result != FM_OK ? result : finished;
    }
    if (result == FM_OK) {
        memcpy(s->tokens, file.tokens, h->tokens * sizeof(uint32_t));
        s->count = s->newest = s->oldest = h->tokens;
        *out_saved = (struct fm_saved){.token = h->next, .seed = h->seed, .note = note};
    } else {
        fm_free(note);
    }
    fm_mapping_close(&map);
    return result;
}
