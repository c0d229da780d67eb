// SPDX-License-Identifier: MIT
// Cooperative matrix shapes of subgroups, f16 x f16 -> f32, as a device lists them.
#include "vk/vk_internal.h"

static void add_shape(struct fm_caps *caps, const struct fm_matrix_shape *shape)
{
    for (uint32_t i = 0; i < caps->n_matrix; i++) {
        const struct fm_matrix_shape *s = &caps->matrix[i];
        if (s->m == shape->m && s->n == shape->n && s->k == shape->k)
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

enum fm_result fm_vk_matrix_shapes(VkPhysicalDevice device, uint32_t extensions, struct fm_caps *caps)
{
    return extensions & 1u << FM_VK_EXT_COOPMAT ? subgroup_shapes(device, caps) : FM_OK;
}
