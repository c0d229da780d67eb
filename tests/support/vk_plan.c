// SPDX-License-Identifier: MIT
#include "support/vk_plan.h"

#include "base/base.h"
#include "vk_kernel_spirv.h"

#define ARRAY_BYTES 4096u // room of an array of VK_PLAN_ELEMS words
#define WEIGHT_ALLOC_BYTES 65536u

static void set_dispatch(struct vk_plan *p, uint32_t i, uint32_t scale, uint32_t add, struct fm_binding x,
                         struct fm_binding y, bool barrier, const char *name)
{
    p->dispatches[i] = (struct fm_dispatch){
        .kernel = &p->kernel,
        .n_spec = 1,
        .spec = {{.id = 3, .value = scale}},
        .grid = {(VK_PLAN_ELEMS + p->kernel.workgroup - 1) / p->kernel.workgroup, 1, 1},
        .n_bind = 3,
        .n_words = 2,
        .bind = {{.pool = FM_POOL_STEP, .offset = 0, .bytes = 4}, x, y},
        .word = {VK_PLAN_ELEMS, add},
        .barrier_before = barrier,
        .name = name,
        .moved_bytes = 8 * VK_PLAN_ELEMS,
        .flops = 2.0 * VK_PLAN_ELEMS,
    };
}

static struct fm_binding arena(uint32_t array, bool written)
{
    return (struct fm_binding){.pool = FM_POOL_ARENA, .written = written, .offset = array * ARRAY_BYTES,
                               .bytes = VK_PLAN_ELEMS * 4};
}

void vk_plan_init(struct vk_plan *p)
{
    *p = (struct vk_plan){.kernel = {.name = "vk_test", .rung = FM_RUNG_BASE, .workgroup = 64,
                                     .spirv = vk_kernel_spirv, .spirv_bytes = sizeof(vk_kernel_spirv)}};
    struct fm_binding x = {.pool = FM_POOL_WEIGHTS, .offset = WEIGHT_ALLOC_BYTES + 256, .bytes = VK_PLAN_ELEMS * 4};
    struct fm_binding result = {.pool = FM_POOL_RESULT, .written = true, .bytes = VK_PLAN_ELEMS * 4};
    for (uint32_t i = 0; i < VK_PLAN_ELEMS; i++)
        p->x[i] = i * 2654435761u;
    set_dispatch(p, 0, 3, 1, x, arena(0, true), false, "a");
    set_dispatch(p, 1, 5, 2, x, arena(1, true), false, "b");
    set_dispatch(p, 2, 7, 0, arena(0, false), arena(2, true), true, "c");
    set_dispatch(p, 3, 2, 4, arena(2, false), arena(3, true), true, "d");
    set_dispatch(p, 4, 11, 0, arena(1, false), result, true, "result");
    p->d_offset = 3 * ARRAY_BYTES;
    p->plan = (struct fm_plan){.dispatches = p->dispatches, .n_dispatches = VK_PLAN_DISPATCHES, .n_groups = 4,
                               .arena_bytes = 4 * ARRAY_BYTES, .result_bytes = ARRAY_BYTES};
}

enum fm_result vk_plan_memory(struct vk_plan *p, struct fm_vk *vk)
{
    uint64_t used[2] = {1024, 8192};
    struct fm_pool_size weights = {.alloc_bytes = WEIGHT_ALLOC_BYTES, .n_allocs = 2, .alloc_used = used,
                                   .total_bytes = used[0] + used[1]};
    enum fm_result err = FM_OK;
    if ((err = fm_vk_memory_create(vk, "weights", FM_VK_DEVICE, &weights, &p->memory[FM_POOL_WEIGHTS])) ||
        (err = fm_vk_memory_create_single(vk, "arena", FM_VK_DEVICE, 4 * ARRAY_BYTES, &p->memory[FM_POOL_ARENA])) ||
        (err = fm_vk_memory_create_single(vk, "step", FM_VK_UPLOAD, VK_PLAN_RING * VK_PLAN_STEP_STRIDE,
                                          &p->memory[FM_POOL_STEP])) ||
        (err = fm_vk_memory_create_single(vk, "result", FM_VK_READBACK, VK_PLAN_RING * VK_PLAN_RESULT_STRIDE,
                                          &p->memory[FM_POOL_RESULT])) ||
        (err = fm_vk_upload(vk, p->memory[FM_POOL_WEIGHTS], WEIGHT_ALLOC_BYTES + 256, p->x, sizeof(p->x))) ||
        (err = fm_vk_upload_finish(vk)))
        vk_plan_memory_finish(p);
    return err;
}

void vk_plan_memory_finish(struct vk_plan *p)
{
    for (int i = 0; i < FM_POOL_COUNT; i++)
        fm_vk_memory_destroy(&p->memory[i]);
}

struct fm_vk_program_info vk_plan_info(struct vk_plan *p, bool timed)
{
    struct fm_vk_program_info info = {.plan = &p->plan, .ring = VK_PLAN_RING, .step_stride = VK_PLAN_STEP_STRIDE,
                                      .result_stride = VK_PLAN_RESULT_STRIDE, .timing = timed ? FM_VK_TIMED_GROUPS : FM_VK_UNTIMED};
    memcpy(info.memory, p->memory, sizeof(info.memory));
    return info;
}

void vk_plan_step(struct vk_plan *p, uint32_t entry, uint32_t s)
{
    uint8_t *step = fm_vk_memory_host(p->memory[FM_POOL_STEP]);
    memcpy(step + entry * VK_PLAN_STEP_STRIDE, &s, sizeof(s));
}

uint32_t vk_plan_wrong_result(struct vk_plan *p, uint32_t entry, uint32_t s)
{
    const uint32_t *got = fm_vk_memory_host(p->memory[FM_POOL_RESULT]);
    got += entry * VK_PLAN_RESULT_STRIDE / 4;
    for (uint32_t i = 0; i < VK_PLAN_ELEMS; i++) {
        if (got[i] != 11 * (5 * p->x[i] + 2 + s) + s)
            return i;
    }
    return VK_PLAN_ELEMS;
}

uint32_t vk_plan_wrong_d(struct vk_plan *p, const uint32_t *d, uint32_t s)
{
    for (uint32_t i = 0; i < VK_PLAN_ELEMS; i++) {
        uint32_t c = 7 * (3 * p->x[i] + 1 + s) + s;
        if (d[i] != 2 * c + 4 + s)
            return i;
    }
    return VK_PLAN_ELEMS;
}

enum fm_result vk_test_caps(struct fm_caps *out_caps)
{
    struct fm_caps *caps = NULL;
    size_t count = 0, index = 0;
    enum fm_result err = fm_vk_probe(&caps, &count);
    if (err)
        return err;
    err = fm_vk_choose(caps, count, NULL, &index);
    if (!err)
        *out_caps = caps[index];
    fm_free(caps);
    return err;
}
