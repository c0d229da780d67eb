// SPDX-License-Identifier: MIT
// Devices: what there is, and one opened for use.
#ifndef FULMEN_DEVICE_H
#define FULMEN_DEVICE_H

#include "fulmen/base.h"

#ifdef __cplusplus
extern "C" {
#endif

// One logical device. Thread-safe; outlives the models loaded on it.
struct fm_device;

struct fm_device_info {
    char name[256];
    char driver[256];         // name and version as the driver tells them
    char uuid[37];            // "01234567-89ab-cdef-0123-456789abcdef"
    const char *kind;         // "discrete", "integrated", "virtual", "cpu" or "other"; static
    const char *rung;         // highest rung of kernels that it reaches: "base" ... "cmr"; static
    uint64_t memory_bytes;    // size of the largest device-local heap
    uint64_t available_bytes; // what is left in it (memory_bytes where the driver does not say)
    bool unified;             // its memory is the host's
};

// All usable devices, in the order of their indices. Release with fm_device_list_free. FM_DEVICE when there are none.
FM_API enum fm_result fm_device_list(struct fm_device_info **out_infos, size_t *out_count);
FM_API void fm_device_list_free(struct fm_device_info *infos);

// All-zero: the discrete device with most memory, else an integrated one, else a processor; every rung it reaches.
struct fm_device_params {
    const char *selector; // an index, a UUID or part of a name; NULL or "" = the default
    const char *max_rung; // use no kernels above this rung; NULL = no limit. Unknown names are FM_ARG
    // A file of what was measured on this device, in place of what is shipped: lines `NAME = NUMBER` (the rows of
    // src/kernel/tuning.def) and `priority KERNEL = NUMBER`, `#` before a comment. It changes speed, never what is computed
    // but for the order of sums. NULL = none. FM_IO, FM_FORMAT.
    const char *tuning;
};
// FM_DEVICE when nothing matches (the message lists what there is).
FM_API enum fm_result fm_device_open(const struct fm_device_params *params, struct fm_device **out_device);
// Accepts NULL. Models and sessions on it must be gone.
FM_API void fm_device_close(struct fm_device **device);

FM_API void fm_device_get_info(const struct fm_device *device, struct fm_device_info *out_info);
// Device memory in use by this process as the driver reports it; 0 where it does not.
FM_API uint64_t fm_device_used_bytes(const struct fm_device *device);

// Bytes per second that the device reads from its memory at best: measured once per device and driver (about half a
// second; one thread at a time) and kept in the cache folder. `cancel` may be NULL. FM_UNSUPPORTED where it has no timestamps,
// FM_NOSPACE, FM_CANCELLED.
FM_API enum fm_result fm_device_read_bandwidth(struct fm_device *device, fm_cancel_fn *cancel, void *user, double *out_bytes_per_s);

struct fm_pipeline_stats {
    uint64_t create_ns; // wall time spent on pipelines so far
    uint32_t created;   // pipelines made
    uint32_t cached;    // of these, from the cache on disk
};
FM_API void fm_device_get_pipeline_stats(const struct fm_device *device, struct fm_pipeline_stats *out_stats);

#ifdef __cplusplus
}
#endif

#endif
