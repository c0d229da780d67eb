// SPDX-License-Identifier: MIT
// Weights onto the device: checked for room first, then streamed tensor by tensor through the staging ring.
#include "base/os.h"
#include "run/run.h"

#include <stdio.h>

#define PIECE_BYTES (8ull << 20)    // read before it is repacked or decoded; whole blocks of all types, near enough
#define CONVERT_ELEMS (1u << 16)    // decoded to f32 at a time

struct loading {
    const struct fm_model *model;
    struct fm_vk *vk;
    struct fm_vk_memory *memory;
    const struct fm_layout *layout;
    const struct fm_load_params *params;
    uint64_t base;             // offset of the tensor in the pool
    uint64_t done_bytes, total_bytes;
    uint8_t *blocks;           // [PIECE_BYTES], once it is needed
};

static enum fm_result report(struct loading *l)
{
    if (l->params->progress != NULL && !l->params->progress(l->params->user, l->done_bytes, l->total_bytes))
        return fm_fail(FM_CANCELLED, "loading cancelled after %.1f of %.1f MB", (double)l->done_bytes * 1e-6,
                       (double)l->total_bytes * 1e-6);
    return FM_OK;
}

// ---- into the ring -----------------------------------------------------------------------------------------------

// What comes next to `offset` of the weight: from memory, or when that is NULL from the tensor.
struct stream {
    struct loading *l;
    const uint8_t *from;
    const struct fm_tensor *tensor;
    uint64_t tensor_offset;
};

static enum fm_result stream(struct stream s, uint64_t offset, uint64_t size_bytes)
{
    struct loading *l = s.l;
    for (uint64_t done = 0; done < size_bytes;) {
        uint64_t some = size_bytes - done;
        void *room = NULL;
        enum fm_result result = fm_vk_stage_reserve(l->vk, &some, &room);
        if (result != FM_OK)
            return result;
        if (s.from != NULL)
            memcpy(room, s.from + done, (size_t)some);
        else
            result = fm_tensor_read(s.tensor, s.tensor_offset + done, some, room);
        // Nothing of it when it could not be read: what was reserved is given back all the same.
        enum fm_result committed = fm_vk_stage_commit(l->vk, l->memory, l->base + offset + done, result == FM_OK ? some : 0);
        result = result == FM_OK ? committed : result;
        if (result != FM_OK)
            return result;
        done += some;
        l->done_bytes += some;
        if (size_bytes > PIECE_BYTES && (result = report(l)) != FM_OK)
            return result;
    }
    return FM_OK;
}

// fm_pack_put_fn.
static enum fm_result put(void *user, uint64_t offset, const void *data, size_t size_bytes)
{
    return stream((struct stream){.l = user, .from = data}, offset, size_bytes);
}

// A tensor whose weight is f32 whatever the file holds.
static enum fm_result put_as_f32(struct loading *l, const struct fm_tensor *tensor, uint64_t first, uint64_t elems)
{
    const struct fm_type_info *info = fm_type_info(tensor->type);
    uint64_t at = first / info->block_elems * info->block_elems, end = first + elems;
    float *buffer = fm_alloc(CONVERT_ELEMS * sizeof(*buffer));
    uint8_t *blocks = fm_alloc(CONVERT_ELEMS / info->block_elems * info->block_bytes);
    enum fm_result result = buffer != NULL && blocks != NULL ? FM_OK : fm_nomem();
    while (at < end && result == FM_OK) {
        // Whole blocks; what lies before `first` is decoded and left out.
        uint64_t whole = (end - at + info->block_elems - 1) / info->block_elems * info->block_elems;
        uint64_t count = FM_MIN(whole, CONVERT_ELEMS);
        uint64_t skip = at < first ? first - at : 0, take = FM_MIN(count, end - at) - skip;
        result = fm_tensor_read(tensor, at / info->block_elems * info->block_bytes, count / info->block_elems * info->block_bytes, blocks);
        if (result == FM_OK) {
            fm_quant_decode(tensor->type, blocks, count, buffer);
            result = put(l, (at + skip - first) * sizeof(*buffer), buffer + skip, (size_t)(take * sizeof(*buffer)));
        }
        at += count;
    }
    fm_free(buffer);
    fm_free(blocks);
    return result;
}

// `units` blocks of the tensor from `first` on, into the planes of the device. Rows do not matter: planes have all blocks in order.
static enum fm_result put_packed(struct loading *l, const struct fm_tensor *tensor, uint64_t first, uint64_t units)
{
    const struct fm_type_info *info = fm_type_info(tensor->type);
    uint64_t piece = FM_MIN(PIECE_BYTES / info->block_bytes, units);
    if (l->blocks == NULL && (l->blocks = fm_alloc(PIECE_BYTES)) == NULL)
        return fm_nomem();
    enum fm_result result = FM_OK;
    for (uint64_t done = 0; done < units && result == FM_OK; done += piece) {
        uint64_t some = FM_MIN(piece, units - done);
        result = fm_tensor_read(tensor, (first + done) * info->block_bytes, some * info->block_bytes, l->blocks);
        if (result == FM_OK)
            result = fm_pack_rows(tensor->type, units, info->block_elems, done, some, l->blocks, put, l);
        if (result == FM_OK)
            result = report(l);
    }
    return result;
}

static enum fm_result load_weight(struct loading *l, const struct fm_value *value)
{
    const struct fm_tensor *tensor = fm_file_tensor(l->model->file, value->of.tensor);
    const struct fm_type_info *info = fm_type_info(value->type);
    uint64_t k = value->dims[value->n_dims - 1], rows = 1, first = value->row0 * (value->n_dims > 1 ? k : 1);
    for (unsigned i = 0; i + 1 < value->n_dims; i++)
        rows *= value->dims[i];
    enum fm_result result;
    if (tensor->type != value->type)
        result = put_as_f32(l, tensor, first, rows * k);
    else if (first % info->block_elems != 0)
        result = fm_fail(FM_FORMAT, "tensor '%s' cannot be cut at element %llu", FM_QUOTE_Z(tensor->name),
                         (unsigned long long)first);
    else if (info->block_elems == 1)
        result = stream((struct stream){.l = l, .tensor = tensor, .tensor_offset = first * info->block_bytes}, 0,
                        rows * k * info->block_bytes);
    else
        result = put_packed(l, tensor, first / info->block_elems, rows * k / info->block_elems);
    return result == FM_OK ? report(l) : result;
}

static enum fm_result load_values(struct loading *l)
{
    const struct fm_graph *graph = &l->model->graph;
    enum fm_result result = FM_OK;
    for (uint32_t id = 0; id < graph->n_values && result == FM_OK; id++) {
        const struct fm_value *value = &graph->values[id];
        l->base = l->layout->place[id].offset;
        if (value->kind == FM_VALUE_CONST)
            result = put(l, 0, value->of.data, (size_t)l->layout->place[id].bytes);
        else if (value->kind == FM_VALUE_WEIGHT && l->model->file != NULL)
            result = load_weight(l, value);
    }
    if (result == FM_OK && l->model->file == NULL)
        result = fm_random_load(l->model, l->vk, l->memory, l->layout, l->params);
    fm_free(l->blocks);
    enum fm_result drained = fm_vk_upload_finish(l->vk);
    return result != FM_OK ? result : drained;
}

// ---- the whole ---------------------------------------------------------------------------------------------------

static enum fm_result check_room(const struct fm_model *model, const struct fm_caps *caps, const struct fm_blueprint *b)
{
    struct fm_memory_need need;
    fm_blueprint_need(b, &need);
    if (need.total_bytes <= caps->available_bytes)
        return FM_OK;
    return fm_fail(FM_NOSPACE,
                   "%s does not fit on %s: %.1f MB of weights + %.1f MB of state (context %u, %u slots) + %.1f MB of activations = "
                   "%.1f MB, but %.1f of %.1f MB are available",
                   model->path, FM_QUOTE_Z(caps->name), (double)need.weights_bytes * 1e-6, (double)need.state_bytes * 1e-6,
                   need.n_ctx, need.n_slots,
                   (double)(need.arena_bytes + need.step_bytes + need.result_bytes) * 1e-6, (double)need.total_bytes * 1e-6,
                   (double)caps->available_bytes * 1e-6, (double)caps->device_bytes * 1e-6);
}

// After FM_NOSPACE: the message goes on with the context that would fit, if a shorter one does.
static enum fm_result say_longest(const struct fm_model *model, const struct fm_caps *caps, const struct fm_session_params *params)
{
    char message[4096]; // as long as messages get
    snprintf(message, sizeof(message), "%s", fm_error_message());
    uint32_t n_ctx = fm_blueprint_longest(model, caps, params);
    if (n_ctx == 0)
        return fm_fail(FM_NOSPACE, "%s", message);
    return fm_fail(FM_NOSPACE, "%s; a context of %u would fit (-c sets it)", message, n_ctx);
}

enum fm_result fm_model_load(struct fm_model *model, struct fm_device *device, const struct fm_load_params *params)
{
    static const struct fm_load_params defaults = {0};
    const struct fm_caps *caps = fm_vk_caps(device->vk);
    struct fm_blueprint blueprint;
    struct fm_vk_memory *memory = NULL;
    params = params != NULL ? params : &defaults;
    if (model->weights != NULL)
        return fm_fail(FM_ARG, "%s is loaded already", model->path);
    enum fm_result result = fm_blueprint_make(model, caps, params->session, &blueprint);
    if (result != FM_OK)
        return result == FM_NOSPACE ? say_longest(model, caps, params->session) : result;
    result = check_room(model, caps, &blueprint);
    if (result == FM_NOSPACE)
        result = say_longest(model, caps, params->session);
    if (result == FM_OK)
        result = fm_vk_memory_create(device->vk, "weights", FM_VK_DEVICE, &blueprint.layout.pool[FM_POOL_WEIGHTS], &memory);
    if (result == FM_OK) {
        struct loading l = {.model = model, .vk = device->vk, .memory = memory, .layout = &blueprint.layout, .params = params,
                            .total_bytes = model->weight_bytes};
        result = load_values(&l);
    }
    if (result == FM_OK)
        result = fm_state_model_identity(model, &model->identity);
    if (result == FM_OK && model->file != NULL)
        result = fm_file_unchanged(model->file);
    fm_blueprint_finish(&blueprint);
    if (result != FM_OK) {
        fm_vk_memory_destroy(&memory);
        return result;
    }
    model->weights = memory;
    model->device = device;
    return FM_OK;
}
