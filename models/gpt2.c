// SPDX-License-Identifier: MIT
// GPT-2: LayerNorm with bias, learned positions, one fused tensor for q, k and v, GELU (tanh form).
//
// x = E[ids] + P[pos]; per layer x += O attend(q, k, v) of LayerNorm(x), x += down(gelu(up LayerNorm(x))); logits =
// head LayerNorm(x). The rows of attn_qkv are q, k, v one after another: three roles that are row ranges of one tensor.
#include "models/arch.h"

#include <math.h>

#define ARCH "gpt2"

enum {
    TOKEN_EMBD, POSITION_EMBD, ATTN_NORM, ATTN_NORM_BIAS, ATTN_Q, ATTN_K, ATTN_V, ATTN_Q_BIAS, ATTN_K_BIAS, ATTN_V_BIAS,
    ATTN_OUTPUT, ATTN_OUTPUT_BIAS, FFN_NORM, FFN_NORM_BIAS, FFN_UP, FFN_UP_BIAS, FFN_DOWN, FFN_DOWN_BIAS,
    OUTPUT_NORM, OUTPUT_NORM_BIAS, OUTPUT,
    N_ROLES
};

#define LAYER FM_W_LAYER
#define VECTOR (FM_W_LAYER | FM_W_F32)
// Rows [first, first + HC or GC) of the fused tensor.
#define QKV(r, rows, first)                                                                                            \
    {                                                                                                                  \
        .role = r, .name = "blk.%u.attn_qkv.weight", .shape = {rows, FM_L_D}, .flags = LAYER, .tensor_rows = FM_L_QKV, \
        .row0 = first                                                                                                  \
    }
#define QKV_BIAS(r, rows, first)                                                                                       \
    {                                                                                                                  \
        .role = r, .name = "blk.%u.attn_qkv.bias", .shape = {rows}, .flags = VECTOR, .tensor_rows = FM_L_QKV,          \
        .row0 = first                                                                                                  \
    }

static const struct fm_weight_spec weights[] = {
    {.role = TOKEN_EMBD, .name = "token_embd.weight", .shape = {FM_L_V, FM_L_D}},
    {.role = POSITION_EMBD, .name = "position_embd.weight", .shape = {FM_L_P, FM_L_D}},
    {.role = ATTN_NORM, .name = "blk.%u.attn_norm.weight", .shape = {FM_L_D}, .flags = VECTOR},
    {.role = ATTN_NORM_BIAS, .name = "blk.%u.attn_norm.bias", .shape = {FM_L_D}, .flags = VECTOR},
    QKV(ATTN_Q, FM_L_HC, FM_L_END),
    QKV(ATTN_K, FM_L_GC, FM_L_HC),
    QKV(ATTN_V, FM_L_GC, FM_L_HCGC),
    QKV_BIAS(ATTN_Q_BIAS, FM_L_HC, FM_L_END),
    QKV_BIAS(ATTN_K_BIAS, FM_L_GC, FM_L_HC),
    QKV_BIAS(ATTN_V_BIAS, FM_L_GC, FM_L_HCGC),
    {.role = ATTN_OUTPUT, .name = "blk.%u.attn_output.weight", .shape = {FM_L_D, FM_L_HC}, .flags = LAYER},
    {.role = ATTN_OUTPUT_BIAS, .name = "blk.%u.attn_output.bias", .shape = {FM_L_D}, .flags = VECTOR},
    {.role = FFN_NORM, .name = "blk.%u.ffn_norm.weight", .shape = {FM_L_D}, .flags = VECTOR},
    {.role = FFN_NORM_BIAS, .name = "blk.%u.ffn_norm.bias", .shape = {FM_L_D}, .flags = VECTOR},
    {.role = FFN_UP, .name = "blk.%u.ffn_up.weight", .shape = {FM_L_F, FM_L_D}, .flags = LAYER},
    {.role = FFN_UP_BIAS, .name = "blk.%u.ffn_up.bias", .shape = {FM_L_F}, .flags = VECTOR},
    {.role = FFN_DOWN, .name = "blk.%u.ffn_down.weight", .shape = {FM_L_D, FM_L_F}, .flags = LAYER},
    {.role = FFN_DOWN_BIAS, .name = "blk.%u.ffn_down.bias", .shape = {FM_L_D}, .flags = VECTOR},
    {.role = OUTPUT_NORM, .name = "output_norm.weight", .shape = {FM_L_D}, .flags = FM_W_F32},
    {.role = OUTPUT_NORM_BIAS, .name = "output_norm.bias", .shape = {FM_L_D}, .flags = FM_W_F32},
    {.role = OUTPUT, .name = "output.weight", .shape = {FM_L_V, FM_L_D}, .flags = FM_W_HEAD},
};

static enum fm_result config(const struct fm_file *file, struct fm_arena *arena, struct fm_config *out_config)
{
    struct fm_config c = {0};
    double eps;
    enum fm_result r;
    (void)arena;
    if ((r = fm_keys_decoder(file, ARCH, &c)) != FM_OK ||
        (r = fm_keys_positive(file, ARCH, "attention.layer_norm_epsilon", NAN, &eps)) != FM_OK)
        return r;
    c.position_table = true;
    c.norm_eps = (float)eps;
    *out_config = c;
    return FM_OK;
}

static uint32_t attention(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w, uint32_t layer,
                          uint32_t x)
{
    const struct fm_attr attr = {.heads = c->heads, .heads_kv = c->heads_kv, .head = c->head,
                                 .scale = (float)(1 / sqrt((double)c->head))};
    x = fm_build_norm(b, "attn_norm", FM_NORM_LAYER, x, fm_weight(w, layer, ATTN_NORM),
                      fm_weight(w, layer, ATTN_NORM_BIAS), c->norm_eps);
    uint32_t q = fm_build_matmul(b, "attn_q", x, fm_weight(w, layer, ATTN_Q), fm_weight(w, layer, ATTN_Q_BIAS));
    uint32_t k = fm_build_matmul(b, "attn_k", x, fm_weight(w, layer, ATTN_K), fm_weight(w, layer, ATTN_K_BIAS));
    uint32_t v = fm_build_matmul(b, "attn_v", x, fm_weight(w, layer, ATTN_V), fm_weight(w, layer, ATTN_V_BIAS));
    return fm_build_attention(b, q, k, v, FM_NONE, &attr);
}

static uint32_t feed_forward(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w,
                             uint32_t layer, uint32_t x)
{
    const struct fm_attr attr = {.act = FM_ACT_GELU_TANH};
    x = fm_build_norm(b, "ffn_norm", FM_NORM_LAYER, x, fm_weight(w, layer, FFN_NORM),
                      fm_weight(w, layer, FFN_NORM_BIAS), c->norm_eps);
    x = fm_build_matmul(b, "ffn_up", x, fm_weight(w, layer, FFN_UP), fm_weight(w, layer, FFN_UP_BIAS));
    x = fm_build_node(b, FM_OP_ACT, "ffn_act", &attr, 1, (uint32_t[]){x});
    return fm_build_matmul(b, "ffn_down", x, fm_weight(w, layer, FFN_DOWN), fm_weight(w, layer, FFN_DOWN_BIAS));
}

static void build(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w)
{
    uint32_t table = fm_weight(w, FM_NONE, TOKEN_EMBD);
    uint32_t tokens = fm_build_embed(b, "token_embd", table, fm_build_tokens(b), 1);
    uint32_t positions =
        fm_build_embed(b, "position_embd", fm_weight(w, FM_NONE, POSITION_EMBD), fm_build_input(b, FM_INPUT_POS), 1);
    uint32_t x = fm_build_add(b, "embd_add", tokens, positions);
    for (uint32_t layer = 0; layer < c->n_layers; layer++) {
        fm_build_prefix(b, "blk.%u.", layer);
        uint32_t y = attention(b, c, w, layer, x);
        if (layer == c->n_layers - 1) {
            y = fm_build_output_rows(b, "attend_out", y);
            x = fm_build_output_rows(b, "residual_out", x);
        }
        y = fm_build_matmul(b, "attn_output", y, fm_weight(w, layer, ATTN_OUTPUT),
                            fm_weight(w, layer, ATTN_OUTPUT_BIAS));
        x = fm_build_add(b, "attn_add", y, x);
        x = fm_build_add(b, "ffn_add", feed_forward(b, c, w, layer, x), x);
    }
    fm_build_prefix(b, "%s", "");
    fm_build_head(b, x, fm_weight(w, FM_NONE, OUTPUT_NORM), fm_weight(w, FM_NONE, OUTPUT_NORM_BIAS), FM_NORM_LAYER,
                  c->norm_eps, c->tied ? table : fm_weight(w, FM_NONE, OUTPUT), FM_NONE, c->vocab_real);
}

const struct fm_arch fm_arch_gpt2 = {
    .name = ARCH,
    .weights = weights,
    .n_weights = FM_COUNT(weights),
    .n_roles = N_ROLES,
    .keys = (const char *const[]){FM_KEYS_DECODER, "attention.layer_norm_epsilon", NULL},
    .config = config,
    .build = build,
};
