// SPDX-License-Identifier: MIT
// Weight formats: the table, decoding to the bit, encoding, and the device layout read back by its own description.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "base/half.h"
#include "quant/quant.h"

static const enum fm_type quantised[] = {FM_TYPE_Q8_0, FM_TYPE_Q4_0, FM_TYPE_Q4_1, FM_TYPE_Q5_0,
                                         FM_TYPE_Q5_1, FM_TYPE_Q4_K, FM_TYPE_Q5_K, FM_TYPE_Q6_K};

static uint64_t random_state = 1;

static uint32_t random_u32(void)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(random_state >> 32);
}

static float random_normal(void) // sum of uniforms: near enough
{
    float sum = 0;
    for (int i = 0; i < 12; i++)
        sum += (float)random_u32() / 4294967296.0f;
    return sum - 6;
}

// Random bytes whose scales (binary16 fields) are moderate numbers, as `blocks` blocks of the type.
static void random_blocks(enum fm_type type, uint8_t *data, uint64_t blocks)
{
    const struct fm_type_info *info = fm_type_info(type);
    for (uint64_t b = 0; b < blocks; b++, data += info->block_bytes) {
        for (uint32_t i = 0; i < info->block_bytes; i++)
            data[i] = (uint8_t)(random_u32() >> 11);
        uint16_t d = fm_float_to_half(random_normal()), m = fm_float_to_half(random_normal());
        uint8_t *at = type == FM_TYPE_Q6_K ? data + 208 : data;
        memcpy(at, &d, 2);
        if (type == FM_TYPE_Q4_1 || type == FM_TYPE_Q5_1 || type == FM_TYPE_Q4_K || type == FM_TYPE_Q5_K)
            memcpy(data + 2, &m, 2);
    }
}

// ---- the table ---------------------------------------------------------------------------------------------------

static void test_table(void **state)
{
    (void)state;
    for (int i = 0; i < FM_TYPE_COUNT; i++) {
        const struct fm_type_info *info = fm_type_info((enum fm_type)i);
        assert_int_equal(fm_type_from_ggml((uint32_t)info->ggml_id), i);
        assert_int_equal(fm_type_from_name(info->name), i);
    }
    assert_int_equal(fm_type_from_name("Q4_k"), FM_TYPE_Q4_K);
    assert_int_equal(fm_type_from_name("q2_K"), FM_TYPE_NONE);
    assert_int_equal(fm_type_from_name(""), FM_TYPE_NONE);
    assert_int_equal(fm_type_from_ggml(10), FM_TYPE_NONE);
    assert_int_equal(fm_type_from_ggml(UINT32_MAX), FM_TYPE_NONE);
    uint64_t bytes = 7;
    assert_true(fm_type_bytes(FM_TYPE_Q4_K, 512, &bytes) && bytes == 288);
    assert_true(fm_type_bytes(FM_TYPE_F16, 3, &bytes) && bytes == 6);
    assert_true(fm_type_bytes(FM_TYPE_Q8_0, 0, &bytes) && bytes == 0);
    bytes = 7;
    assert_false(fm_type_bytes(FM_TYPE_Q4_0, 33, &bytes));
    assert_false(fm_type_bytes(FM_TYPE_F32, UINT64_MAX / 2, &bytes));
    assert_false(fm_type_bytes(FM_TYPE_Q8_0, UINT64_MAX / 32 * 32, &bytes));
    assert_int_equal(bytes, 7);
}

// ---- decoding ----------------------------------------------------------------------------------------------------

static float half_at(const uint8_t *at)
{
    return fm_half_to_float((uint16_t)(at[0] | at[1] << 8));
}

static int bit(const uint8_t *bytes, int index)
{
    return bytes[index / 8] >> index % 8 & 1;
}

// Element e of one block, from ggml's description of the format, one element at a time.
static float legacy_element(enum fm_type type, const uint8_t *b, int e)
{
    float d = half_at(b);
    switch (type) {
    case FM_TYPE_Q8_0: return (float)(int8_t)b[2 + e] * d;
    case FM_TYPE_Q4_0: return (float)((b[2 + e % 16] >> e / 16 * 4 & 15) - 8) * d;
    case FM_TYPE_Q4_1: return (float)(b[4 + e % 16] >> e / 16 * 4 & 15) * d + half_at(b + 2);
    case FM_TYPE_Q5_0: return (float)((b[6 + e % 16] >> e / 16 * 4 & 15) + 16 * bit(b + 2, e) - 16) * d;
    default: return (float)((b[8 + e % 16] >> e / 16 * 4 & 15) + 16 * bit(b + 4, e)) * d + half_at(b + 2); // Q5_1
    }
}

static float k_element(enum fm_type type, const uint8_t *b, int e)
{
    int sub = e / 32, l = e % 32;
    if (type == FM_TYPE_Q6_K) {
        const uint8_t *ql = b + e / 128 * 64, *qh = b + 128 + e / 128 * 32;
        int quarter = e % 128 / 32;
        int low = ql[quarter % 2 * 32 + l] >> quarter / 2 * 4 & 15, high = qh[l] >> 2 * quarter & 3;
        return half_at(b + 208) * (float)(int8_t)b[192 + e / 16] * (float)(16 * high + low - 32);
    }
    const uint8_t *packed = b + 4;
    int scale, min;
    if (sub < 4) {
        scale = packed[sub] & 63;
        min = packed[sub + 4] & 63;
    } else {
        scale = (packed[sub + 4] & 15) + (packed[sub - 4] >> 6) * 16;
        min = (packed[sub + 4] >> 4) + (packed[sub] >> 6) * 16;
    }
    const uint8_t *qs = b + (type == FM_TYPE_Q5_K ? 48 : 16);
    int q = qs[sub / 2 * 32 + l] >> sub % 2 * 4 & 15;
    if (type == FM_TYPE_Q5_K)
        q += (b[16 + l] >> sub & 1) * 16;
    return half_at(b) * (float)scale * (float)q - half_at(b + 2) * (float)min;
}

static void test_decode(void **state)
{
    (void)state;
    enum { BLOCKS = 300 };
    for (size_t t = 0; t < FM_COUNT(quantised); t++) {
        const struct fm_type_info *info = fm_type_info(quantised[t]);
        uint8_t *data = malloc(BLOCKS * (size_t)info->block_bytes);
        float *out = malloc(BLOCKS * (size_t)info->block_elems * sizeof(*out));
        assert_non_null(data);
        assert_non_null(out);
        random_blocks(quantised[t], data, BLOCKS);
        fm_quant_decode(quantised[t], data, (uint64_t)BLOCKS * info->block_elems, out);
        for (int b = 0; b < BLOCKS; b++) {
            const uint8_t *block = data + (size_t)b * info->block_bytes;
            for (int e = 0; e < (int)info->block_elems; e++) {
                float expected = info->block_elems == 32 ? legacy_element(quantised[t], block, e)
                                                         : k_element(quantised[t], block, e);
                float got = out[(size_t)b * info->block_elems + (size_t)e];
                assert_memory_equal(&got, &expected, sizeof(got)); // to the bit
            }
        }
        free(data);
        free(out);
    }
}

static void test_decode_plain(void **state)
{
    (void)state;
    // Stored one byte off, as a file with alignment 1 may have it.
    uint8_t raw[13] = {0, 0x00, 0x3c, 0x00, 0xc0, 0xcd, 0x3d, 0xff, 0xff, 0xff, 0x7f, 0x80, 0x3f};
    float out[2];
    fm_quant_decode(FM_TYPE_F16, raw + 1, 2, out);
    assert_true(out[0] == 1.0f && out[1] == -2.0f);
    fm_quant_decode(FM_TYPE_I32, raw + 7, 1, out);
    assert_true(out[0] == 2147483648.0f); // 0x7fffffff, rounded
    fm_quant_decode(FM_TYPE_BF16, raw + 11, 1, out);
    assert_true(out[0] == 1.0f);
    float value = 3.25f;
    memcpy(raw + 1, &value, 4);
    fm_quant_decode(FM_TYPE_F32, raw + 1, 1, out);
    assert_true(out[0] == 3.25f);
}

// ---- encoding ----------------------------------------------------------------------------------------------------

// Blocks worked out by hand from ggml's reference rounding.
static void test_encode_legacy_exact(void **state)
{
    (void)state;
    float x[32];
    uint8_t block[34];
    for (int j = 0; j < 32; j++)
        x[j] = (float)(j % 16) - 8; // -8 is the extreme: d = 1, q = x + 8
    fm_quant_encode(FM_TYPE_Q4_0, x, 32, block);
    assert_int_equal(block[0] | block[1] << 8, 0x3c00);
    for (int j = 0; j < 16; j++)
        assert_int_equal(block[2 + j], j | j << 4);

    for (int j = 0; j < 32; j++)
        x[j] = (float)j - 15; // +16 is the extreme: d = -1, q = trunc(16.5 - x)
    fm_quant_encode(FM_TYPE_Q5_0, x, 32, block);
    assert_int_equal(block[0] | block[1] << 8, 0xbc00);
    for (int j = 0; j < 16; j++) {
        int low = FM_MIN(31 - j, 31), high = 15 - j;
        assert_int_equal(block[6 + j], (low & 15) | (high & 15) << 4);
        assert_int_equal(bit(block + 2, j), low >> 4);
        assert_int_equal(bit(block + 2, 16 + j), high >> 4);
    }

    for (int j = 0; j < 32; j++)
        x[j] = 2 + 0.5f * (float)(j % 16); // min 2, d = 0.5
    fm_quant_encode(FM_TYPE_Q4_1, x, 32, block);
    assert_int_equal(block[0] | block[1] << 8, 0x3800);
    assert_int_equal(block[2] | block[3] << 8, 0x4000);
    for (int j = 0; j < 16; j++)
        assert_int_equal(block[4 + j], j | j << 4);

    for (int j = 0; j < 32; j++)
        x[j] = -3 + 0.25f * (float)j; // min -3, d = 0.25, all 32 levels
    fm_quant_encode(FM_TYPE_Q5_1, x, 32, block);
    assert_int_equal(block[0] | block[1] << 8, 0x3400);
    assert_int_equal(block[2] | block[3] << 8, 0xc200);
    for (int j = 0; j < 16; j++)
        assert_int_equal(block[8 + j], j | j << 4);
    assert_int_equal(block[4] | block[5] << 8, 0);
    assert_int_equal(block[6] | block[7] << 8, 0xffff);

    for (int j = 0; j < 32; j++)
        x[j] = 0.5f * (float)(j - 16);
    x[5] = 63.5f;  // the extreme: d = 0.5
    x[6] = 0.25f;  // half a step rounds away from zero
    x[7] = -0.25f;
    fm_quant_encode(FM_TYPE_Q8_0, x, 32, block);
    assert_int_equal(block[0] | block[1] << 8, 0x3800);
    assert_int_equal((int8_t)block[2 + 5], 127);
    assert_int_equal((int8_t)block[2 + 6], 1);
    assert_int_equal((int8_t)block[2 + 7], -1);
    assert_int_equal((int8_t)block[2], -16);
}

static double relative_error(enum fm_type type, const float *x, uint64_t count)
{
    uint64_t bytes;
    assert_true(fm_type_bytes(type, count, &bytes));
    void *data = malloc((size_t)bytes);
    float *back = malloc((size_t)count * sizeof(*back));
    assert_non_null(data);
    assert_non_null(back);
    fm_quant_encode(type, x, count, data);
    fm_quant_decode(type, data, count, back);
    double error = 0, power = 0;
    for (uint64_t i = 0; i < count; i++) {
        error += ((double)back[i] - x[i]) * ((double)back[i] - x[i]);
        power += (double)x[i] * x[i];
    }
    free(data);
    free(back);
    return sqrt(error / power);
}

static void test_encode_quality(void **state)
{
    (void)state;
    enum { COUNT = 64 * 256 };
    static float x[COUNT], shifted[COUNT];
    for (int i = 0; i < COUNT; i++) {
        x[i] = random_normal() * 0.02f;
        shifted[i] = x[i] - 0.03f; // minimums pay here
    }
    // Root mean square error over root mean square of normal weights: a little above what was measured.
    const struct {
        enum fm_type type;
        double bound;
    } rows[] = {{FM_TYPE_F32, 0},       {FM_TYPE_F16, 3e-4},   {FM_TYPE_BF16, 2.5e-3}, {FM_TYPE_Q8_0, 6e-3},
                {FM_TYPE_Q4_0, 9e-2},   {FM_TYPE_Q4_1, 8.5e-2}, {FM_TYPE_Q5_0, 4.5e-2}, {FM_TYPE_Q5_1, 4.2e-2},
                {FM_TYPE_Q4_K, 7.2e-2}, {FM_TYPE_Q5_K, 3.7e-2}, {FM_TYPE_Q6_K, 1.9e-2}};
    for (size_t i = 0; i < FM_COUNT(rows); i++) {
        double error = relative_error(rows[i].type, x, COUNT);
        print_message("%s: %.4g\n", fm_type_info(rows[i].type)->name, error);
        assert_true(error <= rows[i].bound);
    }
    assert_true(relative_error(FM_TYPE_Q4_K, x, COUNT) < relative_error(FM_TYPE_Q4_1, x, COUNT));
    assert_true(relative_error(FM_TYPE_Q5_K, x, COUNT) < relative_error(FM_TYPE_Q5_1, x, COUNT));
    assert_true(relative_error(FM_TYPE_Q4_K, shifted, COUNT) < 0.7 * relative_error(FM_TYPE_Q4_0, shifted, COUNT));
}

// Blocks that tempt a division by zero, an overflow or a conversion out of range; the sanitizers watch.
static void test_encode_extremes(void **state)
{
    (void)state;
    const float values[] = {0.0f, -0.0f, 1e-45f, -3e-39f, 1e-8f, 1.0f, -1.0f, 65504.0f, 3e38f, -3e38f, INFINITY, NAN};
    static float x[256], back[256];
    static uint8_t data[1024];
    for (int type = 0; type < FM_TYPE_COUNT; type++) {
        for (size_t v = 0; v < FM_COUNT(values); v++) {
            for (int i = 0; i < 256; i++)
                x[i] = values[v];
            fm_quant_encode((enum fm_type)type, x, 256, data);
            fm_quant_decode((enum fm_type)type, data, 256, back);
            if (values[v] == 0.0f && type != FM_TYPE_I32)
                for (int i = 0; i < 256; i++)
                    assert_true(back[i] == 0.0f);
            if (fabsf(values[v]) == 1.0f)
                for (int i = 0; i < 256; i++)
                    assert_true(fabsf(back[i] - values[v]) < 0.02f);
            for (int i = 0; i < 256; i++) // every pair of values in one block
                x[i] = values[((size_t)i + v) % FM_COUNT(values)];
            fm_quant_encode((enum fm_type)type, x, 256, data);
            fm_quant_decode((enum fm_type)type, data, 256, back);
        }
    }
}

// What is stored is a fixed point for the levels: encoding decoded Q8_0 data gives the same values again.
static void test_encode_again(void **state)
{
    (void)state;
    static float x[1024], once[1024], twice[1024];
    static uint8_t data[2048];
    for (int i = 0; i < 1024; i++)
        x[i] = random_normal();
    const enum fm_type exact[] = {FM_TYPE_F16, FM_TYPE_BF16, FM_TYPE_F32};
    for (size_t t = 0; t < FM_COUNT(exact); t++) {
        static uint8_t plain[4096];
        fm_quant_encode(exact[t], x, 1024, plain);
        fm_quant_decode(exact[t], plain, 1024, once);
        fm_quant_encode(exact[t], once, 1024, plain);
        fm_quant_decode(exact[t], plain, 1024, twice);
        assert_memory_equal(once, twice, sizeof(once));
    }
    fm_quant_encode(FM_TYPE_Q8_0, x, 1024, data);
    fm_quant_decode(FM_TYPE_Q8_0, data, 1024, once);
    fm_quant_encode(FM_TYPE_Q8_0, once, 1024, data);
    fm_quant_decode(FM_TYPE_Q8_0, data, 1024, twice);
    for (int i = 0; i < 1024; i++)
        assert_true(fabsf(once[i] - twice[i]) <= fabsf(once[i]) * 1e-3f);
}

// ---- the device layout -------------------------------------------------------------------------------------------

struct sink {
    uint8_t *data, *written; // `written` counts how often each byte was put
    uint64_t size_bytes;
    int puts_left; // fail after so many; negative = never
};

static enum fm_result put(void *user, uint64_t offset_bytes, const void *data, size_t size_bytes)
{
    struct sink *sink = user;
    if (sink->puts_left == 0)
        return FM_LOST;
    sink->puts_left--;
    assert_true(offset_bytes <= sink->size_bytes && size_bytes <= sink->size_bytes - offset_bytes);
    memcpy(sink->data + offset_bytes, data, size_bytes);
    for (size_t i = 0; i < size_bytes; i++)
        sink->written[offset_bytes + i]++;
    return FM_OK;
}

static struct sink sink_create(uint64_t size_bytes)
{
    struct sink sink = {calloc(1, (size_t)size_bytes + 1), calloc(1, (size_t)size_bytes + 1), size_bytes, -1};
    assert_non_null(sink.data);
    assert_non_null(sink.written);
    return sink;
}

static void sink_finish(struct sink *sink)
{
    free(sink->data);
    free(sink->written);
}

static uint32_t word_at(const uint8_t *data, uint64_t index)
{
    uint32_t value;
    memcpy(&value, data + 4 * index, 4);
    return value;
}

// Element k of row n as quant.h describes the planes.
static float packed_element(enum fm_type type, const uint8_t *w, const struct fm_pack *pack, uint64_t k_elems,
                            uint64_t n, uint64_t k)
{
    uint64_t b = n * (k_elems / 32) + k / 32, s = n * (k_elems / 256) + k / 256;
    int e = (int)(k % 32), h = e / 16, t = e % 16 / 4, c = e % 4, sub = (int)(k % 256 / 32);
    const uint8_t *sc = w + pack->sc;
    if (type == FM_TYPE_Q8_0)
        return (float)(int8_t)w[pack->qs + 32 * b + (uint64_t)e] * half_at(sc + 2 * b);
    int q = w[pack->qs + 16 * b + (uint64_t)(e % 16)] >> 4 * h & 15;
    if (type == FM_TYPE_Q5_0 || type == FM_TYPE_Q5_1 || type == FM_TYPE_Q5_K)
        q |= (int)(word_at(w + pack->qh, b) >> (8 * c + 4 * h + t) & 1) << 4;
    if (type == FM_TYPE_Q6_K)
        q |= (int)(word_at(w + pack->qh, 2 * b + (uint64_t)h) >> (8 * c + 2 * t) & 3) << 4;
    switch (type) {
    case FM_TYPE_Q4_0: return (float)(q - 8) * half_at(sc + 2 * b);
    case FM_TYPE_Q5_0: return (float)(q - 16) * half_at(sc + 2 * b);
    case FM_TYPE_Q4_1:
    case FM_TYPE_Q5_1: return (float)q * half_at(sc + 4 * b) + half_at(sc + 4 * b + 2);
    case FM_TYPE_Q6_K:
        return half_at(w + pack->sd + 2 * s) * (float)(int8_t)sc[2 * b + (uint64_t)h] * (float)(q - 32);
    default: break;
    }
    uint32_t low_scales = word_at(sc, 4 * s), low_mins = word_at(sc, 4 * s + 1), high = word_at(sc, 4 * s + 2);
    uint32_t scale = (low_scales >> 4 * sub & 15) | (high >> 2 * sub & 3) << 4;
    uint32_t min = (low_mins >> 4 * sub & 15) | (high >> (16 + 2 * sub) & 3) << 4;
    float d = half_at(sc + 16 * s + 12), dmin = half_at(sc + 16 * s + 14);
    return d * (float)scale * (float)q - dmin * (float)min;
}

static void check_pack(enum fm_type type, uint64_t n, uint64_t k)
{
    const struct fm_type_info *info = fm_type_info(type);
    struct fm_pack pack;
    uint64_t bytes, row_bytes, held = 0;
    assert_true(fm_type_bytes(type, n * k, &bytes));
    assert_true(fm_type_bytes(type, k, &row_bytes));
    assert_true(fm_pack_layout(type, n, k, &pack));
    assert_int_equal(pack.bytes % 16 | pack.qs % 16 | pack.qh % 16 | pack.sc % 16 | pack.sd % 16, 0);
    assert_true(pack.bytes >= bytes && pack.bytes <= bytes + 64);
    uint8_t *data = malloc((size_t)bytes);
    float *row = malloc((size_t)k * sizeof(*row));
    assert_non_null(data);
    assert_non_null(row);
    random_blocks(type, data, bytes / info->block_bytes);
    struct sink sink = sink_create(pack.bytes);
    uint64_t cut = n / 3; // in two parts, the later first
    assert_int_equal(fm_pack_rows(type, n, k, cut, n - cut, data + cut * row_bytes, put, &sink), FM_OK);
    assert_int_equal(fm_pack_rows(type, n, k, 0, cut, data, put, &sink), FM_OK);
    for (uint64_t i = 0; i < pack.bytes; i++) {
        assert_true(sink.written[i] <= 1);
        held += sink.written[i];
    }
    assert_int_equal(held, bytes); // every byte of the file went somewhere, once
    for (uint64_t r = 0; r < n; r++) {
        fm_quant_decode(type, data + r * row_bytes, k, row);
        for (uint64_t i = 0; i < k; i++) {
            float got = packed_element(type, sink.data, &pack, k, r, i);
            if (memcmp(&got, &row[i], sizeof(got)) != 0)
                fail_msg("%s [%llu,%llu] row %llu element %llu: %g, expected %g", info->name, (unsigned long long)n,
                         (unsigned long long)k, (unsigned long long)r, (unsigned long long)i, got, row[i]);
        }
    }
    sink_finish(&sink);
    free(data);
    free(row);
}

static void test_pack(void **state)
{
    (void)state;
    for (size_t t = 0; t < FM_COUNT(quantised); t++) {
        uint64_t block = fm_type_info(quantised[t])->block_elems;
        check_pack(quantised[t], 1, block);
        check_pack(quantised[t], 3, 5 * block);
        check_pack(quantised[t], 17, 3 * block);
        check_pack(quantised[t], 5, 768);
    }
}

// Several pieces, so several rounds of threads.
static void test_pack_large(void **state)
{
    (void)state;
    check_pack(FM_TYPE_Q4_0, 4099, 4096);  // 9.4 MB
    check_pack(FM_TYPE_Q6_K, 2801, 4096);  // 9.4 MB
}

static void test_pack_plain(void **state)
{
    (void)state;
    struct fm_pack pack;
    assert_true(fm_pack_layout(FM_TYPE_F16, 3, 5, &pack));
    assert_int_equal(pack.qs, 0);
    assert_int_equal(pack.bytes, 32);
    assert_true(pack.qh == 32 && pack.sc == 32 && pack.sd == 32);
    uint16_t data[15];
    for (int i = 0; i < 15; i++)
        data[i] = (uint16_t)(1000 + i);
    struct sink sink = sink_create(pack.bytes);
    assert_int_equal(fm_pack_rows(FM_TYPE_F16, 3, 5, 0, 1, data, put, &sink), FM_OK);
    assert_int_equal(fm_pack_rows(FM_TYPE_F16, 3, 5, 1, 2, data + 5, put, &sink), FM_OK);
    assert_memory_equal(sink.data, data, sizeof(data));
    sink_finish(&sink);
}

static void test_pack_errors(void **state)
{
    (void)state;
    struct fm_pack pack = {.bytes = 77};
    assert_false(fm_pack_layout(FM_TYPE_Q4_K, 4, 128, &pack));
    assert_false(fm_pack_layout(FM_TYPE_Q4_0, 4, 33, &pack));
    assert_false(fm_pack_layout(FM_TYPE_F32, UINT64_C(1) << 32, UINT64_C(1) << 31, &pack));
    assert_false(fm_pack_layout(FM_TYPE_Q8_0, UINT64_C(1) << 60, 32, &pack));
    assert_false(fm_pack_layout(FM_TYPE_Q8_0, UINT64_C(1) << 63, 4096, &pack));
    assert_int_equal(pack.bytes, 77);

    static uint8_t data[20 * 144];
    assert_true(fm_pack_layout(FM_TYPE_Q4_K, 20, 256, &pack));
    struct sink sink = sink_create(pack.bytes);
    assert_int_equal(fm_pack_rows(FM_TYPE_Q4_K, 20, 256, 18, 3, data, put, &sink), FM_ARG);
    assert_int_equal(fm_pack_rows(FM_TYPE_Q4_K, 20, 256, 1, UINT64_MAX, data, put, &sink), FM_ARG);
    assert_int_equal(fm_pack_rows(FM_TYPE_Q4_K, 20, 255, 0, 1, data, put, &sink), FM_ARG);
    assert_int_equal(fm_pack_rows(FM_TYPE_Q4_K, 20, 256, 20, 0, data, put, &sink), FM_OK); // nothing to do
    sink.puts_left = 1; // the second plane fails
    assert_int_equal(fm_pack_rows(FM_TYPE_Q4_K, 20, 256, 0, 20, data, put, &sink), FM_LOST);
    sink.puts_left = -1;
    fm_alloc_fail_at(0);
    assert_int_equal(fm_pack_rows(FM_TYPE_Q4_K, 20, 256, 0, 20, data, put, &sink), FM_NOMEM);
    fm_alloc_fail_at(UINT64_MAX);
    sink_finish(&sink);
}

// ---- what is no number -------------------------------------------------------------------------------------------------

// One bad element or scale at a time, in every place where the search changes its step.
static void test_nonfinite(void **state)
{
    (void)state;
    static const struct {
        enum fm_type type;
        uint32_t at[2]; // offsets in a block of what must be finite
        uint32_t n, bytes;
    } rows[] = {
        {FM_TYPE_F32, {0}, 1, 4},     {FM_TYPE_F16, {0}, 1, 2},     {FM_TYPE_BF16, {0}, 1, 2},    {FM_TYPE_Q8_0, {0}, 1, 2},
        {FM_TYPE_Q4_0, {0}, 1, 2},    {FM_TYPE_Q4_1, {0, 2}, 2, 2}, {FM_TYPE_Q5_0, {0}, 1, 2},    {FM_TYPE_Q5_1, {0, 2}, 2, 2},
        {FM_TYPE_Q4_K, {0, 2}, 2, 2}, {FM_TYPE_Q5_K, {0, 2}, 2, 2}, {FM_TYPE_Q6_K, {208}, 1, 2},
    };
    const uint32_t places[] = {0, 1, 255, 256, 257, 599};
    const uint32_t f32_bits[] = {0x7f800000u, 0xff800000u, 0x7fc00000u, 0x7f800001u};
    const uint16_t f16_bits[] = {0x7c00u, 0xfc00u, 0x7e00u, 0xfc01u}, bf16_bits[] = {0x7f80u, 0xff80u, 0x7fc0u, 0xff81u};
    for (size_t r = 0; r < FM_COUNT(rows); r++) {
        const struct fm_type_info *info = fm_type_info(rows[r].type);
        uint64_t blocks = 600, elems = blocks * info->block_elems;
        float *values = calloc(elems, sizeof(*values));
        uint8_t *data = malloc(blocks * info->block_bytes);
        assert_true(values != NULL && data != NULL);
        for (uint64_t i = 0; i < elems; i++)
            values[i] = (float)(i % 97) - 48;
        fm_quant_encode(rows[r].type, values, elems, data);
        assert_int_equal(fm_quant_find_nonfinite(rows[r].type, data, elems), elems);
        assert_int_equal(fm_quant_count_nonfinite(rows[r].type, data, elems), 0);
        for (size_t p = 0; p < FM_COUNT(places) * 4 * rows[r].n; p++) {
            uint64_t block = places[p / 4 % FM_COUNT(places)];
            const void *bits = rows[r].bytes == 4                 ? (const void *)&f32_bits[p % 4]
                               : rows[r].type == FM_TYPE_BF16 ? (const void *)&bf16_bits[p % 4]
                                                              : (const void *)&f16_bits[p % 4];
            uint8_t *at = data + block * info->block_bytes + rows[r].at[p / 4 / FM_COUNT(places)], kept[4];
            memcpy(kept, at, rows[r].bytes);
            memcpy(at, bits, rows[r].bytes);
            assert_int_equal(fm_quant_find_nonfinite(rows[r].type, data, elems), block * info->block_elems);
            assert_int_equal(fm_quant_count_nonfinite(rows[r].type, data, elems), info->block_elems);
            fm_quant_decode(rows[r].type, data + block * info->block_bytes, info->block_elems, values);
            for (uint32_t i = 0; i < info->block_elems; i++)
                assert_false(isfinite(values[i]));
            memcpy(at, kept, rows[r].bytes);
        }
        free(values);
        free(data);
    }
    const uint32_t integers[2] = {0x7f800000u, 0xffffffffu};
    assert_int_equal(fm_quant_find_nonfinite(FM_TYPE_I32, integers, 2), 2);
    assert_int_equal(fm_quant_count_nonfinite(FM_TYPE_I32, integers, 2), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),           cmocka_unit_test(test_decode),
        cmocka_unit_test(test_decode_plain),    cmocka_unit_test(test_encode_legacy_exact),
        cmocka_unit_test(test_encode_quality),  cmocka_unit_test(test_encode_extremes),
        cmocka_unit_test(test_encode_again),    cmocka_unit_test(test_pack),
        cmocka_unit_test(test_pack_large),      cmocka_unit_test(test_pack_plain),
        cmocka_unit_test(test_pack_errors),     cmocka_unit_test(test_nonfinite),
    };
    return cmocka_run_group_tests_name("quant", tests, NULL, NULL);
}
