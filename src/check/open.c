// SPDX-License-Identifier: MIT
// A device for checks and timings, from what a user wrote.
#include "check/check.h"

#include <stdio.h>

enum fm_result fm_check_open(const char *selector, const char *rung, struct fm_vk **out_vk, enum fm_rung *out_limit)
{
    struct fm_caps *caps = NULL;
    size_t count, index;
    enum fm_rung limit;
    enum fm_result r = fm_rung_limit(rung, &limit);
    if (!r)
        r = fm_vk_probe(&caps, &count);
    if (!r)
        r = fm_vk_choose(caps, count, selector, &index);
    if (!r)
        r = fm_vk_open(&caps[index], out_vk);
    if (!r)
        *out_limit = limit;
    fm_free(caps);
    return r;
}

static enum fm_result fail_with_ops(const char *op)
{
    char list[400] = "";
    size_t used = 0;
    for (int i = 0; i < FM_OP_COUNT && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, " %s", fm_op_info((enum fm_op)i)->name);
    return fm_fail(FM_ARG, "no op '%.32s', expected one of%s", op, list);
}

enum fm_result fm_check_validate(const struct fm_check_params *params)
{
    if (params->op != NULL && fm_op_from_name(params->op) == FM_OP_COUNT)
        return fail_with_ops(params->op);
    bool found = params->kernel == NULL;
    for (size_t i = 0; i < fm_kernel_count && !found; i++)
        found = strstr(fm_kernels[i].name, params->kernel) != NULL;
    if (!found)
        return fm_fail(FM_ARG, "no kernel has '%.64s' in its name", params->kernel);
    return FM_OK;
}
