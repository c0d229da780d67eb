// SPDX-License-Identifier: MIT
// Facts about vendors, devices and drivers. The only place that names one. A row stays until somebody shows that it is
// wrong: `reason` says what was seen and where it is written down.
#include "kernel/quirks.h"

enum { VENDOR_ANY = 0, VENDOR_AMD = 0x1002, VENDOR_INTEL = 0x8086 };

// Driver identities as Vulkan numbers them (VkDriverId).
enum { DRIVER_ANY = 0, DRIVER_INTEL_WINDOWS = 5, DRIVER_MOLTENVK = 14 };

struct quirk {
    uint32_t vendor_id, driver_id;          // 0 = any
    uint32_t device_first, device_last;     // device ids, both inclusive; 0, 0 = any
    uint32_t version_first, version_last;   // driver_version, both inclusive; 0, 0 = any
    uint32_t subgroup_min;                  // smallest subgroup size of the device, which tells generations apart; 0 = any
    uint64_t clear_bits;                    // FM_CAP_*: the feature is listed but does not work
    uint32_t flags;                         // FM_QUIRK_*
    const char *reason;
};

static const struct quirk quirks[] = {
    {.vendor_id = VENDOR_AMD, .driver_id = DRIVER_MOLTENVK, .clear_bits = 1ull << FM_CAP_INDEX_SUBGROUP,
     .reason = "64-wide subgroups are 32-wide ones half disabled: reductions and shuffles give wrong sums "
               "(MoltenVK #2750, llama.cpp #15846)"},
    {.vendor_id = VENDOR_INTEL, .driver_id = DRIVER_MOLTENVK, .clear_bits = 1ull << FM_CAP_INDEX_SUBGROUP,
     .reason = "subgroup reductions give wrong sums (MoltenVK #2757)"},
    {.vendor_id = VENDOR_INTEL, .driver_id = DRIVER_INTEL_WINDOWS, .clear_bits = 1ull << FM_CAP_INDEX_COOPMAT,
     .reason = "cooperative matrix kernels lose the device (IGCIT #1487, llama.cpp #24005)"},
    {.vendor_id = VENDOR_INTEL, .subgroup_min = 8, .flags = FM_QUIRK_SLOW_COOPMAT,
     .reason = "generations before Xe2 emulate cooperative matrices on the vector units (llama.cpp #10597, #24404)"},
};

static bool in_range(uint32_t value, uint32_t first, uint32_t last)
{
    return (first == 0 && last == 0) || (value >= first && value <= last);
}

static bool applies(const struct quirk *quirk, const struct fm_caps *caps)
{
    return (quirk->vendor_id == VENDOR_ANY || quirk->vendor_id == caps->vendor_id) &&
           (quirk->driver_id == DRIVER_ANY || quirk->driver_id == caps->driver_id) &&
           (quirk->subgroup_min == 0 || quirk->subgroup_min == caps->subgroup_min) &&
           in_range(caps->device_id, quirk->device_first, quirk->device_last) &&
           in_range(caps->driver_version, quirk->version_first, quirk->version_last);
}

void fm_caps_apply_quirks(struct fm_caps *caps)
{
    for (size_t i = 0; i < FM_COUNT(quirks); i++) {
        const struct quirk *quirk = &quirks[i];
        if (!applies(quirk, caps))
            continue;
        caps->bits &= ~quirk->clear_bits;
        caps->quirks |= quirk->flags;
        fm_log(FM_LOG_DEBUG, "%s: quirk %zu applies: %s", caps->name, i, quirk->reason);
    }
}

uint64_t fm_quirks_slow_bits(uint32_t flags)
{
    uint64_t bits = 0;
    if (flags & FM_QUIRK_SLOW_COOPMAT)
        bits |= 1ull << FM_CAP_INDEX_COOPMAT | 1ull << FM_CAP_INDEX_COOPMAT_REG;
    if (flags & FM_QUIRK_SLOW_INT_DOT)
        bits |= 1ull << FM_CAP_INDEX_INT_DOT;
    if (flags & FM_QUIRK_SLOW_HALF_MATH)
        bits |= 1ull << FM_CAP_INDEX_HALF_MATH;
    return bits;
}
