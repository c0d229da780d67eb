// SPDX-License-Identifier: MIT
// Cooperative matrix shapes, f16 x f16 -> f32, as a device lists them.
#include "vk/vk_internal.h"

static void add_shape(struct fm_caps *caps, const struct fm_matrix_shape *shape)
{
    for (uint32_t i = 0; i < caps->n_matrix; i++) {
        const struct fm_matrix_shape *s = &caps->matrix[i];
        if (s->m == shape->m && s->n == shape->n && s->k == shape->k && s->workgroup == shape->workgroup &&
            s->invocations == shape->invocations)
            return;
    }
    if (caps->n_matrix < FM_COUNT(caps->matrix))
        caps->matrix[caps->n_matrix++] = *shape;
}

static enum fm_result subgroup_shapes(VkPhysicalDevice device, struct fm_caps *caps)
{
    uint32_t count = 0;
    VkCooperativeMatrixPropertiesKHR *list = NULL;
    VkResult result = FM_VK_CALL(vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR(device, &count, NULL));
    if (result == VK_SUCCESS && count > 0) {
        list = fm_alloc_zero(count, sizeof(*list));
        if (!list)
            return fm_nomem();
        for (uint32_t i = 0; i < count; i++)
            list[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
        result = FM_VK_CALL(vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR(device, &count, list));
    }
    for (uint32_t i = 0; result >= 0 && i < count; i++) {
        const VkCooperativeMatrixPropertiesKHR *p = &list[i];
        struct fm_matrix_shape shape = {.m = p->MSize, .n = p->NSize, .k = p->KSize};
        if (p->AType == VK_COMPONENT_TYPE_FLOAT16_KHR && p->BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
            p->CType == VK_COMPONENT_TYPE_FLOAT32_KHR && p->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
            p->scope == VK_SCOPE_SUBGROUP_KHR)
            add_shape(caps, &shape);
    }
    fm_free(list);
    return result < 0 ? fm_vk_error(NULL, result, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR") : FM_OK;
}

static enum fm_result workgroup_shapes(VkPhysicalDevice device, struct fm_caps *caps)
{
    uint32_t count = 0;
    VkCooperativeMatrixFlexibleDimensionsPropertiesNV *list = NULL;
    VkResult result =
        FM_VK_CALL(vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV(device, &count, NULL));
    if (result == VK_SUCCESS && count > 0) {
        list = fm_alloc_zero(count, sizeof(*list));
        if (!list)
            return fm_nomem();
        for (uint32_t i = 0; i < count; i++)
            list[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_FLEXIBLE_DIMENSIONS_PROPERTIES_NV;
        result = FM_VK_CALL(vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV(device, &count, list));
    }
    for (uint32_t i = 0; result >= 0 && i < count; i++) {
        const VkCooperativeMatrixFlexibleDimensionsPropertiesNV *p = &list[i];
        struct fm_matrix_shape shape = {.m = p->MGranularity, .n = p->NGranularity, .k = p->KGranularity,
                                        .workgroup = true, .invocations = p->workgroupInvocations};
        if (p->AType == VK_COMPONENT_TYPE_FLOAT16_KHR && p->BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
            p->CType == VK_COMPONENT_TYPE_FLOAT32_KHR && p->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
            p->scope == VK_SCOPE_WORKGROUP_KHR)
            add_shape(caps, &shape);
    }
    fm_free(list);
    return result < 0
               ? fm_vk_error(NULL, result, "vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV")
               : FM_OK;
}

enum fm_result fm_vk_matrix_shapes(VkPhysicalDevice device, uint32_t extensions, struct fm_caps *caps)
{
    enum fm_result err = FM_OK;
    if (extensions & 1u << FM_VK_EXT_COOPMAT)
        err = subgroup_shapes(device, caps);
    if (!err && (caps->bits & FM_CAP_COOPMAT2))
        err = workgroup_shapes(device, caps);
    return err;
}
