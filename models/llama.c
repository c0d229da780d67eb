// SPDX-License-Identifier: MIT
// Llama 1, 2, 3, 3.1, 3.2 and what shares their architecture: Mistral (sliding window), TinyLlama, Vicuna, ...
//
// x = E[ids]; per layer x += O attend(rope(q), rope(k), v) of RMSNorm(x), x += down(silu(gate n) * up n) of n =
// RMSNorm(x); logits = head RMSNorm(x). q and k rows are permuted in GGUF files so that RoPE turns adjacent pairs
// (NORM).
#include "models/arch.h"

#include <math.h>

#define ARCH "llama"

enum {
    TOKEN_EMBD, ATTN_NORM, ATTN_Q, ATTN_K, ATTN_V, ATTN_Q_BIAS, ATTN_K_BIAS, ATTN_V_BIAS, ATTN_OUTPUT, ATTN_OUTPUT_BIAS,
    FFN_NORM, FFN_GATE, FFN_UP, FFN_DOWN, FFN_GATE_BIAS, FFN_UP_BIAS, FFN_DOWN_BIAS, OUTPUT_NORM, OUTPUT, ROPE_FREQS,
    N_ROLES
};

#define LAYER FM_W_LAYER
#define VECTOR (FM_W_LAYER | FM_W_F32)
#define MAYBE (FM_W_LAYER | FM_W_F32 | FM_W_OPTIONAL)

static const struct fm_weight_spec weights[] = {
    {.role = TOKEN_EMBD, .name = "token_embd.weight", .shape = {FM_L_V, FM_L_D}},
    {.role = ATTN_NORM, .name = "blk.%u.attn_norm.weight", .shape = {FM_L_D}, .flags = VECTOR},
    {.role = ATTN_Q, .name = "blk.%u.attn_q.weight", .shape = {FM_L_HC, FM_L_D}, .flags = LAYER},
    {.role = ATTN_K, .name = "blk.%u.attn_k.weight", .shape = {FM_L_GC, FM_L_D}, .flags = LAYER},
    {.role = ATTN_V, .name = "blk.%u.attn_v.weight", .shape = {FM_L_GC, FM_L_D}, .flags = LAYER},
    {.role = ATTN_Q_BIAS, .name = "blk.%u.attn_q.bias", .shape = {FM_L_HC}, .flags = MAYBE},
    {.role = ATTN_K_BIAS, .name = "blk.%u.attn_k.bias", .shape = {FM_L_GC}, .flags = MAYBE},
    {.role = ATTN_V_BIAS, .name = "blk.%u.attn_v.bias", .shape = {FM_L_GC}, .flags = MAYBE},
    {.role = ATTN_OUTPUT, .name = "blk.%u.attn_output.weight", .shape = {FM_L_D, FM_L_HC}, .flags = LAYER},
    {.role = ATTN_OUTPUT_BIAS, .name = "blk.%u.attn_output.bias", .shape = {FM_L_D}, .flags = MAYBE},
    {.role = FFN_NORM, .name = "blk.%u.ffn_norm.weight", .shape = {FM_L_D}, .flags = VECTOR},
    {.role = FFN_GATE, .name = "blk.%u.ffn_gate.weight", .shape = {FM_L_F, FM_L_D}, .flags = LAYER},
    {.role = FFN_UP, .name = "blk.%u.ffn_up.weight", .shape = {FM_L_F, FM_L_D}, .flags = LAYER},
    {.role = FFN_DOWN, .name = "blk.%u.ffn_down.weight", .shape = {FM_L_D, FM_L_F}, .flags = LAYER},
    {.role = FFN_GATE_BIAS, .name = "blk.%u.ffn_gate.bias", .shape = {FM_L_F}, .flags = MAYBE},
    {.role = FFN_UP_BIAS, .name = "blk.%u.ffn_up.bias", .shape = {FM_L_F}, .flags = MAYBE},
    {.role = FFN_DOWN_BIAS, .name = "blk.%u.ffn_down.bias", .shape = {FM_L_D}, .flags = MAYBE},
    {.role = OUTPUT_NORM, .name = "output_norm.weight", .shape = {FM_L_D}, .flags = FM_W_F32},
    {.role = OUTPUT, .name = "output.weight", .shape = {FM_L_V, FM_L_D}, .flags = FM_W_HEAD},
    {.role = ROPE_FREQS,
     .name = "rope_freqs.weight",
     .shape = {FM_L_R},
     .flags = FM_W_F32 | FM_W_OPTIONAL | FM_W_CONFIG},
};

static enum fm_result config(const struct fm_file *file, struct fm_arena *arena, struct fm_config *out_config)
{
    struct fm_config c = {.rope = FM_ROPE_NORM};
    double eps;
    enum fm_result r;
    if ((r = fm_keys_decoder(file, ARCH, &c)) != FM_OK || (r = fm_keys_rope(file, ARCH, arena, &c)) != FM_OK ||
        (r = fm_keys_positive(file, ARCH, "attention.layer_norm_rms_epsilon", NAN, &eps)) != FM_OK ||
        (r = fm_keys_dual_chunk(file, ARCH, &c)) != FM_OK ||
        (r = fm_meta_u32(file, ARCH ".attention.sliding_window", false, 0, UINT32_MAX, 0, &c.window)) != FM_OK)
        return r;
    c.norm_eps = (float)eps;
    *out_config = c;
    return FM_OK;
}

static uint32_t attention(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w, uint32_t layer,
                          uint32_t freq, uint32_t x)
{
    const struct fm_attr attr = {.heads = c->heads,
                                 .heads_kv = c->heads_kv,
                                 .head = c->head,
                                 .rotated = c->rotated,
                                 .rope = c->rope,
                                 .window = c->window,
                                 .chunk = c->chunk,
                                 .cap = c->cap,
                                 .original = c->original,
                                 .scale = (float)(1 / sqrt((double)c->head))};
    x = fm_build_norm(b, "attn_norm", FM_NORM_RMS, x, fm_weight(w, layer, ATTN_NORM), FM_NONE, c->norm_eps);
    uint32_t q = fm_build_matmul(b, "attn_q", x, fm_weight(w, layer, ATTN_Q), fm_weight(w, layer, ATTN_Q_BIAS));
    uint32_t k = fm_build_matmul(b, "attn_k", x, fm_weight(w, layer, ATTN_K), fm_weight(w, layer, ATTN_K_BIAS));
    uint32_t v = fm_build_matmul(b, "attn_v", x, fm_weight(w, layer, ATTN_V), fm_weight(w, layer, ATTN_V_BIAS));
    return fm_build_attention(b, q, k, v, freq, &attr);
}

static uint32_t feed_forward(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w,
                             uint32_t layer, uint32_t x)
{
    const struct fm_ffn ffn = {
        .gate = fm_weight(w, layer, FFN_GATE), .gate_bias = fm_weight(w, layer, FFN_GATE_BIAS),
        .up = fm_weight(w, layer, FFN_UP), .up_bias = fm_weight(w, layer, FFN_UP_BIAS),
        .down = fm_weight(w, layer, FFN_DOWN), .down_bias = fm_weight(w, layer, FFN_DOWN_BIAS),
    };
    x = fm_build_norm(b, "ffn_norm", FM_NORM_RMS, x, fm_weight(w, layer, FFN_NORM), FM_NONE, c->norm_eps);
    return fm_build_ffn(b, FM_ACT_SILU, x, &ffn);
}

static void build(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w)
{
    uint32_t table = fm_weight(w, FM_NONE, TOKEN_EMBD);
    uint32_t x = fm_build_embed(b, "token_embd", table, fm_build_tokens(b), 1);
    uint32_t freq =
        c->rotated ? fm_build_rope_table(b, "rope_freq", c->rotated / 2, c->rope_base, c->rope_divisors) : FM_NONE;
    for (uint32_t layer = 0; layer < c->n_layers; layer++) {
        fm_build_prefix(b, "blk.%u.", layer);
        uint32_t y = attention(b, c, w, layer, freq, x);
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
    fm_build_head(b, x, fm_weight(w, FM_NONE, OUTPUT_NORM), FM_NONE, FM_NORM_RMS, c->norm_eps,
                  c->tied ? table : fm_weight(w, FM_NONE, OUTPUT), FM_NONE, c->vocab_real);
}

const struct fm_arch fm_arch_llama = {
    .name = ARCH,
    .weights = weights,
    .n_weights = FM_COUNT(weights),
    .n_roles = N_ROLES,
    .keys = (const char *const[]){FM_KEYS_DECODER, FM_KEYS_ROPE, FM_KEYS_DUAL_CHUNK, "attention.layer_norm_rms_epsilon",
                                   "attention.sliding_window", NULL},
    .config = config,
    .build = build,
};
