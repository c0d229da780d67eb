// SPDX-License-Identifier: MIT
// Mamba in the Llama (Wang et al., "The Mamba in the Llama", 2024): a Llama whose layers are attention or a Mamba mixer
// made from attention's weights, of either kind. Follows the authors' code where it and the paper differ: the first kind
// repeats pieces of state_size channels, convolves x only, and counts the time step's bias twice.
#include "models/arch.h"

#include <math.h>

#define ARCH "mambainllama"

enum {
    TOKEN_EMBD,
    OUTPUT_NORM,
    OUTPUT,
    ATTN_NORM,
    ATTN_Q,
    ATTN_K,
    ATTN_V,
    ATTN_OUTPUT,
    FFN_NORM,
    FFN_GATE,
    FFN_UP,
    FFN_DOWN,
    ROPE_FREQS,
    IN_Z,
    IN_X,
    IN_B,
    IN_C,
    IN_XBC,
    IN_DT,
    CONV,
    CONV_BIAS,
    DT,
    DT_BIAS,
    A,
    D,
    GATE_NORM,
    OUT,
    N_ROLES
};

#define ATTENTION .flags = FM_W_LAYER | FM_W_ATTENTION
#define IN1 .name = "blk.%u.ssm_in.weight", .flags = FM_W_LAYER | FM_W_MIXER | FM_W_SSM1, .tensor_rows = FM_L_E2XB2DT
#define IN2 .name = "blk.%u.ssm_in.weight", .flags = FM_W_LAYER | FM_W_MIXER | FM_W_SSM2, .tensor_rows = FM_L_EXBCDT
#define MIXER FM_W_LAYER | FM_W_MIXER
#define F32 FM_W_LAYER | FM_W_MIXER | FM_W_F32

static const struct fm_weight_spec weights[] = {
    {.role = TOKEN_EMBD, .name = "token_embd.weight", .shape = {FM_L_V, FM_L_D}},
    {.role = OUTPUT_NORM, .name = "output_norm.weight", .shape = {FM_L_D}, .flags = FM_W_F32},
    {.role = OUTPUT, .name = "output.weight", .shape = {FM_L_V, FM_L_D}, .flags = FM_W_HEAD},
    {.role = ATTN_NORM, .name = "blk.%u.attn_norm.weight", .shape = {FM_L_D}, .flags = FM_W_LAYER | FM_W_F32},
    {.role = ATTN_Q, .name = "blk.%u.attn_q.weight", .shape = {FM_L_HC, FM_L_D}, ATTENTION},
    {.role = ATTN_K, .name = "blk.%u.attn_k.weight", .shape = {FM_L_GC, FM_L_D}, ATTENTION},
    {.role = ATTN_V, .name = "blk.%u.attn_v.weight", .shape = {FM_L_GC, FM_L_D}, ATTENTION},
    {.role = ATTN_OUTPUT, .name = "blk.%u.attn_output.weight", .shape = {FM_L_D, FM_L_HC}, ATTENTION},
    {.role = FFN_NORM, .name = "blk.%u.ffn_norm.weight", .shape = {FM_L_D}, .flags = FM_W_LAYER | FM_W_F32},
    {.role = FFN_GATE, .name = "blk.%u.ffn_gate.weight", .shape = {FM_L_F, FM_L_D}, .flags = FM_W_LAYER},
    {.role = FFN_UP, .name = "blk.%u.ffn_up.weight", .shape = {FM_L_F, FM_L_D}, .flags = FM_W_LAYER},
    {.role = FFN_DOWN, .name = "blk.%u.ffn_down.weight", .shape = {FM_L_D, FM_L_F}, .flags = FM_W_LAYER},
    {.role = ROPE_FREQS,
     .name = "rope_freqs.weight",
     .shape = {FM_L_R},
     .flags = FM_W_F32 | FM_W_OPTIONAL | FM_W_CONFIG},
    // The first kind: rows z, x, b, c, low-rank dt.
    {.role = IN_Z, IN1, .shape = {FM_L_E, FM_L_D}},
    {.role = IN_X, IN1, .shape = {FM_L_XB, FM_L_D}, .row0 = FM_L_E},
    {.role = IN_B, IN1, .shape = {FM_L_XB, FM_L_D}, .row0 = FM_L_EXB},
    {.role = IN_C, IN1, .shape = {FM_L_E, FM_L_D}, .row0 = FM_L_EXB2},
    {.role = IN_DT, IN1, .shape = {FM_L_DT, FM_L_D}, .row0 = FM_L_E2XB2},
    {.role = CONV, .name = "blk.%u.ssm_conv1d.weight", .shape = {FM_L_E, FM_L_W}, .flags = F32 | FM_W_SSM1},
    {.role = CONV_BIAS, .name = "blk.%u.ssm_conv1d.bias", .shape = {FM_L_E}, .flags = F32 | FM_W_SSM1},
    {.role = DT, .name = "blk.%u.ssm_dt.weight", .shape = {FM_L_E, FM_L_DT}, .flags = MIXER | FM_W_SSM1},
    {.role = DT_BIAS, .name = "blk.%u.ssm_dt.bias", .shape = {FM_L_E}, .flags = F32 | FM_W_SSM1},
    {.role = A, .name = "blk.%u.ssm_a", .shape = {FM_L_E, FM_L_N}, .flags = F32 | FM_W_SSM1},
    {.role = D, .name = "blk.%u.ssm_d", .shape = {FM_L_E}, .flags = F32 | FM_W_SSM1 | FM_W_FLAT},
    // The second: rows z, x, b, c, dt; x, b and c are convolved together.
    {.role = IN_Z, IN2, .shape = {FM_L_E, FM_L_D}},
    {.role = IN_XBC, IN2, .shape = {FM_L_XBC, FM_L_D}, .row0 = FM_L_E},
    {.role = IN_DT, IN2, .shape = {FM_L_DT, FM_L_D}, .row0 = FM_L_EXBC},
    {.role = CONV, .name = "blk.%u.ssm_conv1d.weight", .shape = {FM_L_XBC, FM_L_W}, .flags = F32 | FM_W_SSM2},
    {.role = CONV_BIAS, .name = "blk.%u.ssm_conv1d.bias", .shape = {FM_L_XBC}, .flags = F32 | FM_W_SSM2},
    {.role = DT_BIAS, .name = "blk.%u.ssm_dt.bias", .shape = {FM_L_DT}, .flags = F32 | FM_W_SSM2 | FM_W_FLAT},
    {.role = A, .name = "blk.%u.ssm_a", .shape = {FM_L_DT}, .flags = F32 | FM_W_SSM2 | FM_W_FLAT},
    {.role = D, .name = "blk.%u.ssm_d", .shape = {FM_L_DT}, .flags = F32 | FM_W_SSM2 | FM_W_FLAT},
    {.role = GATE_NORM, .name = "blk.%u.ssm_norm.weight", .shape = {FM_L_E}, .flags = F32 | FM_W_SSM2 | FM_W_FLAT},
    {.role = OUT, .name = "blk.%u.ssm_out.weight", .shape = {FM_L_D, FM_L_E}, .flags = MIXER},
};

static enum fm_result attention_layers(const struct fm_file *file, struct fm_arena *arena, struct fm_config *c)
{
    const struct fm_meta *list = fm_file_meta_find(file, ARCH ".attention.layers");
    bool is_list = list && list->kind == FM_META_ARRAY &&
                   (list->count == 0 || list->elem_kind == FM_META_UINT || list->elem_kind == FM_META_INT);
    if (!is_list)
        return fm_fail(FM_FORMAT, "%s: " ARCH ".attention.layers is %s, expected an array of layer numbers", fm_file_path(file),
                       list ? "something else" : "missing");
    bool *attention = fm_arena_alloc(arena, c->n_layers, sizeof(*attention));
    if (!attention)
        return fm_nomem();
    memset(attention, 0, c->n_layers * sizeof(*attention));
    for (uint64_t i = 0; i < list->count; i++) {
        int64_t layer = fm_meta_int_at(list, i);
        if (layer < 0 || layer >= (int64_t)c->n_layers)
            return fm_fail(FM_FORMAT, "%s: " ARCH ".attention.layers names layer %lld of %u", fm_file_path(file), (long long)layer,
                           c->n_layers);
        attention[layer] = true;
    }
    c->attention = attention;
    return FM_OK;
}

// How x, b and c are cut up.
static enum fm_result check_sizes(const struct fm_file *file, const struct fm_config *c)
{
    if (c->inner % c->xb != 0)
        return fm_fail(FM_FORMAT, "%s: " ARCH ".ssm.inner_size is %u, expected a multiple of xb_size, %u", fm_file_path(file), c->inner,
                       c->xb);
    if (c->ssm == 1 && c->xb % c->state != 0)
        return fm_fail(FM_FORMAT, "%s: " ARCH ".ssm.xb_size is %u, expected a multiple of state_size, %u", fm_file_path(file), c->xb,
                       c->state);
    uint32_t head = c->inner / c->dt_rank;
    if (c->ssm == 2 && (c->inner % c->dt_rank != 0 || head != c->state || c->xb % head != 0 || c->groups != c->dt_rank))
        return fm_fail(FM_FORMAT,
                       "%s: " ARCH ".ssm: inner_size %u in %u heads with state_size %u, xb_size %u and group_count %u; expected heads as "
                       "wide as the state, whole ones in xb_size, and a group per head",
                       fm_file_path(file), c->inner, c->dt_rank, c->state, c->xb, c->groups);
    return FM_OK;
}

static enum fm_result config(const struct fm_file *file, struct fm_arena *arena, struct fm_config *out_config)
{
    struct fm_config c = {.rope = FM_ROPE_NEOX};
    double eps;
    uint32_t version;
    enum fm_result r;
    if ((r = fm_keys_decoder(file, ARCH, &c)) != FM_OK || (r = fm_keys_rope(file, ARCH, arena, &c)) != FM_OK ||
        (r = fm_keys_dual_chunk(file, ARCH, &c)) != FM_OK || (r = fm_keys_ssm(file, ARCH, &c)) != FM_OK ||
        (r = fm_keys_size(file, ARCH, "ssm.version", 2, 0, &version)) != FM_OK ||
        (r = fm_keys_size(file, ARCH, "ssm.xb_size", c.inner, 0, &c.xb)) != FM_OK ||
        (r = fm_keys_size(file, ARCH, "ssm.group_count", c.dt_rank, version == 2 ? 0 : 1, &c.groups)) != FM_OK ||
        (r = fm_keys_positive(file, ARCH, "attention.layer_norm_rms_epsilon", NAN, &eps)) != FM_OK ||
        (r = attention_layers(file, arena, &c)) != FM_OK)
        return r;
    c.ssm = (uint8_t)version;
    c.norm_eps = (float)eps;
    if ((r = check_sizes(file, &c)) != FM_OK)
        return r;
    *out_config = c;
    return FM_OK;
}

static uint32_t attention(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w, uint32_t layer, uint32_t freq,
                          uint32_t x)
{
    const struct fm_attr attr = {.heads = c->heads,
                                 .heads_kv = c->heads_kv,
                                 .head = c->head,
                                 .rotated = c->rotated,
                                 .rope = c->rope,
                                 .chunk = c->chunk,
                                 .cap = c->cap,
                                 .original = c->original,
                                 .scale = (float)(1 / sqrt((double)c->head))};
    uint32_t q = fm_build_matmul(b, "attn_q", x, fm_weight(w, layer, ATTN_Q), FM_NONE);
    uint32_t k = fm_build_matmul(b, "attn_k", x, fm_weight(w, layer, ATTN_K), FM_NONE);
    uint32_t v = fm_build_matmul(b, "attn_v", x, fm_weight(w, layer, ATTN_V), FM_NONE);
    return fm_build_attention(b, q, k, v, freq, &attr);
}

static uint32_t convolve(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w, uint32_t layer, uint32_t in,
                         uint32_t channels, uint32_t repeat)
{
    const struct fm_attr attr = {.act = FM_ACT_SILU, .repeat = repeat, .head = c->state};
    uint32_t window = fm_build_recurrent_state(b, "conv_state", c->conv - 1, channels);
    return fm_build_node(b, FM_OP_CONV1D, "ssm_conv1d", &attr, 5,
                         (uint32_t[]){in, fm_weight(w, layer, CONV), fm_build_input(b, FM_INPUT_SEGMENT), window,
                                      fm_weight(w, layer, CONV_BIAS)});
}

static uint32_t mixer1(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w, uint32_t layer, uint32_t x)
{
    const struct fm_attr scan = {.heads = c->inner / c->state, .heads_kv = c->xb / c->state, .state = c->state};
    uint32_t z = fm_build_matmul(b, "ssm_in_z", x, fm_weight(w, layer, IN_Z), FM_NONE);
    uint32_t in = fm_build_matmul(b, "ssm_in_x", x, fm_weight(w, layer, IN_X), FM_NONE);
    uint32_t bb = fm_build_matmul(b, "ssm_in_b", x, fm_weight(w, layer, IN_B), FM_NONE);
    uint32_t cc = fm_build_matmul(b, "ssm_in_c", x, fm_weight(w, layer, IN_C), FM_NONE);
    uint32_t low = fm_build_matmul(b, "ssm_in_dt", x, fm_weight(w, layer, IN_DT), FM_NONE);
    uint32_t bias = fm_weight(w, layer, DT_BIAS);
    // The bias is added here, and once more by the scan: the checkpoints were trained so.
    uint32_t dt = fm_build_matmul(b, "ssm_dt", low, fm_weight(w, layer, DT), bias);
    uint32_t u = convolve(b, c, w, layer, in, c->xb, c->inner / c->xb);
    uint32_t src[] = {u,
                      dt,
                      fm_weight(w, layer, A),
                      bb,
                      cc,
                      fm_weight(w, layer, D),
                      bias,
                      z,
                      fm_build_input(b, FM_INPUT_SEGMENT),
                      fm_build_recurrent_state(b, "ssm_state", c->inner, c->state)};
    return fm_build_node(b, FM_OP_SELECTIVE_SCAN, "ssm_scan", &scan, FM_COUNT(src), src);
}

static uint32_t mixer2(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w, uint32_t layer, uint32_t x)
{
    uint32_t head = c->inner / c->dt_rank;
    const struct fm_attr ssd = {.heads = c->dt_rank, .head = head, .heads_kv = c->xb / head, .groups = c->xb / c->state,
                                .groups_c = c->inner / c->state, .state = c->state};
    const struct fm_attr gated = {.gate = FM_GATE_FIRST, .act = FM_ACT_SILU, .groups = c->groups, .eps = c->norm_eps};
    uint32_t z = fm_build_matmul(b, "ssm_in_z", x, fm_weight(w, layer, IN_Z), FM_NONE);
    uint32_t in = fm_build_matmul(b, "ssm_in_xbc", x, fm_weight(w, layer, IN_XBC), FM_NONE);
    uint32_t dt = fm_build_matmul(b, "ssm_in_dt", x, fm_weight(w, layer, IN_DT), FM_NONE);
    uint32_t xbc = convolve(b, c, w, layer, in, 2 * c->xb + c->inner, 1);
    uint32_t src[] = {xbc,
                      dt,
                      fm_weight(w, layer, A),
                      fm_weight(w, layer, D),
                      fm_weight(w, layer, DT_BIAS),
                      fm_build_input(b, FM_INPUT_SEGMENT),
                      fm_build_recurrent_state(b, "ssm_state", c->inner, c->state)};
    uint32_t y = fm_build_node(b, FM_OP_SSD, "ssm_ssd", &ssd, FM_COUNT(src), src);
    return fm_build_node(b, FM_OP_NORM_GATE, "ssm_norm", &gated, 3, (uint32_t[]){y, z, fm_weight(w, layer, GATE_NORM)});
}

static void build(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w)
{
    uint32_t table = fm_weight(w, FM_NONE, TOKEN_EMBD);
    uint32_t x = fm_build_embed(b, "token_embd", table, fm_build_tokens(b), 1);
    uint32_t freq =
        c->rotated ? fm_build_rope_table(b, "rope_freq", c->rotated / 2, c->rope_base, c->rope_divisors) : FM_NONE;
    for (uint32_t layer = 0; layer < c->n_layers; layer++) {
        fm_build_prefix(b, "blk.%u.", layer);
        uint32_t n = fm_build_norm(b, "attn_norm", FM_NORM_RMS, x, fm_weight(w, layer, ATTN_NORM), FM_NONE, c->norm_eps);
        uint32_t y = c->attention[layer] ? attention(b, c, w, layer, freq, n)
                     : c->ssm == 1       ? mixer1(b, c, w, layer, n)
                                         : mixer2(b, c, w, layer, n);
        if (layer == c->n_layers - 1) {
            y = fm_build_output_rows(b, "mixer_out", y);
            x = fm_build_output_rows(b, "residual_out", x);
        }
        y = c->attention[layer] ? fm_build_matmul(b, "attn_output", y, fm_weight(w, layer, ATTN_OUTPUT), FM_NONE)
                                : fm_build_matmul(b, "ssm_out", y, fm_weight(w, layer, OUT), FM_NONE);
        x = fm_build_add(b, "mixer_add", y, x);
        const struct fm_ffn ffn = {
            .gate = fm_weight(w, layer, FFN_GATE), .gate_bias = FM_NONE,
            .up = fm_weight(w, layer, FFN_UP), .up_bias = FM_NONE,
            .down = fm_weight(w, layer, FFN_DOWN), .down_bias = FM_NONE,
        };
        n = fm_build_norm(b, "ffn_norm", FM_NORM_RMS, x, fm_weight(w, layer, FFN_NORM), FM_NONE, c->norm_eps);
        y = fm_build_ffn(b, FM_ACT_SILU, n, &ffn);
        x = fm_build_add(b, "ffn_add", y, x);
    }
    fm_build_prefix(b, "%s", "");
    fm_build_head(b, x, fm_weight(w, FM_NONE, OUTPUT_NORM), FM_NONE, FM_NORM_RMS, c->norm_eps,
                  c->tied ? table : fm_weight(w, FM_NONE, OUTPUT), FM_NONE, c->vocab_real);
}

const struct fm_arch fm_arch_mambainllama = {
    .name = ARCH,
    .weights = weights,
    .n_weights = FM_COUNT(weights),
    .n_roles = N_ROLES,
    .keys = (const char *const[]){FM_KEYS_DECODER, FM_KEYS_ROPE, FM_KEYS_DUAL_CHUNK, FM_KEYS_SSM, "ssm.version", "ssm.xb_size",
                                   "ssm.group_count", "attention.layer_norm_rms_epsilon", "attention.layers", NULL},
    .config = config,
    .build = build,
};
