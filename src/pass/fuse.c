// SPDX-License-Identifier: MIT
// Fusion: interprets fuse_rules.def.
#include "graph/shape.h"
#include "pass/pass_impl.h"
#include "pass/rule.h"

struct match {
    struct fm_graph *graph;
    const struct fm_rule *rule;
    const uint32_t *uses;
    const struct fm_tuning *tuning;
    const struct fm_dims *dims; // NULL: one row
    uint32_t value[FM_RULE_VARS];       // FM_NONE: not bound, or an operand that is absent
    uint32_t node[FM_RULE_STATEMENTS];  // of each pattern statement
    struct fm_node fused[FM_RULE_STATEMENTS]; // of each replacement statement
    uint32_t at[FM_RULE_STATEMENTS];    // where it goes
    uint32_t kept;                      // first statements of the pattern whose nodes stay for now (EACH: 1)
};

static const struct fm_tuning *tuning_of(const struct fm_pass_context *context)
{
    return context != NULL && context->tuning != NULL ? context->tuning : &fm_tuning_shipped;
}

static const struct fm_dims *dims_of(const struct fm_pass_context *context)
{
    return context != NULL ? context->dims : NULL;
}

// --- guards --------------------------------------------------------------------------------------------------------

typedef bool guard_fn(const struct match *m);

static uint32_t uses_outside(const struct match *m, uint32_t value)
{
    uint32_t n = m->uses[value];
    for (uint32_t i = 0; i < m->rule->pattern.n; i++) {
        const struct fm_node *node = &m->graph->nodes[m->node[i]];
        for (unsigned s = 0; s < node->n_src; s++)
            n -= node->src[s] == value;
    }
    return n;
}

static bool guard_any(const struct match *m)
{
    (void)m;
    return true;
}

// The first two nodes' weights are of one format.
static bool guard_same_format(const struct match *m)
{
    const struct fm_graph *g = m->graph;
    const struct fm_value *a = &g->values[g->nodes[m->node[0]].src[1]], *b = &g->values[g->nodes[m->node[1]].src[1]];
    return a->type == b->type && memcmp(a->dims, b->dims, sizeof(a->dims)) == 0;
}

// The first two nodes rotate their heads alike, the first as many times as attention wants it.
static bool guard_same_rotation(const struct match *m)
{
    const struct fm_attr *a = &m->graph->nodes[m->node[0]].attr, *b = &m->graph->nodes[m->node[1]].attr;
    return a->rope == b->rope && a->head == b->head && a->rotated == b->rotated && a->chunk == b->chunk && a->cap == b->cap &&
           a->original == b->original && FM_MAX(a->copies, 1u) == (a->chunk > 0 ? 3 : 1) && b->copies <= 1;
}

// The first node rotates every head once: no dual chunk attention.
static bool guard_one_rotation(const struct match *m)
{
    return m->graph->nodes[m->node[0]].attr.chunk == 0;
}

// The first node is a root-mean-square norm.
static bool guard_rms(const struct match *m)
{
    return m->graph->nodes[m->node[0]].attr.norm == FM_NORM_RMS;
}

// The first node is a root-mean-square norm, and the second a product with short rows of weights.
static bool guard_rms_short(const struct match *m)
{
    const struct fm_node *product = &m->graph->nodes[m->node[1]];
    const struct fm_value *x = &m->graph->values[product->src[0]], *w = &m->graph->values[product->src[1]];
    bool one = m->dims == NULL || fm_dim_resolve(x->dims[0], m->dims) == 1;
    uint64_t bytes = 0;
    return guard_rms(m) && fm_type_bytes(w->type, w->dims[1], &bytes) &&
           bytes <= (one ? m->tuning->norm_fold_row_bytes : m->tuning->norm_fold_few_row_bytes);
}

// The second node is silu gate, then a norm of whole rows, and the first node's result, which changes, is read by it alone.
static bool guard_gated_first(const struct match *m)
{
    const struct fm_attr *a = &m->graph->nodes[m->node[1]].attr;
    return a->gate == FM_GATE_FIRST && a->act == FM_ACT_SILU && a->groups == 1 &&
           uses_outside(m, m->graph->nodes[m->node[0]].dst[0]) == 0;
}

// The first node's result is read elsewhere too: it is written anyway.
static bool guard_sum_shared(const struct match *m)
{
    return uses_outside(m, m->graph->nodes[m->node[0]].dst[0]) > 0;
}

static const struct {
    const char *name, *pattern;
    guard_fn *guard;
    const char *replacement;
    bool each;
} rules[] = {
#define X(name, pattern, guard, replacement) {#name, pattern, guard_##guard, replacement, false},
#define EACH(name, pattern, guard, replacement) {#name, pattern, guard_##guard, replacement, true},
#include "pass/fuse_rules.def"
#undef X
#undef EACH
};

// --- matching ------------------------------------------------------------------------------------------------------

static bool bind(struct match *m, uint8_t var, uint32_t value)
{
    if (m->value[var] != FM_NONE && m->value[var] != value)
        return false;
    m->value[var] = value;
    return true;
}

// Bind the statement's variables to a node; `swap` exchanges the first two operands.
static bool bind_node(struct match *m, const struct fm_rule_statement *s, uint32_t at, bool swap)
{
    const struct fm_node *node = &m->graph->nodes[at];
    if (node->op != s->op || node->n_src > s->n_src || node->n_src + s->last_optional < s->n_src)
        return false;
    for (unsigned i = 0; i < node->n_src; i++)
        if (!bind(m, s->src[swap && i < 2 ? 1 - i : i], node->src[i]))
            return false;
    for (unsigned i = 0; i < s->n_dst; i++)
        if (!bind(m, s->dst[i], node->dst[i]))
            return false;
    return true;
}

// The node that produces one of the statement's bound results.
static uint32_t find_producer(const struct match *m, const struct fm_rule_statement *s)
{
    for (unsigned i = 0; i < s->n_dst; i++)
        if (m->value[s->dst[i]] != FM_NONE)
            return m->graph->values[m->value[s->dst[i]]].producer;
    return FM_NONE;
}

// Match statements i, i-1, ..., 0; statement i is node `at`.
static bool match_from(struct match *m, uint32_t i, uint32_t at)
{
    const struct fm_rule_statement *s = &m->rule->pattern.statement[i];
    if (at == FM_NONE)
        return false;
    for (uint32_t j = i + 1; j < m->rule->pattern.n; j++)
        if (m->node[j] == at)
            return false;
    for (int swap = 0; swap <= (s->op == FM_OP_ADD); swap++) {
        struct match saved = *m;
        m->node[i] = at;
        if (bind_node(m, s, at, swap) &&
            (i == 0 || match_from(m, i - 1, find_producer(m, &m->rule->pattern.statement[i - 1]))))
            return true;
        *m = saved;
    }
    return false;
}

static bool in_pattern(const struct match *m, uint32_t at)
{
    for (uint32_t i = 0; i < m->rule->pattern.n; i++)
        if (m->node[i] == at)
            return true;
    return false;
}

static bool replaced(const struct match *m, uint32_t value)
{
    for (uint32_t j = 0; j < m->rule->replacement.n; j++)
        for (unsigned d = 0; d < m->rule->replacement.statement[j].n_dst; d++)
            if (m->value[m->rule->replacement.statement[j].dst[d]] == value)
                return true;
    return false;
}

// Values that would vanish have no reader outside, and the replacement does not read them (add m m).
static bool nothing_lost(const struct match *m)
{
    for (uint32_t j = 0; j < m->rule->replacement.n; j++)
        for (unsigned s = 0; s < m->rule->replacement.statement[j].n_src; s++) {
            uint32_t value = m->value[m->rule->replacement.statement[j].src[s]];
            uint32_t producer = value == FM_NONE ? FM_NONE : m->graph->values[value].producer;
            if (producer != FM_NONE && in_pattern(m, producer) && !replaced(m, value))
                return false;
        }
    for (uint32_t i = 0; i < m->rule->pattern.n; i++) {
        const struct fm_node *node = &m->graph->nodes[m->node[i]];
        for (unsigned d = 0; d < node->n_dst; d++)
            if (!replaced(m, node->dst[d]) &&
                (uses_outside(m, node->dst[d]) > 0 || m->graph->values[node->dst[d]].kind == FM_VALUE_STATE))
                return false;
    }
    return true;
}

// --- replacing -----------------------------------------------------------------------------------------------------

// Fill fused[j]: op, operands, results, attributes, name. True when its op is one of the pattern's (nothing new to ask
// the selector).
static bool make_fused(struct match *m, uint32_t j)
{
    const struct fm_rule_statement *s = &m->rule->replacement.statement[j];
    const struct fm_node *nodes = m->graph->nodes;
    struct fm_node *f = &m->fused[j];
    bool known = false;
    *f = (struct fm_node){.op = s->op, .n_dst = s->n_dst, .name = nodes[m->node[m->kept]].name};
    for (unsigned i = 0; i < s->n_src; i++)
        if (m->value[s->src[i]] != FM_NONE)
            f->src[f->n_src++] = m->value[s->src[i]];
    for (unsigned i = 0; i < s->n_dst; i++)
        f->dst[i] = m->value[s->dst[i]];
    for (uint32_t i = 0; i < m->rule->pattern.n && !known; i++) {
        const struct fm_node *node = &nodes[m->node[i]];
        fm_attr_merge(&f->attr, &node->attr);
        if (node->op == f->op) {
            f->attr = node->attr;
            f->name = node->name;
            known = true;
        }
    }
    fm_attr_keep(&f->attr, fm_graph_attr_mask(f->op));
    return known;
}

// New nodes take the last places of the nodes that go, in order.
static void choose_places(struct match *m)
{
    uint32_t sorted[FM_RULE_STATEMENTS], n = m->rule->pattern.n - m->kept, n_new = m->rule->replacement.n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t j = i, at = m->node[m->kept + i];
        for (; j > 0 && sorted[j - 1] > at; j--)
            sorted[j] = sorted[j - 1];
        sorted[j] = at;
    }
    for (uint32_t j = 0; j < n_new; j++)
        m->at[j] = sorted[n - n_new + j];
}

static bool touches_state(const struct fm_graph *g, const struct fm_node *node, uint32_t root)
{
    for (unsigned s = 0; s < node->n_src; s++)
        if (g->values[node->src[s]].kind == FM_VALUE_STATE && fm_value_root(g, node->src[s]) == root)
            return true;
    return false;
}

// Node j may stand at at[j]: between the pattern's first node and there, nobody else reads its results or touches its
// states, and its operands are there by then.
static bool may_stand(const struct match *m, uint32_t j)
{
    const struct fm_graph *g = m->graph;
    const struct fm_node *f = &m->fused[j];
    uint32_t first = m->node[0];
    for (uint32_t i = 1; i < m->rule->pattern.n; i++)
        first = FM_MIN(first, m->node[i]);
    for (unsigned s = 0; s < f->n_src; s++) {
        uint32_t producer = g->values[f->src[s]].producer;
        if (producer != FM_NONE && !in_pattern(m, producer) && producer >= m->at[j])
            return false;
    }
    for (uint32_t i = first; i < m->at[j]; i++) {
        const struct fm_node *node = &g->nodes[i];
        if (in_pattern(m, i) || node->op == FM_OP_COUNT)
            continue;
        for (unsigned s = 0; s < node->n_src; s++)
            for (unsigned d = 0; d < f->n_dst; d++)
                if (node->src[s] == f->dst[d])
                    return false;
        for (unsigned s = 0; s < f->n_src; s++)
            if (g->values[f->src[s]].kind == FM_VALUE_STATE && touches_state(g, node, fm_value_root(g, f->src[s])))
                return false;
    }
    return true;
}

// Does the rule's result have the shapes that the graph has? A rule that changes them is wrong.
static enum fm_result check_shapes(const struct match *m, uint32_t j)
{
    struct fm_value dst[FM_MAX_DST];
    enum fm_result r = fm_graph_infer(m->graph, &m->fused[j], dst);
    if (r != FM_OK)
        return fm_fail_prefix(r, "fusion rule %s", m->rule->name);
    for (unsigned d = 0; d < m->fused[j].n_dst; d++) {
        const struct fm_value *old = &m->graph->values[m->fused[j].dst[d]];
        if (old->type != dst[d].type || old->n_dims != dst[d].n_dims ||
            memcmp(old->dims, dst[d].dims, sizeof(old->dims)) != 0)
            return fm_fail(FM_ARG, "fusion rule %s: result %u of '%s' changes its shape", m->rule->name, d,
                           m->fused[j].name);
    }
    return FM_OK;
}

// The fused nodes can stand there and some kernel runs them. *out_ok = false: leave the match alone.
static enum fm_result prepare(struct match *m, const struct fm_pass_context *context, bool *out_ok)
{
    *out_ok = false;
    choose_places(m);
    for (uint32_t j = 0; j < m->rule->replacement.n; j++) {
        bool known = make_fused(m, j);
        enum fm_result r = check_shapes(m, j);
        if (r != FM_OK)
            return r;
        if (!may_stand(m, j) ||
            (!known && context && context->can_run && !context->can_run(context->user, m->graph, &m->fused[j])))
            return FM_OK;
    }
    *out_ok = true;
    return FM_OK;
}

static enum fm_result apply(struct match *m, uint32_t *uses)
{
    struct fm_graph *g = m->graph;
    for (uint32_t i = m->kept; i < m->rule->pattern.n; i++) {
        struct fm_node *node = &g->nodes[m->node[i]];
        for (unsigned s = 0; s < node->n_src; s++)
            uses[node->src[s]]--;
        for (unsigned d = 0; d < node->n_dst; d++)
            if (!replaced(m, node->dst[d])) {
                g->values[node->dst[d]].kind = FM_VALUE_DEAD;
                g->values[node->dst[d]].producer = FM_NONE;
            }
        node->op = FM_OP_COUNT;
        node->n_dst = 0;
    }
    for (uint32_t j = 0; j < m->rule->replacement.n; j++) {
        const struct fm_node *f = &m->fused[j];
        g->nodes[m->at[j]] = *f;
        for (unsigned s = 0; s < f->n_src; s++)
            uses[f->src[s]]++;
        for (unsigned d = 0; d < f->n_dst; d++) {
            g->values[f->dst[d]].producer = m->at[j];
            enum fm_result r = fm_graph_name_result(g, f, d, &g->values[f->dst[d]]);
            if (r != FM_OK)
                return r;
        }
    }
    return FM_OK;
}

// The rule's last statement is node `at`.
static bool match_at(struct match *m, uint32_t at)
{
    const struct fm_rule_side *pattern = &m->rule->pattern;
    for (uint32_t v = 0; v < FM_RULE_VARS; v++)
        m->value[v] = FM_NONE;
    return m->graph->nodes[at].op == pattern->statement[pattern->n - 1].op && match_from(m, pattern->n - 1, at);
}

static enum fm_result run_rule(struct fm_graph *graph, const struct fm_rule *rule, guard_fn *guard,
                               const struct fm_pass_context *context, uint32_t *uses)
{
    for (uint32_t i = 0; i < graph->n_nodes; i++) {
        struct match m = {.graph = graph, .rule = rule, .uses = uses, .tuning = tuning_of(context), .dims = dims_of(context)};
        bool ok;
        if (!match_at(&m, i) || !guard(&m) || !nothing_lost(&m))
            continue;
        enum fm_result r = prepare(&m, context, &ok);
        if (r == FM_OK && ok)
            r = apply(&m, uses);
        if (r != FM_OK)
            return r;
    }
    return FM_OK;
}

// --- one node into each of its readers -----------------------------------------------------------------------------

struct each {
    struct fm_graph *graph;
    const struct fm_pass_context *context;
    uint32_t *uses;
    struct fm_rule rule[FM_COUNT(rules)]; // the EACH rules, and their guards
    guard_fn *guard[FM_COUNT(rules)];
    uint32_t n;
};

// Match node `reader` and its producer `first` with one of the rules, so that it could be replaced. *out_ok = false: none.
static enum fm_result match_reader(const struct each *e, uint32_t first, uint32_t reader, struct match *out_match, bool *out_ok)
{
    *out_ok = false;
    for (uint32_t i = 0; i < e->n && !*out_ok; i++) {
        *out_match = (struct match){.graph = e->graph, .rule = &e->rule[i], .uses = e->uses, .tuning = tuning_of(e->context),
                                    .dims = dims_of(e->context), .kept = 1};
        if (!match_at(out_match, reader) || out_match->node[0] != first || !e->guard[i](out_match))
            continue;
        enum fm_result r = prepare(out_match, e->context, out_ok);
        if (r != FM_OK)
            return r;
    }
    return FM_OK;
}

static bool reads(const struct fm_node *node, uint32_t value)
{
    for (unsigned s = 0; s < node->n_src; s++)
        if (node->src[s] == value)
            return true;
    return false;
}

// All readers of the node's result can be replaced: as many as it has uses (one that reads it twice counts once).
static enum fm_result all_readers_match(const struct each *e, uint32_t first, bool *out_ok)
{
    const struct fm_graph *g = e->graph;
    uint32_t value = g->nodes[first].dst[0], n = 0;
    struct match m;
    *out_ok = e->uses[value] > 0;
    for (uint32_t i = first + 1; i < g->n_nodes && *out_ok; i++) {
        if (g->nodes[i].op == FM_OP_COUNT || !reads(&g->nodes[i], value))
            continue;
        enum fm_result r = match_reader(e, first, i, &m, out_ok);
        if (r != FM_OK)
            return r;
        n++;
    }
    *out_ok = *out_ok && n == e->uses[value];
    return FM_OK;
}

static enum fm_result replace_readers(const struct each *e, uint32_t first)
{
    struct fm_graph *g = e->graph;
    uint32_t value = g->nodes[first].dst[0];
    for (uint32_t i = first + 1; i < g->n_nodes; i++) {
        struct match m;
        bool ok;
        if (g->nodes[i].op == FM_OP_COUNT || !reads(&g->nodes[i], value))
            continue;
        enum fm_result r = match_reader(e, first, i, &m, &ok);
        if (r == FM_OK && ok)
            r = apply(&m, e->uses);
        if (r != FM_OK)
            return r;
    }
    for (unsigned s = 0; s < g->nodes[first].n_src; s++)
        e->uses[g->nodes[first].src[s]]--;
    fm_pass_kill(g, first);
    return FM_OK;
}

static enum fm_result run_each(const struct each *e)
{
    for (uint32_t i = 0; i < e->graph->n_nodes; i++) {
        bool ok = false;
        for (uint32_t j = 0; j < e->n && !ok; j++)
            ok = e->graph->nodes[i].op == e->rule[j].pattern.statement[0].op;
        enum fm_result r = ok ? all_readers_match(e, i, &ok) : FM_OK;
        if (r == FM_OK && ok)
            r = replace_readers(e, i);
        if (r != FM_OK)
            return r;
    }
    return FM_OK;
}

enum fm_result fm_pass_fuse(struct fm_graph *graph, const struct fm_pass_context *context)
{
    struct each each = {.graph = graph, .context = context, .uses = fm_pass_uses(graph)};
    enum fm_result r = each.uses ? FM_OK : fm_nomem();
    for (size_t i = 0; i < FM_COUNT(rules) && r == FM_OK; i++) {
        struct fm_rule *rule = &each.rule[each.n];
        if ((r = fm_rule_parse(rules[i].name, rules[i].pattern, rules[i].replacement, rule)) != FM_OK)
            break;
        if (rules[i].each)
            each.guard[each.n++] = rules[i].guard;
        else
            r = run_rule(graph, rule, rules[i].guard, context, each.uses);
    }
    if (r == FM_OK)
        r = run_each(&each);
    fm_free(each.uses);
    fm_pass_compact(graph);
    return r;
}
