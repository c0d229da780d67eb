// SPDX-License-Identifier: MIT
// The length of a GGUF file's directory, so that all of it can be read into memory at once. Only lengths, counts and types are
// looked at; whether the rest is right, gguf.c says, which reads what this found.
#include "format/gguf.h"

#define WINDOW_BYTES ((uint64_t)64 << 10)

struct window {
    const struct fm_source *source;
    uint8_t *bytes;       // [WINDOW_BYTES]
    uint64_t begin, have; // of the file, what is in `bytes`
    uint64_t at;          // next byte of the file; never beyond its end
};

// The next `bytes`, at most 8, as a number. *out_whole is false, and nothing taken, when the file ends before.
static enum fm_result take(struct window *w, uint32_t bytes, uint64_t *out_value, bool *out_whole)
{
    uint64_t left = w->source->size_bytes - w->at;
    *out_whole = bytes <= left;
    if (!*out_whole)
        return FM_OK;
    if (w->at < w->begin || w->at + bytes > w->begin + w->have) {
        uint64_t some = FM_MIN(left, WINDOW_BYTES);
        enum fm_result result = fm_source_read(w->source, w->at, some, w->bytes);
        if (result != FM_OK)
            return result;
        w->begin = w->at;
        w->have = some;
    }
    *out_value = 0; // little-endian: the low bytes come first
    memcpy(out_value, w->bytes + (w->at - w->begin), bytes);
    w->at += bytes;
    return FM_OK;
}

static bool skip(struct window *w, uint64_t bytes)
{
    if (bytes > w->source->size_bytes - w->at)
        return false;
    w->at += bytes;
    return true;
}

// A length, of min to max, and that many bytes. Here and below *out_whole is false when the file ends before, or holds what the
// reader will refuse, or when the directory is too long for it.
static enum fm_result skip_text(struct window *w, uint64_t min, uint64_t max, bool *out_whole)
{
    uint64_t bytes = 0;
    enum fm_result result = take(w, 8, &bytes, out_whole);
    *out_whole = result == FM_OK && *out_whole && bytes >= min && bytes <= max && skip(w, bytes) && w->at <= FM_GGUF_DIRECTORY_BYTES_MAX;
    return result;
}

static enum fm_result skip_values(struct window *w, uint64_t type, uint64_t count, bool *out_whole)
{
    enum fm_result result = FM_OK;
    uint64_t bytes;
    *out_whole = type < FM_GGUF_VALUE_TYPES && type != FM_GGUF_VALUE_ARRAY;
    if (*out_whole && type == FM_GGUF_VALUE_STRING)
        for (uint64_t i = 0; i < count && result == FM_OK && *out_whole; i++)
            result = skip_text(w, 0, UINT64_MAX, out_whole);
    else if (*out_whole)
        *out_whole = fm_mul_u64(count, fm_gguf_value_bytes((uint32_t)type), &bytes) && skip(w, bytes);
    return result;
}

static enum fm_result skip_meta(struct window *w, bool *out_whole)
{
    uint64_t type = 0, count = 1;
    enum fm_result result = skip_text(w, 1, FM_GGUF_KEY_BYTES_MAX, out_whole);
    if (result == FM_OK && *out_whole)
        result = take(w, 4, &type, out_whole);
    if (result == FM_OK && *out_whole && type == FM_GGUF_VALUE_ARRAY) {
        result = take(w, 4, &type, out_whole);
        if (result == FM_OK && *out_whole)
            result = take(w, 8, &count, out_whole);
    }
    return result == FM_OK && *out_whole ? skip_values(w, type, count, out_whole) : result;
}

// Name, dimension count, dimensions, type and offset.
static enum fm_result skip_tensor(struct window *w, bool *out_whole)
{
    uint64_t n_dims = 0;
    enum fm_result result = skip_text(w, 1, FM_FILE_NAME_BYTES_MAX, out_whole);
    if (result == FM_OK && *out_whole)
        result = take(w, 4, &n_dims, out_whole);
    if (result == FM_OK && *out_whole)
        *out_whole = n_dims <= FM_TENSOR_DIMS && skip(w, n_dims * 8 + 4 + 8);
    return result;
}

enum fm_result fm_gguf_measure(const struct fm_source *source, uint64_t *out_bytes)
{
    struct window w = {.source = source, .bytes = fm_alloc(WINDOW_BYTES)};
    uint64_t version = 0, tensors = 0, metas = 0;
    bool whole = true;
    if (w.bytes == NULL)
        return fm_nomem();
    w.at = 4; // the magic was seen
    enum fm_result result = take(&w, 4, &version, &whole);
    whole = whole && (version == 2 || version == 3); // others have other headers
    if (result == FM_OK && whole)
        result = take(&w, 8, &tensors, &whole);
    if (result == FM_OK && whole)
        result = take(&w, 8, &metas, &whole);
    whole = whole && metas <= FM_FILE_METAS_MAX && tensors <= FM_FILE_TENSORS_MAX;
    for (uint64_t i = 0; i < metas && result == FM_OK && whole; i++)
        result = skip_meta(&w, &whole);
    for (uint64_t i = 0; i < tensors && result == FM_OK && whole; i++)
        result = skip_tensor(&w, &whole);
    fm_free(w.bytes);
    // Behind damage there has to be as much as the reader looks at before it says what is wrong.
    *out_bytes = whole ? w.at : w.at + FM_MIN(source->size_bytes - w.at, WINDOW_BYTES);
    return result;
}
