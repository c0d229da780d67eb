// SPDX-License-Identifier: MIT
// Everything above this layer sees Vulkan through these calls only. No Vulkan type appears here.
#ifndef FM_VK_VK_H
#define FM_VK_VK_H

#include "plan/plan.h"

struct fm_vk;         // one logical device; thread-safe except where said
struct fm_vk_memory;  // a pool: one or more device allocations
struct fm_vk_program; // a plan with pipelines and recorded command buffers

// ---- probe ----------------------------------------------------------------------------------------------------------

// Capabilities of every device, quirks applied. FM_DEVICE when there is no Vulkan loader or no device (the message
// tells what to install). Release with fm_free. Devices below Vulkan 1.3 or without buffer device addresses are listed
// in the log at INFO and left out.
enum fm_result fm_vk_probe(struct fm_caps **out_caps, size_t *out_count);
// Index from text: an index, a UUID, or part of a name (without case); NULL or "" = discrete device with most memory,
// then integrated, then cpu. FM_DEVICE when nothing matches; the message lists the devices.
enum fm_result fm_vk_choose(const struct fm_caps *caps, size_t count, const char *selector, size_t *out_index);

// ---- device ---------------------------------------------------------------------------------------------------------

// Open the device with this UUID (caps->uuid from fm_vk_probe). caps may have been masked to a lower rung: only what
// its bits name is enabled.
enum fm_result fm_vk_open(const struct fm_caps *caps, struct fm_vk **out_vk);
void fm_vk_close(struct fm_vk **vk);
const struct fm_caps *fm_vk_caps(const struct fm_vk *vk);
// Device memory in use by this process as the driver reports it (EXT_memory_budget); 0 where it does not.
uint64_t fm_vk_used_bytes(const struct fm_vk *vk);
// Validation messages (errors and warnings) since the device was opened; 0 unless FULMEN_VALIDATE is set.
uint32_t fm_vk_validation_messages(const struct fm_vk *vk);

// Test hook: the n-th Vulkan call that can fail from now on fails (out of memory, or device lost for submits);
// UINT64_MAX = never. Returns how many such calls were made since the last call of this function.
uint64_t fm_vk_fail_at(uint64_t n);

// ---- memory ---------------------------------------------------------------------------------------------------------

enum fm_vk_place {
    FM_VK_DEVICE,
    FM_VK_UPLOAD,   // host writes, device reads
    FM_VK_READBACK, // device writes, host reads; cached where the device has such memory
};

// FM_NOSPACE with sizes when the device has no room.
enum fm_result fm_vk_memory_create(struct fm_vk *vk, const char *name, enum fm_vk_place place,
                                   const struct fm_pool_size *size, struct fm_vk_memory **out_memory);
// One allocation of `bytes`.
enum fm_result fm_vk_memory_create_single(struct fm_vk *vk, const char *name, enum fm_vk_place place, uint64_t bytes,
                                          struct fm_vk_memory **out_memory);
// Accepts NULL; the caller made sure the device is done with it.
void fm_vk_memory_destroy(struct fm_vk_memory **memory);
// Mapped pointer (coherent); NULL for FM_VK_DEVICE, and where there are several allocations.
void *fm_vk_memory_host(struct fm_vk_memory *memory);
uint64_t fm_vk_memory_bytes(const struct fm_vk_memory *memory); // really allocated

// Copy to/from FM_VK_DEVICE memory through the staging ring (three buffers of 32 MB, recycled by timeline value).
// Uploads return when the data is in the ring; fm_vk_upload_finish waits for all. What one thread uploads
// arrives in order; a download sees the uploads made before it.
enum fm_result fm_vk_upload(struct fm_vk *vk, struct fm_vk_memory *memory, uint64_t offset, const void *data,
                            uint64_t bytes);
enum fm_result fm_vk_upload_finish(struct fm_vk *vk);
enum fm_result fm_vk_download(struct fm_vk *vk, struct fm_vk_memory *memory, uint64_t offset, void *data,
                              uint64_t bytes);
enum fm_result fm_vk_fill(struct fm_vk *vk, struct fm_vk_memory *memory, uint64_t offset, uint64_t bytes,
                          uint32_t word);
// Copy inside the device (state fork).
enum fm_result fm_vk_copy(struct fm_vk *vk, struct fm_vk_memory *dst, uint64_t dst_offset, struct fm_vk_memory *src,
                          uint64_t src_offset, uint64_t bytes);
// Direct pointer for large staging writes: reserve up to *inout_bytes contiguous bytes of the ring (waits for room),
// fill them, then commit. At least half a slot (16 MB), or all that was asked for. Lets fm_pack_rows write without an
// extra copy. Between the two other threads that use the ring wait: every reserve that succeeds is followed by a commit of the
// same thread, which ends the reservation even when it fails; 0 bytes give it back unused.
enum fm_result fm_vk_stage_reserve(struct fm_vk *vk, uint64_t *inout_bytes, void **out_ptr);
enum fm_result fm_vk_stage_commit(struct fm_vk *vk, struct fm_vk_memory *memory, uint64_t offset, uint64_t bytes);

// ---- programs -------------------------------------------------------------------------------------------------------

enum fm_vk_timing {
    FM_VK_UNTIMED,
    FM_VK_TIMED_WHOLE,  // two timestamps a step
    FM_VK_TIMED_GROUPS, // and one between any two barrier groups, which makes the step slower
};

// Create the plan's pipelines (in parallel, through the cache) and record one command buffer per step-ring entry: entry
// i reads the step block at step_memory + i * step_stride and writes results at result_memory + i * result_stride.
// Memories must outlive the program, kernels (known by their address) the device. FM_CANCELLED when `cancel` (may be
// NULL) returns true between pipelines.
struct fm_vk_program_info {
    const struct fm_plan *plan;
    struct fm_vk_memory *memory[FM_POOL_COUNT];
    uint32_t ring;
    uint64_t step_stride, result_stride;
    enum fm_vk_timing timing;
    bool (*cancel)(void *user); // called from any thread, one call at a time
    void *cancel_user;
};
enum fm_result fm_vk_program_create(struct fm_vk *vk, const struct fm_vk_program_info *info,
                                    struct fm_vk_program **out_program);
void fm_vk_program_destroy(struct fm_vk_program **program);

// Replay ring entry i. *out_value: timeline value that is reached when it is done. Steps run in submission order, each
// after the one before. Long command buffers are split into several submits so that none runs longer than about half a
// second on slow devices.
enum fm_result fm_vk_program_submit(struct fm_vk_program *program, uint32_t ring_entry, uint64_t *out_value);
// FM_OK reached; FM_BUSY timeout; FM_LOST.
enum fm_result fm_vk_wait(struct fm_vk *vk, uint64_t value, uint64_t timeout_ns);
bool fm_vk_reached(struct fm_vk *vk, uint64_t value);
// After a timed submit was waited for: GPU time of the whole, and of every dispatch (dispatches of one barrier group
// share its time by their fm_vk_work); out_dispatch_ns has plan->n_dispatches entries or is NULL. FM_ARG when the program was not
// created with the timing that this needs, or the entry never ran; FM_BUSY, FM_LOST, FM_NOMEM.
enum fm_result fm_vk_program_times(struct fm_vk_program *program, uint32_t ring_entry, uint64_t *out_total_ns,
                                   uint64_t *out_dispatch_ns);

// What a dispatch has to do, in bytes: those that it must move, and its arithmetic at 32 flops to the byte, which lies between what
// processors and matrix units do in that time. For comparing dispatches of one group; a time is not made of it.
double fm_vk_work(uint64_t moved_bytes, double flops);
// Share `ns` among `count` (at least one) dispatches in proportion to their work [count], evenly where none has any. The parts
// are whole and their sum is `ns`.
void fm_vk_share_time(uint64_t ns, const double *work, size_t count, uint64_t *out_ns);

// Time spent creating pipelines for this device so far, and how many came from the cache on disk.
void fm_vk_pipeline_stats(const struct fm_vk *vk, uint64_t *out_ns, uint32_t *out_created, uint32_t *out_cached);
// Write the pipeline cache to disk if it changed (atomic; failures are logged only).
void fm_vk_cache_save(struct fm_vk *vk);

#endif
