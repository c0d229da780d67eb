// SPDX-License-Identifier: MIT
// The planner with a made-up kernel table: memory, barriers, casts, splits, refusals, and the listing.
#include "check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/os.h"
#include "base/writer.h"
#include "models/arch.h"
#include "plan/build.h"
#include "shaders/lib/abi.h"
#include "tests/select/fake_kernels.h"

struct made {
    struct fm_graph graph;
    struct fm_layout layout;
    struct fm_plan plan;
};

static void unmake(struct made *m)
{
    fm_plan_finish(&m->plan);
    fm_layout_finish(&m->layout);
    fm_graph_finish(&m->graph);
}

static enum fm_result tiny_llama(uint32_t layers, enum fm_type type, const enum fm_type kv[2], struct fm_graph *out)
{
    struct fm_config config = {.n_layers = layers, .width = 64, .heads = 4, .heads_kv = 2, .head = 16, .ffn = 96, .vocab = 320,
                               .vocab_real = 300, .context = 4096, .norm_eps = 1e-5f, .rope_base = 10000, .rotated = 16};
    struct fm_graph_options options = {.kv_type = {kv[0], kv[1]}, .random_type = type};
    return fm_arch_build(fm_arch_find("llama", 5), &config, NULL, &options, out);
}

static const enum fm_type f16_cache[2] = {FM_TYPE_F16, FM_TYPE_F16};

static struct made make_llama(const struct fm_caps *caps, uint32_t layers, struct fm_dims dims, const struct fm_plan_options *options)
{
    struct made m = {0};
    if (tiny_llama(layers, FM_TYPE_Q4_0, f16_cache, &m.graph) != FM_OK ||
        fm_layout_create(&m.graph, caps, &dims, options ? options->guard_bytes : 0, &m.layout) != FM_OK ||
        fm_plan_create(&m.graph, &m.layout, caps, &dims, options, &m.plan) != FM_OK)
        fail_msg("%s: %s", caps->name, fm_error_message());
    const char *fault = check_plan(&m.graph, &m.plan, &m.layout);
    if (fault)
        fail_msg("%s, %u layers, %u tokens: %s", caps->name, layers, dims.t, fault);
    return m;
}

static struct fm_dims dims_of(uint32_t tokens)
{
    return (struct fm_dims){.t = tokens, .o = FM_MIN(tokens, 3u), .s = 2, .l = 1000};
}

static const char *const devices[] = {"software-4", "software-8", "mobile-16k", "amd-64", "amd-rdna3", "intel-8-32", "nvidia-cmr"};

static void test_llama_everywhere(void **state)
{
    (void)state;
    static const uint32_t buckets[] = {1, 2, 3, 8, 32, 33, 128, 512};
    for (unsigned d = 0; d < FM_COUNT(devices); d++)
        for (unsigned i = 0; i < FM_COUNT(buckets); i++) {
            struct fm_caps caps = fake_caps(devices[d]);
            struct made m = make_llama(&caps, 2, dims_of(buckets[i]), NULL);
            unmake(&m);
        }
}

// The arena of 128 layers is that of 2: memory is reused from layer to layer.
static void test_many_layers(void **state)
{
    (void)state;
    struct fm_caps caps = fake_caps("nvidia-cmr");
    struct made two = make_llama(&caps, 2, dims_of(32), NULL), many = make_llama(&caps, 128, dims_of(32), NULL);
    assert_int_equal(many.plan.arena_bytes, two.plan.arena_bytes);
    assert_true(many.plan.n_dispatches > 126 * (two.plan.n_dispatches / 3));
    unmake(&two);
    unmake(&many);
}

// Sharing of memory never costs a barrier.
static void test_sharing_is_free(void **state)
{
    (void)state;
    for (unsigned d = 0; d < FM_COUNT(devices); d++) {
        struct fm_caps caps = fake_caps(devices[d]);
        struct fm_plan_options options = {.keep_values = true};
        struct made shared = make_llama(&caps, 3, dims_of(40), NULL), apart = make_llama(&caps, 3, dims_of(40), &options);
        assert_int_equal(shared.plan.n_groups, apart.plan.n_groups);
        assert_int_equal(shared.plan.n_dispatches, apart.plan.n_dispatches);
        assert_true(shared.plan.arena_bytes < apart.plan.arena_bytes);
        unmake(&shared);
        unmake(&apart);
    }
}

static void test_keep_and_guard(void **state)
{
    (void)state;
    struct fm_caps caps = fake_caps("amd-rdna3");
    struct fm_plan_options options = {.keep_values = true, .guard_bytes = 100};
    struct made m = make_llama(&caps, 2, dims_of(17), &options);
    for (size_t i = 0; i < m.plan.n_values; i++) {
        const struct fm_place *a = &m.plan.place[i];
        if (a->pool != FM_POOL_ARENA)
            continue;
        assert_true(a->offset >= 100 && a->offset + a->bytes + 100 <= m.plan.arena_bytes);
        for (size_t j = 0; j < i; j++) {
            const struct fm_place *b = &m.plan.place[j];
            if (b->pool == FM_POOL_ARENA)
                assert_true(a->offset + a->bytes + 200 <= b->offset || b->offset + b->bytes + 200 <= a->offset);
        }
    }
    assert_true(m.plan.ids.offset >= 100 && m.plan.result_bytes >= m.plan.ids.offset + m.plan.ids.bytes + 100);
    unmake(&m);
}

static const struct fm_dispatch *find(const struct fm_plan *plan, const char *name)
{
    for (size_t i = 0; i < plan->n_dispatches; i++)
        if (strcmp(plan->dispatches[i].name, name) == 0)
            return &plan->dispatches[i];
    fail_msg("no dispatch '%s'", name);
    return NULL;
}

static size_t count_names(const struct fm_plan *plan, const char *prefix, const char *suffix)
{
    size_t count = 0, n = strlen(suffix);
    for (size_t i = 0; i < plan->n_dispatches; i++) {
        const char *name = plan->dispatches[i].name;
        count += strncmp(name, prefix, strlen(prefix)) == 0 && strlen(name) >= n && strcmp(name + strlen(name) - n, suffix) == 0;
    }
    return count;
}

// One f16 copy per value, shared by q, k and v, with rows for the largest tile.
static void test_casts(void **state)
{
    (void)state;
    FM_DISPATCH_LAYOUT(FM_PUSH_CAST);
    struct fm_caps caps = fake_caps("nvidia-cmr");
    struct made m = make_llama(&caps, 2, dims_of(70), NULL);
    assert_int_equal(count_names(&m.plan, "blk.0.", "/cast"), 5); // attn_norm, rotated q, attention, ffn_norm, glu
    const struct fm_dispatch *cast = find(&m.plan, "blk.0.attn_q/cast"), *k = find(&m.plan, "blk.0.attn_k");
    assert_int_equal(n_bind + n_words, cast->n_bind + cast->n_words);
    assert_int_equal(cast->word[word_width], 64);
    assert_int_equal(cast->word[word_stride_y], 64);
    assert_int_equal(cast->word[word_pad_rows], 128);
    assert_int_equal(cast->bind[bind_y].bytes, 128 * 64 * 2);
    assert_int_equal(k->bind[1].offset, cast->bind[bind_y].offset);
    const struct fm_dispatch *down = find(&m.plan, "blk.0.ffn_down/cast");
    assert_int_equal(down->word[word_stride_y], 128); // 96 rounded up to the kernel's 64
    unmake(&m);
    struct fm_caps no_f16 = fm_caps_mask(&caps, FM_RUNG_SG);
    m = make_llama(&no_f16, 1, dims_of(70), NULL);
    assert_int_equal(count_names(&m.plan, "", "/cast"), 0);
    unmake(&m);
}

static bool is_half(const struct fm_dispatch *d)
{
    for (uint32_t i = 0; i < d->n_spec; i++)
        if (d->spec[i].id == FM_SPEC_HALVES)
            return d->spec[i].value == 1;
    return false;
}

// What all readers want as f16 is written as f16, in half the bytes; where their rows are longer than the value's, a copy is made.
static void test_narrow(void **state)
{
    (void)state;
    FM_DISPATCH_LAYOUT(FM_PUSH_MATMUL_GLU);
    assert_true((int)n_bind > 0 && (int)n_words > 0);
    struct fm_caps caps = fake_caps("amd-rdna3"), deep = fake_caps("nvidia-cmr");
    struct made m = make_llama(&caps, 2, dims_of(70), NULL);
    const struct fm_dispatch *glu = find(&m.plan, "blk.0.ffn_gate"), *down = find(&m.plan, "blk.0.ffn_down");
    assert_int_equal(count_names(&m.plan, "blk.0.ffn_down", "/cast"), 0);
    assert_true(is_half(glu) && !is_half(down));
    assert_int_equal(glu->bind[bind_y].bytes, 70 * 96 * 2);
    assert_int_equal(down->bind[bind_x].offset, glu->bind[bind_y].offset);
    assert_int_equal(down->word[word_stride_x], 96);
    unmake(&m);
    m = make_llama(&deep, 2, dims_of(70), NULL); // rows of 128
    assert_int_equal(count_names(&m.plan, "blk.0.ffn_down", "/cast"), 1);
    assert_false(is_half(find(&m.plan, "blk.0.ffn_gate")));
    unmake(&m);
    m = make_llama(&caps, 2, dims_of(8), NULL); // mat-vec kernels read f32
    assert_false(is_half(find(&m.plan, "blk.0.ffn_gate")));
    unmake(&m);
}

// One reader of a product wants it as f16, another as f32: it stays f32, and one copy is made of it.
static void test_mixed_readers(void **state)
{
    (void)state;
    struct fm_caps caps = fake_caps("amd-rdna3");
    struct fm_dims dims = dims_of(70);
    struct made m = {0};
    struct fm_builder b = {.graph = &m.graph};
    const uint32_t square[] = {64, 64};
    uint32_t x = fm_build_embed(&b, "x", fm_build_weight(&b, "table", FM_TYPE_F16, FM_NONE, 2, (uint32_t[]){50, 64}),
                                fm_build_input(&b, FM_INPUT_TOKEN), 1);
    uint32_t a = fm_build_matmul(&b, "a", x, fm_build_weight(&b, "wa", FM_TYPE_Q4_0, FM_NONE, 2, square), FM_NONE);
    uint32_t c = fm_build_matmul(&b, "c", a, fm_build_weight(&b, "wc", FM_TYPE_Q4_0, FM_NONE, 2, square), FM_NONE);
    uint32_t d = fm_build_matmul(&b, "d", a, fm_build_weight(&b, "wd", FM_TYPE_Q4_0, FM_NONE, 2, square), FM_NONE);
    m.graph.logits = fm_build_add(&b, "sum", fm_build_add(&b, "more", c, d), a);
    m.graph.values[m.graph.logits].kind = FM_VALUE_OUTPUT;
    m.graph.ids = FM_NONE;
    const struct fm_plan_options options = {.no_fuse = true};
    assert_int_equal(b.error, FM_OK);
    assert_int_equal(fm_layout_create(&m.graph, &caps, &dims, 0, &m.layout), FM_OK);
    assert_int_equal(fm_plan_create(&m.graph, &m.layout, &caps, &dims, &options, &m.plan), FM_OK);
    assert_null(check_plan(&m.graph, &m.plan, &m.layout));
    assert_int_equal(m.graph.values[a].type, FM_TYPE_F32);
    assert_false(is_half(find(&m.plan, "a")));
    assert_int_equal(count_names(&m.plan, "", "/cast"), 2); // of x and of a
    unmake(&m);
}

static void test_split(void **state)
{
    (void)state;
    FM_DISPATCH_LAYOUT(FM_PUSH_ATTEND);
    assert_true((int)n_bind > 0 && (int)n_words > 0);
    struct fm_caps caps = fake_caps("amd-64");
    static const struct {
        uint32_t cores, tokens, ctx, split;
    } rows[] = {{0, 1, 4096, 4},  // 16 workgroups wanted, 4 heads
                {0, 1, 150, 3},   // no part shorter than 64
                {0, 1, 64, 1},   {0, 8, 4096, 1}, {100, 1, 4096, 16}, {2, 1, 4096, 2}};
    for (unsigned i = 0; i < FM_COUNT(rows); i++) {
        struct fm_dims dims = {.t = rows[i].tokens, .o = 1, .s = 1, .l = rows[i].ctx};
        caps.cores = rows[i].cores;
        struct made m = make_llama(&caps, 1, dims, NULL);
        const struct fm_dispatch *d = find(&m.plan, "blk.0.attend");
        assert_int_equal(d->word[word_split], rows[i].split);
        assert_int_equal(d->grid[2], rows[i].split);
        assert_int_equal(d->bind[bind_y].pool, FM_POOL_ARENA);
        if (rows[i].split > 1) {
            assert_int_equal(d->bind[bind_partial].bytes, rows[i].tokens * 4 * rows[i].split * (16 + 4) * 4);
            assert_int_equal(d->bind[bind_counter].pool, FM_POOL_COUNTER);
            assert_int_equal(d->bind[bind_counter].bytes, 4 * d->grid[0] * d->grid[1]);
            assert_true(d->bind[bind_counter].written);
        } else {
            assert_int_equal(d->bind[bind_partial].pool, FM_POOL_NONE);
            assert_int_equal(d->bind[bind_counter].pool, FM_POOL_NONE);
        }
        unmake(&m);
    }
}

// A tile of all query heads of a KV head: the grid counts KV heads.
static void test_heads_tile(void **state)
{
    (void)state;
    struct fm_caps caps = fake_caps("amd-rdna3");
    struct made m = make_llama(&caps, 1, dims_of(40), NULL);
    const struct fm_dispatch *d = find(&m.plan, "blk.0.attend");
    assert_string_equal(d->kernel->name, "attend_heads_f16_cm");
    assert_int_equal(d->grid[0], 2); // 4 heads, 2 of each KV head
    assert_int_equal(d->grid[1], 3); // 40 rows in tiles of 16
    assert_int_equal(d->spec[1].id, 3);
    assert_int_equal(d->spec[1].value, 16);
    unmake(&m);
}

// k is cut over the grid where tiles leave cores idle; each product has sums and counters of its own, so that no barrier is needed.
static void test_split_products(void **state)
{
    (void)state;
    FM_DISPATCH_LAYOUT(FM_PUSH_MATMUL);
    assert_true((int)n_bind > 0 && (int)n_words > 0);
    struct fm_tuning tuning = fm_tuning_shipped;
    tuning.matmul_part_k = 32;
    tuning.matmul_start_k = 1;
    tuning.matmul_merge_elems = 1048576;
    struct fm_caps caps = fake_caps("nvidia-cmr");
    caps.tuning = &tuning;
    struct made m = make_llama(&caps, 1, dims_of(200), NULL);
    const struct fm_dispatch *q = find(&m.plan, "blk.0.attn_q"), *k = find(&m.plan, "blk.0.attn_k");
    assert_int_equal(q->grid[1], 2); // 200 rows in tiles of 128
    assert_int_equal(q->grid[2], 2); // 64 in parts of 32
    assert_int_equal(q->bind[bind_partial].bytes, 2 * 2 * 128 * 128 * 4);
    assert_true(q->bind[bind_partial].written);
    assert_int_equal(q->bind[bind_arrived].pool, FM_POOL_COUNTER);
    assert_int_equal(q->bind[bind_arrived].bytes, 2 * 4);
    assert_false(k->barrier_before);
    assert_int_equal(k->bind[bind_arrived].offset, q->bind[bind_arrived].offset + 64);
    unmake(&m);
    tuning.matmul_part_k = 65; // more than half of every k
    m = make_llama(&caps, 1, dims_of(200), NULL);
    q = find(&m.plan, "blk.0.attn_q");
    assert_int_equal(q->grid[2], 1);
    assert_int_equal(q->bind[bind_partial].pool, FM_POOL_NONE);
    assert_int_equal(q->bind[bind_arrived].pool, FM_POOL_NONE);
    unmake(&m);
}

static void test_rows_word(void **state)
{
    (void)state;
    FM_DISPATCH_LAYOUT(FM_PUSH_MATMUL);
    assert_true((int)n_bind > 0 && (int)bind_y > 0);
    struct fm_caps caps = fake_caps("software-4");
    struct made m = make_llama(&caps, 1, dims_of(8), NULL);
    const struct fm_dispatch *q = find(&m.plan, "blk.0.attn_q"), *logits = find(&m.plan, "logits");
    assert_int_equal(q->word[word_rows_word], FM_STEP_TOKENS);
    assert_int_equal(logits->word[word_rows_word], FM_STEP_OUTPUTS);
    assert_int_equal(logits->word[word_n], 320);
    assert_int_equal(logits->word[word_k], 64);
    assert_int_equal(logits->word[word_stride_x], 64);
    assert_int_equal(logits->grid[0], 20);
    assert_int_equal(logits->grid[1], 1);
    assert_int_equal(m.plan.logits.bytes, 3 * 320 * 4);
    assert_int_equal(m.plan.ids.bytes, 3 * 4);
    assert_int_equal(m.plan.step.input_offset[FM_INPUT_TOKEN], 32);
    assert_int_equal(m.plan.step.input_offset[FM_INPUT_POS], 64);
    // header; token, pos, slot of 8; out_row and sampler of 3; segments of 2; length of 8
    assert_int_equal(m.plan.step.bytes, 32 + 3 * 32 + 16 + 96 + 2 * 16 + 32);
    unmake(&m);
}

// ---- random graphs -----------------------------------------------------------------------------------------------

static uint32_t random_below(uint32_t *seed, uint32_t n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % n;
}

static uint32_t random_node(struct fm_builder *b, uint32_t *seed, const uint32_t *values, uint32_t count, uint32_t index)
{
    static const enum fm_type types[] = {FM_TYPE_F32, FM_TYPE_F16, FM_TYPE_Q4_0};
    char name[32], weight[32];
    snprintf(name, sizeof(name), "n%u", index);
    snprintf(weight, sizeof(weight), "w%u", index);
    uint32_t x = values[random_below(seed, count)], y = values[random_below(seed, count)];
    uint32_t width = b->graph->values[x].dims[1], rows = b->graph->values[x].dims[0];
    bool same = b->graph->values[y].dims[1] == width && b->graph->values[y].dims[0] == rows;
    struct fm_attr attr = {.act = FM_ACT_SILU};
    switch (random_below(seed, 5)) {
    case 0:
        return fm_build_add(b, name, x, same ? y : x);
    case 1:
        return fm_build_node(b, FM_OP_GLU, name, &attr, 2, (uint32_t[]){x, same ? y : x});
    case 2:
        return fm_build_norm(b, name, FM_NORM_RMS, x, fm_build_weight(b, weight, FM_TYPE_F32, FM_NONE, 1, &width), FM_NONE, 1e-5f);
    default: {
        uint32_t n = 32 * (1 + random_below(seed, 4));
        uint32_t w = fm_build_weight(b, weight, types[random_below(seed, 3)], FM_NONE, 2, (uint32_t[]){n, width});
        return fm_build_matmul(b, name, x, w, FM_NONE);
    }
    }
}

static void random_graph(uint32_t seed, struct fm_graph *graph)
{
    struct fm_builder b = {.graph = graph};
    uint32_t values[64], count = 0;
    uint32_t ids = fm_build_input(&b, FM_INPUT_TOKEN);
    values[count++] = fm_build_embed(&b, "start", fm_build_weight(&b, "table", FM_TYPE_F16, FM_NONE, 2, (uint32_t[]){50, 64}), ids, 1);
    values[count] = fm_build_node(&b, FM_OP_GATHER, "rows", NULL, 2, (uint32_t[]){values[0], fm_build_input(&b, FM_INPUT_OUT_ROW)});
    count++;
    uint32_t nodes = 3 + random_below(&seed, 50);
    for (uint32_t i = 0; i < nodes && b.error == FM_OK; i++, count++)
        values[count] = random_node(&b, &seed, values, count, i);
    if (b.error != FM_OK)
        fail_msg("%s", fm_error_message());
    graph->values[values[count - 1]].kind = FM_VALUE_OUTPUT;
    graph->logits = values[count - 1];
    graph->values[values[count - 2]].kind = FM_VALUE_OUTPUT;
}

static void test_random_graphs(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 600; seed++) {
        struct fm_caps caps = fake_caps(devices[seed % FM_COUNT(devices)]);
        struct fm_dims dims = dims_of(1 + seed % 90);
        struct fm_plan_options options = {.no_fuse = seed % 2, .keep_values = seed % 5 == 0, .guard_bytes = seed % 3 * 64};
        struct made m = {0};
        random_graph(seed, &m.graph);
        if (fm_layout_create(&m.graph, &caps, &dims, options.guard_bytes, &m.layout) != FM_OK ||
            fm_plan_create(&m.graph, &m.layout, &caps, &dims, &options, &m.plan) != FM_OK)
            fail_msg("seed %u: %s", seed, fm_error_message());
        const char *fault = check_plan(&m.graph, &m.plan, &m.layout);
        if (fault)
            fail_msg("seed %u: %s", seed, fault);
        unmake(&m);
    }
}

// The judge itself: it must see what is wrong with a plan that was spoilt.
static void test_judge(void **state)
{
    (void)state;
    struct fm_caps caps = fake_caps("amd-rdna3");
    for (unsigned spoil = 0; spoil < 4; spoil++) {
        struct made m = make_llama(&caps, 2, dims_of(33), NULL);
        struct fm_dispatch *list = m.plan.dispatches;
        size_t norm = (size_t)(find(&m.plan, "blk.1.ffn_norm") - list);
        if (spoil == 0)
            list[norm].barrier_before = false, m.plan.n_groups--;
        else if (spoil == 1)
            list[norm].bind[1].offset += 256; // reads beside its operand
        else if (spoil == 2)
            list[norm].bind[list[norm].n_bind - 1].offset = list[norm - 1].bind[5].offset; // overwrites the residual
        else
            list[norm].grid[0] = 0;
        assert_non_null(check_plan(&m.graph, &m.plan, &m.layout));
        unmake(&m);
    }
}

// ---- barriers by hand --------------------------------------------------------------------------------------------

static void test_barriers(void **state)
{
    (void)state;
#define ACCESS(p, o, n, w) {.pool = FM_POOL_##p, .written = w, .offset = o, .bytes = n}
    struct fm_dispatch d[] = {
        {.n_bind = 2, .bind = {ACCESS(ARENA, 0, 100, false), ACCESS(ARENA, 100, 100, true)}},
        {.n_bind = 2, .bind = {ACCESS(ARENA, 0, 100, false), ACCESS(ARENA, 200, 50, true)}},  // both read, writes lie side by side
        {.n_bind = 1, .bind = {ACCESS(ARENA, 99, 1, true)}},                                  // write after read
        {.n_bind = 1, .bind = {ACCESS(STATE, 99, 1, true)}},                                  // another pool
        {.n_bind = 1, .bind = {ACCESS(ARENA, 98, 2, false)}},                                 // read after write
        {.n_bind = 1, .bind = {ACCESS(STATE, 99, 1, true)}},                                  // the barrier before covers it
        {.n_bind = 1, .bind = {ACCESS(STATE, 0, 100, true)}},                                 // write after write
        {.n_bind = 2, .bind = {ACCESS(WEIGHTS, 0, 9, false), ACCESS(STEP, 0, 9, false)}},
    };
    static const bool expected[FM_COUNT(d)] = {false, false, true, false, true, false, true, false};
    uint32_t groups = 0;
    assert_int_equal(fm_plan_mark_barriers(d, FM_COUNT(d), &groups), FM_OK);
    assert_int_equal(groups, 4);
    for (unsigned i = 0; i < FM_COUNT(d); i++)
        assert_int_equal(d[i].barrier_before, expected[i]);
    assert_int_equal(fm_plan_mark_barriers(d, 0, &groups), FM_OK);
    assert_int_equal(groups, 0);
}

// ---- refusals ----------------------------------------------------------------------------------------------------

static void expect_failure(enum fm_result result, enum fm_result expected, const char *words)
{
    if (result != expected || !strstr(fm_error_message(), words))
        fail_msg("result %d, message '%s'; expected %d and '%s'", (int)result, fm_error_message(), (int)expected, words);
}

static enum fm_result try_llama(enum fm_type type, const enum fm_type kv[2], const struct fm_plan_options *options)
{
    struct fm_caps caps = fake_caps("software-8");
    struct fm_dims dims = dims_of(4);
    struct made m = {0};
    assert_int_equal(tiny_llama(1, type, kv, &m.graph), FM_OK);
    assert_int_equal(fm_layout_create(&m.graph, &caps, &dims, 0, &m.layout), FM_OK);
    enum fm_result result = fm_plan_create(&m.graph, &m.layout, &caps, &dims, options, &m.plan);
    unmake(&m);
    return result;
}

static void test_refusals(void **state)
{
    (void)state;
    const enum fm_type mixed[2] = {FM_TYPE_F16, FM_TYPE_F32};
    struct fm_plan_options options = {0};
    expect_failure(try_llama(FM_TYPE_Q8_0, f16_cache, NULL), FM_UNSUPPORTED, "no kernel runs embed (weights q8_0");
    expect_failure(try_llama(FM_TYPE_Q4_0, mixed, NULL), FM_UNSUPPORTED, "kept as f16 and values as f32");
    for (size_t i = 0; i < fm_kernel_count; i++)
        if (strcmp(fm_kernels[i].name, "matmul_vec_q4_0_dot") == 0)
            options.force = &fm_kernels[i];
    assert_int_equal(try_llama(FM_TYPE_Q4_0, f16_cache, &options), FM_OK);
    expect_failure(try_llama(FM_TYPE_F16, f16_cache, &options), FM_UNSUPPORTED, "matmul_vec_q4_0_dot cannot run it: reads q4_0, not f16");
}

static void test_wrong_layout(void **state)
{
    (void)state;
    struct fm_caps caps = fake_caps("software-8");
    struct fm_dims dims = dims_of(4), other = dims;
    struct made m = {0};
    other.l = 2000;
    assert_int_equal(tiny_llama(1, FM_TYPE_F16, f16_cache, &m.graph), FM_OK);
    assert_int_equal(fm_layout_create(&m.graph, &caps, &other, 0, &m.layout), FM_OK);
    expect_failure(fm_plan_create(&m.graph, &m.layout, &caps, &dims, NULL, &m.plan), FM_ARG, "other dimensions");
    dims.o = 0;
    expect_failure(fm_plan_create(&m.graph, &m.layout, &caps, &dims, NULL, &m.plan), FM_ARG, "a plan needs tokens");
    unmake(&m);
}

static void test_grid_too_large(void **state)
{
    (void)state;
    struct fm_caps caps = fake_caps("software-8");
    struct made m = {0};
    struct fm_builder b = {.graph = &m.graph};
    uint32_t table = fm_build_weight(&b, "table", FM_TYPE_F16, FM_NONE, 2, (uint32_t[]){50, 32});
    uint32_t x = fm_build_embed(&b, "start", table, fm_build_input(&b, FM_INPUT_TOKEN), 1);
    uint32_t w = fm_build_weight(&b, "wide", FM_TYPE_F16, FM_NONE, 2, (uint32_t[]){65535 * 16 + 1, 32});
    m.graph.logits = fm_build_matmul(&b, "huge", x, w, FM_NONE);
    assert_int_equal(b.error, FM_OK);
    m.graph.values[m.graph.logits].kind = FM_VALUE_OUTPUT;
    struct fm_dims dims = dims_of(1);
    assert_int_equal(fm_layout_create(&m.graph, &caps, &dims, 0, &m.layout), FM_OK);
    expect_failure(fm_plan_create(&m.graph, &m.layout, &caps, &dims, NULL, &m.plan), FM_UNSUPPORTED, "65536 x 1 x 1 workgroups");
    unmake(&m);
}

// Whatever allocation fails, planning ends in FM_NOMEM and leaves nothing behind.
static void test_out_of_memory(void **state)
{
    (void)state;
    struct fm_caps caps = fake_caps("nvidia-cmr");
    struct fm_dims dims = dims_of(20);
    for (uint64_t n = 0;; n++) {
        struct made m = {0};
        assert_int_equal(tiny_llama(2, FM_TYPE_Q4_0, f16_cache, &m.graph), FM_OK);
        fm_alloc_fail_at(n);
        enum fm_result result = fm_layout_create(&m.graph, &caps, &dims, 0, &m.layout);
        if (result == FM_OK)
            result = fm_plan_create(&m.graph, &m.layout, &caps, &dims, NULL, &m.plan);
        char *text = NULL;
        if (result == FM_OK)
            result = fm_plan_print(&m.graph, &m.plan, &text);
        fm_alloc_fail_at(UINT64_MAX);
        fm_free(text);
        unmake(&m);
        if (result == FM_OK) {
            assert_true(n > 20);
            return;
        }
        assert_int_equal(result, FM_NOMEM);
    }
}

static void test_hash(void **state)
{
    (void)state;
    struct fm_caps caps = fake_caps("amd-64");
    struct made a = make_llama(&caps, 2, dims_of(8), NULL), b = make_llama(&caps, 2, dims_of(8), NULL);
    struct made c = make_llama(&caps, 2, dims_of(9), NULL), d = make_llama(&caps, 3, dims_of(8), NULL);
    assert_true(a.plan.hash == b.plan.hash);
    assert_true(a.plan.hash != c.plan.hash);
    assert_true(a.plan.hash != d.plan.hash);
    unmake(&a);
    unmake(&b);
    unmake(&c);
    unmake(&d);
}

// ---- the listing -------------------------------------------------------------------------------------------------

// tests/plan/golden_<device>_<tokens>.txt; FM_UPDATE_GOLDEN=1 in the environment rewrites them.
static void golden(const char *device, uint32_t tokens)
{
    struct fm_caps caps = fake_caps(device);
    struct made m = make_llama(&caps, 2, dims_of(tokens), NULL);
    char path[512], *text, *wanted;
    size_t wanted_bytes;
    const char *root = getenv("FULMEN_SOURCE_ROOT");
    assert_non_null(root);
    snprintf(path, sizeof(path), "%s/tests/plan/golden_%s_%u.txt", root, device, tokens);
    assert_int_equal(fm_plan_print(&m.graph, &m.plan, &text), FM_OK);
    if (getenv("FM_UPDATE_GOLDEN"))
        assert_int_equal(fm_writer_save(path, 0, text, strlen(text)), FM_OK);
    assert_int_equal(fm_source_read_whole(path, 1 << 20, &wanted, &wanted_bytes), FM_OK);
    assert_string_equal(text, wanted);
    fm_free(text);
    fm_free(wanted);
    unmake(&m);
}

static void test_listing(void **state)
{
    (void)state;
    golden("software-4", 1);
    golden("amd-64", 1);
    golden("nvidia-cmr", 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_everywhere), cmocka_unit_test(test_many_layers),  cmocka_unit_test(test_sharing_is_free),
        cmocka_unit_test(test_keep_and_guard),   cmocka_unit_test(test_casts),        cmocka_unit_test(test_split),
        cmocka_unit_test(test_narrow),           cmocka_unit_test(test_mixed_readers),
        cmocka_unit_test(test_heads_tile),       cmocka_unit_test(test_split_products), cmocka_unit_test(test_rows_word),
        cmocka_unit_test(test_random_graphs),
        cmocka_unit_test(test_judge),            cmocka_unit_test(test_barriers),     cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_wrong_layout),     cmocka_unit_test(test_grid_too_large), cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_hash),             cmocka_unit_test(test_listing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
