// SPDX-License-Identifier: MIT
// Zip archives through libzip, which has no call for where an entry's data lies. It reads the archive through a source
// of ours, though: when it is asked for the first byte of an entry as stored, the place of its read is the answer.
#include "format/zip.h"

#include <zip.h>

static zip_int64_t source_read(struct fm_zip *zip, void *to, uint64_t bytes)
{
    uint64_t count = FM_MIN(bytes, zip->size_bytes - zip->at);
    zip->read_begin = zip->at;
    zip->read_bytes = count;
    if (count > 0)
        memcpy(to, zip->data + zip->at, (size_t)count);
    zip->at += count;
    return (zip_int64_t)count;
}

static zip_int64_t source_seek(struct fm_zip *zip, void *data, uint64_t bytes)
{
    zip_int64_t at = zip_source_seek_compute_offset(zip->at, zip->size_bytes, data, bytes, NULL);
    if (at < 0)
        return -1;
    zip->at = (uint64_t)at;
    return 0;
}

static zip_int64_t source_stat(const struct fm_zip *zip, void *data, uint64_t bytes)
{
    struct zip_stat stat;
    if (bytes < sizeof(stat))
        return -1;
    zip_stat_init(&stat);
    stat.valid = ZIP_STAT_SIZE;
    stat.size = zip->size_bytes;
    memcpy(data, &stat, sizeof(stat));
    return (zip_int64_t)sizeof(stat);
}

// libzip's callback: the archive's bytes, read-only.
static zip_int64_t source(void *user, void *data, zip_uint64_t bytes, zip_source_cmd_t command)
{
    struct fm_zip *zip = user;
    zip_error_t error;
    switch (command) {
    case ZIP_SOURCE_OPEN:
        zip->at = 0;
        return 0;
    case ZIP_SOURCE_READ:
        return source_read(zip, data, bytes);
    case ZIP_SOURCE_SEEK:
        return source_seek(zip, data, bytes);
    case ZIP_SOURCE_TELL:
        return (zip_int64_t)zip->at;
    case ZIP_SOURCE_STAT:
        return source_stat(zip, data, bytes);
    case ZIP_SOURCE_CLOSE:
    case ZIP_SOURCE_FREE:
        return 0;
    case ZIP_SOURCE_SUPPORTS:
        return ZIP_SOURCE_SUPPORTS_SEEKABLE;
    case ZIP_SOURCE_ERROR:
        zip_error_init_with_code(&error, ZIP_ER_SEEK); // the only thing that can go wrong here
        return zip_error_to_data(&error, data, bytes);
    default:
        return -1;
    }
}

static enum fm_result fail_zip(zip_error_t *error)
{
    if (zip_error_code_zip(error) == ZIP_ER_MEMORY)
        return fm_nomem();
    bool is_cut = zip_error_code_zip(error) == ZIP_ER_NOZIP;
#ifdef ZIP_ER_TRUNCATED_ZIP // libzip 1.10 tells the two apart
    is_cut = is_cut || zip_error_code_zip(error) == ZIP_ER_TRUNCATED_ZIP;
#endif
    if (is_cut)
        return fm_fail(FM_FORMAT, "a zip archive without a directory at its end: is the file cut short?");
    return fm_fail(FM_FORMAT, "a broken zip archive: %s", zip_error_strerror(error));
}

enum fm_result fm_zip_open(struct fm_zip *zip, const uint8_t *data, uint64_t size_bytes)
{
    zip_error_t error;
    enum fm_result result = FM_OK;
    *zip = (struct fm_zip){.data = data, .size_bytes = size_bytes};
    zip_error_init(&error);
    zip_source_t *from = zip_source_function_create(source, zip, &error);
    if (from != NULL)
        zip->archive = zip_open_from_source(from, ZIP_RDONLY, &error);
    if (zip->archive == NULL) {
        result = fail_zip(&error);
        zip_source_free(from);
    }
    zip_error_fini(&error);
    return result;
}

void fm_zip_close(struct fm_zip *zip)
{
    if (zip->archive != NULL)
        zip_discard(zip->archive);
    *zip = (struct fm_zip){0};
}

uint64_t fm_zip_count(const struct fm_zip *zip)
{
    zip_int64_t count = zip_get_num_entries(zip->archive, 0);
    return count > 0 ? (uint64_t)count : 0;
}

const char *fm_zip_name(const struct fm_zip *zip, uint64_t index)
{
    return zip_get_name(zip->archive, index, ZIP_FL_ENC_RAW);
}

// Where entry `index`, not empty, begins.
static enum fm_result locate(struct fm_zip *zip, uint64_t index, const char *quoted, uint64_t *out_begin)
{
    uint8_t byte;
    zip_file_t *entry = zip_fopen_index(zip->archive, index, ZIP_FL_COMPRESSED);
    if (entry == NULL) {
        zip_error_t *error = zip_get_error(zip->archive);
        if (zip_error_code_zip(error) == ZIP_ER_MEMORY)
            return fm_nomem();
        return fm_fail(FM_FORMAT, "entry '%s' of the zip archive: %s", quoted, zip_error_strerror(error));
    }
    zip->read_bytes = 0;
    bool is_read = zip_fread(entry, &byte, 1) == 1;
    zip_fclose(entry);
    // One byte was wanted, so a read of one byte it was, unless libzip reads ahead.
    if (!is_read || zip->read_bytes != 1)
        return fm_fail(is_read ? FM_UNSUPPORTED : FM_FORMAT, "entry '%s' of the zip archive: %s", quoted,
                       is_read ? "this libzip does not show where it lies" : "cannot be read");
    *out_begin = zip->read_begin;
    return FM_OK;
}

enum fm_result fm_zip_find(struct fm_zip *zip, const char *name, const uint8_t **out_data, uint64_t *out_bytes)
{
    char quoted[FM_QUOTE_BYTES];
    struct zip_stat stat;
    uint64_t begin = 0, end;
    const uint64_t wanted =
        ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    fm_quote(name, strlen(name), quoted, sizeof(quoted));
    zip_int64_t index = zip_name_locate(zip->archive, name, ZIP_FL_ENC_RAW);
    if (index < 0) {
        *out_data = NULL;
        *out_bytes = 0;
        return FM_OK;
    }
    if (zip_stat_index(zip->archive, (zip_uint64_t)index, 0, &stat) != 0 || (stat.valid & wanted) != wanted)
        return fm_fail(FM_FORMAT, "entry '%s' of the zip archive has no sizes", quoted);
    if (stat.encryption_method != ZIP_EM_NONE || stat.comp_method != ZIP_CM_STORE)
        return fm_fail(FM_UNSUPPORTED, "entry '%s' of the zip archive is %s, expected stored as it is", quoted,
                       stat.encryption_method != ZIP_EM_NONE ? "encrypted" : "compressed");
    if (stat.size != stat.comp_size)
        return fm_fail(FM_FORMAT, "entry '%s' of the zip archive: stored in %llu bytes, expected its size, %llu",
                       quoted, (unsigned long long)stat.comp_size, (unsigned long long)stat.size);
    if (stat.size > 0) {
        enum fm_result result = locate(zip, (uint64_t)index, quoted, &begin);
        if (result != FM_OK)
            return result;
    }
    if (!fm_add_u64(begin, stat.size, &end) || end > zip->size_bytes)
        return fm_fail(FM_FORMAT, "entry '%s' of the zip archive: %llu bytes at %llu exceed the file's %llu bytes",
                       quoted, (unsigned long long)stat.size, (unsigned long long)begin,
                       (unsigned long long)zip->size_bytes);
    *out_data = zip->data + begin;
    *out_bytes = stat.size;
    return FM_OK;
}
