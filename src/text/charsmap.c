// SPDX-License-Identifier: MIT
#include "text/charsmap.h"

#include "base/utf8.h"

// Rules whose text is longer are none: those that SentencePiece makes have at most some dozen bytes.
#define RULE_BYTES_MAX 1024
// So many bytes of a text are compared with the rules, so that a trie with a circle in it ends.
#define RULE_KEY_BYTES_MAX 256

// ---- the map --------------------------------------------------------------------------------------------------------

static uint32_t read_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

enum fm_result fm_charsmap_open(const void *data, size_t size_bytes, const char *path, struct fm_charsmap *out_map)
{
    const uint8_t *bytes = data;
    *out_map = (struct fm_charsmap){0};
    if (size_bytes == 0)
        return FM_OK;
    uint32_t trie_bytes = size_bytes >= 4 ? read_u32(bytes) : 0;
    if (size_bytes < 9 || trie_bytes % 4 != 0 || trie_bytes == 0 || trie_bytes > size_bytes - 5 || bytes[size_bytes - 1] != 0)
        return fm_fail(FM_FORMAT, "%s: %zu bytes are no map of characters: expected a length, a trie and texts that end in zero",
                       path, size_bytes);
    out_map->units = bytes + 4;
    out_map->n_units = trie_bytes / 4;
    out_map->texts = (const char *)bytes + 4 + trie_bytes;
    out_map->texts_bytes = size_bytes - 4 - trie_bytes;
    return FM_OK;
}

// Fields of a unit: bits 0 to 7 and 31 are the label, bit 8 tells that a leaf hangs here, bit 9 that the offset counts in
// units of 256, from bit 10 on is the offset. A leaf is its value in 31 bits.
static uint32_t offset_of(uint32_t unit)
{
    return unit >> 10 << ((unit & 1u << 9) >> 6);
}

bool fm_charsmap_find(const struct fm_charsmap *map, const char *text, size_t text_bytes, size_t *out_bytes,
                      struct fm_text *out_text)
{
    bool found = false;
    if (map->n_units == 0)
        return false;
    uint32_t at = offset_of(read_u32(map->units));
    for (size_t i = 0; i < FM_MIN(text_bytes, (size_t)RULE_KEY_BYTES_MAX); i++) {
        at ^= (uint8_t)text[i];
        if (at >= map->n_units)
            break;
        uint32_t unit = read_u32(map->units + 4 * (size_t)at);
        if ((unit & (1u << 31 | 0xFF)) != (uint8_t)text[i])
            break;
        at ^= offset_of(unit);
        if (!(unit & 1u << 8))
            continue;
        uint32_t value = at < map->n_units ? read_u32(map->units + 4 * (size_t)at) & ~(1u << 31) : UINT32_MAX;
        if (value >= map->texts_bytes)
            break;
        const char *rule = map->texts + value;
        const char *end = memchr(rule, 0, FM_MIN(map->texts_bytes - value, (size_t)RULE_BYTES_MAX));
        if (end == NULL)
            break;
        *out_bytes = i + 1;
        *out_text = (struct fm_text){.data = rule, .bytes = (uint64_t)(end - rule)};
        found = true;
    }
    return found;
}

// ---- spaces ---------------------------------------------------------------------------------------------------------

// What the text becomes that begins at `at`, and how much of it.
static enum fm_result next_part(struct fm_match_walk *user, const struct fm_spm_rules *rules, size_t at,
                                struct fm_text *out_part, size_t *out_bytes)
{
    const struct fm_matcher_entry *entry;
    const char *text = user->text + at;
    enum fm_result r = fm_match_walk_at(user, at, &entry);
    if (r != FM_OK)
        return r;
    if (entry != NULL) {
        *out_bytes = entry->bytes;
        *out_part = (struct fm_text){.data = text, .bytes = entry->bytes};
    } else if (fm_charsmap_find(&rules->map, text, user->text_bytes - at, out_bytes, out_part)) {
        return FM_OK;
    } else if (fm_utf8_next(text, user->text_bytes - at, out_bytes) == FM_UTF8_CHAR) {
        *out_part = (struct fm_text){.data = text, .bytes = *out_bytes};
    } else {
        *out_bytes = 1;
        *out_part = (struct fm_text){.data = FM_UTF8_REPLACEMENT, .bytes = FM_UTF8_REPLACEMENT_BYTES};
    }
    return FM_OK;
}

static enum fm_result add_escaped(struct fm_buffer *out, struct fm_text part)
{
    enum fm_result r = FM_OK;
    for (size_t at = 0; r == FM_OK && at < part.bytes;) {
        const char *space = memchr(part.data + at, ' ', (size_t)part.bytes - at);
        size_t end = space != NULL ? (size_t)(space - part.data) : (size_t)part.bytes;
        r = fm_buffer_add(out, part.data + at, end - at);
        if (r == FM_OK && space != NULL)
            r = fm_buffer_add(out, FM_SPACE_MARK, FM_SPACE_MARK_BYTES);
        at = end + (space != NULL ? 1 : 0);
    }
    return r;
}

enum fm_result fm_spm_normalize(struct fm_encoder *enc, const struct fm_spm_rules *rules, const struct fm_matcher *user,
                                const char *text, size_t text_bytes, const uint8_t *typed, struct fm_buffer *out)
{
    enum fm_result r = FM_OK;
    size_t at = 0, bytes, begin = out->bytes;
    struct fm_text part;
    fm_match_walk_start(&enc->user, user, text, text_bytes);
    while (r == FM_OK && rules->remove_extra && at < text_bytes) {
        r = next_part(&enc->user, rules, at, &part, &bytes);
        if (r != FM_OK || part.bytes != 1 || part.data[0] != ' ')
            break;
        at += bytes;
        r = fm_encoder_poll(enc, bytes);
    }
    if (r != FM_OK || at == text_bytes)
        return r;
    if (rules->dummy_prefix && !rules->space_suffix)
        r = fm_buffer_add(out, FM_SPACE_MARK, FM_SPACE_MARK_BYTES);
    bool behind_space = rules->remove_extra;
    for (; r == FM_OK && at < text_bytes; at += bytes) {
        r = next_part(&enc->user, rules, at, &part, &bytes);
        if (r != FM_OK)
            return r;
        while (behind_space && part.bytes > 0 && part.data[0] == ' ') {
            part.data++;
            part.bytes--;
        }
        if (part.bytes > 0)
            behind_space = rules->remove_extra && part.data[part.bytes - 1] == ' ';
        const size_t from = out->bytes;
        r = add_escaped(out, part);
        fm_buffer_trace(out, from, typed, at, at + bytes);
        if (r == FM_OK)
            r = fm_encoder_poll(enc, bytes);
    }
    while (rules->remove_extra && out->bytes - begin >= FM_SPACE_MARK_BYTES &&
           memcmp(out->data + out->bytes - FM_SPACE_MARK_BYTES, FM_SPACE_MARK, FM_SPACE_MARK_BYTES) == 0)
        out->bytes -= FM_SPACE_MARK_BYTES;
    if (r == FM_OK && rules->dummy_prefix && rules->space_suffix)
        r = fm_buffer_add(out, FM_SPACE_MARK, FM_SPACE_MARK_BYTES);
    return r;
}
