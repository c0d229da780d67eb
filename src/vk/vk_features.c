// SPDX-License-Identifier: MIT
// Features: what a device has, what that means as capability bits, and what is enabled for given bits.
#include "vk/vk_internal.h"

static const char *const extension_names[FM_VK_EXT_COUNT] = {
    [FM_VK_EXT_COOPMAT] = VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME,
    [FM_VK_EXT_COOPMAT_NV] = VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME,
    [FM_VK_EXT_MEMORY_BUDGET] = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME,
    [FM_VK_EXT_SM_BUILTINS] = VK_NV_SHADER_SM_BUILTINS_EXTENSION_NAME,
    [FM_VK_EXT_CORE_PROPERTIES] = VK_AMD_SHADER_CORE_PROPERTIES_EXTENSION_NAME,
};

enum fm_result fm_vk_extensions(VkPhysicalDevice device, uint32_t *out_bits)
{
    uint32_t count = 0, bits = 0;
    VkExtensionProperties *list = NULL;
    VkResult result = FM_VK_CALL(vkEnumerateDeviceExtensionProperties(device, NULL, &count, NULL));
    if (result == VK_SUCCESS && count > 0) {
        list = fm_alloc_zero(count, sizeof(*list));
        if (!list)
            return fm_nomem();
        result = FM_VK_CALL(vkEnumerateDeviceExtensionProperties(device, NULL, &count, list));
    }
    for (uint32_t i = 0; result >= 0 && i < count; i++) {
        for (uint32_t e = 0; e < FM_VK_EXT_COUNT; e++) {
            if (strcmp(list[i].extensionName, extension_names[e]) == 0)
                bits |= 1u << e;
        }
    }
    fm_free(list);
    if (result < 0)
        return fm_vk_error(NULL, result, "vkEnumerateDeviceExtensionProperties");
    *out_bits = bits;
    return FM_OK;
}

const char *fm_vk_extension_name(enum fm_vk_extension extension)
{
    return extension_names[extension];
}

void fm_vk_features_chain(struct fm_vk_features *features, uint32_t extensions)
{
    *features = (struct fm_vk_features){
        .core = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &features->v11},
        .v11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &features->v12},
        .v12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .pNext = &features->v13},
        .v13 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES},
        .coopmat = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR},
        .coopmat_nv = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV},
    };
    void **tail = &features->v13.pNext;
    if (extensions & 1u << FM_VK_EXT_COOPMAT) {
        *tail = &features->coopmat;
        tail = &features->coopmat.pNext;
    }
    if (extensions & 1u << FM_VK_EXT_COOPMAT_NV)
        *tail = &features->coopmat_nv;
}

uint64_t fm_vk_features_bits(const struct fm_vk_features *features)
{
    const VkPhysicalDeviceCooperativeMatrix2FeaturesNV *nv = &features->coopmat_nv;
    uint64_t bits = 0;
    if (features->v12.shaderFloat16)
        bits |= FM_CAP_FLOAT16 | FM_CAP_HALF_MATH;
    // Kernels that load 16-bit (8-bit) words also compute with them.
    if (features->v11.storageBuffer16BitAccess && features->core.features.shaderInt16)
        bits |= FM_CAP_STORAGE16;
    if (features->v12.storageBuffer8BitAccess && features->v12.shaderInt8)
        bits |= FM_CAP_STORAGE8;
    if (features->v13.shaderIntegerDotProduct)
        bits |= FM_CAP_INT_DOT;
    if (features->coopmat.cooperativeMatrix)
        bits |= FM_CAP_COOPMAT;
    if (features->v12.vulkanMemoryModel && features->v12.vulkanMemoryModelDeviceScope)
        bits |= FM_CAP_VULKAN_MEMORY_MODEL;
    if (nv->cooperativeMatrixReductions && nv->cooperativeMatrixConversions && nv->cooperativeMatrixPerElementOperations)
        bits |= FM_CAP_COOPMAT_REG;
    return bits;
}

void fm_vk_features_enable(const struct fm_caps *caps, const struct fm_vk_features *have, struct fm_vk_features *want)
{
    bool f16 = caps->bits & FM_CAP_FLOAT16, storage16 = caps->bits & FM_CAP_STORAGE16;
    bool storage8 = caps->bits & FM_CAP_STORAGE8, model = caps->bits & FM_CAP_VULKAN_MEMORY_MODEL;
    bool cmr = caps->bits & FM_CAP_COOPMAT_REG;

    want->v12.bufferDeviceAddress = VK_TRUE;
    want->v12.scalarBlockLayout = VK_TRUE;
    want->v12.timelineSemaphore = VK_TRUE;
    want->v13.synchronization2 = VK_TRUE;
    want->v13.maintenance4 = VK_TRUE;
    want->v13.subgroupSizeControl = caps->subgroup_size_control;
    want->v13.computeFullSubgroups = caps->subgroup_size_control;

    want->v12.shaderFloat16 = f16 && have->v12.shaderFloat16;
    want->v12.shaderSubgroupExtendedTypes = f16 && have->v12.shaderSubgroupExtendedTypes;
    want->v11.storageBuffer16BitAccess = storage16 && have->v11.storageBuffer16BitAccess;
    want->core.features.shaderInt16 = storage16 && have->core.features.shaderInt16;
    want->v12.storageBuffer8BitAccess = storage8 && have->v12.storageBuffer8BitAccess;
    want->v12.shaderInt8 = storage8 && have->v12.shaderInt8;
    want->v13.shaderIntegerDotProduct = (caps->bits & FM_CAP_INT_DOT) && have->v13.shaderIntegerDotProduct;
    want->v12.vulkanMemoryModel = model && have->v12.vulkanMemoryModel;
    want->v12.vulkanMemoryModelDeviceScope = model && have->v12.vulkanMemoryModelDeviceScope;
    want->coopmat.cooperativeMatrix = (caps->bits & FM_CAP_COOPMAT) && have->coopmat.cooperativeMatrix;

    want->coopmat_nv.cooperativeMatrixReductions = cmr && have->coopmat_nv.cooperativeMatrixReductions;
    want->coopmat_nv.cooperativeMatrixConversions = cmr && have->coopmat_nv.cooperativeMatrixConversions;
    want->coopmat_nv.cooperativeMatrixPerElementOperations =
        cmr && have->coopmat_nv.cooperativeMatrixPerElementOperations;
}
