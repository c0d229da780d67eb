// SPDX-License-Identifier: MIT
// TransNormerLLM (Qin et al., "TransNormerLLM", 2024): linear attention with a decay per layer and head, LRPE in the
// first layer, gated norms. The decay and the eps are the released code's, not the paper's (equation 2).
#include "models/arch.h"

#include <math.h>
#include <stdio.h>

#define ARCH "transnormer"

enum { TOKEN_EMBD, OUTPUT, ATTN_QK, ATTN_V, ATTN_U, ATTN_OUTPUT, FFN_GATE, FFN_UP, FFN_DOWN, ATTN_LRPE, N_ROLES };

static const struct fm_weight_spec weights[] = {
    {.role = TOKEN_EMBD, .name = "token_embd.weight", .shape = {FM_L_V, FM_L_D}},
    {.role = OUTPUT, .name = "output.weight", .shape = {FM_L_V, FM_L_D}, .flags = FM_W_HEAD},
    {.role = ATTN_QK, .name = "blk.%u.attn_qkvu.weight", .shape = {FM_L_HC2, FM_L_D}, .flags = FM_W_LAYER, .tensor_rows = FM_L_HC4},
    {.role = ATTN_V,
     .name = "blk.%u.attn_qkvu.weight",
     .shape = {FM_L_HC, FM_L_D},
     .flags = FM_W_LAYER,
     .tensor_rows = FM_L_HC4,
     .row0 = FM_L_HC2},
    {.role = ATTN_U,
     .name = "blk.%u.attn_qkvu.weight",
     .shape = {FM_L_HC, FM_L_D},
     .flags = FM_W_LAYER,
     .tensor_rows = FM_L_HC4,
     .row0 = FM_L_HC3},
    {.role = ATTN_OUTPUT, .name = "blk.%u.attn_output.weight", .shape = {FM_L_D, FM_L_HC}, .flags = FM_W_LAYER},
    {.role = FFN_GATE, .name = "blk.%u.ffn_gate.weight", .shape = {FM_L_F, FM_L_D}, .flags = FM_W_LAYER},
    {.role = FFN_UP, .name = "blk.%u.ffn_up.weight", .shape = {FM_L_F, FM_L_D}, .flags = FM_W_LAYER},
    {.role = FFN_DOWN, .name = "blk.%u.ffn_down.weight", .shape = {FM_L_D, FM_L_F}, .flags = FM_W_LAYER},
    {.role = ATTN_LRPE,
     .name = "blk.%u.attn_lrpe.weight",
     .shape = {FM_L_HEADS, FM_L_HEAD},
     .flags = FM_W_LAYER | FM_W_F32 | FM_W_OPTIONAL | FM_W_CONFIG},
};

// The angles of one LRPE layer, [H,C] f32 in the file.
static enum fm_result read_angles(const struct fm_file *file, struct fm_arena *arena, const struct fm_config *c, uint32_t layer,
                                  const double **out_angles)
{
    char name[64];
    snprintf(name, sizeof(name), "blk.%u.attn_lrpe.weight", layer);
    const struct fm_tensor *tensor = fm_file_find(file, name);
    if (!tensor)
        return fm_fail(FM_FORMAT, "%s: tensor '%s' is missing, expected f32 [%u,%u]", fm_file_path(file), FM_QUOTE_Z(name), c->heads,
                       c->head);
    if (tensor->type != FM_TYPE_F32 || tensor->n_dims != 2 || tensor->dims[0] != c->heads || tensor->dims[1] != c->head)
        return fm_fail(FM_FORMAT, "%s: tensor '%s' is %s in %u dimensions, expected f32 [%u,%u]", fm_file_path(file),
                       FM_QUOTE_Z(name), fm_type_info(tensor->type)->name, tensor->n_dims, c->heads, c->head);
    uint32_t count = c->heads * c->head;
    double *angles = fm_arena_alloc(arena, count, sizeof(*angles));
    if (!angles)
        return fm_nomem();
    float some[256];
    for (uint32_t i = 0; i < count; i++) {
        if (i % FM_COUNT(some) == 0) {
            uint64_t more = FM_MIN(FM_COUNT(some), count - i);
            enum fm_result r = fm_tensor_read(tensor, (uint64_t)i * sizeof(some[0]), more * sizeof(some[0]), some);
            if (r != FM_OK)
                return r;
        }
        float value = some[i % FM_COUNT(some)];
        if (!isfinite(value))
            return fm_fail(FM_FORMAT, "%s: tensor '%s': element %u is no finite number", fm_file_path(file),
                           FM_QUOTE_Z(name), i);
        angles[i] = (double)value;
    }
    *out_angles = angles;
    return FM_OK;
}

static bool has_angles(const struct fm_file *file, uint32_t layer)
{
    char name[64];
    snprintf(name, sizeof(name), "blk.%u.attn_lrpe.weight", layer);
    return fm_file_find(file, name) != NULL;
}

static enum fm_result lrpe(const struct fm_file *file, struct fm_arena *arena, struct fm_config *c)
{
    const struct fm_meta *flags = fm_file_meta_find(file, ARCH ".attention.lrpe");
    if (flags && (flags->kind != FM_META_ARRAY || flags->elem_kind != FM_META_BOOL || flags->count != c->n_layers))
        return fm_fail(FM_FORMAT, "%s: " ARCH ".attention.lrpe is no array of %u bools, one per layer", fm_file_path(file), c->n_layers);
    const double **angles = fm_arena_alloc(arena, c->n_layers, sizeof(*angles));
    if (!angles)
        return fm_nomem();
    for (uint32_t i = 0; i < c->n_layers; i++) {
        angles[i] = NULL;
        enum fm_result r = FM_OK;
        if (flags ? flags->data[i] != 0 : i == 0)
            r = read_angles(file, arena, c, i, &angles[i]);
        else if (has_angles(file, i))
            r = fm_fail(FM_UNSUPPORTED, "%s: tensor 'blk.%u.attn_lrpe.weight' is of a layer that has no LRPE by " ARCH ".attention.lrpe",
                        fm_file_path(file), i);
        if (r != FM_OK)
            return r;
    }
    c->lrpe = angles;
    return FM_OK;
}

static enum fm_result decay(const struct fm_file *file, struct fm_arena *arena, struct fm_config *c)
{
    const struct fm_meta *meta = fm_file_meta_find(file, ARCH ".attention.decay");
    uint64_t count = (uint64_t)c->n_layers * c->heads;
    if (!meta)
        return FM_OK;
    if (meta->kind != FM_META_ARRAY || meta->elem_kind != FM_META_FLOAT || meta->count != count)
        return fm_fail(FM_FORMAT, "%s: " ARCH ".attention.decay is no array of %llu numbers, [layer, head]", fm_file_path(file),
                       (unsigned long long)count);
    double *rates = fm_arena_alloc(arena, (size_t)count, sizeof(*rates));
    if (!rates)
        return fm_nomem();
    for (uint64_t i = 0; i < count; i++) {
        rates[i] = fm_meta_float_at(meta, i);
        if (!(rates[i] >= 0 && rates[i] <= 1e6))
            return fm_fail(FM_FORMAT, "%s: " ARCH ".attention.decay[%llu] is %g, expected 0 or more", fm_file_path(file),
                           (unsigned long long)i, rates[i]);
    }
    c->decay = rates;
    return FM_OK;
}

static enum fm_result config(const struct fm_file *file, struct fm_arena *arena, struct fm_config *out_config)
{
    struct fm_config c = {.act = FM_ACT_SILU};
    struct fm_text act;
    double eps, scale;
    enum fm_result r;
    if ((r = fm_keys_decoder(file, ARCH, &c)) != FM_OK ||
        (r = fm_keys_positive(file, ARCH, "attention.layer_norm_rms_epsilon", 1e-6, &eps)) != FM_OK ||
        (r = fm_keys_positive(file, ARCH, "embedding_scale", 1, &scale)) != FM_OK ||
        (r = fm_meta_string(file, ARCH ".attention.activation", false, &act)) != FM_OK)
        return r;
    if (act.data && act.bytes == 4 && memcmp(act.data, "none", 4) == 0)
        c.act = FM_ACT_NONE;
    else if (act.data && !(act.bytes == 4 && memcmp(act.data, "silu", 4) == 0))
        return fm_fail(FM_UNSUPPORTED, "%s: " ARCH ".attention.activation is '%s', known are silu, none", fm_file_path(file),
                       FM_QUOTE_TEXT(act));
    if (c.heads_kv != c.heads)
        return fm_fail(FM_UNSUPPORTED, "%s: " ARCH ".attention.head_count_kv is %u, expected head_count, %u", fm_file_path(file),
                       c.heads_kv, c.heads);
    c.norm_eps = (float)eps;
    c.embed_scale = (float)scale;
    if ((r = lrpe(file, arena, &c)) != FM_OK || (r = decay(file, arena, &c)) != FM_OK)
        return r;
    *out_config = c;
    return FM_OK;
}

// ALiBi's slopes (Press et al. 2022): geometric for a power of two; otherwise those of the power below, then every second
// one of the power above.
static double slope(uint32_t heads, uint32_t h)
{
    uint32_t power = 1;
    while (2 * (uint64_t)power <= heads)
        power *= 2;
    return h < power ? exp2(-8.0 * (h + 1) / power) : exp2(-8.0 * (2 * (h - power) + 1) / (2.0 * power));
}

static uint32_t decay_rates(struct fm_builder *b, const struct fm_config *c, uint32_t layer)
{
    float *rates = fm_alloc_zero(c->heads, sizeof(*rates));
    if (!rates) {
        b->error = b->error ? b->error : fm_nomem();
        return FM_NONE;
    }
    // One layer alone has nothing to be scaled by: it decays like a first one.
    double factor = 1 - (c->n_layers > 1 ? (double)layer / (c->n_layers - 1) : 0) + 1e-5;
    for (uint32_t h = 0; h < c->heads; h++)
        rates[h] = (float)(c->decay ? c->decay[(size_t)layer * c->heads + h] : slope(c->heads, h) * factor);
    uint32_t id = fm_build_const(b, "attn_decay", FM_TYPE_F32, 1, &c->heads, rates);
    fm_free(rates);
    return id;
}

// FM_NONE where the layer has no LRPE.
static uint32_t lrpe_table(struct fm_builder *b, const struct fm_config *c, uint32_t layer)
{
    if (c->lrpe)
        return c->lrpe[layer] ? fm_build_turn_table(b, "attn_lrpe", c->heads * c->head, c->lrpe[layer]) : FM_NONE;
    // Initial values: one geometric series over all heads, which is what a RoPE table of as many pairs holds.
    return layer == 0 ? fm_build_rope_table(b, "attn_lrpe", c->heads * c->head, 10000, NULL) : FM_NONE;
}

static uint32_t attention(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w, uint32_t layer, uint32_t x,
                          uint32_t *out_gate)
{
    struct fm_attr attr = {.heads = c->heads, .head = c->head, .state = c->head, .act = c->act};
    uint32_t qk = fm_build_matmul(b, "attn_qk", x, fm_weight(w, layer, ATTN_QK), FM_NONE);
    uint32_t v = fm_build_matmul(b, "attn_v", x, fm_weight(w, layer, ATTN_V), FM_NONE);
    *out_gate = fm_build_matmul(b, "attn_u", x, fm_weight(w, layer, ATTN_U), FM_NONE);
    uint32_t table = lrpe_table(b, c, layer);
    if (table != FM_NONE) {
        struct fm_attr both = {.heads = 2 * c->heads, .head = c->head, .act = c->act};
        qk = fm_build_node(b, FM_OP_LRPE, "attn_lrpe", &both, 3, (uint32_t[]){qk, table, fm_build_input(b, FM_INPUT_POS)});
        attr.state = 2 * c->head;
        attr.act = FM_ACT_NONE;
    }
    uint32_t state = fm_build_recurrent_state(b, "kv_state", c->heads * attr.state, c->head);
    uint32_t src[] = {qk, v, decay_rates(b, c, layer), fm_build_input(b, FM_INPUT_SEGMENT), state};
    return fm_build_node(b, FM_OP_LINEAR_ATTEND, "attn_linear", &attr, FM_COUNT(src), src);
}

static void build(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w)
{
    const struct fm_attr gated = {.gate = FM_GATE_LAST, .act = FM_ACT_NONE, .groups = 1, .eps = c->norm_eps};
    uint32_t table = fm_weight(w, FM_NONE, TOKEN_EMBD);
    uint32_t ones = fm_build_ones(b, c->width);
    uint32_t x = fm_build_embed(b, "token_embd", table, fm_build_tokens(b), c->embed_scale > 0 ? c->embed_scale : 1);
    for (uint32_t layer = 0; layer < c->n_layers; layer++) {
        fm_build_prefix(b, "blk.%u.", layer);
        uint32_t gate, n = fm_build_norm(b, "attn_norm", FM_NORM_RMS, x, ones, FM_NONE, c->norm_eps);
        uint32_t y = attention(b, c, w, layer, n, &gate);
        if (layer == c->n_layers - 1) {
            y = fm_build_output_rows(b, "attend_out", y);
            gate = fm_build_output_rows(b, "gate_out", gate);
            x = fm_build_output_rows(b, "residual_out", x);
        }
        y = fm_build_node(b, FM_OP_NORM_GATE, "attn_gate", &gated, 2, (uint32_t[]){y, gate});
        y = fm_build_matmul(b, "attn_output", y, fm_weight(w, layer, ATTN_OUTPUT), FM_NONE);
        x = fm_build_add(b, "attn_add", y, x);
        const struct fm_ffn ffn = {
            .gate = fm_weight(w, layer, FFN_GATE), .gate_bias = FM_NONE,
            .up = fm_weight(w, layer, FFN_UP), .up_bias = FM_NONE,
            .down = fm_weight(w, layer, FFN_DOWN), .down_bias = FM_NONE,
        };
        n = fm_build_norm(b, "ffn_norm", FM_NORM_RMS, x, ones, FM_NONE, c->norm_eps);
        y = fm_build_ffn(b, FM_ACT_NONE, n, &ffn);
        x = fm_build_add(b, "ffn_add", y, x);
    }
    fm_build_prefix(b, "%s", "");
    fm_build_head(b, x, ones, FM_NONE, FM_NORM_RMS, c->norm_eps, c->tied ? table : fm_weight(w, FM_NONE, OUTPUT), FM_NONE,
                  c->vocab_real);
}

const struct fm_arch fm_arch_transnormer = {
    .name = ARCH,
    .weights = weights,
    .n_weights = FM_COUNT(weights),
    .n_roles = N_ROLES,
    .keys = (const char *const[]){FM_KEYS_DECODER, "attention.layer_norm_rms_epsilon", "embedding_scale", "attention.activation",
                                   "attention.lrpe", "attention.decay", NULL},
    .config = config,
    .build = build,
};
