// SPDX-License-Identifier: MIT
// Which activations are f16: those that would be narrowed in any case, by a cast, before every one of their readers. Then the producer
// writes them as f16 itself, with the same rounding. Kernels say which format they read (x) and whether they can write f16 (y). A value
// that some reader wants as f32 stays f32, and gets a copy: from its producer, where that can write both (fm_emit_copy), else by a cast
// (fm_emit_cast).
#include "plan/build.h"

struct readers {
    uint32_t halves, others;
    uint32_t align; // elements: a row that is read as f16 has a multiple of so many
};

uint32_t fm_plan_narrow_result(const struct fm_node *node)
{
    return node->dst[node->op == FM_OP_ADD_NORM ? 1 : 0]; // its sum is a residual
}

uint32_t fm_plan_cast_align(const struct fm_kernel *kernel)
{
    return FM_MAX(FM_CAST_ALIGN_ELEMS, kernel->matrix_k);
}

unsigned fm_plan_last_half(enum fm_op op)
{
    return op == FM_OP_LINEAR_ATTEND ? 1 : 0; // its values are the second one
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
