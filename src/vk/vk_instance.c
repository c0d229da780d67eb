// SPDX-License-Identifier: MIT
// The Vulkan loader and the process's one instance.
#include "base/os.h"
#include "vk/vk_internal.h"

#define VALIDATION_LAYER "VK_LAYER_KHRONOS_validation"

static pthread_mutex_t instance_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fm_vk_instance instance;

static enum fm_result find_layer(const char *name, bool *out_found)
{
    uint32_t count = 0;
    VkLayerProperties *layers = NULL;
    *out_found = false;
    VkResult result = FM_VK_CALL(vkEnumerateInstanceLayerProperties(&count, NULL));
    if (result == VK_SUCCESS && count > 0) {
        layers = fm_alloc_zero(count, sizeof(*layers));
        if (!layers)
            return fm_nomem();
        result = FM_VK_CALL(vkEnumerateInstanceLayerProperties(&count, layers));
    }
    for (uint32_t i = 0; result >= 0 && i < count; i++)
        *out_found |= strcmp(layers[i].layerName, name) == 0;
    fm_free(layers);
    return result < 0 ? fm_vk_error(NULL, result, "vkEnumerateInstanceLayerProperties") : FM_OK;
}

static enum fm_result find_extension(const char *layer, const char *name, bool *out_found)
{
    uint32_t count = 0;
    VkExtensionProperties *extensions = NULL;
    *out_found = false;
    VkResult result = FM_VK_CALL(vkEnumerateInstanceExtensionProperties(layer, &count, NULL));
    if (result == VK_SUCCESS && count > 0) {
        extensions = fm_alloc_zero(count, sizeof(*extensions));
        if (!extensions)
            return fm_nomem();
        result = FM_VK_CALL(vkEnumerateInstanceExtensionProperties(layer, &count, extensions));
    }
    for (uint32_t i = 0; result >= 0 && i < count; i++)
        *out_found |= strcmp(extensions[i].extensionName, name) == 0;
    fm_free(extensions);
    if (result == VK_ERROR_OUT_OF_HOST_MEMORY && layer == NULL)
        return fm_vk_no_driver(result);
    return result < 0 ? fm_vk_error(NULL, result, "vkEnumerateInstanceExtensionProperties") : FM_OK;
}

static enum fm_result load_vulkan(void)
{
    if (volkInitialize() != VK_SUCCESS)
        return fm_fail(FM_DEVICE, "no Vulkan loader (libvulkan.so.1) on this machine; " FM_VK_ADVICE);
    uint32_t version = volkGetInstanceVersion();
    if (version < VK_API_VERSION_1_1)
        return fm_fail(FM_DEVICE, "the Vulkan loader is too old: expected 1.1 or newer, found %u.%u",
                       VK_API_VERSION_MAJOR(version), VK_API_VERSION_MINOR(version));
    return FM_OK;
}

static enum fm_result create_instance(struct fm_vk_instance *made)
{
    bool found = false;
    const char *extension = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    const char *layer = VALIDATION_LAYER;
    enum fm_result err = load_vulkan();
    if (err)
        return err;
    made->validate = fm_env_flag("FULMEN_VALIDATE");
    if (made->validate) {
        err = find_layer(layer, &found);
        if (!err && !found)
            err = fm_fail(FM_DEVICE, "FULMEN_VALIDATE is set, but %s is not installed "
                                     "(on Debian and Ubuntu: apt install vulkan-validationlayers)", layer);
        if (err)
            return err;
    }
    if ((err = find_extension(NULL, extension, &made->debug_utils)))
        return err;
    if (!made->debug_utils && made->validate && (err = find_extension(layer, extension, &made->debug_utils)))
        return err;
    if (made->validate && !made->debug_utils)
        return fm_fail(FM_DEVICE, "FULMEN_VALIDATE is set, but %s does not offer %s", layer, extension);

    VkDebugUtilsMessengerCreateInfoEXT messenger = fm_vk_debug_messenger_info();
    VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                             .pApplicationName = "fulmen",
                             .pEngineName = "fulmen",
                             .apiVersion = VK_API_VERSION_1_3};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                 .pNext = made->validate ? &messenger : NULL,
                                 .pApplicationInfo = &app,
                                 .enabledLayerCount = made->validate,
                                 .ppEnabledLayerNames = &layer,
                                 .enabledExtensionCount = made->debug_utils,
                                 .ppEnabledExtensionNames = &extension};
    VkResult result = FM_VK_CALL(vkCreateInstance(&info, NULL, &made->handle));
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER || result == VK_ERROR_OUT_OF_HOST_MEMORY || result == VK_ERROR_INITIALIZATION_FAILED)
        return fm_vk_no_driver(result);
    if (result)
        return fm_vk_error(NULL, result, "vkCreateInstance");
    volkLoadInstanceOnly(made->handle);
    if (made->validate) {
        result = FM_VK_CALL(vkCreateDebugUtilsMessengerEXT(made->handle, &messenger, NULL, &made->messenger));
        if (result) {
            vkDestroyInstance(made->handle, NULL);
            return fm_vk_error(NULL, result, "vkCreateDebugUtilsMessengerEXT");
        }
    }
    return FM_OK;
}

enum fm_result fm_vk_instance_get(const struct fm_vk_instance **out_instance)
{
    enum fm_result err = FM_OK;
    pthread_mutex_lock(&instance_lock);
    if (!instance.handle) {
        struct fm_vk_instance made = {0};
        err = create_instance(&made);
        if (!err)
            instance = made;
    }
    pthread_mutex_unlock(&instance_lock);
    if (!err)
        *out_instance = &instance;
    return err;
}

enum fm_result fm_vk_instance_devices(const struct fm_vk_instance *from, VkPhysicalDevice **out_devices,
                                      uint32_t *out_count)
{
    uint32_t count = 0;
    VkPhysicalDevice *devices = NULL;
    VkResult result = FM_VK_CALL(vkEnumeratePhysicalDevices(from->handle, &count, NULL));
    if (result == VK_SUCCESS && count > 0) {
        devices = fm_alloc_zero(count, sizeof(*devices));
        if (!devices)
            return fm_nomem();
        result = FM_VK_CALL(vkEnumeratePhysicalDevices(from->handle, &count, devices));
    }
    if (result < 0) { // VK_INCOMPLETE: one came in between; the others are listed
        fm_free(devices);
        return fm_vk_error(NULL, result, "vkEnumeratePhysicalDevices");
    }
    if (count == 0) {
        fm_free(devices);
        return fm_fail(FM_DEVICE, "Vulkan lists no device; " FM_VK_ADVICE);
    }
    *out_devices = devices;
    *out_count = count;
    return FM_OK;
}
