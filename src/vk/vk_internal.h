// SPDX-License-Identifier: MIT
// What the files of this folder share. Nothing outside src/vk includes it.
#ifndef FM_VK_VK_INTERNAL_H
#define FM_VK_VK_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "volk_names.h" // generated: volk's names with our prefix; to come before volk.h
#include <volk.h>

#include "base/map.h"
#include "vk/vk.h"

// ---- errors and injected faults (vk_error.c) ---------------------------------------------------------------------

// Every Vulkan call that can fail goes through one of these two, so that fm_vk_fail_at reaches it. FM_VK_CALL fails
// with "out of device memory", FM_VK_QUEUE_CALL (submits and waits) with "device lost". The call is not made when it
// "fails".
#define FM_VK_CALL(call) (fm_vk_fault() ? VK_ERROR_OUT_OF_DEVICE_MEMORY : (call))
#define FM_VK_QUEUE_CALL(call) (fm_vk_fault() ? VK_ERROR_DEVICE_LOST : (call))

bool fm_vk_fault(void);
const char *fm_vk_result_name(VkResult result);
// What to do without a loader or a driver.
#define FM_VK_ADVICE "on Debian and Ubuntu: apt install libvulkan1 mesa-vulkan-drivers (or the GPU maker's driver)"
// FM_DEVICE with the reason, as far as it can be found, for which the loader came to `result`.
enum fm_result fm_vk_no_driver(VkResult result);
// Record "WHAT: VK_ERROR_..." and return the matching fm_result; VK_ERROR_DEVICE_LOST marks vk (may be NULL) as lost.
enum fm_result fm_vk_error(struct fm_vk *vk, VkResult result, const char *fmt, ...) FM_PRINTF(3, 4);

// ---- instance (vk_instance.c, vk_debug.c) ------------------------------------------------------------------------

// One instance per process, made by the first call that succeeds and kept until the process ends: on some machines a
// driver needs seconds to come up, and drivers that were unloaded make leak reports unreadable. Thread-safe.
struct fm_vk_instance {
    VkInstance handle;
    bool debug_utils; // VK_EXT_debug_utils is enabled: names and labels
    bool validate;    // the validation layer is on and reports to us
    VkDebugUtilsMessengerEXT messenger;
};
enum fm_result fm_vk_instance_get(const struct fm_vk_instance **out_instance);
// Devices of the instance; *out_devices is released with fm_free. FM_DEVICE when there are none.
enum fm_result fm_vk_instance_devices(const struct fm_vk_instance *instance, VkPhysicalDevice **out_devices,
                                      uint32_t *out_count);
// What the messenger is to be created with; chained to the instance's creation it covers that too.
VkDebugUtilsMessengerCreateInfoEXT fm_vk_debug_messenger_info(void);
uint32_t fm_vk_debug_messages(void); // validation messages since the process began

// ---- probing (vk_probe.c, vk_features.c) -------------------------------------------------------------------------

// The features and properties that fulmen looks at, as one chain each. Extension structs are chained only where the
// device has the extension.
struct fm_vk_features {
    VkPhysicalDeviceFeatures2 core;
    VkPhysicalDeviceVulkan11Features v11;
    VkPhysicalDeviceVulkan12Features v12;
    VkPhysicalDeviceVulkan13Features v13;
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR coopmat;
    VkPhysicalDeviceCooperativeMatrix2FeaturesNV coopmat_nv;
};

enum fm_vk_extension {
    FM_VK_EXT_COOPMAT,
    FM_VK_EXT_COOPMAT_NV,
    FM_VK_EXT_MEMORY_BUDGET,
    FM_VK_EXT_SM_BUILTINS,
    FM_VK_EXT_CORE_PROPERTIES,
    FM_VK_EXT_COUNT
};

// Bit i of *out_bits: the device has extension i.
enum fm_result fm_vk_extensions(VkPhysicalDevice device, uint32_t *out_bits);
// Chain the structs in `features` to one another (sType, pNext), all features off.
void fm_vk_features_chain(struct fm_vk_features *features, uint32_t extensions);
// Capability bits that the features and properties of a device amount to, without those that need more than features.
uint64_t fm_vk_features_bits(const struct fm_vk_features *features);
// Turn on exactly what `caps` names, as far as `have` has it.
void fm_vk_features_enable(const struct fm_caps *caps, const struct fm_vk_features *have,
                           struct fm_vk_features *want);
// Cooperative matrix shapes f16 x f16 -> f32; leaves caps->n_matrix at 0 where there is none.
enum fm_result fm_vk_matrix_shapes(VkPhysicalDevice device, uint32_t extensions, struct fm_caps *caps);
// Sets vk->caps.matrix_order: runs a small product for each order that a kernel is made for.
enum fm_result fm_vk_matrix_order_find(struct fm_vk *vk);
// Everything about one device. *out_usable = false (and FM_OK, with *out_why) when it is below what fulmen needs.
enum fm_result fm_vk_probe_device(VkPhysicalDevice device, struct fm_caps *out_caps, bool *out_usable,
                                  const char **out_why);
const char *fm_vk_extension_name(enum fm_vk_extension extension);
// First queue family with compute, one without graphics preferred; UINT32_MAX when there is none.
uint32_t fm_vk_queue_family(VkPhysicalDevice device, uint32_t *out_timestamp_bits);

// ---- device ------------------------------------------------------------------------------------------------------

#define FM_VK_STAGE_SLOTS 3
#define FM_VK_STAGE_SLOT_BYTES (32ull << 20) // times FM_VK_STAGE_SLOTS: host memory that loading needs
#define FM_VK_DOWN_BYTES (8ull << 20)
#define FM_VK_PUSH_BYTES 128u

struct fm_vk_stage_slot {
    struct fm_vk_memory *memory; // NULL until first used
    VkCommandBuffer commands;
    bool recording;
    uint64_t used_bytes;
    uint64_t value; // timeline value of its last submit
};

struct fm_vk_stage { // the staging ring, and the command buffer for single transfers
    pthread_mutex_t lock;
    VkCommandPool pool;
    struct fm_vk_stage_slot slot[FM_VK_STAGE_SLOTS];
    uint32_t current;
    uint64_t epoch;          // counts up from 1 whenever the ring was seen empty
    uint64_t reserved_bytes; // handed out by fm_vk_stage_reserve and not yet committed
    const struct fm_vk_memory *last; // destination of the copy recorded last, and where it ended: a copy that does not
    uint64_t last_end;               // follow it waits for it, since the two might overlap
    VkCommandBuffer single;
    struct fm_vk_memory *down; // readback buffer, NULL until first used
};

struct fm_vk_pipeline;

struct fm_vk_pipelines {
    pthread_mutex_t lock;
    VkPipelineLayout layout;
    VkPipelineCache cache;
    struct fm_map map; // key -> index in entries
    struct fm_vk_pipeline **entries;
    size_t count, capacity;
    uint64_t create_ns;
    uint32_t created, cached;
    uint32_t unsaved; // pipelines made since the cache on disk was read or written that were not in it
};

struct fm_vk {
    struct fm_caps caps;
    const struct fm_vk_instance *instance;
    VkPhysicalDevice physical;
    VkDevice device;
    struct VolkDeviceTable fn;
    VkPhysicalDeviceMemoryProperties memory;
    bool memory_budget;
    uint8_t cache_uuid[VK_UUID_SIZE];
    uint32_t queue_family, timestamp_bits;
    uint32_t max_workgroup_subgroups; // of a workgroup with a required subgroup size
    uint32_t messages_at_open;
    _Atomic bool lost;

    pthread_mutex_t queue_lock; // guards queue and value
    VkQueue queue;
    VkSemaphore timeline;
    uint64_t value; // timeline value of the last submit

    struct fm_vk_stage stage;
    struct fm_vk_pipelines pipelines;
};

enum fm_result fm_vk_lost(const struct fm_vk *vk); // FM_OK, or FM_LOST with a message
// Submit batches of one command buffer each, in order; the last signals *out_value.
enum fm_result fm_vk_submit(struct fm_vk *vk, const VkCommandBuffer *commands, uint32_t count, const char *what,
                            uint64_t *out_value);
// Wait until `value` is reached or the device is lost, for clean-up: no error, no message, no injected fault.
void fm_vk_settle(struct fm_vk *vk, uint64_t value);
// The same for everything submitted so far, whether the device is lost or not.
void fm_vk_idle(struct fm_vk *vk);
void fm_vk_name_object(struct fm_vk *vk, VkObjectType type, uint64_t handle, const char *name);
enum fm_result fm_vk_begin_commands(struct fm_vk *vk, VkCommandBuffer commands, bool once);
// One global memory barrier.
void fm_vk_barrier(struct fm_vk *vk, VkCommandBuffer commands, VkPipelineStageFlags2 src_stage, VkAccessFlags2 src,
                   VkPipelineStageFlags2 dst_stage, VkAccessFlags2 dst);

// ---- memory (vk_memory.c) ----------------------------------------------------------------------------------------

struct fm_vk_alloc {
    VkBuffer buffer;
    VkDeviceMemory memory;
    VkDeviceAddress address;
    uint64_t bytes;
    void *host;
};

struct fm_vk_memory {
    struct fm_vk *vk;
    char *name;
    enum fm_vk_place place;
    uint64_t alloc_bytes; // offsets i * alloc_bytes ... lie in allocation i
    uint32_t n_allocs;
    struct fm_vk_alloc *allocs;
    uint64_t ring_epoch; // stage.epoch when it was last written through the ring
};

// The allocation that holds [offset, offset + bytes) and the offset in it. FM_ARG when there is no such range in one allocation.
enum fm_result fm_vk_memory_locate(const struct fm_vk_memory *memory, uint64_t offset, uint64_t bytes,
                                   const struct fm_vk_alloc **out_alloc, uint64_t *out_offset);
// The part of [offset, offset + bytes) that lies in the first allocation that it touches; FM_ARG as above.
enum fm_result fm_vk_memory_part(const struct fm_vk_memory *memory, uint64_t offset, uint64_t bytes,
                                 const struct fm_vk_alloc **out_alloc, uint64_t *out_offset, uint64_t *out_bytes);

// ---- staging (vk_upload.c, vk_transfer.c) ------------------------------------------------------------------------

enum fm_result fm_vk_stage_init(struct fm_vk *vk);
void fm_vk_stage_finish(struct fm_vk *vk);
// Submit what the ring holds; the first of the two does not wait for it. The caller holds the ring's lock. When they
// fail, the ring is empty all the same, and nothing in it runs any more.
enum fm_result fm_vk_stage_flush(struct fm_vk *vk);
enum fm_result fm_vk_stage_drain(struct fm_vk *vk);

// ---- pipelines (vk_pipeline.c, vk_cache.c) -----------------------------------------------------------------------

enum fm_result fm_vk_pipelines_init(struct fm_vk *vk);
void fm_vk_pipelines_finish(struct fm_vk *vk);
// The pipeline of every dispatch of `plan`, created where it is new. The handles stay valid until the device is closed.
enum fm_result fm_vk_pipelines_get(struct fm_vk *vk, const struct fm_plan *plan, bool (*cancel)(void *user),
                                   void *user, VkPipeline *out_pipelines);
// A pipeline cache with what the disk holds for this device; without it when there is nothing valid.
enum fm_result fm_vk_cache_load(struct fm_vk *vk, VkPipelineCache *out_cache);

// ---- programs (vk_program.c, vk_record.c, vk_timer.c) ------------------------------------------------------------

struct fm_vk_program {
    struct fm_vk *vk;
    uint32_t ring, n_submits, n_groups;
    size_t n_dispatches;
    double *work;           // [n_dispatches] fm_vk_work
    uint32_t *group;        // [n_dispatches] barrier group
    uint32_t *submit;       // [n_dispatches] submit that it belongs to
    VkCommandPool pool;
    VkCommandBuffer *commands; // [ring, n_submits]
    VkQueryPool *queries;      // [ring] n_queries timestamps each; NULL when not timed
    uint32_t n_queries;        // 2, or n_groups + 1
    uint64_t *value;           // [ring] timeline value of the last submit
};

// Record ring entry `entry` into its command buffers.
enum fm_result fm_vk_record(struct fm_vk_program *program, const struct fm_vk_program_info *info,
                            const VkPipeline *pipelines, uint32_t entry);
// Fill program->submit and program->n_submits: cut where the estimated time on this device reaches half a second.
void fm_vk_record_cut(struct fm_vk_program *program, const struct fm_plan *plan);

#endif
