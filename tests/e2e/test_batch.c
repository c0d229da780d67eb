// SPDX-License-Identifier: MIT
// The scheduler and the sizes of steps, without a device.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "graph/graph.h"
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
        uint32_t run = 0;
        for (uint32_t i = 0; i < batch.n_segments; i++)
            run = FM_MAX(run, batch.segment[i * FM_SEGMENT_WORDS + FM_SEGMENT_ROWS]);
        assert_int_equal(run, batch.run);
        for (uint32_t o = 0; o < batch.n_outputs; o++)
            assert_int_equal(batch.slot[batch.out_row[o]], sources[batch.owner[o]].slot);
    }
    fm_batch_finish(&batch);
}

// The end of a prompt, by which its sequence can be rolled back: steps in which no sequence has more rows than keep their states.
static void test_tail(void **state)
{
    struct fm_batch batch;
    struct fm_batch_source sources[3] = {{.slot = 0, .pos = 0, .tokens = prompt, .left = 40},
                                         {.slot = 1, .pos = 9, .tokens = prompt, .left = 90},
                                         {.slot = 2, .pos = 70, .decode = true}};
    (void)state;
    make(&batch, 64);
    batch.tail = 6;
    fm_batch_form(&batch, sources, 1, 0, false);
    assert_int_equal(sources[0].taken, 34); // up to where the tail begins
    sources[0].pos += 34;
    sources[0].left -= 34;
    struct fm_step_size step = fm_batch_take(&batch, sources, 3, 0);
    assert_int_equal(sources[0].taken, 6);
    assert_int_equal(sources[1].taken, FM_STATE_VERSION_ROWS);
    assert_int_equal(sources[2].taken, 1);
    assert_int_equal(step.rows, 6 + FM_STATE_VERSION_ROWS + 1);
    assert_int_equal(step.run, FM_STATE_VERSION_ROWS);
    fm_batch_finish(&batch);
}

static bool holds(struct fm_step_size bucket, struct fm_step_size step)
{
    return bucket.rows >= step.rows && bucket.run >= step.run;
}

// No step pays for more than a third more rows than it has, and the bucket is the smallest that holds it.
static void test_buckets(void **state)
{
    static const uint32_t ubatches[] = {1, 7, 512, 2000, 8192};
    (void)state;
    for (size_t u = 0; u < sizeof(ubatches) / sizeof(ubatches[0]); u++) {
        struct fm_buckets buckets = {.n_ubatch = ubatches[u], .n_slots = ubatches[u]};
        struct fm_step_size all[FM_BUCKETS];
        uint32_t count = 0;
        fm_buckets_add_run(&buckets, 16);
        fm_buckets_add_run(&buckets, 8);
        fm_buckets_add_run(&buckets, 16);
        fm_buckets_add_run(&buckets, 1u << 20);
        assert_int_equal(buckets.n_runs, (ubatches[u] > 8) + (ubatches[u] > 16));
        for (uint32_t i = 0; i < FM_BUCKETS; i++)
            if (fm_bucket_at(&buckets, i, &all[count])) {
                assert_int_equal(fm_bucket_index(&buckets, all[count]), i);
                assert_true(all[count].run >= 1 && all[count].run <= all[count].rows && all[count].rows <= ubatches[u]);
                count++;
            }
        static const uint32_t runs[] = {1, 2, 8, 9, 16, 17, 100, UINT32_MAX};
        for (uint32_t rows = 1; rows <= ubatches[u] && rows <= 2048; rows++)
            for (size_t r = 0; r < sizeof(runs) / sizeof(runs[0]); r++) {
                struct fm_step_size step = {.rows = rows, .run = runs[r] < rows ? runs[r] : rows};
                struct fm_step_size bucket = fm_bucket_of(&buckets, step);
                bool listed = false;
                assert_true(holds(bucket, step));
                assert_true(100 * bucket.rows <= 134 * rows);
                for (uint32_t i = 0; i < count; i++) {
                    listed = listed || (all[i].rows == bucket.rows && all[i].run == bucket.run);
                    bool smaller = all[i].rows < bucket.rows || (all[i].rows == bucket.rows && all[i].run < bucket.run);
                    assert_false(smaller && holds(all[i], step));
                }
                assert_true(listed);
            }
    }
}

// Buckets that no step can want are none: one sequence has all rows of its step.
static void test_buckets_of_one_sequence(void **state)
{
    struct fm_buckets buckets = {.n_ubatch = 512, .n_slots = 1};
    struct fm_step_size bucket;
    uint32_t count = 0;
    (void)state;
    fm_buckets_add_run(&buckets, 8);
    for (uint32_t i = 0; i < FM_BUCKETS; i++)
        if (fm_bucket_at(&buckets, i, &bucket)) {
            assert_int_equal(bucket.rows, bucket.run);
            count++;
        }
    assert_int_equal(count, 25); // 1 to 6, 8, then three from doubling to doubling
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_to_do), cmocka_unit_test(test_prompt_in_pieces), cmocka_unit_test(test_decodes_first),
        cmocka_unit_test(test_turns),         cmocka_unit_test(test_all_rows),         cmocka_unit_test(test_many_mixes),
        cmocka_unit_test(test_tail),          cmocka_unit_test(test_buckets),          cmocka_unit_test(test_buckets_of_one_sequence),
    };
    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}
