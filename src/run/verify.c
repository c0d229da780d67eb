// SPDX-License-Identifier: MIT
// All of a model file or checkpoint, looked at: weights that are no finite numbers, tensors that nothing uses.
#include "base/os.h"
#include "format/checkpoint.h"
#include "fulmen/model.h"
#include "models/arch.h"

#define PIECE_BYTES ((uint64_t)8 << 20)

struct verifying {
    const struct fm_verify_params *params;
    struct fm_verify_result result;
    uint64_t done_bytes;
    uint8_t *piece; // [PIECE_BYTES]
};

static void found(struct verifying *v, const struct fm_finding *finding)
{
    v->result.findings++;
    if (v->params->finding != NULL)
        v->params->finding(v->params->user, finding);
}

// ---- weights ---------------------------------------------------------------------------------------------------------

// Types that fulmen does not compute with, but can judge. bits of the exponent, all set, mean infinite or NaN; `nan` are the bits
// of the one NaN of types that have no infinities.
static const struct {
    const char *name;
    uint32_t bytes;
    uint64_t exponent, nan;
} named_types[] = {
    {"F64", 8, 0x7ff0000000000000u, 0},
    {"F8_E5M2", 1, 0x7c, 0},
    {"F8_E4M3", 1, 0, 0x7f},
    {"F8_E8M0", 1, 0xff, 0},
};

static bool is_bad(size_t type, const uint8_t *at)
{
    uint64_t bits = 0;
    memcpy(&bits, at, named_types[type].bytes);
    if (named_types[type].nan != 0)
        return (bits & named_types[type].nan) == named_types[type].nan;
    return (bits & named_types[type].exponent) == named_types[type].exponent;
}

// How many of the `bytes` bytes' elements are not finite, and which of them is the first.
static uint64_t count_bad(const struct fm_tensor *t, const uint8_t *data, uint64_t bytes, uint64_t *out_first)
{
    uint64_t count = 0;
    if (t->type != FM_TYPE_NONE) {
        const struct fm_type_info *info = fm_type_info(t->type);
        uint64_t elems = bytes / info->block_bytes * info->block_elems;
        count = fm_quant_count_nonfinite(t->type, data, elems);
        *out_first = count > 0 ? fm_quant_find_nonfinite(t->type, data, elems) : 0;
        return count;
    }
    for (size_t n = 0; n < FM_COUNT(named_types); n++) {
        if (strcmp(t->type_name, named_types[n].name) != 0)
            continue;
        for (uint64_t i = 0; i < bytes / named_types[n].bytes; i++)
            if (is_bad(n, data + i * named_types[n].bytes) && count++ == 0)
                *out_first = i;
    }
    return count;
}

// Elements of so many bytes, which are whole blocks; 0 where the type is none that can be judged.
static uint64_t elems_of(const struct fm_tensor *t, uint64_t bytes)
{
    if (t->type != FM_TYPE_NONE)
        return bytes / fm_type_info(t->type)->block_bytes * fm_type_info(t->type)->block_elems;
    for (size_t n = 0; n < FM_COUNT(named_types); n++)
        if (strcmp(t->type_name, named_types[n].name) == 0)
            return bytes / named_types[n].bytes;
    return 0;
}

static enum fm_result verify_tensor(struct verifying *v, const struct fm_tensor *t)
{
    struct fm_finding finding = {.kind = FM_FINDING_NONFINITE, .path = fm_file_path(t->file), .tensor = t->name,
                                 .elems = elems_of(t, t->data_bytes)};
    uint64_t block = t->type != FM_TYPE_NONE ? fm_type_info(t->type)->block_bytes : 8, piece = PIECE_BYTES / block * block;
    for (uint64_t at = 0; at < t->data_bytes; at += piece) {
        uint64_t some = FM_MIN(piece, t->data_bytes - at), first = 0;
        enum fm_result result = fm_tensor_read(t, at, some, v->piece);
        if (result != FM_OK)
            return result;
        uint64_t count = count_bad(t, v->piece, some, &first);
        if (count > 0 && finding.count == 0)
            finding.first = elems_of(t, at) + first;
        finding.count += count;
        v->done_bytes += some;
        if (v->params->progress != NULL && !v->params->progress(v->params->user, v->done_bytes, v->result.bytes))
            return fm_fail(FM_CANCELLED, "cancelled after %.1f of %.1f MB", (double)v->done_bytes * 1e-6, (double)v->result.bytes * 1e-6);
    }
    if (finding.count > 0)
        found(v, &finding);
    return FM_OK;
}

// ---- what belongs to the model -----------------------------------------------------------------------------------------

static void tell_unused(void *user, const struct fm_tensor *t)
{
    const struct fm_finding finding = {.kind = FM_FINDING_UNUSED, .path = fm_file_path(t->file), .tensor = t->name,
                                       .elems = elems_of(t, t->data_bytes)};
    found(user, &finding);
}

static enum fm_result verify_unused(struct verifying *v, const struct fm_file *file)
{
    struct fm_arena arena = {0};
    const struct fm_arch *arch;
    struct fm_config config;
    enum fm_result result = fm_arch_open(file, &arena, &arch, &config);
    if (result == FM_OK)
        result = fm_arch_unused(arch, &config, file, tell_unused, v);
    fm_arena_finish(&arena);
    return result;
}

// ---- files and folders -------------------------------------------------------------------------------------------------

static enum fm_result verify_file(struct verifying *v, const char *path)
{
    struct fm_file *file = NULL;
    enum fm_result result = fm_file_open(path, &file);
    if (result != FM_OK)
        return result;
    v->result.tensors = fm_file_tensor_count(file);
    for (uint32_t i = 0; i < v->result.tensors; i++)
        v->result.bytes += fm_file_tensor(file, i)->data_bytes;
    for (uint32_t i = 0; i < v->result.tensors && result == FM_OK; i++)
        result = verify_tensor(v, fm_file_tensor(file, i));
    if (result == FM_OK && strcmp(fm_file_format(file), "GGUF") == 0)
        result = verify_unused(v, file);
    if (result == FM_OK)
        result = fm_file_unchanged(file);
    fm_file_close(&file);
    return result;
}

static enum fm_result verify_checkpoint(struct verifying *v, const char *path)
{
    struct fm_checkpoint *checkpoint = NULL;
    enum fm_result result = fm_checkpoint_open(path, &checkpoint);
    if (result != FM_OK)
        return result;
    v->result.tensors = fm_checkpoint_count(checkpoint);
    v->result.bytes = fm_checkpoint_data_bytes(checkpoint);
    for (uint32_t i = 0; i < v->result.tensors && result == FM_OK; i++)
        result = verify_tensor(v, fm_checkpoint_at(checkpoint, i));
    if (result == FM_OK)
        result = fm_checkpoint_unchanged(checkpoint);
    fm_checkpoint_close(&checkpoint);
    return result;
}

enum fm_result fm_verify(const char *path, const struct fm_verify_params *params, struct fm_verify_result *out_result)
{
    static const struct fm_verify_params defaults = {0};
    static const char index_end[] = ".index.json";
    struct verifying v = {.params = params != NULL ? params : &defaults, .piece = fm_alloc(PIECE_BYTES)};
    size_t bytes = strlen(path), end = sizeof(index_end) - 1;
    if (v.piece == NULL)
        return fm_nomem();
    bool is_checkpoint = fm_path_kind(path) == FM_PATH_FOLDER || (bytes > end && strcmp(path + bytes - end, index_end) == 0);
    enum fm_result result = is_checkpoint ? verify_checkpoint(&v, path) : verify_file(&v, path);
    fm_free(v.piece);
    if (result == FM_OK)
        *out_result = v.result;
    return result;
}
