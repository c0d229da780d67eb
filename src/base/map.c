// SPDX-License-Identifier: MIT
// Open addressing with linear probing, at most two thirds full. Keys come from files, so they are hashed with SipHash under
// a key that is random in each process: nobody can choose keys that collide.
#include "base/map.h"

#include <pthread.h>

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

static uint64_t sip_key[2];
static pthread_once_t sip_once = PTHREAD_ONCE_INIT;

static void make_sip_key(void)
{
    if (fm_random_bytes(sip_key, sizeof(sip_key)))
        return;
    // A system without random bytes: what differs from process to process must do.
    uint64_t parts[2] = {fm_clock_ns(), (uint64_t)(uintptr_t)&parts};
    sip_key[0] = fm_hash64(parts, sizeof(parts), FM_HASH_SEED);
    sip_key[1] = fm_hash64(parts, sizeof(parts), sip_key[0]);
}

static inline uint64_t rotate_left(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate_left(v[1], 13) ^ v[0];
    v[3] = rotate_left(v[3], 16) ^ v[2];
    v[0] = rotate_left(v[0], 32) + v[3];
    v[2] += v[1];
    v[1] = rotate_left(v[1], 17) ^ v[2];
    v[3] = rotate_left(v[3], 21) ^ v[0];
    v[2] = rotate_left(v[2], 32);
}

uint64_t fm_siphash13(const uint64_t key[2], const void *data, size_t size_bytes)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull, key[0] ^ 0x6c7967656e657261ull,
                     key[1] ^ 0x7465646279746573ull};
    const uint8_t *bytes = data;
    size_t i = 0;
    for (; size_bytes - i >= 8; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    uint64_t last = (uint64_t)size_bytes << 56;
    for (unsigned shift = 0; i < size_bytes; i++, shift += 8)
        last |= (uint64_t)bytes[i] << shift;
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int round = 0; round < 3; round++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint32_t key_hash(const void *key, size_t key_bytes)
{
    pthread_once(&sip_once, make_sip_key);
    return (uint32_t)fm_siphash13(sip_key, key, key_bytes);
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
