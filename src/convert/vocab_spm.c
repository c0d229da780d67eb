// SPDX-License-Identifier: MIT
// SentencePiece's model file: a protocol buffer (sentencepiece_model.proto), of which pieces, kind of model and the rules of
// normalisation are read. Untrusted input.
#include "convert/vocab.h"

enum { WIRE_VARINT, WIRE_FIXED64, WIRE_BYTES, WIRE_FIXED32 = 5 };
enum { MODEL_PIECES = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum { TRAINER_KIND = 3, TRAINER_SPACE_SUFFIX = 24, TRAINER_BYTES = 35 };
enum { TRAINER_UNK = 40, TRAINER_BOS = 41, TRAINER_EOS = 42, TRAINER_PAD = 43 };
enum { NORMALIZER_MAP = 2, NORMALIZER_DUMMY_PREFIX, NORMALIZER_REMOVE_EXTRA, NORMALIZER_ESCAPE };
#define KIND_UNIGRAM 1
#define KIND_BPE 2

struct message {
    const uint8_t *at, *end;
};

struct field {
    uint32_t number, wire;
    uint64_t value;        // VARINT, FIXED32, FIXED64
    struct message inside; // BYTES
};

static bool read_varint(struct message *m, uint64_t *out_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && m->at < m->end; shift += 7) {
        uint8_t byte = *m->at++;
        value |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128)) {
            *out_value = value;
            return true;
        }
    }
    return false;
}

// The next field. False at the end of the message, and with *out_bad where the bytes make no field.
static bool next_field(struct message *m, struct field *out_field, bool *out_bad)
{
    uint64_t key, bytes;
    *out_bad = false;
    if (m->at == m->end)
        return false;
    *out_bad = true;
    if (!read_varint(m, &key) || key >> 3 == 0 || key >> 3 > UINT32_MAX)
        return false;
    *out_field = (struct field){.number = (uint32_t)(key >> 3), .wire = (uint32_t)(key & 7)};
    uint64_t left = (uint64_t)(m->end - m->at);
    switch (out_field->wire) {
    case WIRE_VARINT:
        if (!read_varint(m, &out_field->value))
            return false;
        break;
    case WIRE_FIXED32:
    case WIRE_FIXED64:
        bytes = out_field->wire == WIRE_FIXED32 ? 4 : 8;
        if (left < bytes)
            return false;
        memcpy(&out_field->value, m->at, (size_t)bytes);
        m->at += bytes;
        break;
    case WIRE_BYTES:
        if (!read_varint(m, &bytes) || bytes > (uint64_t)(m->end - m->at))
            return false;
        out_field->inside = (struct message){.at = m->at, .end = m->at + bytes};
        m->at += bytes;
        break;
    default: return false;
    }
    *out_bad = false;
    return true;
}

static enum fm_result fail_bytes(const char *path, const char *what)
{
    return fm_fail(FM_FORMAT, "%s: no SentencePiece model: %s cannot be read", path, what);
}

static enum fm_result read_piece(struct fm_vocab *vocab, struct message m, uint32_t id, const char *path)
{
    struct fm_text text = {.data = ""};
    uint64_t type = FM_PIECE_NORMAL;
    float score = 0;
    struct field f;
    bool bad;
    while (next_field(&m, &f, &bad)) {
        if (f.number == PIECE_TEXT && f.wire == WIRE_BYTES)
            text = (struct fm_text){.data = (const char *)f.inside.at, .bytes = (uint64_t)(f.inside.end - f.inside.at)};
        else if (f.number == PIECE_SCORE && f.wire == WIRE_FIXED32)
            memcpy(&score, &f.value, sizeof(score)); // the low bytes
        else if (f.number == PIECE_TYPE && f.wire == WIRE_VARINT)
            type = f.value;
    }
    if (bad)
        return fail_bytes(path, "a piece");
    if (type < FM_PIECE_NORMAL || type > FM_PIECE_BYTE)
        return fm_fail(FM_FORMAT, "%s: piece %u has type %llu, expected %d to %d", path, id, (unsigned long long)type,
                       FM_PIECE_NORMAL, FM_PIECE_BYTE);
    char *copy = fm_arena_alloc(vocab->arena, (size_t)text.bytes + 1, 1);
    if (copy == NULL)
        return fm_nomem();
    memcpy(copy, text.data, (size_t)text.bytes);
    text.data = copy;
    return fm_vocab_set(vocab, path, id, text, score - score == 0 ? score : 0, (int32_t)type, false);
}

struct trainer {
    uint64_t kind;
    bool bytes; // characters without a piece become bytes
};

static enum fm_result read_trainer(struct fm_vocab *vocab, struct message m, struct trainer *trainer, const char *path)
{
    struct field f;
    bool bad;
    while (next_field(&m, &f, &bad)) {
        if (f.wire != WIRE_VARINT)
            continue;
        uint32_t id = f.value < vocab->count ? (uint32_t)f.value : FM_NO_ID; // -1 is "there is none"
        switch (f.number) {
        case TRAINER_KIND: trainer->kind = f.value; break;
        case TRAINER_SPACE_SUFFIX: vocab->space_suffix = f.value != 0; break;
        case TRAINER_BYTES: trainer->bytes = f.value != 0; break;
        case TRAINER_UNK: vocab->unk = id; break;
        case TRAINER_BOS: vocab->bos = id; break;
        case TRAINER_EOS: vocab->eos = id; break;
        case TRAINER_PAD: vocab->pad = id; break;
        default: break;
        }
    }
    return bad ? fail_bytes(path, "the training settings") : FM_OK;
}

static enum fm_result read_normalizer(struct fm_vocab *vocab, struct message m, const char *path)
{
    struct field f;
    bool bad;
    while (next_field(&m, &f, &bad)) {
        if (f.number == NORMALIZER_MAP && f.wire == WIRE_BYTES)
            vocab->charsmap = (struct fm_text){.data = (const char *)f.inside.at, .bytes = (uint64_t)(f.inside.end - f.inside.at)};
        else if (f.number == NORMALIZER_DUMMY_PREFIX && f.wire == WIRE_VARINT)
            vocab->add_space_prefix = f.value != 0;
        else if (f.number == NORMALIZER_REMOVE_EXTRA && f.wire == WIRE_VARINT)
            vocab->remove_extra = f.value != 0;
        else if (f.number == NORMALIZER_ESCAPE && f.wire == WIRE_VARINT && f.value == 0)
            return fm_fail(FM_UNSUPPORTED, "%s: 'escape_whitespaces' is false, which is not supported", path);
    }
    return bad ? fail_bytes(path, "the normaliser") : FM_OK;
}

// A model that turns characters into bytes has a piece for each: SentencePiece itself loads no other.
static enum fm_result check_bytes(const struct fm_vocab *vocab, const struct trainer *trainer, uint32_t pieces, const char *path)
{
    unsigned count = 0;
    for (uint32_t id = 0; id < FM_MIN(pieces, vocab->count); id++)
        count += vocab->types[id] == FM_PIECE_BYTE;
    if (!trainer->bytes || pieces > vocab->count || count == 256)
        return FM_OK;
    return fm_fail(FM_FORMAT, "%s: %u byte pieces, expected 256 as 'byte_fallback' is true", path, count);
}

enum fm_result fm_vocab_read_spm(struct fm_vocab *vocab, const uint8_t *data, size_t size_bytes, const char *path)
{
    static const char *const kinds[] = {"no kind", "a unigram model", "BPE", "a word model", "a character model"};
    struct message m = {.at = data, .end = data + size_bytes};
    struct field f;
    bool bad;
    uint32_t pieces = 0;
    struct trainer trainer = {.kind = KIND_UNIGRAM}; // what is meant where the file says nothing
    enum fm_result r = FM_OK;
    vocab->add_space_prefix = vocab->remove_extra = true; // likewise
    while (r == FM_OK && next_field(&m, &f, &bad)) {
        if (f.wire != WIRE_BYTES)
            continue;
        if (f.number == MODEL_PIECES)
            r = read_piece(vocab, f.inside, pieces++, path);
        else if (f.number == MODEL_TRAINER)
            r = read_trainer(vocab, f.inside, &trainer, path);
        else if (f.number == MODEL_NORMALIZER)
            r = read_normalizer(vocab, f.inside, path);
    }
    if (r != FM_OK)
        return r;
    if (bad || pieces == 0)
        return fail_bytes(path, pieces == 0 ? "its beginning" : "a field");
    if (trainer.kind != KIND_BPE)
        return fm_fail(FM_UNSUPPORTED, "%s: this is %s, expected BPE", path, kinds[FM_MIN(trainer.kind, (uint64_t)4)]);
    vocab->n_pieces = pieces;
    return check_bytes(vocab, &trainer, pieces, path);
}
