// SPDX-License-Identifier: MIT
// Where weights, constants and states lie: first fit over the allocations of their pools, in the order of their ids.
#include "plan/build.h"

#include "shaders/lib/abi.h"

#define PLACE_ALIGN_BYTES 256u
#define OVERRUN_BYTES 16u // 16-byte loads may run over the end of a value
// Kernels count elements in 32 bits, and words of 4 bytes in 31 (shaders/lib/io.glsl).
#define LARGEST_ELEMS UINT32_MAX
#define LARGEST_BYTES (8ull << 30)

static const char *const pool_names[FM_POOL_COUNT] = {"weights", "state", "arena", "step", "result", "counter"};

const char *fm_pool_name(enum fm_pool pool)
{
    return (unsigned)pool < FM_POOL_COUNT ? pool_names[pool] : "none";
}

bool fm_value_device_bytes(const struct fm_value *value, const struct fm_dims *dims, uint64_t *out_bytes)
{
    uint64_t elems;
    if (!fm_value_elems(value, dims, &elems))
        return false;
    if (value->kind != FM_VALUE_WEIGHT && value->kind != FM_VALUE_CONST)
        return fm_type_bytes(value->type, elems, out_bytes);
    uint64_t k = fm_dim_resolve(value->dims[value->n_dims - 1], dims);
    struct fm_pack pack;
    if (k == 0 || !fm_pack_layout(value->type, elems / k, k, &pack))
        return false;
    *out_bytes = pack.bytes;
    return true;
}

// A pool while values are put into it.
struct filling {
    struct fm_pool_size *size;
    size_t cap_allocs;
    uint64_t front_bytes; // left empty at the beginning of each allocation
};

// The first allocation with room for `bytes` and what must follow them; a new one when there is none.
static enum fm_result take(struct filling *f, const char *name, uint64_t bytes, uint64_t gap_bytes, struct fm_place *place)
{
    uint64_t need, start = 0;
    if (!fm_add_u64(bytes, gap_bytes, &need) || need > f->size->alloc_bytes - f->front_bytes)
        return fm_fail(FM_NOSPACE, "'%s' is %llu bytes, but the device's largest allocation is %llu bytes", name,
                       (unsigned long long)bytes, (unsigned long long)f->size->alloc_bytes);
    uint32_t alloc = 0;
    for (; alloc < f->size->n_allocs; alloc++) {
        if (!fm_align_u64(f->size->alloc_used[alloc], PLACE_ALIGN_BYTES, &start))
            continue;
        if (start <= f->size->alloc_bytes && need <= f->size->alloc_bytes - start)
            break;
    }
    if (alloc == f->size->n_allocs) {
        void *list = f->size->alloc_used;
        enum fm_result result = fm_array_reserve(&list, &f->cap_allocs, alloc + 1, sizeof(*f->size->alloc_used));
        f->size->alloc_used = list;
        if (result != FM_OK)
            return result;
        f->size->n_allocs++;
        start = f->front_bytes;
    }
    f->size->alloc_used[alloc] = start + need;
    place->bytes = bytes;
    if (!fm_mul_u64(alloc, f->size->alloc_bytes, &place->offset) || !fm_add_u64(place->offset, start, &place->offset))
        return fm_fail(FM_NOSPACE, "'%s': the model needs more than 2^64 bytes", name);
    return FM_OK;
}

static enum fm_result place_value(const struct fm_graph *graph, uint32_t id, const struct fm_dims *dims, uint64_t gap_bytes,
                                  struct filling filling[FM_POOL_COUNT], struct fm_place *place)
{
    const struct fm_value *value = &graph->values[id];
    enum fm_pool pool = value->kind == FM_VALUE_STATE ? FM_POOL_STATE : FM_POOL_WEIGHTS;
    bool has_place = value->kind == FM_VALUE_WEIGHT || value->kind == FM_VALUE_CONST || value->kind == FM_VALUE_STATE;
    *place = (struct fm_place){.pool = FM_POOL_NONE};
    if (!has_place || value->alias != FM_NONE) // later values of a state have the place of the first
        return FM_OK;
    uint64_t bytes;
    if (!fm_value_device_bytes(value, dims, &bytes))
        return fm_fail(FM_ARG, "'%s': its size overflows or its rows are no whole blocks", value->name);
    place->pool = pool;
    enum fm_result result = take(&filling[pool], value->name, bytes, gap_bytes, place);
    uint64_t elems = 0;
    if (result != FM_OK)
        return result;
    uint64_t largest = pool == FM_POOL_STATE && value->type == FM_TYPE_Q8_0 ? UINT32_MAX : LARGEST_BYTES; // counted in bytes
    if (!fm_value_elems(value, dims, &elems) || elems > LARGEST_ELEMS || bytes > largest)
        return fm_fail(FM_NOSPACE, "'%s' is %llu elements in %llu bytes, kernels reach %llu in %llu", value->name,
                       (unsigned long long)elems, (unsigned long long)bytes, (unsigned long long)LARGEST_ELEMS,
                       (unsigned long long)largest);
    return FM_OK;
}

// Lists of allocations move from the heap into the layout's arena.
static enum fm_result finish_pool(struct fm_layout *layout, struct fm_pool_size *size)
{
    uint64_t *heap = size->alloc_used;
    size->alloc_used = fm_arena_copy(&layout->arena, heap, size->n_allocs * sizeof(*heap));
    fm_free(heap);
    if (size->alloc_used == NULL)
        return fm_nomem();
    for (uint32_t i = 0; i < size->n_allocs; i++)
        if (!fm_add_u64(size->total_bytes, size->alloc_used[i], &size->total_bytes))
            return fm_fail(FM_NOSPACE, "the model needs more than 2^64 bytes");
    return FM_OK;
}

enum fm_result fm_layout_create(const struct fm_graph *graph, const struct fm_caps *caps, const struct fm_dims *dims,
                                uint64_t guard_bytes, struct fm_layout *out_layout)
{
    struct fm_layout layout = {.n_values = graph->n_values};
    struct filling filling[FM_POOL_COUNT] = {{0}};
    uint64_t largest = caps->max_alloc_bytes, front_bytes;
    if (caps->max_buffer_bytes != 0 && caps->max_buffer_bytes < largest)
        largest = caps->max_buffer_bytes;
    if (!fm_align_u64(guard_bytes, PLACE_ALIGN_BYTES, &front_bytes) || front_bytes > largest)
        return fm_fail(FM_ARG, "guard zones of %llu bytes are too large", (unsigned long long)guard_bytes);
    for (unsigned i = 0; i < FM_POOL_COUNT; i++) {
        layout.pool[i].alloc_bytes = largest & ~(uint64_t)(PLACE_ALIGN_BYTES - 1);
        filling[i] = (struct filling){.size = &layout.pool[i], .front_bytes = front_bytes};
    }
    enum fm_result result = FM_OK;
    layout.place = fm_arena_alloc(&layout.arena, graph->n_values, sizeof(*layout.place));
    if (layout.place == NULL)
        result = fm_nomem();
    uint64_t gap_bytes = FM_MAX(guard_bytes, OVERRUN_BYTES);
    for (uint32_t v = 0; v < graph->n_values && result == FM_OK; v++)
        result = place_value(graph, v, dims, gap_bytes, filling, &layout.place[v]);
    for (unsigned i = 0; i < FM_POOL_COUNT; i++) {
        enum fm_result moved = finish_pool(&layout, &layout.pool[i]);
        result = result == FM_OK ? moved : result;
    }
    if (result != FM_OK) {
        fm_arena_finish(&layout.arena);
        return result;
    }
    for (uint32_t v = 0; v < graph->n_values; v++)
        if (graph->values[v].alias != FM_NONE)
            layout.place[v] = layout.place[graph->values[v].alias];
    *out_layout = layout;
    return FM_OK;
}

void fm_layout_finish(struct fm_layout *layout)
{
    fm_arena_finish(&layout->arena);
    *layout = (struct fm_layout){0};
}

enum fm_result fm_step_layout_make(const struct fm_dims *dims, struct fm_step_layout *out_layout)
{
    const uint64_t words[FM_INPUT_COUNT] = {
        [FM_INPUT_TOKEN] = dims->t,   [FM_INPUT_POS] = dims->t,
        [FM_INPUT_SLOT] = dims->t,    [FM_INPUT_OUT_ROW] = dims->o,
        [FM_INPUT_SAMPLER] = (uint64_t)dims->o * FM_SAMPLER_WORDS,
        [FM_INPUT_SEGMENT] = (uint64_t)dims->s * FM_SEGMENT_WORDS,
        [FM_INPUT_LENGTH] = dims->t,
    };
    uint64_t at = FM_STEP_HEADER_WORDS * 4;
    for (unsigned i = 0; i < FM_INPUT_COUNT; i++) {
        out_layout->input_offset[i] = (uint32_t)at;
        at = (at + words[i] * 4 + OVERRUN_BYTES - 1) / OVERRUN_BYTES * OVERRUN_BYTES;
    }
    if (at > UINT32_MAX)
        return fm_fail(FM_ARG, "a step of %u tokens and %u outputs is too large", dims->t, dims->o);
    out_layout->bytes = (uint32_t)at;
    return FM_OK;
}
