// SPDX-License-Identifier: MIT
// Devices as the public API sees them.
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "base/writer.h"
#include "check/check.h"
#include "run/run.h"

#define UUID_BYTES 16
#define PATH_BYTES 1024
#define TUNING_BYTES_MAX ((size_t)1 << 20)

static void uuid_text(const uint8_t uuid[UUID_BYTES], char out[37])
{
    size_t at = 0;
    for (unsigned i = 0; i < UUID_BYTES; i++)
        at += (size_t)snprintf(out + at, 37 - at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
}

static void fill_info(const struct fm_caps *caps, struct fm_device_info *info)
{
    static const char *const kinds[] = {"other", "integrated", "discrete", "virtual", "cpu"};
    *info = (struct fm_device_info){.kind = kinds[caps->kind < FM_COUNT(kinds) ? caps->kind : 0],
                                    .rung = fm_rung_name(fm_caps_rung(caps)),
                                    .memory_bytes = caps->device_bytes,
                                    .available_bytes = caps->available_bytes,
                                    .unified = caps->unified};
    char copy[sizeof(caps->driver) + sizeof(caps->driver_info) + 1];
    fm_quote(caps->name, strlen(caps->name), info->name, sizeof(info->name)); // a driver's words, shown on terminals
    snprintf(copy, sizeof(copy), "%s %s", caps->driver, caps->driver_info);
    fm_quote(copy, strlen(copy), info->driver, sizeof(info->driver));
    uuid_text(caps->uuid, info->uuid);
}

enum fm_result fm_device_list(struct fm_device_info **out_infos, size_t *out_count)
{
    struct fm_caps *caps = NULL;
    size_t count = 0;
    enum fm_result result = fm_vk_probe(&caps, &count);
    if (result != FM_OK)
        return result;
    struct fm_device_info *infos = fm_alloc_zero(count, sizeof(*infos));
    for (size_t i = 0; infos != NULL && i < count; i++)
        fill_info(&caps[i], &infos[i]);
    fm_free(caps);
    if (infos == NULL)
        return fm_nomem();
    *out_infos = infos;
    *out_count = count;
    return FM_OK;
}

void fm_device_list_free(struct fm_device_info *infos)
{
    fm_free(infos);
}

static enum fm_result read_tuning(const char *path, struct fm_tuning *out_tuning)
{
    char *text = NULL;
    size_t bytes = 0;
    enum fm_result result = fm_source_read_whole(path, TUNING_BYTES_MAX, &text, &bytes);
    if (result == FM_OK)
        result = fm_tuning_parse(text, bytes, path, out_tuning);
    fm_free(text);
    return result;
}

enum fm_result fm_device_open(const struct fm_device_params *params, struct fm_device **out_device)
{
    static const struct fm_device_params defaults = {0};
    struct fm_caps *caps = NULL;
    size_t count = 0, index = 0;
    enum fm_rung rung;
    params = params != NULL ? params : &defaults;
    enum fm_result result = fm_rung_limit(params->max_rung, &rung);
    if (result != FM_OK)
        return result;
    struct fm_device *device = fm_alloc_zero(1, sizeof(*device));
    if (device == NULL)
        return fm_nomem();
    result = params->tuning != NULL ? read_tuning(params->tuning, &device->tuning) : FM_OK;
    if (result == FM_OK)
        result = fm_vk_probe(&caps, &count);
    if (result == FM_OK)
        result = fm_vk_choose(caps, count, params->selector, &index);
    if (result == FM_OK) {
        struct fm_caps masked = fm_caps_mask(&caps[index], rung);
        masked.tuning = params->tuning != NULL ? &device->tuning : NULL;
        result = fm_vk_open(&masked, &device->vk);
    }
    fm_free(caps);
    if (result != FM_OK) {
        fm_tuning_finish(&device->tuning);
        fm_free(device);
        return result;
    }
    *out_device = device;
    return FM_OK;
}

void fm_device_close(struct fm_device **device)
{
    if (*device == NULL)
        return;
    fm_vk_cache_save((*device)->vk);
    fm_vk_close(&(*device)->vk);
    fm_tuning_finish(&(*device)->tuning);
    fm_free(*device);
    *device = NULL;
}

void fm_device_get_info(const struct fm_device *device, struct fm_device_info *out_info)
{
    fill_info(fm_vk_caps(device->vk), out_info);
}

uint64_t fm_device_used_bytes(const struct fm_device *device)
{
    return fm_vk_used_bytes(device->vk);
}

void fm_device_get_pipeline_stats(const struct fm_device *device, struct fm_pipeline_stats *out_stats)
{
    fm_vk_pipeline_stats(device->vk, &out_stats->create_ns, &out_stats->created, &out_stats->cached);
}

// Where the measured bandwidth of this device and driver is kept between runs. false when there is no cache folder.
static bool bandwidth_path(const struct fm_caps *caps, char *path, size_t path_bytes)
{
    char dir[PATH_BYTES], uuid[37];
    if (fm_env_cache_dir(dir, sizeof(dir)) != FM_OK)
        return false;
    uuid_text(caps->uuid, uuid);
    int n = snprintf(path, path_bytes, "%s/bandwidth-%s-%08x.txt", dir, uuid, caps->driver_version);
    return n > 0 && (size_t)n < path_bytes;
}

static double bandwidth_load(const struct fm_caps *caps)
{
    char path[PATH_BYTES], *text = NULL;
    size_t bytes = 0;
    if (!bandwidth_path(caps, path, sizeof(path)) || !fm_cache_read(path, 64, &text, &bytes))
        return 0;
    double value = 0;
    for (size_t i = 0; i < bytes && text[i] >= '0' && text[i] <= '9'; i++)
        value = value * 10 + (text[i] - '0');
    fm_free(text);
    return value > 0 && value < 1e15 ? value : 0;
}

static void bandwidth_save(const struct fm_caps *caps, double bytes_per_s)
{
    char path[PATH_BYTES], text[320]; // any double in digits
    int n = snprintf(text, sizeof(text), "%.0f\n", bytes_per_s); // whole: programs of any locale read it
    if (!bandwidth_path(caps, path, sizeof(path)) ||
        fm_writer_save(path, FM_WRITER_PRIVATE | FM_WRITER_NO_LINK, text, (size_t)n) != FM_OK)
        fm_log(FM_LOG_INFO, "the read bandwidth is not kept: %s", fm_error_message());
}

enum fm_result fm_device_read_bandwidth(struct fm_device *device, fm_cancel_fn *cancel, void *user, double *out_bytes_per_s)
{
    const struct fm_caps *caps = fm_vk_caps(device->vk);
    if (device->read_bytes_per_s <= 0)
        device->read_bytes_per_s = bandwidth_load(caps);
    if (device->read_bytes_per_s <= 0) {
        double gb_per_s = 0;
        enum fm_result result = fm_check_read_bandwidth(device->vk, cancel, user, &gb_per_s);
        if (result != FM_OK)
            return result;
        device->read_bytes_per_s = gb_per_s * 1e9;
        bandwidth_save(caps, device->read_bytes_per_s);
    }
    *out_bytes_per_s = device->read_bytes_per_s;
    return FM_OK;
}
