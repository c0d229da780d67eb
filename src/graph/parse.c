// SPDX-License-Identifier: MIT
// Reads what print.c writes.
#include "graph/shape.h"

#include <stdlib.h>

#define MAX_VALUES (1u << 20)
#define WORD_BYTES 64

struct parser {
    struct fm_graph *graph;
    const char *at;  // in the current line
    uint32_t line;
    bool *given;     // per value
};

static enum fm_result bad(const struct parser *p, const char *expected)
{
    return fm_fail(FM_ARG, "graph text, line %u: expected %s at '%.24s'", p->line, expected, p->at);
}

static void skip_spaces(struct parser *p)
{
    p->at += strspn(p->at, " ");
}

// Take `text` if it comes next.
static bool take(struct parser *p, const char *text)
{
    skip_spaces(p);
    size_t n = strlen(text);
    if (strncmp(p->at, text, n) != 0)
        return false;
    p->at += n;
    return true;
}

static bool take_u32(struct parser *p, uint32_t *out)
{
    skip_spaces(p);
    size_t digits = strspn(p->at, "0123456789");
    if (digits == 0 || digits > 10)
        return false;
    unsigned long long n = strtoull(p->at, NULL, 10);
    if (n > UINT32_MAX)
        return false;
    p->at += digits;
    *out = (uint32_t)n;
    return true;
}

// "%12": a value of the graph.
static bool take_id(struct parser *p, uint32_t *out)
{
    return take(p, "%") && take_u32(p, out) && *out < p->graph->n_values;
}

static bool take_word(struct parser *p, char out[WORD_BYTES])
{
    skip_spaces(p);
    size_t n = strspn(p->at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-");
    if (n == 0 || n >= WORD_BYTES)
        return false;
    memcpy(out, p->at, n);
    out[n] = '\0';
    p->at += n;
    return true;
}

// "f32[T,64]"
static bool take_shape(struct parser *p, struct fm_value *v)
{
    static const char letters[] = "BLSOT"; // in the order of FM_DIM_FIRST .. FM_DIM_T
    char word[WORD_BYTES];
    if (!take_word(p, word) || (v->type = fm_type_from_name(word)) == FM_TYPE_NONE || !take(p, "["))
        return false;
    memset(v->dims, 0, sizeof(v->dims));
    for (v->n_dims = 0; v->n_dims < FM_MAX_DIMS;) {
        const char *letter = *p->at ? strchr(letters, *p->at) : NULL;
        if (letter) {
            v->dims[v->n_dims++] = FM_DIM_FIRST + (uint32_t)(letter - letters);
            p->at++;
        } else if (!take_u32(p, &v->dims[v->n_dims++])) {
            return false;
        }
        if (take(p, "]"))
            return true;
        if (!take(p, ","))
            return false;
    }
    return false;
}

// The rest of the line, "  # name".
static enum fm_result take_name(struct parser *p, const char **out_name)
{
    if (!take(p, "# ") || *p->at == '\n' || *p->at == '\0')
        return bad(p, "'# name'");
    size_t n = strcspn(p->at, "\n");
    char *name = fm_arena_alloc(&p->graph->arena, n + 1, 1);
    if (!name)
        return fm_nomem();
    memcpy(name, p->at, n);
    p->at += n;
    *out_name = name;
    return FM_OK;
}

// Hex bytes of a constant; checked against its shape later.
static enum fm_result take_bytes(struct parser *p, struct fm_value *v, uint64_t *out_bytes)
{
    skip_spaces(p);
    size_t digits = strspn(p->at, "0123456789abcdef");
    if (digits == 0 || digits % 2 != 0)
        return bad(p, "bytes in hex");
    uint8_t *data = fm_arena_alloc(&p->graph->arena, digits / 2, 1);
    if (!data)
        return fm_nomem();
    for (size_t i = 0; i < digits; i++) {
        char c = p->at[i];
        unsigned nibble = c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a') + 10;
        data[i / 2] = (uint8_t)(data[i / 2] << 4 | nibble);
    }
    p->at += digits;
    v->of.data = data;
    *out_bytes = digits / 2;
    return FM_OK;
}

static enum fm_result check_const(struct parser *p, const struct fm_value *v, uint64_t bytes)
{
    static const struct fm_dims no_dims = {0};
    uint64_t elems, expected;
    for (unsigned i = 0; i < v->n_dims; i++)
        if (v->dims[i] >= FM_DIM_FIRST)
            return bad(p, "a constant of known size");
    if (!fm_value_elems(v, &no_dims, &elems) || !fm_type_bytes(v->type, elems, &expected) || expected != bytes)
        return bad(p, "as many bytes as the constant's shape has");
    return FM_OK;
}

// What follows "%id = ", for a source. *out_source = false: it is a node.
static enum fm_result parse_source(struct parser *p, struct fm_value *v, bool *out_source)
{
    static const char *const inputs[FM_INPUT_COUNT] = {"token", "pos", "slot", "out_row", "sampler", "segment", "length"};
    uint64_t bytes = 0;
    enum fm_result r = FM_OK;
    *v = (struct fm_value){.producer = FM_NONE, .alias = FM_NONE};
    *out_source = true;
    if (take(p, "weight ")) {
        v->kind = FM_VALUE_WEIGHT;
        v->of.tensor = FM_NONE;
        if (!take(p, "none") && !take_u32(p, &v->of.tensor))
            return bad(p, "a tensor's number or 'none'");
        if (take(p, "+") && !take_u32(p, &v->row0))
            return bad(p, "a row");
    } else if (take(p, "const ")) {
        v->kind = FM_VALUE_CONST;
        r = take_bytes(p, v, &bytes);
    } else if (take(p, "input ")) {
        char word[WORD_BYTES] = "";
        unsigned i = 0;
        v->kind = FM_VALUE_INPUT;
        take_word(p, word);
        while (i < FM_INPUT_COUNT && strcmp(word, inputs[i]) != 0)
            i++;
        if (i == FM_INPUT_COUNT)
            return bad(p, "an input's name");
        v->of.input = (enum fm_input)i;
    } else if (take(p, "state ")) {
        v->kind = FM_VALUE_STATE;
    } else {
        *out_source = false;
        return FM_OK;
    }
    if (r != FM_OK)
        return r;
    if (!take(p, ":") || !take_shape(p, v))
        return bad(p, "': type[dims]'");
    if (v->kind == FM_VALUE_CONST && (r = check_const(p, v, bytes)) != FM_OK)
        return r;
    return take_name(p, &v->name);
}

// "heads=8"
static bool parse_attr(struct parser *p, struct fm_attr *a)
{
    char value[WORD_BYTES];
    for (enum fm_attr_id id = 0; id < FM_ATTR_COUNT; id++) {
        const char *begin = p->at;
        if (take(p, fm_attr_name(id)) && *p->at == '=')
            return p->at++, take_word(p, value) && fm_attr_set(a, id, value);
        p->at = begin;
    }
    return false;
}

// What follows the results' "=": op, operands, attributes, shapes, name. Results' shapes must be what the rule gives.
static enum fm_result parse_node(struct parser *p, uint32_t n_dst, const uint32_t *dst)
{
    struct fm_node node = {.n_dst = (uint8_t)n_dst};
    struct fm_value values[FM_MAX_DST], said[FM_MAX_DST];
    char word[WORD_BYTES];
    if (!take_word(p, word) || (node.op = fm_op_from_name(word)) == FM_OP_COUNT || fm_op_info(node.op)->n_dst != n_dst)
        return bad(p, "an op with as many results");
    while (skip_spaces(p), *p->at == '%') {
        if (node.n_src == FM_MAX_SRC || !take_id(p, &node.src[node.n_src++]) || !p->given[node.src[node.n_src - 1]])
            return bad(p, "a value defined before");
    }
    if (take(p, "{"))
        while (!take(p, "}"))
            if (!parse_attr(p, &node.attr))
                return bad(p, "an attribute");
    for (uint32_t i = 0; i < n_dst; i++) {
        node.dst[i] = dst[i];
        if (!take(p, i ? "," : ":") || !take_shape(p, &said[i]))
            return bad(p, "the results' shapes");
    }
    enum fm_result r = take_name(p, &node.name);
    if (r == FM_OK)
        r = fm_graph_infer(p->graph, &node, values);
    for (uint32_t i = 0; i < n_dst && r == FM_OK; i++) {
        if (said[i].type != values[i].type || said[i].n_dims != values[i].n_dims ||
            memcmp(said[i].dims, values[i].dims, sizeof(said[i].dims)) != 0)
            return bad(p, "the shapes that the op gives");
        values[i].producer = (uint32_t)p->graph->n_nodes;
        r = fm_graph_name_result(p->graph, &node, i, &values[i]);
        if (r == FM_OK)
            p->graph->values[dst[i]] = values[i];
        p->given[dst[i]] = true;
    }
    void *nodes = p->graph->nodes;
    if (r == FM_OK)
        r = fm_array_reserve(&nodes, &p->graph->cap_nodes, p->graph->n_nodes + 1, sizeof(node));
    p->graph->nodes = nodes;
    if (r == FM_OK)
        p->graph->nodes[p->graph->n_nodes++] = node;
    return r;
}

// "output %9", "logits %9", "ids %9"
static enum fm_result parse_mark(struct parser *p, uint32_t *to)
{
    uint32_t id;
    if (!take_id(p, &id) || !p->given[id])
        return bad(p, "a value");
    if (to)
        *to = id;
    else
        p->graph->values[id].kind = FM_VALUE_OUTPUT;
    return FM_OK;
}

static enum fm_result parse_line(struct parser *p)
{
    uint32_t dst[FM_MAX_DST], n = 0;
    struct fm_value v;
    bool source = false;
    enum fm_result r = FM_OK;
    if (take(p, "output "))
        return parse_mark(p, NULL);
    if (take(p, "logits "))
        return parse_mark(p, &p->graph->logits);
    if (take(p, "ids "))
        return parse_mark(p, &p->graph->ids);
    do {
        if (n == FM_MAX_DST || !take_id(p, &dst[n]) || p->given[dst[n]])
            return bad(p, "a new value");
        n++;
    } while (take(p, ","));
    if (!take(p, "= "))
        return bad(p, "'='");
    if (n == 1)
        r = parse_source(p, &v, &source);
    if (r != FM_OK || !source)
        return r != FM_OK ? r : parse_node(p, n, dst);
    p->graph->values[dst[0]] = v;
    p->given[dst[0]] = true;
    return FM_OK;
}

static enum fm_result parse_head(struct parser *p)
{
    uint32_t count;
    if (!take(p, "values ") || !take_u32(p, &count) || count > MAX_VALUES)
        return bad(p, "'values N'");
    void *values = p->graph->values;
    enum fm_result r = fm_array_reserve(&values, &p->graph->cap_values, FM_MAX(count, 1), sizeof(struct fm_value));
    p->graph->values = values;
    if (r != FM_OK)
        return r;
    p->graph->n_values = count;
    for (uint32_t i = 0; i < count; i++)
        p->graph->values[i] =
            (struct fm_value){.name = "", .kind = FM_VALUE_DEAD, .producer = FM_NONE, .alias = FM_NONE};
    p->given = fm_alloc_zero(FM_MAX(count, 1), sizeof(*p->given));
    return p->given ? FM_OK : fm_nomem();
}

enum fm_result fm_graph_parse(const char *text, struct fm_graph *out_graph)
{
    struct fm_graph graph = {.logits = FM_NONE, .ids = FM_NONE};
    struct parser p = {.graph = &graph, .at = text, .line = 1};
    enum fm_result r = parse_head(&p);
    while (r == FM_OK) {
        skip_spaces(&p);
        if (*p.at != '\0' && *p.at != '\n') {
            r = bad(&p, "the end of the line");
            break;
        }
        while (*p.at == '\n') {
            p.at++;
            p.line++;
        }
        if (*p.at == '\0')
            break;
        r = parse_line(&p);
    }
    if (r == FM_OK)
        r = fm_graph_validate(&graph);
    fm_free(p.given);
    if (r != FM_OK) {
        fm_graph_finish(&graph);
        return r;
    }
    *out_graph = graph;
    return FM_OK;
}
