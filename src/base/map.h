// SPDX-License-Identifier: MIT
// Open-addressing hash map from byte strings to uint32_t. Keys are not copied: they must outlive the map.
// (stb_ds would do, but cannot report a failed allocation.)
#ifndef FM_BASE_MAP_H
#define FM_BASE_MAP_H

#include "base/base.h"

struct fm_map_entry {
    const void *key;
    uint32_t key_bytes;
    uint32_t hash;
    uint32_t value;
};

struct fm_map {
    struct fm_map_entry *entries; // capacity slots; key == NULL = free
    size_t capacity;              // power of two or 0
    size_t count;
};

// Insert or overwrite. *out_replaced (may be NULL) tells whether the key was there.
enum fm_result fm_map_put(struct fm_map *map, const void *key, size_t key_bytes, uint32_t value, bool *out_replaced);
bool fm_map_get(const struct fm_map *map, const void *key, size_t key_bytes, uint32_t *out_value);
void fm_map_finish(struct fm_map *map);

// SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012): the hash of the map's keys. Words are taken
// in the byte order of the machine.
uint64_t fm_siphash13(const uint64_t key[2], const void *data, size_t size_bytes);

// FNV-1a style 64-bit hash for identities of files and plans, the same in every process. Start with `seed` = FM_HASH_SEED.
// Not for tables of keys from files: collisions can be made.
#define FM_HASH_SEED 0xcbf29ce484222325ull
uint64_t fm_hash64(const void *data, size_t size_bytes, uint64_t seed);

#endif
