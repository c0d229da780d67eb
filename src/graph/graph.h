// SPDX-License-Identifier: MIT
// The model as an SSA graph: nodes and values by id, T (tokens), O (output rows), S (slots) and L (context) symbolic.
// Built by models/*.c through builder.h, rewritten by passes, read by the reference interpreter and the planner.
#ifndef FM_GRAPH_GRAPH_H
#define FM_GRAPH_GRAPH_H

#include "base/arena.h"
#include "quant/quant.h"

#define FM_OP_FUSED 1u
#define FM_OP_LOWERED 2u
#define FM_OP_OPTIONAL 4u

enum fm_op {
#define X(id, name, min_src, max_src, n_dst, flags) FM_OP_##id,
#include "graph/ops.def"
#undef X
    FM_OP_COUNT
};

#define FM_MAX_SRC 10
#define FM_MAX_DST 3
#define FM_MAX_DIMS 4
#define FM_NONE UINT32_MAX // "no value" / "no node"

// Symbolic dimensions: tokens, output rows, slots, context, state versions (of recurrent states).
#define FM_DIM_T 0xffffffffu
#define FM_DIM_O 0xfffffffeu
#define FM_DIM_S 0xfffffffdu
#define FM_DIM_L 0xfffffffcu
#define FM_DIM_B 0xfffffffbu
#define FM_DIM_FIRST FM_DIM_B // every number below is itself

// A step that is planned for at most so many rows of one sequence keeps state versions after each of its last B rows (ops.def).
#define FM_STATE_VERSION_ROWS 16u

// What the symbolic dimensions stand for in one plan.
struct fm_dims {
    uint32_t t, o, s, l;
    uint32_t b;   // state versions that a recurrent state is kept in; 0 counts as 1
    uint32_t run; // most rows that one sequence has in the step; 0 counts as t
    uint32_t x_bytes; // fewest bytes of the integers that products may see activations as; 0 counts as 2
};

enum fm_value_kind {
    FM_VALUE_WEIGHT, // a tensor of the model file
    FM_VALUE_CONST,  // computed by the builder: `data`, row-major, in `type`
    FM_VALUE_INPUT,  // a field of the step block
    FM_VALUE_STATE,  // lives from step to step, per slot; also every later value of it that an op returns (alias)
    FM_VALUE_TEMP,
    FM_VALUE_OUTPUT, // read by the host: logits, sampled ids
    FM_VALUE_DEAD,   // a pass removed its node: nobody writes or reads it. Passes keep the ids of all other values
};

// Fields of the step block (abi.h has their element structs).
enum fm_input {
    FM_INPUT_TOKEN,
    FM_INPUT_POS,
    FM_INPUT_SLOT,
    FM_INPUT_OUT_ROW,
    FM_INPUT_SAMPLER,
    FM_INPUT_SEGMENT, // [S,4]: first row, rows, slot, position of the first row; header word FM_STEP_SEGMENTS counts them
    FM_INPUT_LENGTH,  // [T]: tokens of the row's sequence: of its whole prompt while that is read, else position + 1
    FM_INPUT_COUNT
};

struct fm_value {
    const char *name; // "blk.3.attn_q.weight", "blk.3.q"
    enum fm_value_kind kind;
    enum fm_type type; // I32 for u32 values
    uint8_t n_dims;
    uint32_t dims[FM_MAX_DIMS]; // last contiguous; FM_DIM_* or a number
    uint32_t producer;          // node id, FM_NONE for weights, constants, inputs and first states
    uint32_t alias;             // STATE returned by a node: id of the first value, whose memory it is; else FM_NONE
    uint32_t row0; // WEIGHT: first row of the file's tensor (first element of a vector) that this value holds
    union {
        uint32_t tensor;     // WEIGHT: index in the model file (fm_file_tensor), FM_NONE for random weights
        const void *data;    // CONST: in the graph's arena
        enum fm_input input; // INPUT
    } of;
};

enum fm_norm_kind { FM_NORM_RMS, FM_NORM_LAYER };
enum fm_act_kind { FM_ACT_SILU, FM_ACT_GELU_TANH, FM_ACT_NONE, FM_ACT_COUNT };
enum fm_gate_kind { FM_GATE_FIRST, FM_GATE_LAST };
enum fm_rope_kind { FM_ROPE_NORM, FM_ROPE_NEOX }; // pairs (2m, 2m+1) | (m, m+R)

// What a node's op needs to know beside its operands. attrs.def has a row for each field: its kind and which ops use it.
struct fm_attr {
#define FM_ATTR_FIELD_U32(field) uint32_t field
#define FM_ATTR_FIELD_FLOAT(field) float field
#define FM_ATTR_FIELD_NAME(field) uint8_t field
#define X(id, field, kind, printed, words) FM_ATTR_FIELD_##kind(field);
#include "graph/attrs.def"
#undef X
};

struct fm_node {
    enum fm_op op;
    uint8_t n_src, n_dst;
    uint32_t src[FM_MAX_SRC]; // FM_NONE never appears: optional sources are last and simply absent
    uint32_t dst[FM_MAX_DST];
    struct fm_attr attr;
    const char *name; // "blk.3.attn_q": appears unchanged in plans, traces, logs and debug labels
};

struct fm_graph {
    struct fm_arena arena; // owns names and constant data
    struct fm_node *nodes; // in execution order
    size_t n_nodes, cap_nodes;
    struct fm_value *values;
    size_t n_values, cap_values;
    uint32_t logits; // OUTPUT [O,V]
    uint32_t ids;    // OUTPUT [O] u32, sampled; FM_NONE when the graph does not sample
};

struct fm_op_info {
    const char *name;
    uint8_t min_src, max_src, n_dst;
    uint32_t flags;
};
const struct fm_op_info *fm_op_info(enum fm_op op);
enum fm_op fm_op_from_name(const char *name); // FM_OP_COUNT when unknown

void fm_graph_finish(struct fm_graph *graph); // all-zero is an empty graph

uint32_t fm_dim_resolve(uint32_t dim, const struct fm_dims *dims);
uint32_t fm_dims_run(const struct fm_dims *dims); // dims->run, or dims->t where that is 0
// Elements of a value under `dims`; false on overflow.
bool fm_value_elems(const struct fm_value *value, const struct fm_dims *dims, uint64_t *out_elems);
// "f32[T,64]" into out (cut at out_bytes); returns out.
#define FM_SHAPE_TEXT_BYTES 80
const char *fm_value_shape_text(const struct fm_value *value, char *out, size_t out_bytes);
// The value whose memory this one is (itself unless it is a later value of a STATE).
uint32_t fm_value_root(const struct fm_graph *graph, uint32_t value);

// Append a node; results are made by its shape rule. FM_ARG (naming the node, the operand and both shapes) when
// operands do not fit. Names and constant data are copied. Attributes that the op does not use are cleared. On failure
// the graph is unchanged (memory of the arena apart). The first value of an empty graph sets `logits` and `ids` to
// FM_NONE.
enum fm_result fm_graph_add(struct fm_graph *graph, enum fm_op op, const char *name, const uint32_t *src,
                            uint32_t n_src, const struct fm_attr *attr, uint32_t *out_dst);
enum fm_result fm_graph_add_value(struct fm_graph *graph, const struct fm_value *value, uint32_t *out_id);

// Every invariant: sources defined before use, shapes as the rules say, states written in order, no LOWERED op. FM_ARG
// with the first offence.
enum fm_result fm_graph_validate(const struct fm_graph *graph);

// One line a node, stable: "%12 = matmul %9 %3 : f32[T,64]  # blk.0.attn_q" (the grammar is in print.c). Parse reads
// the same text back (tests, golden files).
enum fm_result fm_graph_print(const struct fm_graph *graph, char **out_text); // release with fm_free
enum fm_result fm_graph_parse(const char *text, struct fm_graph *out_graph);

#endif
