// SPDX-License-Identifier: MIT
// The scheduler, without a device.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "run/batch.h"
#include "shaders/lib/abi.h"

static const uint32_t prompt[100] = {[0] = 7, [1] = 8, [2] = 9, [99] = 3};

static void make(struct fm_batch *batch, uint32_t capacity)
{
    assert_int_equal(fm_batch_init(batch, capacity), FM_OK);
}

static void test_nothing_to_do(void **state)
{
    struct fm_batch batch;
    struct fm_batch_source sources[2] = {{.slot = 0, .pos = 5}, {.slot = 1, .pos = 0}};
    (void)state;
    make(&batch, 8);
    fm_batch_form(&batch, sources, 2, 0, false);
    assert_int_equal(batch.n_tokens, 0);
    assert_int_equal(batch.n_outputs, 0);
    fm_batch_finish(&batch);
}

static void test_prompt_in_pieces(void **state)
{
    struct fm_batch batch;
    struct fm_batch_source s = {.slot = 3, .pos = 11, .tokens = prompt, .left = 10};
    (void)state;
    make(&batch, 8);
    fm_batch_form(&batch, &s, 1, 0, false);
    assert_int_equal(s.taken, 8);
    assert_int_equal(batch.n_tokens, 8);
    assert_int_equal(batch.n_outputs, 0); // the prompt is not read yet
    for (uint32_t t = 0; t < 8; t++) {
        assert_int_equal(batch.token[t], prompt[t]);
        assert_int_equal(batch.pos[t], 11 + t);
        assert_int_equal(batch.slot[t], 3);
    }
    s.tokens += 8;
    s.left -= 8;
    s.pos += 8;
    fm_batch_form(&batch, &s, 1, 0, false);
    assert_int_equal(batch.n_tokens, 2);
    assert_int_equal(batch.n_outputs, 1);
    assert_int_equal(batch.out_row[0], 1);
    assert_int_equal(batch.owner[0], 0);
    fm_batch_finish(&batch);
}

// Whoever decodes goes first and never waits for a long prompt.
static void test_decodes_first(void **state)
{
    struct fm_batch batch;
    struct fm_batch_source sources[3] = {{.slot = 0, .pos = 0, .tokens = prompt, .left = 100},
                                         {.slot = 1, .pos = 40, .decode = true},
                                         {.slot = 2, .pos = 70, .decode = true}};
    (void)state;
    make(&batch, 16);
    fm_batch_form(&batch, sources, 3, 0, false);
    assert_int_equal(batch.n_tokens, 16);
    assert_int_equal(batch.n_outputs, 2);
    assert_int_equal(batch.token[0], FM_TOKEN_LAST);
    assert_int_equal(batch.token[1], FM_TOKEN_LAST);
    assert_int_equal(batch.pos[0], 40);
    assert_int_equal(batch.pos[1], 70);
    assert_int_equal(batch.owner[0], 1);
    assert_int_equal(batch.owner[1], 2);
    assert_int_equal(sources[0].taken, 14);
    assert_int_equal(sources[1].taken, 1);
    fm_batch_finish(&batch);
}

// Prompts take turns at the front; none is left out for ever.
static void test_turns(void **state)
{
    struct fm_batch batch;
    struct fm_batch_source sources[3];
    uint32_t read[3] = {0};
    (void)state;
    make(&batch, 8);
    for (size_t turn = 0; turn < 9; turn++) {
        for (uint32_t i = 0; i < 3; i++)
            sources[i] = (struct fm_batch_source){.slot = i, .pos = read[i], .tokens = prompt, .left = 100 - read[i]};
        fm_batch_form(&batch, sources, 3, turn, false);
        assert_int_equal(batch.n_tokens, 8);
        for (uint32_t i = 0; i < 3; i++)
            read[i] += sources[i].taken;
    }
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(read[i], 24);
    fm_batch_finish(&batch);
}

static void test_all_rows(void **state)
{
    struct fm_batch batch;
    struct fm_batch_source s = {.slot = 0, .pos = 2, .tokens = prompt, .left = 100};
    (void)state;
    make(&batch, 32);
    fm_batch_form(&batch, &s, 1, 0, true);
    assert_int_equal(batch.n_outputs, 32);
    for (uint32_t o = 0; o < 32; o++)
        assert_int_equal(batch.out_row[o], o);
    fm_batch_finish(&batch);
}

// Whatever the mix: a slot's tokens stand together, in rising positions, and the step is as full as it can be.
static void test_many_mixes(void **state)
{
    struct fm_batch batch;
    uint64_t random = 1;
    (void)state;
    make(&batch, 24);
    for (int round = 0; round < 2000; round++) {
        struct fm_batch_source sources[10];
        size_t wanted = 0;
        for (uint32_t i = 0; i < 10; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            uint32_t kind = (uint32_t)(random >> 60), left = kind < 6 ? (uint32_t)(random >> 40) % 20 : 0;
            sources[i] = (struct fm_batch_source){.slot = i, .pos = (uint32_t)(random >> 33) % 50, .tokens = prompt, .left = left,
                                                  .decode = left == 0 && kind < 12};
            wanted += left > 0 ? left : sources[i].decode;
        }
        fm_batch_form(&batch, sources, 10, (size_t)round, false);
        assert_int_equal(batch.n_tokens, wanted < 24 ? wanted : 24);
        bool seen[10] = {false};
        uint32_t sum = 0;
        for (uint32_t t = 0; t < batch.n_tokens; t++) {
            bool goes_on = t > 0 && batch.slot[t] == batch.slot[t - 1];
            assert_true(goes_on ? batch.pos[t] == batch.pos[t - 1] + 1 : !seen[batch.slot[t]]);
            seen[batch.slot[t]] = true;
        }
        for (uint32_t i = 0; i < 10; i++)
            sum += sources[i].taken;
        assert_int_equal(sum, batch.n_tokens);
        for (uint32_t o = 0; o < batch.n_outputs; o++)
            assert_int_equal(batch.slot[batch.out_row[o]], sources[batch.owner[o]].slot);
    }
    fm_batch_finish(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_to_do), cmocka_unit_test(test_prompt_in_pieces), cmocka_unit_test(test_decodes_first),
        cmocka_unit_test(test_turns),         cmocka_unit_test(test_all_rows),         cmocka_unit_test(test_many_mixes),
    };
    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}
