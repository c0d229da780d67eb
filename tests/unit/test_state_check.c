// SPDX-License-Identifier: MIT
// What is checked of a saved state without a model: reserved words.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "run/state_check.h"

#define TOKENS 3u
#define FILE_BYTES (sizeof(struct fm_state_header) + TOKENS * sizeof(uint32_t) + sizeof(uint64_t))

static bool always(void *user)
{
    (void)user;
    return true;
}

// A whole state of three tokens, its checksum made good.
static void reserved_words_are_zero(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit <= 64; bit++) { // the last one: none is set
        _Alignas(8) uint8_t bytes[FILE_BYTES] = {0};
        struct fm_state_header header = {.magic = FM_STATE_MAGIC, .tokens = TOKENS, .next = 1};
        struct fm_state_file file = {0};
        if (bit < 64)
            header.reserved[bit / 32] = 1u << bit % 32;
        memcpy(bytes, &header, sizeof(header));
        struct fm_source source;
        uint64_t sum;
        assert_int_equal(fm_source_memory(bytes, FILE_BYTES, "state", &source), FM_OK);
        assert_int_equal(fm_state_file_sum(&source, NULL, NULL, &sum), FM_OK);
        memcpy(bytes + FILE_BYTES - sizeof(sum), &sum, sizeof(sum));
        enum fm_result r = fm_state_file_read(&source, &file);
        assert_int_equal(r, bit < 64 ? FM_FORMAT : FM_OK);
        if (r != FM_OK) {
            assert_non_null(strstr(fm_error_message(), "reserved words"));
        } else {
            assert_int_equal(fm_state_file_check(&file, 96, always, NULL), FM_CANCELLED);
            assert_int_equal(fm_state_file_check(&file, 96, NULL, NULL), FM_OK);
        }
        fm_state_file_finish(&file);
        fm_source_close(&source);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reserved_words_are_zero)};
    return cmocka_run_group_tests_name("state-check", tests, NULL, NULL);
}
