// SPDX-License-Identifier: MIT
// From what a user wrote to a device.
#include <ctype.h>
#include <stdio.h>

#include "vk/vk_internal.h"

// 16 bytes from 32 hexadecimal digits, dashes anywhere between them.
static bool parse_uuid(const char *text, uint8_t out_uuid[16])
{
    size_t digits = 0;
    for (; *text; text++) {
        if (*text == '-')
            continue;
        if (!isxdigit((unsigned char)*text) || digits == 32)
            return false;
        unsigned digit = isdigit((unsigned char)*text) ? (unsigned)(*text - '0')
                                                       : (unsigned)(tolower((unsigned char)*text) - 'a' + 10);
        out_uuid[digits / 2] = (uint8_t)(digits % 2 ? out_uuid[digits / 2] << 4 | digit : digit);
        digits++;
    }
    return digits == 32;
}

static bool contains_nocase(const char *text, const char *part)
{
    for (; *text; text++) {
        size_t i = 0;
        while (part[i] && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i]))
            i++;
        if (!part[i])
            return true;
    }
    return false;
}

// Discrete, integrated, virtual, other, cpu.
static unsigned kind_rank(uint8_t kind)
{
    static const uint8_t rank[] = {3, 1, 0, 2, 4};
    return kind < FM_COUNT(rank) ? rank[kind] : 3;
}

static bool is_better(const struct fm_caps *a, const struct fm_caps *b)
{
    if (kind_rank(a->kind) != kind_rank(b->kind))
        return kind_rank(a->kind) < kind_rank(b->kind);
    return a->device_bytes > b->device_bytes;
}

static enum fm_result fail_with_list(const struct fm_caps *caps, size_t count, const char *selector)
{
    char list[320] = "";
    size_t used = 0;
    for (size_t i = 0; i < count && used < sizeof(list); i++) {
        int n = snprintf(list + used, sizeof(list) - used, "%s%zu: %s", i ? ", " : "", i, caps[i].name);
        used += n > 0 ? (size_t)n : 0;
    }
    return fm_fail(FM_DEVICE, "no device matches '%.64s' (expected an index, a UUID or part of a name; there are %s)",
                   selector, count ? list : "none");
}

enum fm_result fm_vk_choose(const struct fm_caps *caps, size_t count, const char *selector, size_t *out_index)
{
    uint8_t uuid[16];
    size_t best = SIZE_MAX, index = 0, digits = 0;
    const char *wanted = selector ? selector : "";

    // An index that is out of range may still be part of a name ("4090").
    while (digits < 6 && isdigit((unsigned char)wanted[digits]))
        index = index * 10 + (size_t)(wanted[digits++] - '0');
    if (digits > 0 && wanted[digits] == '\0' && index < count) {
        *out_index = index;
        return FM_OK;
    }
    bool by_uuid = parse_uuid(wanted, uuid);
    for (size_t i = 0; i < count; i++) {
        bool matches = by_uuid ? memcmp(caps[i].uuid, uuid, sizeof(uuid)) == 0
                               : !*wanted || contains_nocase(caps[i].name, wanted);
        if (matches && (best == SIZE_MAX || is_better(&caps[i], &caps[best])))
            best = i;
    }
    if (best == SIZE_MAX)
        return fail_with_list(caps, count, wanted);
    *out_index = best;
    return FM_OK;
}
