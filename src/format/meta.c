// SPDX-License-Identifier: MIT
// Typed metadata: a value is read as what the file declares it to be, never as what the caller hopes for.
#include <math.h>

#include "format/file_impl.h"

static const char *const kind_names[] = {
    [FM_META_UINT] = "an unsigned integer", [FM_META_INT] = "a signed integer", [FM_META_FLOAT] = "a float",
    [FM_META_BOOL] = "a bool",              [FM_META_STRING] = "a string",      [FM_META_ARRAY] = "an array",
};

static bool is_integer(enum fm_meta_kind kind)
{
    return kind == FM_META_UINT || kind == FM_META_INT;
}

static uint64_t load_uint(const uint8_t *data, uint32_t elem_bytes)
{
    uint64_t value = 0; // little-endian: the low bytes come first
    memcpy(&value, data, elem_bytes);
    return value;
}

static int64_t load_int(const uint8_t *data, uint32_t elem_bytes)
{
    unsigned unused_bits = 64 - 8 * elem_bytes;
    uint64_t raised = load_uint(data, elem_bytes) << unused_bits;
    int64_t value;
    memcpy(&value, &raised, sizeof(value));
    return value / ((int64_t)1 << unused_bits); // exact: the low bits are zero
}

static double load_float(const uint8_t *data, uint32_t elem_bytes)
{
    float narrow;
    double wide;
    if (elem_bytes == sizeof(wide)) {
        memcpy(&wide, data, sizeof(wide));
        return wide;
    }
    memcpy(&narrow, data, sizeof(narrow));
    return narrow;
}

double fm_meta_float_at(const struct fm_meta *meta, uint64_t i)
{
    const uint8_t *data = meta->data + i * meta->elem_bytes;
    switch (meta->elem_kind) {
    case FM_META_FLOAT: return load_float(data, meta->elem_bytes);
    case FM_META_INT: return (double)load_int(data, meta->elem_bytes);
    case FM_META_UINT:
    case FM_META_BOOL: return (double)load_uint(data, meta->elem_bytes);
    case FM_META_STRING:
    case FM_META_ARRAY: break;
    }
    return NAN; // no number
}

// Saturates where the value does not fit; 0 for NaN and for what is no number.
int64_t fm_meta_int_at(const struct fm_meta *meta, uint64_t i)
{
    const uint8_t *data = meta->data + i * meta->elem_bytes;
    uint64_t natural;
    double real;
    switch (meta->elem_kind) {
    case FM_META_INT: return load_int(data, meta->elem_bytes);
    case FM_META_UINT:
    case FM_META_BOOL:
        natural = load_uint(data, meta->elem_bytes);
        return natural > INT64_MAX ? INT64_MAX : (int64_t)natural;
    case FM_META_FLOAT:
        real = load_float(data, meta->elem_bytes);
        if (real >= 0x1p63)
            return INT64_MAX;
        if (real < -0x1p63)
            return INT64_MIN;
        return isnan(real) ? 0 : (int64_t)real;
    case FM_META_STRING:
    case FM_META_ARRAY: break;
    }
    return 0;
}

// Find the key. *out_meta = NULL with FM_OK when it is absent and not required.
static enum fm_result find(const struct fm_file *file, const char *key, bool required, const struct fm_meta **out_meta)
{
    *out_meta = fm_file_meta_find(file, key);
    if (*out_meta == NULL && required)
        return fm_fail(FM_FORMAT, "%s: metadata '%s' is missing", file->source.path, key);
    return FM_OK;
}

static enum fm_result fail_kind(const struct fm_file *file, const struct fm_meta *meta, const char *key,
                                const char *expected)
{
    return fm_fail(FM_FORMAT, "%s: metadata '%s': expected %s, found %s", file->source.path, key, expected,
                   kind_names[meta->kind]);
}

enum fm_result fm_meta_u32(const struct fm_file *file, const char *key, bool required, uint32_t min, uint32_t max,
                           uint32_t fallback, uint32_t *out_value)
{
    const struct fm_meta *meta;
    enum fm_result result = find(file, key, required, &meta);
    if (result != FM_OK)
        return result;
    if (meta == NULL) {
        *out_value = fallback;
        return FM_OK;
    }
    if (!is_integer(meta->kind))
        return fail_kind(file, meta, key, "an integer");
    // u64 values beyond int64 saturate, which is out of any u32 range all the same.
    int64_t value = fm_meta_int_at(meta, 0);
    if (value < (int64_t)min || value > (int64_t)max)
        return fm_fail(FM_FORMAT, "%s: metadata '%s': expected %u to %u, found %lld", file->source.path, key, min, max,
                       (long long)value);
    *out_value = (uint32_t)value;
    return FM_OK;
}

enum fm_result fm_meta_f32(const struct fm_file *file, const char *key, bool required, float fallback, float *out_value)
{
    const struct fm_meta *meta;
    enum fm_result result = find(file, key, required, &meta);
    if (result != FM_OK)
        return result;
    if (meta == NULL) {
        *out_value = fallback;
        return FM_OK;
    }
    if (meta->kind != FM_META_FLOAT)
        return fail_kind(file, meta, key, "a float");
    double value = fm_meta_float_at(meta, 0);
    if (!(fabs(value) <= 0x1.fffffep127))
        return fm_fail(FM_FORMAT, "%s: metadata '%s': expected a finite float, found %g", file->source.path, key, value);
    *out_value = (float)value;
    return FM_OK;
}

enum fm_result fm_meta_bool(const struct fm_file *file, const char *key, bool required, bool fallback, bool *out_value)
{
    const struct fm_meta *meta;
    enum fm_result result = find(file, key, required, &meta);
    if (result != FM_OK)
        return result;
    if (meta != NULL && meta->kind != FM_META_BOOL)
        return fail_kind(file, meta, key, "a bool");
    *out_value = meta == NULL ? fallback : meta->data[0] != 0;
    return FM_OK;
}

enum fm_result fm_meta_string(const struct fm_file *file, const char *key, bool required, struct fm_text *out_text)
{
    const struct fm_meta *meta;
    enum fm_result result = find(file, key, required, &meta);
    if (result != FM_OK)
        return result;
    if (meta != NULL && meta->kind != FM_META_STRING)
        return fail_kind(file, meta, key, "a string");
    *out_text = meta == NULL ? (struct fm_text){0} : meta->texts[0];
    return FM_OK;
}
