// SPDX-License-Identifier: MIT
// The references of Mamba-2's recurrence cut into parts against that of the whole: the states in which the parts begin
// are those that the recurrence passes through.
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
#define HEADS 4u
#define HEAD 3u
#define STATES 5u
#define ELEMS (HEADS * HEAD * STATES)
#define PART 3u

// Two sequences: 7 rows from position 5 in slot 1 (parts of 3, 3 and 1 rows), one row from position 0 in slot 0.
static const double segments[2][FM_SEGMENT_WORDS] = {{0, 7, 1, 5}, {7, 1, 0, 0}};
static const struct fm_dims dims = {.t = ROWS, .o = 1, .s = 2, .l = 1, .b = 1, .run = 512};
static const struct fm_attr attr = {.heads = HEADS, .head = HEAD, .heads_kv = 2, .groups = 1, .groups_c = 4, .state = STATES,
                                    .part = PART};

enum { XBC, DT, A, D, DT_BIAS, SEGMENT, STATE, OPERANDS };

static void build_operands(struct fm_builder *b, uint32_t *out)
{
    static const char *const names[] = {"a", "d", "dt_bias"};
    uint32_t width = attr.heads_kv * HEAD + (attr.groups + attr.groups_c) * STATES, heads = HEADS;
    out[XBC] = fm_build_state(b, "xbc", FM_TYPE_F32, 2, (uint32_t[]){FM_DIM_T, width});
    out[DT] = fm_build_state(b, "dt", FM_TYPE_F32, 2, (uint32_t[]){FM_DIM_T, HEADS});
    for (unsigned i = 0; i < 3; i++)
        out[A + i] = fm_build_weight(b, names[i], FM_TYPE_F32, FM_NONE, 1, &heads);
    out[SEGMENT] = fm_build_input(b, FM_INPUT_SEGMENT);
    out[STATE] = fm_build_state(b, "state", FM_TYPE_F32, 4, (uint32_t[]){FM_DIM_S, FM_DIM_B, HEADS * HEAD, STATES});
}

// The same numbers for every interpreter; the first segment has `rows` rows.
static struct fm_ref *run(const struct fm_graph *graph, const uint32_t *operand, double rows)
{
    struct fm_ref *ref = NULL;
    assert_int_equal(fm_ref_create(graph, &dims, &ref), FM_OK);
    for (unsigned i = 0; i < OPERANDS; i++) {
        struct fm_ref_tensor *t = fm_ref_tensor(ref, operand[i]);
        for (uint64_t k = 0; k < t->elems; k++) {
            double x = sin(1.0 + 7.0 * i + 1.3 * (double)k);
            t->v[k] = i == A ? -exp(x) : i == SEGMENT ? segments[k / FM_SEGMENT_WORDS][k % FM_SEGMENT_WORDS] : x;
        }
        if (i == SEGMENT)
            t->v[FM_SEGMENT_ROWS] = rows;
    }
    fm_ref_run(ref);
    return ref;
}

// The state of slot 1 after `rows` rows of the first segment.
static void passed_through(double rows, double *out_state)
{
    struct fm_graph graph = {0};
    struct fm_builder b = {.graph = &graph};
    uint32_t operand[OPERANDS], dst[FM_MAX_DST];
    build_operands(&b, operand);
    assert_int_equal(fm_graph_add(&graph, FM_OP_SSD, "ssd", operand, OPERANDS, &attr, dst), FM_OK);
    struct fm_ref *ref = run(&graph, operand, rows);
    memcpy(out_state, fm_ref_tensor(ref, dst[1])->v + ELEMS, ELEMS * sizeof *out_state);
    fm_ref_destroy(&ref);
    fm_graph_finish(&graph);
}

static enum fm_result add_states(struct fm_graph *graph, const uint32_t *operand, const struct fm_attr *a, uint32_t *dst)
{
    const uint32_t src[] = {operand[XBC], operand[DT], operand[A], operand[DT_BIAS], operand[SEGMENT]};
    return fm_graph_add(graph, FM_OP_SSD_STATES, "states", src, 5, a, dst);
}

static void test_ssd_parts(void **state)
{
    (void)state;
    struct fm_graph graph = {0};
    struct fm_builder b = {.graph = &graph};
    uint32_t operand[OPERANDS], z[FM_MAX_DST], starts[FM_MAX_DST];
    build_operands(&b, operand);
    assert_int_equal(add_states(&graph, operand, &attr, z), FM_OK);
    const uint32_t src[] = {z[0], z[1], operand[SEGMENT], operand[STATE]};
    if (fm_graph_add(&graph, FM_OP_SSD_SCAN, "scan", src, 4, &attr, starts) != FM_OK)
        fail_msg("%s", fm_error_message());
    struct fm_ref *ref = run(&graph, operand, segments[0][FM_SEGMENT_ROWS]);
    const double *got = fm_ref_tensor(ref, starts[0])->v;
    for (uint32_t part = 0; part < 4; part++) {
        double want[ELEMS] = {0}; // the last part is the other sequence's, at position 0
        if (part == 0)
            memcpy(want, fm_ref_tensor(ref, operand[STATE])->v + ELEMS, sizeof want);
        else if (part < 3)
            passed_through(PART * part, want);
        for (uint32_t k = 0; k < ELEMS; k++)
            if (!(fabs(got[part * ELEMS + k] - want[k]) <= 1e-12))
                fail_msg("part %u, element %u: %.15g, expected %.15g", part, k, got[part * ELEMS + k], want[k]);
    }
    fm_ref_destroy(&ref);
    fm_graph_finish(&graph);
}

static void test_ssd_parts_refused(void **state)
{
    (void)state;
    struct fm_graph graph = {0};
    struct fm_builder b = {.graph = &graph};
    uint32_t operand[OPERANDS], dst[FM_MAX_DST];
    build_operands(&b, operand);
    struct fm_attr wide = attr, endless = attr, groups = attr;
    wide.state = 1000;
    endless.part = 0;
    groups.groups = 3;
    assert_int_equal(add_states(&graph, operand, &wide, dst), FM_ARG);
    assert_int_equal(add_states(&graph, operand, &endless, dst), FM_ARG);
    assert_int_equal(add_states(&graph, operand, &groups, dst), FM_ARG);
    const uint32_t src[] = {operand[STATE], operand[DT], operand[SEGMENT], operand[STATE]};
    assert_int_equal(fm_graph_add(&graph, FM_OP_SSD_SCAN, "scan", src, 4, &attr, dst), FM_ARG);
    fm_graph_finish(&graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ssd_parts),
        cmocka_unit_test(test_ssd_parts_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
