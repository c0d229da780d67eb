// SPDX-License-Identifier: MIT
// Open addressing with linear probing, at most two thirds full. The hash is seeded per process, so that a hostile file
// cannot carry keys chosen to collide.
#include "base/map.h"

#include <stdatomic.h>

#include "base/os.h"

uint64_t fm_hash64(const void *data, size_t size_bytes, uint64_t seed)
{
    // FNV-1a taken eight bytes at a time; the shift brings the high bits, which multiplication favours, back down.
    const uint64_t prime = 0x100000001b3ull;
    const uint8_t *bytes = data;
    uint64_t hash = seed ^ ((uint64_t)size_bytes * prime);
    size_t i = 0;
    for (; size_bytes - i >= 8; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
        hash ^= hash >> 32;
    }
    for (; i < size_bytes; i++)
        hash = (hash ^ bytes[i]) * prime;
    // The finalizer of MurmurHash3 (A. Appleby): every input bit moves about half of the output's.
    hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdull;
    hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53ull;
    return hash ^ (hash >> 33);
}

static uint64_t process_seed(void)
{
    static _Atomic uint64_t seed;
    uint64_t value = atomic_load_explicit(&seed, memory_order_relaxed);
    if (value == 0) {
        uint64_t parts[2] = {fm_clock_ns(), (uint64_t)(uintptr_t)&seed};
        uint64_t fresh = fm_hash64(parts, sizeof(parts), FM_HASH_SEED) | 1;
        // Two threads may come here at once: the first one's seed holds for both.
        if (atomic_compare_exchange_strong(&seed, &value, fresh))
            value = fresh;
    }
    return value;
}

static uint32_t key_hash(const void *key, size_t key_bytes)
{
    return (uint32_t)fm_hash64(key, key_bytes, process_seed());
}

// The slot that holds the key, or the free one where it belongs. The map has at least one free slot.
static size_t find_slot(const struct fm_map *map, const void *key, size_t key_bytes, uint32_t hash)
{
    size_t mask = map->capacity - 1;
    size_t slot = hash & mask;
    for (;;) {
        const struct fm_map_entry *entry = &map->entries[slot];
        if (entry->key == NULL)
            return slot;
        if (entry->hash == hash && entry->key_bytes == key_bytes && memcmp(entry->key, key, key_bytes) == 0)
            return slot;
        slot = (slot + 1) & mask;
    }
}

static enum fm_result grow(struct fm_map *map)
{
    size_t capacity = map->capacity == 0 ? 16 : map->capacity * 2;
    struct fm_map larger = {0};
    larger.entries = fm_alloc_zero(capacity, sizeof(*larger.entries));
    if (larger.entries == NULL)
        return fm_nomem();
    larger.capacity = capacity;
    larger.count = map->count;
    for (size_t i = 0; i < map->capacity; i++) {
        const struct fm_map_entry *entry = &map->entries[i];
        if (entry->key == NULL)
            continue;
        size_t slot = entry->hash & (capacity - 1);
        while (larger.entries[slot].key != NULL)
            slot = (slot + 1) & (capacity - 1);
        larger.entries[slot] = *entry;
    }
    fm_free(map->entries);
    *map = larger;
    return FM_OK;
}

enum fm_result fm_map_put(struct fm_map *map, const void *key, size_t key_bytes, uint32_t value, bool *out_replaced)
{
    if (key_bytes > UINT32_MAX)
        return fm_fail(FM_ARG, "map key of %zu bytes is too long", key_bytes);
    if (key_bytes == 0)
        key = ""; // NULL marks a free slot
    if (map->count + 1 > map->capacity / 3 * 2) {
        enum fm_result result = grow(map);
        if (result != FM_OK)
            return result;
    }
    uint32_t hash = key_hash(key, key_bytes);
    struct fm_map_entry *entry = &map->entries[find_slot(map, key, key_bytes, hash)];
    bool replaced = entry->key != NULL;
    if (!replaced) {
        *entry = (struct fm_map_entry){.key = key, .key_bytes = (uint32_t)key_bytes, .hash = hash};
        map->count++;
    }
    entry->value = value;
    if (out_replaced != NULL)
        *out_replaced = replaced;
    return FM_OK;
}

bool fm_map_get(const struct fm_map *map, const void *key, size_t key_bytes, uint32_t *out_value)
{
    if (map->count == 0 || key_bytes > UINT32_MAX)
        return false;
    if (key_bytes == 0)
        key = "";
    const struct fm_map_entry *entry = &map->entries[find_slot(map, key, key_bytes, key_hash(key, key_bytes))];
    if (entry->key == NULL)
        return false;
    *out_value = entry->value;
    return true;
}

void fm_map_finish(struct fm_map *map)
{
    fm_free(map->entries);
    *map = (struct fm_map){0};
}
