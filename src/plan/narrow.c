// SPDX-License-Identifier: MIT
// Decides which activations are f16. A kernel says in which format it reads its operands (x in the manifest), and whether it can write its
// result as f16 (y). Where a reader wants f16 and the value is f32, the planner must put a cast before the reader. If all readers of a
// value want f16, and its producer can write f16, the producer writes it so: the rounding is the same, and the casts are saved. If some
// reader wants f32, the value stays f32, and the others get an f16 copy: from the producer, where it can write both (fm_emit_copy),
// else by a cast (fm_emit_cast).
#include "plan/build.h"

// The readers of a value.
struct readers {
    uint32_t halves, others; // how many want f16, how many do not
    uint32_t align;          // in elements: those that want f16 demand rows of a multiple of it
};

uint32_t fm_plan_narrow_result(const struct fm_node *node)
{
    return node->dst[node->op == FM_OP_ADD_NORM ? 1 : 0]; // its result 0, the sum, is a residual and stays f32
}

uint32_t fm_plan_cast_align(const struct fm_kernel *kernel)
{
    return FM_MAX(FM_CAST_ALIGN_ELEMS, kernel->matrix_k);
}

unsigned fm_plan_last_half(enum fm_op op)
{
    return op == FM_OP_LINEAR_ATTEND ? 1 : 0; // operand 0 is queries and keys, operand 1 is values
}

bool fm_plan_reads_halves(const struct fm_build *b, uint32_t node, unsigned i)
{
    return b->kernel[node]->x == FM_TYPE_F16 && i <= fm_plan_last_half(b->graph->nodes[node].op);
}

static void count_readers(const struct fm_build *b, struct readers *readers)
{
    for (uint32_t n = 0; n < b->graph->n_nodes; n++)
        for (unsigned i = 0; i < b->graph->nodes[n].n_src; i++) {
            struct readers *r = &readers[b->graph->nodes[n].src[i]];
            bool halves = fm_plan_reads_halves(b, n, i);
            *(halves ? &r->halves : &r->others) += 1;
            r->align = FM_MAX(r->align, halves ? fm_plan_cast_align(b->kernel[n]) : FM_CAST_ALIGN_ELEMS);
        }
}

enum fm_result fm_plan_narrow(struct fm_build *b)
{
    struct readers *readers = fm_alloc_zero(b->graph->n_values + 1, sizeof(*readers));
    if (readers == NULL)
        return fm_nomem();
    count_readers(b, readers);
    for (uint32_t n = 0; n < b->graph->n_nodes; n++) {
        uint32_t id = fm_plan_narrow_result(&b->graph->nodes[n]);
        struct fm_value *value = &b->graph->values[id];
        const struct readers *r = &readers[id];
        bool wanted = value->kind == FM_VALUE_TEMP ? r->halves > 0 && r->others == 0
                                                   : value->kind == FM_VALUE_OUTPUT && b->options.narrow_outputs;
        if (wanted && b->kernel[n]->y == FM_TYPE_F16 && value->dims[1] % FM_MAX(r->align, FM_CAST_ALIGN_ELEMS) == 0)
            value->type = FM_TYPE_F16;
    }
    fm_free(readers);
    return FM_OK;
}
