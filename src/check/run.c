// SPDX-License-Identifier: MIT
// A case on a device: memory with guard zones, the production plan, one step.
#include "check/check.h"

#include "base/arena.h"
#include "check/timing.h"

#define POISON 0x7fc0beefu // a NaN in f32, and NaN halves: whatever is read before it was written shows
#define GUARD_BYTES 4096u

struct upload {
    struct fm_vk *vk;
    struct fm_vk_memory *memory;
    uint64_t offset;
};

static enum fm_result put(void *user, uint64_t offset, const void *data, size_t bytes)
{
    struct upload *u = user;
    return fm_vk_upload(u->vk, u->memory, u->offset + offset, data, bytes);
}

static enum fm_result upload_weights(struct fm_vk *vk, const struct fm_case *c, struct fm_case_run *run)
{
    for (uint32_t id = 0; id < c->graph.n_values; id++) {
        const struct fm_value *v = &c->graph.values[id];
        if (v->kind != FM_VALUE_WEIGHT && v->kind != FM_VALUE_CONST)
            continue;
        struct upload u = {vk, run->memory[FM_POOL_WEIGHTS], run->layout.place[id].offset};
        enum fm_result r;
        if (v->kind == FM_VALUE_CONST) {
            r = put(&u, 0, v->of.data, run->layout.place[id].bytes);
        } else {
            uint64_t rows = v->n_dims == 2 ? v->dims[0] : 1, k = v->dims[v->n_dims - 1];
            r = fm_pack_rows(v->type, rows, k, 0, rows, c->data[id], put, &u);
        }
        if (r)
            return r;
    }
    return fm_vk_upload_finish(vk);
}

static enum fm_result create_memories(struct fm_vk *vk, struct fm_case_run *run)
{
    static const char *const names[] = {"weights", "state", "arena", "step", "result", "counter"};
    enum fm_result r = FM_OK;
    for (int pool = 0; pool < FM_POOL_COUNT && !r; pool++) {
        if (pool == FM_POOL_WEIGHTS || pool == FM_POOL_STATE) {
            if (run->layout.pool[pool].n_allocs > 0)
                r = fm_vk_memory_create(vk, names[pool], FM_VK_DEVICE, &run->layout.pool[pool], &run->memory[pool]);
            continue;
        }
        enum fm_vk_place place = pool == FM_POOL_STEP ? FM_VK_UPLOAD : pool == FM_POOL_RESULT ? FM_VK_READBACK : FM_VK_DEVICE;
        uint64_t bytes = pool == FM_POOL_ARENA    ? run->plan.arena_bytes
                         : pool == FM_POOL_STEP   ? run->plan.step.bytes
                         : pool == FM_POOL_RESULT ? run->plan.result_bytes
                                                  : FM_COUNTER_BYTES;
        r = fm_vk_memory_create_single(vk, names[pool], place, FM_MAX(bytes, 256), &run->memory[pool]);
    }
    return r ? r : fm_vk_fill(vk, run->memory[FM_POOL_COUNTER], 0, FM_COUNTER_BYTES, 0);
}

enum fm_result fm_case_run_create(struct fm_vk *vk, const struct fm_caps *caps, struct fm_case *c, const struct fm_kernel *force,
                                  uint32_t rows, bool timed, struct fm_case_run *out_run)
{
    struct fm_case_run run = {0};
    struct fm_plan_options options = {.keep_values = true, .no_fuse = true, .narrow_outputs = c->halves, .guard_bytes = GUARD_BYTES,
                                      .force = force};
    enum fm_result r = fm_layout_create(&c->graph, caps, &c->dims, GUARD_BYTES, &run.layout);
    if (!r)
        r = fm_plan_create(&c->graph, &run.layout, caps, &c->dims, &options, &run.plan);
    if (!r)
        r = create_memories(vk, &run);
    if (!r && run.memory[FM_POOL_WEIGHTS]) {
        for (uint32_t i = 0; i < run.layout.pool[FM_POOL_WEIGHTS].n_allocs && !r; i++)
            r = fm_vk_fill(vk, run.memory[FM_POOL_WEIGHTS], i * run.layout.pool[FM_POOL_WEIGHTS].alloc_bytes,
                           run.layout.pool[FM_POOL_WEIGHTS].alloc_used[i] & ~3ull, POISON);
        if (!r)
            r = upload_weights(vk, c, &run);
    }
    if (!r) {
        uint32_t *step = fm_vk_memory_host(run.memory[FM_POOL_STEP]);
        memset(step, 0, run.plan.step.bytes);
        step[0] = rows; // FM_STEP_TOKENS
        step[1] = rows; // FM_STEP_OUTPUTS
        step[2] = c->segments; // FM_STEP_SEGMENTS
        for (int i = 0; i < FM_INPUT_COUNT; i++)
            memcpy((uint8_t *)step + run.plan.step.input_offset[i], c->input[i], c->input_words[i] * sizeof(uint32_t));
        struct fm_vk_program_info info = {.plan = &run.plan, .ring = timed ? FM_TIMING_RING : 1,
                                          .timing = timed ? FM_VK_TIMED_GROUPS : FM_VK_UNTIMED};
        memcpy(info.memory, run.memory, sizeof info.memory);
        r = fm_vk_program_create(vk, &info, &run.program);
    }
    if (r) {
        fm_case_run_finish(&run);
        return r;
    }
    *out_run = run;
    return FM_OK;
}

void fm_case_run_finish(struct fm_case_run *run)
{
    fm_vk_program_destroy(&run->program);
    for (int i = 0; i < FM_POOL_COUNT; i++)
        fm_vk_memory_destroy(&run->memory[i]);
    fm_plan_finish(&run->plan);
    fm_layout_finish(&run->layout);
}

// The blocks of a cache of q8_0, as the device holds them.
static enum fm_result upload_cache(struct fm_vk *vk, const struct fm_case *c, uint32_t id, const struct fm_case_run *run)
{
    uint64_t planes, blocks;
    fm_case_planes(c, id, &planes, &blocks);
    void *packed = fm_alloc(c->data_bytes[id]);
    if (!packed)
        return fm_nomem();
    fm_cache_pack(c->data[id], planes, blocks, packed);
    enum fm_result r = fm_vk_upload(vk, run->memory[FM_POOL_STATE], run->layout.place[id].offset, packed, c->data_bytes[id]);
    fm_free(packed);
    return r;
}

enum fm_result fm_case_run_reset(struct fm_vk *vk, const struct fm_case *c, struct fm_case_run *run)
{
    uint32_t *result = fm_vk_memory_host(run->memory[FM_POOL_RESULT]);
    for (uint64_t i = 0; i < run->plan.result_bytes / sizeof *result; i++)
        result[i] = POISON;
    enum fm_result r = fm_vk_fill(vk, run->memory[FM_POOL_ARENA], 0, fm_vk_memory_bytes(run->memory[FM_POOL_ARENA]) & ~3ull, POISON);
    if (!r)
        r = fm_vk_fill(vk, run->memory[FM_POOL_COUNTER], 0, FM_COUNTER_BYTES, 0);
    if (!r && run->memory[FM_POOL_STATE]) {
        for (uint32_t i = 0; i < run->layout.pool[FM_POOL_STATE].n_allocs && !r; i++)
            r = fm_vk_fill(vk, run->memory[FM_POOL_STATE], i * run->layout.pool[FM_POOL_STATE].alloc_bytes,
                           run->layout.pool[FM_POOL_STATE].alloc_used[i] & ~3ull, POISON);
        for (uint32_t id = 0; id < c->graph.n_values && !r; id++)
            if (c->graph.values[id].kind == FM_VALUE_STATE && c->data[id] && c->graph.values[id].type == FM_TYPE_Q8_0)
                r = upload_cache(vk, c, id, run);
            else if (c->graph.values[id].kind == FM_VALUE_STATE && c->data[id])
                r = fm_vk_upload(vk, run->memory[FM_POOL_STATE], run->layout.place[id].offset, c->data[id], c->data_bytes[id]);
    }
    return r ? r : fm_vk_upload_finish(vk);
}

enum fm_result fm_case_run_submit(struct fm_vk *vk, struct fm_case_run *run)
{
    uint64_t done = 0;
    enum fm_result r = fm_vk_program_submit(run->program, 0, &done);
    if (!r)
        r = fm_vk_wait(vk, done, UINT64_MAX);
    return r;
}
