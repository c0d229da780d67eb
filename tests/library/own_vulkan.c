// SPDX-License-Identifier: MIT
// A program that uses Vulkan itself and links the library: the two must not meet. Built with OWN_VOLK it has a volk of its own,
// else it calls the functions of the Vulkan loader. It makes an instance and counts devices both before and after the
// library has found its own: own_vulkan own-first|library-first.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef OWN_VOLK
#include <volk.h>
#else
#include <vulkan/vulkan.h>
#endif

#include <fulmen/fulmen.h>

// Number of devices that this program sees through its own Vulkan; 0 on an error.
static uint32_t own_devices(void)
{
    const VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_1};
    const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
    VkInstance instance;
    uint32_t count = 0;
#ifdef OWN_VOLK
    if (volkInitialize() != VK_SUCCESS)
        return 0;
#endif
    if (vkCreateInstance(&info, NULL, &instance) != VK_SUCCESS)
        return 0;
#ifdef OWN_VOLK
    volkLoadInstance(instance);
#endif
    if (vkEnumeratePhysicalDevices(instance, &count, NULL) != VK_SUCCESS)
        count = 0;
    vkDestroyInstance(instance, NULL);
    return count;
}

// Opens a device with the library and closes it again. Number of devices that the library sees; 0 on an error.
static uint32_t library_devices(void)
{
    struct fm_device_info *list = NULL;
    struct fm_device *device = NULL;
    size_t count = 0;
    if (fm_device_list(&list, &count) != FM_OK || fm_device_open(NULL, &device) != FM_OK)
        fprintf(stderr, "%s\n", fm_error_message());
    fm_device_list_free(list);
    count = device != NULL ? count : 0;
    fm_device_close(&device);
    return (uint32_t)count;
}

int main(int argc, char **argv)
{
    if (argc != 2 || (strcmp(argv[1], "own-first") != 0 && strcmp(argv[1], "library-first") != 0)) {
        fprintf(stderr, "usage: own_vulkan own-first|library-first\n");
        return 2;
    }
    uint32_t own[2] = {0}, library[2] = {0};
    bool own_first = strcmp(argv[1], "own-first") == 0;
    for (int i = 0; i < 2; i++) {
        own[i] = own_first ? own_devices() : 0;
        library[i] = library_devices();
        own[i] = own_first ? own[i] : own_devices();
    }
    printf("devices: own %u and %u, of the library %u and %u\n", own[0], own[1], library[0], library[1]);
    return own[0] > 0 && own[1] == own[0] && library[0] > 0 && library[1] == library[0] ? EXIT_SUCCESS : EXIT_FAILURE;
}
