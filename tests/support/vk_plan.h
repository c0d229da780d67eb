// SPDX-License-Identifier: MIT
// A plan made by hand, of one small kernel: what the tests of src/vk run.
#ifndef FM_TESTS_SUPPORT_VK_PLAN_H
#define FM_TESTS_SUPPORT_VK_PLAN_H

#include "vk/vk.h"

#define VK_PLAN_ELEMS 1000u
#define VK_PLAN_RING 3u
#define VK_PLAN_STEP_STRIDE 256u
#define VK_PLAN_RESULT_STRIDE 4096u
#define VK_PLAN_DISPATCHES 5u

// x [1000] u32 lies in the second of two allocations of the weights pool;
//   a = 3 x + 1 + s,  b = 5 x + 2 + s  |  c = 7 a + s  |  d = 2 c + 4 + s  |  result = 11 b + s
// where s is word 0 of the step block and | is a barrier.
struct vk_plan {
    struct fm_plan plan;
    struct fm_dispatch dispatches[VK_PLAN_DISPATCHES];
    struct fm_kernel kernel;
    struct fm_vk_memory *memory[FM_POOL_COUNT];
    uint32_t x[VK_PLAN_ELEMS];
    uint64_t d_offset; // of d in the arena
};

void vk_plan_init(struct vk_plan *p);
// Make the five pools and upload x. On failure nothing is left.
enum fm_result vk_plan_memory(struct vk_plan *p, struct fm_vk *vk);
void vk_plan_memory_finish(struct vk_plan *p);
struct fm_vk_program_info vk_plan_info(struct vk_plan *p, bool timed);
// Set s of a ring entry.
void vk_plan_step(struct vk_plan *p, uint32_t entry, uint32_t s);
// First wrong element of the results of a ring entry (and of d, when it ran last), or VK_PLAN_ELEMS.
uint32_t vk_plan_wrong_result(struct vk_plan *p, uint32_t entry, uint32_t s);
uint32_t vk_plan_wrong_d(struct vk_plan *p, const uint32_t *d, uint32_t s);

// The device that the tests run on: what fm_vk_choose takes by default.
enum fm_result vk_test_caps(struct fm_caps *out_caps);

#endif
