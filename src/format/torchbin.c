// SPDX-License-Identifier: MIT
// PyTorch checkpoints as torch.save writes them since 1.6: a zip archive of stored entries, NAME/data.pkl with the
// state dict and NAME/data/KEY with the bytes of each storage (torch/serialization.py). CRCs are not looked at, as
// torch.load does not: writers may leave them out.
#include <stdio.h>

#include "format/dtype.h"
#include "format/pickle.h"
#include "format/zip.h"

#define PICKLE_BYTES_MAX ((uint64_t)64 << 20) // about 300 bytes a tensor are usual
#define ENTRY_NAME_BYTES_MAX 512

// What torch.save wrote before 1.6: bare pickles, the first of them this magic number.
static const uint8_t legacy_magic[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};

struct reader {
    struct fm_file *file;
    struct fm_zip zip;
    char root[ENTRY_NAME_BYTES_MAX]; // the folder of the archive, with a slash at its end
};

static bool is_zip(const uint8_t *data, uint64_t size_bytes)
{
    return size_bytes >= 4 && memcmp(data, "PK\003\004", 4) == 0;
}

static bool is_legacy(const uint8_t *data, uint64_t size_bytes)
{
    return size_bytes >= 2 + sizeof(legacy_magic) && data[0] == 0x80 &&
           memcmp(data + 2, legacy_magic, sizeof(legacy_magic)) == 0;
}

static bool torch_probe(const uint8_t *data, uint64_t size_bytes)
{
    return is_zip(data, size_bytes) || is_legacy(data, size_bytes);
}

// The entry ROOT/data.pkl gives the archive's root.
static enum fm_result find_root(struct reader *reader)
{
    static const char pickle_name[] = "data.pkl";
    for (uint64_t i = 0; i < fm_zip_count(&reader->zip); i++) {
        const char *name = fm_zip_name(&reader->zip, i);
        const char *slash = name != NULL ? strchr(name, '/') : NULL;
        if (slash == NULL || strcmp(slash + 1, pickle_name) != 0)
            continue;
        size_t bytes = (size_t)(slash - name) + 1;
        if (bytes + 64 > sizeof(reader->root))
            return fm_fail(FM_FORMAT, "the archive's folder has a name of %zu bytes, expected at most %zu", bytes,
                           sizeof(reader->root) - 64);
        memcpy(reader->root, name, bytes);
        reader->root[bytes] = '\0';
        return FM_OK;
    }
    return fm_fail(FM_FORMAT, "a zip archive without an entry data.pkl in its folder, so no PyTorch checkpoint");
}

// An entry below the root; FM_ZIP_ABSENT when it is not there.
static enum fm_result find_entry(struct reader *reader, const char *folder, struct fm_text name, uint64_t *out_offset,
                                 uint64_t *out_bytes)
{
    char path[ENTRY_NAME_BYTES_MAX + 64];
    if (name.bytes > 32 || memchr(name.data, 0, (size_t)name.bytes) != NULL)
        return fm_fail(FM_FORMAT, "storage '%s': its key has %llu bytes, expected a number",
                       FM_QUOTE_TEXT(name), (unsigned long long)name.bytes);
    snprintf(path, sizeof(path), "%s%s%.*s", reader->root, folder, (int)name.bytes, name.data);
    return fm_zip_find(&reader->zip, path, out_offset, out_bytes);
}

static enum fm_result find_storage(void *user, struct fm_text key, uint64_t *out_offset, uint64_t *out_bytes)
{
    enum fm_result result = find_entry(user, "data/", key, out_offset, out_bytes);
    if (result == FM_OK && *out_offset == FM_ZIP_ABSENT)
        return fm_fail(FM_FORMAT, "storage '%s' is not in the archive", FM_QUOTE_TEXT(key));
    return result;
}

static enum fm_result add_tensor(void *user, struct fm_text name, const struct fm_tensor *tensor)
{
    struct reader *reader = user;
    struct fm_tensor named = *tensor;
    enum fm_result result = fm_file_check_name(name);
    if (result != FM_OK)
        return result;
    char *copy = fm_arena_alloc(&reader->file->arena, (size_t)name.bytes + 1, 1); // zeroed: ends in NUL
    if (copy == NULL)
        return fm_nomem();
    memcpy(copy, name.data, (size_t)name.bytes);
    named.name = copy;
    return fm_file_add_tensor(reader->file, &named);
}

// Written since 2.1; before that, the writer's own order, which was little nearly everywhere.
static enum fm_result check_byte_order(struct reader *reader)
{
    static const char name[] = "byteorder";
    char word[32];
    uint64_t offset, bytes;
    enum fm_result result = find_entry(reader, "", (struct fm_text){name, sizeof(name) - 1}, &offset, &bytes);
    if (result != FM_OK || offset == FM_ZIP_ABSENT)
        return result;
    uint64_t some = FM_MIN(bytes, (uint64_t)sizeof(word));
    result = fm_source_read(&reader->file->source, offset, some, word);
    if (result != FM_OK || (bytes == 6 && memcmp(word, "little", 6) == 0))
        return result;
    return fm_fail(FM_UNSUPPORTED, "the byte order of its data is '%s', expected 'little'", FM_QUOTE(word, some));
}

static enum fm_result read_archive(struct reader *reader)
{
    static const char name[] = "data.pkl";
    const struct fm_pickle_host host = {.user = reader, .find_storage = find_storage, .add_tensor = add_tensor};
    const uint8_t *data = NULL;
    uint64_t offset = 0, bytes = 0;
    enum fm_result result = find_root(reader);
    if (result == FM_OK)
        result = check_byte_order(reader);
    if (result == FM_OK)
        result = find_entry(reader, "", (struct fm_text){name, sizeof(name) - 1}, &offset, &bytes);
    if (result == FM_OK && offset == FM_ZIP_ABSENT) // find_root saw it
        result = fm_fail(FM_FORMAT, "the entry data.pkl of the zip archive cannot be found by its name");
    if (result == FM_OK && bytes > PICKLE_BYTES_MAX)
        result = fm_fail(FM_FORMAT, "data.pkl has %llu bytes, expected at most %llu", (unsigned long long)bytes,
                         (unsigned long long)PICKLE_BYTES_MAX);
    if (result == FM_OK)
        result = fm_file_hold(reader->file, offset, bytes, &data);
    if (result != FM_OK)
        return result;
    reader->file->hash = fm_hash64(data, (size_t)bytes, FM_HASH_SEED ^ reader->file->source.size_bytes);
    result = fm_pickle_read(data, bytes, &host);
    fm_file_let_go(reader->file); // names were copied
    return result;
}

static enum fm_result torch_read(struct fm_file *file)
{
    struct reader reader = {.file = file};
    uint8_t magic[4];
    enum fm_result result = fm_source_read(&file->source, 0, sizeof(magic), magic); // the probe saw at least as many
    if (result != FM_OK)
        return result;
    if (!is_zip(magic, sizeof(magic)))
        return fm_fail(FM_UNSUPPORTED, "a PyTorch file as written before 1.6; load it and torch.save it again with "
                                       "PyTorch 1.6 or later");
    result = fm_zip_open(&reader.zip, &file->source);
    if (result == FM_OK)
        result = read_archive(&reader);
    fm_zip_close(&reader.zip);
    return result;
}

const struct fm_format fm_format_torch = {.name = "PyTorch", .probe = torch_probe, .read = torch_read};
