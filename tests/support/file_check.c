// SPDX-License-Identifier: MIT
// Broken model files.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "support/file_check.h"
#include "support/tensor_data.h"

static volatile uint64_t seen; // keeps the reads from being optimised away

static void walk(const struct fm_file *file)
{
    uint64_t sum = fm_file_hash(file) + fm_file_bytes(file);
    for (uint32_t i = 0; i < fm_file_tensor_count(file); i++) {
        const struct fm_tensor *tensor = fm_file_tensor(file, i);
        uint8_t *data = tensor_data(tensor);
        assert_non_null(data);
        for (uint64_t b = 0; b < tensor->data_bytes; b++)
            sum += data[b];
        free(data);
        assert_ptr_equal(fm_file_find(file, tensor->name), tensor);
        assert_non_null(tensor->type_name);
        assert_true(tensor->n_dims <= FM_TENSOR_DIMS);
        uint64_t elems = 1;
        for (uint32_t d = 0; d < FM_TENSOR_DIMS; d++)
            elems *= tensor->dims[d];
        assert_true((elems > 0) == (tensor->data_bytes > 0));
    }
    for (uint32_t i = 0; i < fm_file_meta_count(file); i++) {
        const struct fm_meta *meta = fm_file_meta(file, i);
        for (uint64_t e = 0; e < meta->count; e++) {
            if (meta->texts != NULL)
                for (uint64_t b = 0; b < meta->texts[e].bytes; b++)
                    sum += (uint8_t)meta->texts[e].data[b];
            else
                sum += (uint64_t)fm_meta_int_at(meta, e);
        }
    }
    seen = sum;
}

enum fm_result file_open_copy(const uint8_t *data, size_t size_bytes)
{
    uint8_t *copy = malloc(size_bytes + (size_bytes == 0));
    struct fm_file *file = NULL;
    assert_non_null(copy);
    if (size_bytes > 0)
        memcpy(copy, data, size_bytes);
    enum fm_result result = fm_file_open_memory(copy, size_bytes, "bad.file", &file);
    if (result == FM_OK) {
        assert_non_null(file);
        walk(file);
        fm_file_close(&file);
    } else {
        assert_null(file);
        assert_int_equal(strncmp(fm_error_message(), "bad.file: ", 10), 0);
        assert_true(strlen(fm_error_message()) > 20);
        assert_null(strchr(fm_error_message(), '\n'));
    }
    free(copy);
    return result;
}

void file_refuse(struct gguf_bytes bytes, enum fm_result expected, const char *text)
{
    enum fm_result result = file_open_copy(bytes.data, bytes.size_bytes);
    if (result != expected || strstr(fm_error_message(), text) == NULL)
        fail_msg("got '%s' (%s), expected '...%s...' (%s)", fm_error_message(), fm_result_text(result), text,
                 fm_result_text(expected));
    gguf_bytes_finish(&bytes);
}

size_t file_break_everywhere(struct gguf_bytes bytes)
{
    const uint8_t fills[] = {0x00, 0x7f, 0x80, 0xff};
    const size_t widths[] = {1, 4, 8};
    size_t refused = 0;
    uint8_t *kept = malloc(bytes.size_bytes);
    assert_non_null(kept);
    memcpy(kept, bytes.data, bytes.size_bytes);
    for (size_t i = 0; i < 8 * bytes.size_bytes; i++) {
        bytes.data[i / 8] ^= (uint8_t)(1u << i % 8);
        refused += file_open_copy(bytes.data, bytes.size_bytes) != FM_OK;
        bytes.data[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    for (size_t i = 0; i < bytes.size_bytes; i++) {
        for (size_t f = 0; f < FM_COUNT(fills); f++)
            for (size_t w = 0; w < FM_COUNT(widths); w++) {
                memset(bytes.data + i, fills[f], FM_MIN(widths[w], bytes.size_bytes - i));
                file_open_copy(bytes.data, bytes.size_bytes);
                memcpy(bytes.data, kept, bytes.size_bytes);
            }
        file_open_copy(bytes.data, i); // cut here
    }
    assert_int_equal(file_open_copy(bytes.data, bytes.size_bytes), FM_OK);
    print_message("%zu of %zu bit flips refused\n", refused, 8 * bytes.size_bytes);
    free(kept);
    gguf_bytes_finish(&bytes);
    return refused;
}
