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

// Types that fulmen does not compute with, but can judge. All others hold nothing but numbers. `exponent`: its bits, all set, mean
// infinite or NaN. `nan`: the bits of the one NaN of a type without infinities.
static const struct {
    const char *name;
    uint32_t parts, part_bytes; // numbers of an element, and bytes of each
    uint64_t exponent, nan;
} named_types[] = {
    {"F64", 1, 8, 0x7ff0000000000000u, 0},
    {"C64", 2, 4, 0x7f800000u, 0},
    {"F8_E5M2", 1, 1, 0x7c, 0},
    {"F8_E4M3", 1, 1, 0, 0x7f},
    {"F8_E8M0", 1, 1, 0xff, 0},
};

static uint64_t elem_bytes(size_t type)
{
    return (uint64_t)named_types[type].parts * named_types[type].part_bytes;
}

static bool is_bad(size_t type, const uint8_t *at)
{
    uint64_t mask = named_types[type].nan != 0 ? named_types[type].nan : named_types[type].exponent;
    for (uint32_t i = 0; i < named_types[type].parts; i++) {
        uint64_t bits = 0;
        memcpy(&bits, at + (size_t)i * named_types[type].part_bytes, named_types[type].part_bytes);
        if ((bits & mask) == mask)
            return true;
    }
    return false;
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
        for (uint64_t i = 0; i < bytes / elem_bytes(n); i++)
            if (is_bad(n, data + i * elem_bytes(n)) && count++ == 0)
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
            return bytes / elem_bytes(n);
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
    struct fm_text name;
    enum fm_result result = fm_meta_string(file, "general.architecture", false, &name);
    if (result != FM_OK || name.data == NULL || fm_arch_find(name.data, (size_t)name.bytes) == NULL)
        return result; // what uses a tensor is not known here
    result = fm_arch_open(file, &arena, &arch, &config);
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
    struct verifying v = {.params = params != NULL ? params : &defaults, .piece = fm_alloc(PIECE_BYTES)};
    if (v.piece == NULL)
        return fm_nomem();
    bool is_checkpoint = fm_path_kind(path) == FM_PATH_FOLDER || fm_checkpoint_is_index(path);
    enum fm_result result = is_checkpoint ? verify_checkpoint(&v, path) : verify_file(&v, path);
    fm_free(v.piece);
    if (result == FM_OK)
        *out_result = v.result;
    return result;
}
