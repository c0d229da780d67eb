// SPDX-License-Identifier: MIT
// Zip archives through libzip, which has no call for where an entry's data lies. It reads the archive through a source
// of ours, though: when it is asked for the first byte of an entry as stored, the place of its read is the answer.
#include "format/zip.h"

#include <stdio.h>
#include <zip.h>

static zip_int64_t source_read(struct fm_zip *zip, void *to, uint64_t bytes)
{
    uint64_t count = FM_MIN(bytes, zip->source->size_bytes - zip->at);
    zip->read_begin = zip->at;
    zip->read_bytes = count;
    enum fm_result result = fm_source_read(zip->source, zip->at, count, to);
    if (result != FM_OK) {
        zip->read_result = result;
        return -1;
    }
    zip->at += count;
    return (zip_int64_t)count;
}

static zip_int64_t source_seek(struct fm_zip *zip, void *data, uint64_t bytes)
{
    zip_int64_t at = zip_source_seek_compute_offset(zip->at, zip->source->size_bytes, data, bytes, NULL);
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
    stat.size = zip->source->size_bytes;
    memcpy(data, &stat, sizeof(stat));
    return (zip_int64_t)sizeof(stat);
}

// libzip's callback: the archive's bytes, read-only.
static zip_int64_t serve(void *user, void *data, zip_uint64_t bytes, zip_source_cmd_t command)
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
        zip_error_init_with_code(&error, zip->read_result != FM_OK ? ZIP_ER_READ : ZIP_ER_SEEK);
        return zip_error_to_data(&error, data, bytes);
    default:
        return -1;
    }
}

// What libzip says, with `what` before it, unless reading the file failed or memory was short.
static enum fm_result fail_zip(const struct fm_zip *zip, const zip_error_t *error, const char *what, const char *reason)
{
    if (zip->read_result != FM_OK)
        return zip->read_result;
    if (zip_error_code_zip(error) == ZIP_ER_MEMORY)
        return fm_nomem();
    return fm_fail(FM_FORMAT, "%s: %s", what, reason);
}

static enum fm_result fail_open(const struct fm_zip *zip, zip_error_t *error)
{
    bool is_cut = zip_error_code_zip(error) == ZIP_ER_NOZIP;
#ifdef ZIP_ER_TRUNCATED_ZIP // libzip 1.10 tells the two apart
    is_cut = is_cut || zip_error_code_zip(error) == ZIP_ER_TRUNCATED_ZIP;
#endif
    return is_cut ? fail_zip(zip, error, "a zip archive without a directory at its end", "is the file cut short?")
                  : fail_zip(zip, error, "a broken zip archive", zip_error_strerror(error));
}

enum fm_result fm_zip_open(struct fm_zip *zip, const struct fm_source *source)
{
    zip_error_t error;
    enum fm_result result = FM_OK;
    *zip = (struct fm_zip){.source = source, .read_result = FM_OK};
    zip_error_init(&error);
    zip_source_t *from = zip_source_function_create(serve, zip, &error);
    if (from != NULL)
        zip->archive = zip_open_from_source(from, ZIP_RDONLY, &error);
    if (zip->archive == NULL) {
        result = fail_open(zip, &error);
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
    return zip_get_name(zip->archive, index, ZIP_FL_ENC_GUESS);
}

// Where entry `index`, not empty, begins. `what` names it.
static enum fm_result locate(struct fm_zip *zip, uint64_t index, const char *what, uint64_t *out_begin)
{
    uint8_t byte;
    zip_file_t *entry = zip_fopen_index(zip->archive, index, ZIP_FL_COMPRESSED);
    if (entry == NULL) {
        zip_error_t *error = zip_get_error(zip->archive);
        return fail_zip(zip, error, what, zip_error_strerror(error));
    }
    zip->read_bytes = 0;
    enum fm_result result = FM_OK;
    if (zip_fread(entry, &byte, 1) != 1)
        result = fail_zip(zip, zip_file_get_error(entry), what, "cannot be read");
    else if (zip->read_bytes != 1) // one byte was wanted, so a read of one byte it was, unless libzip reads ahead
        result = fm_fail(FM_UNSUPPORTED, "%s: this libzip does not show where it lies", what);
    zip_fclose(entry);
    *out_begin = zip->read_begin;
    return result;
}

enum fm_result fm_zip_find(struct fm_zip *zip, const char *name, uint64_t *out_offset, uint64_t *out_bytes)
{
    char what[FM_QUOTE_BYTES + 40];
    struct zip_stat stat;
    uint64_t begin = 0, end;
    const uint64_t wanted =
        ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    snprintf(what, sizeof(what), "entry '%s' of the zip archive", FM_QUOTE_Z(name));
    zip_int64_t index = zip_name_locate(zip->archive, name, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
        const zip_error_t *error = zip_get_error(zip->archive);
        *out_offset = FM_ZIP_ABSENT;
        *out_bytes = 0;
        return zip_error_code_zip(error) == ZIP_ER_NOENT ? FM_OK : fail_zip(zip, error, what, "cannot be looked up");
    }
    if (zip_stat_index(zip->archive, (zip_uint64_t)index, 0, &stat) != 0 || (stat.valid & wanted) != wanted)
        return fail_zip(zip, zip_get_error(zip->archive), what, "has no sizes");
    if (stat.encryption_method != ZIP_EM_NONE || stat.comp_method != ZIP_CM_STORE)
        return fm_fail(FM_UNSUPPORTED, "%s is %s, expected stored as it is", what,
                       stat.encryption_method != ZIP_EM_NONE ? "encrypted" : "compressed");
    if (stat.size != stat.comp_size)
        return fm_fail(FM_FORMAT, "%s: stored in %llu bytes, expected its size, %llu", what,
                       (unsigned long long)stat.comp_size, (unsigned long long)stat.size);
    if (stat.size > 0) {
        enum fm_result result = locate(zip, (uint64_t)index, what, &begin);
        if (result != FM_OK)
            return result;
    }
    if (!fm_add_u64(begin, stat.size, &end) || end > zip->source->size_bytes)
        return fm_fail(FM_FORMAT, "%s: %llu bytes at %llu exceed the file's %llu bytes", what, (unsigned long long)stat.size,
                       (unsigned long long)begin, (unsigned long long)zip->source->size_bytes);
    *out_offset = begin;
    *out_bytes = stat.size;
    return FM_OK;
}
