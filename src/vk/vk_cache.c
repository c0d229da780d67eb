// SPDX-License-Identifier: MIT
// The pipeline cache on disk: <cache folder>/<device>-<driver>-<kernels>.pipelines
//
// Drivers are known to trust what they are given, so nothing reaches them that did not come from here whole: the file
// begins with a header whose every field, checksum included, must be as expected. Anything else is ignored and
// replaced. Whoever writes a file removes those of the same device that other drivers or other versions of the kernels
// left a month ago or more.
#include <inttypes.h>
#include <stdio.h>

#include "base/os.h"
#include "base/writer.h"
#include "vk/vk_internal.h"

#define MAX_CACHE_BYTES (256u << 20)
#define PATH_BYTES 1024
#define SUFFIX ".pipelines"
#define NAME_BYTES 96 // 32 + 1 + 8 + 1 + 16 digits and dashes, the suffix, the end
#define STALE_SECONDS (30u * 24 * 60 * 60)

static const char magic[8] = "FMPIPE1";

struct cache_header { // as on disk, in the byte order of the machine that wrote it
    char magic[8];
    uint32_t byte_order; // 0x01020304
    uint32_t driver_version;
    uint8_t device_uuid[16];
    uint8_t cache_uuid[16]; // pipelineCacheUUID
    uint64_t manifest_hash;
    uint64_t data_bytes;
    uint64_t checksum; // fm_hash64 of the data
};

static struct cache_header make_header(const struct fm_vk *vk, const void *data, size_t data_bytes)
{
    struct cache_header header;
    memset(&header, 0, sizeof(header));
    memcpy(header.magic, magic, sizeof(header.magic));
    header.byte_order = 0x01020304;
    header.driver_version = vk->caps.driver_version;
    memcpy(header.device_uuid, vk->caps.uuid, sizeof(header.device_uuid));
    memcpy(header.cache_uuid, vk->cache_uuid, sizeof(header.cache_uuid));
    header.manifest_hash = fm_kernel_manifest_hash;
    header.data_bytes = data_bytes;
    header.checksum = fm_hash64(data, data_bytes, FM_HASH_SEED);
    return header;
}

static void cache_name(const struct fm_vk *vk, char out_name[NAME_BYTES])
{
    char uuid[33];
    for (int i = 0; i < 16; i++)
        snprintf(uuid + 2 * i, 3, "%02x", vk->caps.uuid[i]);
    snprintf(out_name, NAME_BYTES, "%s-%08" PRIx32 "-%016" PRIx64 SUFFIX, uuid, vk->caps.driver_version,
             fm_kernel_manifest_hash);
}

static enum fm_result cache_path(const struct fm_vk *vk, char *out_path, size_t path_bytes)
{
    char folder[PATH_BYTES - NAME_BYTES], name[NAME_BYTES];
    enum fm_result err = fm_env_cache_dir(folder, sizeof(folder));
    if (err)
        return err;
    cache_name(vk, name);
    int n = snprintf(out_path, path_bytes, "%s/%s", folder, name);
    return n > 0 && (size_t)n < path_bytes ? FM_OK : fm_fail(FM_IO, "the cache folder's path is too long");
}

// Whether `name` is another cache of the device that the cache `own` is of: the same form, the same beginning.
static bool is_other_cache(const void *own, const char *name)
{
    const char *mine = own;
    size_t uuid_chars = 32, prefix_chars = strlen(mine) - strlen(SUFFIX);
    if (strlen(name) != strlen(mine) || strcmp(name, mine) == 0 || strncmp(name, mine, uuid_chars) != 0 ||
        strcmp(name + prefix_chars, SUFFIX) != 0)
        return false;
    for (size_t i = uuid_chars; i < prefix_chars; i++) {
        bool dash = mine[i] == '-', digit = (name[i] >= '0' && name[i] <= '9') || (name[i] >= 'a' && name[i] <= 'f');
        if (dash ? name[i] != '-' : !digit)
            return false;
    }
    return true;
}

static void remove_stale(const struct fm_vk *vk)
{
    char folder[PATH_BYTES - NAME_BYTES], name[NAME_BYTES];
    cache_name(vk, name);
    uint32_t removed = fm_env_cache_dir(folder, sizeof(folder)) == FM_OK
                           ? fm_folder_clean(folder, is_other_cache, name, STALE_SECONDS) : 0;
    if (removed > 0)
        fm_log(FM_LOG_INFO, "%u old pipeline caches of this device removed", removed);
}

// The driver's data in a cache file's bytes, or NULL.
static const void *check(const struct fm_vk *vk, const char *bytes, size_t size, size_t *out_bytes)
{
    if (size < sizeof(struct cache_header))
        return NULL;
    const char *data = bytes + sizeof(struct cache_header);
    size_t data_bytes = size - sizeof(struct cache_header);
    struct cache_header expected = make_header(vk, data, data_bytes);
    if (memcmp(bytes, &expected, sizeof(expected)) != 0)
        return NULL;
    *out_bytes = data_bytes;
    return data;
}

enum fm_result fm_vk_cache_load(struct fm_vk *vk, VkPipelineCache *out_cache)
{
    char path[PATH_BYTES], *bytes = NULL;
    const void *data = NULL;
    size_t size = 0, data_bytes = 0;
    if (cache_path(vk, path, sizeof(path)) == FM_OK && fm_cache_read(path, MAX_CACHE_BYTES, &bytes, &size)) {
        data = check(vk, bytes, size, &data_bytes);
        if (!data)
            fm_log(FM_LOG_INFO, "%s: ignored: it is damaged, or of another device or driver", path);
    }
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                      .initialDataSize = data_bytes,
                                      .pInitialData = data};
    VkPipelineCache cache = VK_NULL_HANDLE;
    VkResult result = FM_VK_CALL(vk->fn.vkCreatePipelineCache(vk->device, &info, NULL, &cache));
    fm_free(bytes);
    if (result)
        return fm_vk_error(vk, result, "vkCreatePipelineCache");
    fm_vk_name_object(vk, VK_OBJECT_TYPE_PIPELINE_CACHE, (uint64_t)cache, "pipelines");
    *out_cache = cache;
    return FM_OK;
}

// Header and data in one block, released with fm_free; NULL when there is none to save.
static char *cache_bytes(struct fm_vk *vk, size_t *out_bytes)
{
    size_t data_bytes = 0;
    VkResult result = FM_VK_CALL(vk->fn.vkGetPipelineCacheData(vk->device, vk->pipelines.cache, &data_bytes, NULL));
    if (result != VK_SUCCESS || data_bytes == 0 || data_bytes > MAX_CACHE_BYTES - sizeof(struct cache_header))
        return NULL;
    char *bytes = fm_alloc(sizeof(struct cache_header) + data_bytes);
    if (!bytes)
        return NULL;
    char *data = bytes + sizeof(struct cache_header);
    result = FM_VK_CALL(vk->fn.vkGetPipelineCacheData(vk->device, vk->pipelines.cache, &data_bytes, data));
    if (result != VK_SUCCESS) {
        fm_free(bytes);
        return NULL;
    }
    struct cache_header header = make_header(vk, data, data_bytes);
    memcpy(bytes, &header, sizeof(header));
    *out_bytes = sizeof(header) + data_bytes;
    return bytes;
}

void fm_vk_cache_save(struct fm_vk *vk)
{
    char path[PATH_BYTES];
    size_t size = 0;
    if (atomic_load(&vk->lost))
        return;
    pthread_mutex_lock(&vk->pipelines.lock);
    char *bytes = vk->pipelines.unsaved > 0 ? cache_bytes(vk, &size) : NULL;
    if (bytes) {
        if (cache_path(vk, path, sizeof(path)) == FM_OK &&
            fm_writer_save(path, FM_WRITER_PRIVATE | FM_WRITER_NO_LINK, bytes, size) == FM_OK) {
            vk->pipelines.unsaved = 0;
            remove_stale(vk);
        } else {
            fm_log(FM_LOG_INFO, "pipeline cache not saved: %s", fm_error_message());
        }
    }
    pthread_mutex_unlock(&vk->pipelines.lock);
    fm_free(bytes);
}
