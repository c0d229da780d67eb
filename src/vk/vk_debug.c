// SPDX-License-Identifier: MIT
// Validation messages, object names.
#include "vk/vk_internal.h"

static _Atomic uint32_t messages;

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT type,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data, void *user)
{
    (void)user;
    // The loader reports drivers that it cannot load as "general" messages: not what was asked for.
    if (!(type & VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT))
        return VK_FALSE;
    atomic_fetch_add(&messages, 1);
    fm_log(FM_LOG_ERROR, "validation %s: %s: %s",
           severity & VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT ? "error" : "warning",
           data->pMessageIdName ? data->pMessageIdName : "?", data->pMessage);
    return VK_FALSE;
}

VkDebugUtilsMessengerCreateInfoEXT fm_vk_debug_messenger_info(void)
{
    return (VkDebugUtilsMessengerCreateInfoEXT){
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT |
                           VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
        .pfnUserCallback = on_message,
    };
}

uint32_t fm_vk_debug_messages(void)
{
    return atomic_load(&messages);
}

uint32_t fm_vk_validation_messages(const struct fm_vk *vk)
{
    return fm_vk_debug_messages() - vk->messages_at_open;
}

void fm_vk_name_object(struct fm_vk *vk, VkObjectType type, uint64_t handle, const char *name)
{
    if (!vk->instance->debug_utils || handle == 0)
        return;
    VkDebugUtilsObjectNameInfoEXT info = {.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_OBJECT_NAME_INFO_EXT,
                                          .objectType = type,
                                          .objectHandle = handle,
                                          .pObjectName = name};
    // A name is an aid only: what the driver says about it does not matter.
    (void)vkSetDebugUtilsObjectNameEXT(vk->device, &info);
}
