// SPDX-License-Identifier: MIT
// The references of a scan cut into parts against that of the whole scan: the states in which the parts begin are those
// that the scan passes through.
#include "graph/builder.h"
#include "ref/ref.h"
#include "shaders/lib/abi.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define ROWS 8u
#define CHANNELS 3u
#define STATES 8u
#define PART 3u

// Two sequences: 7 rows from position 5 in slot 1 (parts of 3, 3 and 1 rows), one row from position 0 in slot 0.
static const double segments[2][FM_SEGMENT_WORDS] = {{0, 7, 1, 5}, {7, 1, 0, 0}};
static const struct fm_dims dims = {.t = ROWS, .o = 1, .s = 2, .l = 1, .b = 1, .run = 512};

enum { U, DT, A, B, C, D, DT_BIAS, Z, SEGMENT, STATE, OPERANDS };

static void build_operands(struct fm_builder *b, uint32_t *out)
{
    const uint32_t T = FM_DIM_T;
    out[U] = fm_build_state(b, "u", FM_TYPE_F32, 2, (uint32_t[]){T, CHANNELS});
    out[DT] = fm_build_state(b, "dt", FM_TYPE_F32, 2, (uint32_t[]){T, CHANNELS});
    out[A] = fm_build_weight(b, "a", FM_TYPE_F32, FM_NONE, 2, (uint32_t[]){CHANNELS, STATES});
    out[B] = fm_build_state(b, "b", FM_TYPE_F32, 2, (uint32_t[]){T, STATES});
    out[C] = fm_build_state(b, "c", FM_TYPE_F32, 2, (uint32_t[]){T, STATES});
    out[D] = fm_build_weight(b, "d", FM_TYPE_F32, FM_NONE, 1, (uint32_t[]){CHANNELS});
    out[DT_BIAS] = fm_build_weight(b, "dt_bias", FM_TYPE_F32, FM_NONE, 1, (uint32_t[]){CHANNELS});
    out[Z] = fm_build_state(b, "z", FM_TYPE_F32, 2, (uint32_t[]){T, CHANNELS});
    out[SEGMENT] = fm_build_input(b, FM_INPUT_SEGMENT);
    out[STATE] = fm_build_state(b, "state", FM_TYPE_F32, 4, (uint32_t[]){FM_DIM_S, FM_DIM_B, CHANNELS, STATES});
}

// The same numbers for every interpreter; the first segment has `rows` rows.
static void fill(struct fm_ref *ref, const uint32_t *operand, double rows)
{
    for (unsigned i = 0; i < OPERANDS; i++) {
        struct fm_ref_tensor *t = fm_ref_tensor(ref, operand[i]);
        for (uint64_t k = 0; k < t->elems; k++) {
            double x = sin(1.0 + 7.0 * i + 1.3 * (double)k);
            t->v[k] = i == A ? -exp(x) : i == SEGMENT ? segments[k / FM_SEGMENT_WORDS][k % FM_SEGMENT_WORDS] : x;
        }
        if (i == SEGMENT)
            t->v[FM_SEGMENT_ROWS] = rows;
    }
}

static struct fm_ref *create(const struct fm_graph *graph, const uint32_t *operand, double rows)
{
    struct fm_ref *ref = NULL;
    assert_int_equal(fm_ref_create(graph, &dims, &ref), FM_OK);
    fill(ref, operand, rows);
    fm_ref_run(ref);
    return ref;
}

// The state that the whole scan leaves in `slot` after `rows` rows of the first segment.
static double scanned(double rows, uint32_t slot, uint32_t channel, uint32_t n)
{
    struct fm_graph graph = {0};
    struct fm_builder b = {.graph = &graph};
    uint32_t operand[OPERANDS], dst[FM_MAX_DST];
    build_operands(&b, operand);
    const struct fm_attr attr = {.heads = 1, .heads_kv = 1, .state = STATES};
    assert_int_equal(fm_graph_add(&graph, FM_OP_SELECTIVE_SCAN, "scan", operand, OPERANDS, &attr, dst), FM_OK);
    struct fm_ref *ref = create(&graph, operand, rows);
    double value = fm_ref_tensor(ref, dst[1])->v[(slot * CHANNELS + channel) * STATES + n];
    fm_ref_destroy(&ref);
    fm_graph_finish(&graph);
    return value;
}

static void test_scan_parts(void **state)
{
    (void)state;
    struct fm_graph graph = {0};
    struct fm_builder b = {.graph = &graph};
    uint32_t operand[OPERANDS], ends[FM_MAX_DST], starts[FM_MAX_DST];
    build_operands(&b, operand);
    const struct fm_attr attr = {.heads_kv = 1, .state = STATES, .part = PART};
    const uint32_t states_src[] = {operand[U], operand[DT], operand[A], operand[B], operand[DT_BIAS], operand[SEGMENT]};
    assert_int_equal(fm_graph_add(&graph, FM_OP_SCAN_STATES, "states", states_src, 6, &attr, ends), FM_OK);
    const uint32_t carry_src[] = {operand[A], ends[0], ends[1], operand[SEGMENT], operand[STATE]};
    if (fm_graph_add(&graph, FM_OP_SCAN_CARRY, "carry", carry_src, 5, &attr, starts) != FM_OK)
        fail_msg("%s", fm_error_message());
    struct fm_ref *ref = create(&graph, operand, segments[0][FM_SEGMENT_ROWS]);
    const double *got = fm_ref_tensor(ref, starts[0])->v;
    const double *before = fm_ref_tensor(ref, operand[STATE])->v + CHANNELS * STATES; // slot 1
    for (uint32_t part = 0; part < 4; part++)
        for (uint32_t e = 0; e < CHANNELS; e++)
            for (uint32_t n = 0; n < STATES; n++) {
                double want = part == 3   ? 0
                              : part == 0 ? before[e * STATES + n]
                                          : scanned(PART * part, 1, e, n);
                double x = got[((part * (STATES / 4) + n / 4) * CHANNELS + e) * 4 + n % 4];
                if (!(fabs(x - want) <= 1e-12))
                    fail_msg("part %u, channel %u, state %u: %.15g, expected %.15g", part, e, n, x, want);
            }
    fm_ref_destroy(&ref);
    fm_graph_finish(&graph);
}

static void test_scan_parts_refused(void **state)
{
    (void)state;
    struct fm_graph graph = {0};
    struct fm_builder b = {.graph = &graph};
    uint32_t operand[OPERANDS], dst[FM_MAX_DST];
    build_operands(&b, operand);
    const uint32_t src[] = {operand[U], operand[DT], operand[A], operand[B], operand[DT_BIAS], operand[SEGMENT]};
    const struct fm_attr empty = {.heads_kv = 1, .state = STATES}, groups = {.heads_kv = 2, .state = STATES, .part = PART};
    assert_int_equal(fm_graph_add(&graph, FM_OP_SCAN_STATES, "states", src, 6, &empty, dst), FM_ARG);
    assert_int_equal(fm_graph_add(&graph, FM_OP_SCAN_STATES, "states", src, 6, &groups, dst), FM_ARG);
    const uint32_t carry_src[] = {operand[A], operand[U], operand[DT], operand[SEGMENT], operand[STATE]};
    const struct fm_attr attr = {.state = STATES, .part = PART};
    assert_int_equal(fm_graph_add(&graph, FM_OP_SCAN_CARRY, "carry", carry_src, 5, &attr, dst), FM_ARG);
    fm_graph_finish(&graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan_parts),
        cmocka_unit_test(test_scan_parts_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
