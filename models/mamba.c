// SPDX-License-Identifier: MIT
// Mamba-1 (Gu and Dao, "Mamba", 2023) and Falcon-Mamba, which also normalises the time step, b and c.
#include "models/arch.h"

#include <math.h>

#define ARCH "mamba"

enum {
    TOKEN_EMBD,
    OUTPUT_NORM,
    OUTPUT,
    NORM,
    IN_X,
    IN_Z,
    CONV,
    CONV_BIAS,
    X_DT,
    X_B,
    X_C,
    DT,
    DT_BIAS,
    A,
    D,
    OUT,
    N_ROLES
};

#define IN .name = "blk.%u.ssm_in.weight", .flags = FM_W_LAYER, .tensor_rows = FM_L_E2
#define X .name = "blk.%u.ssm_x.weight", .flags = FM_W_LAYER, .tensor_rows = FM_L_DT2N

static const struct fm_weight_spec weights[] = {
    {.role = TOKEN_EMBD, .name = "token_embd.weight", .shape = {FM_L_V, FM_L_D}},
    {.role = OUTPUT_NORM, .name = "output_norm.weight", .shape = {FM_L_D}, .flags = FM_W_F32},
    {.role = OUTPUT, .name = "output.weight", .shape = {FM_L_V, FM_L_D}, .flags = FM_W_HEAD},
    {.role = NORM, .name = "blk.%u.attn_norm.weight", .shape = {FM_L_D}, .flags = FM_W_LAYER | FM_W_F32},
    {.role = IN_X, IN, .shape = {FM_L_E, FM_L_D}},
    {.role = IN_Z, IN, .shape = {FM_L_E, FM_L_D}, .row0 = FM_L_E},
    {.role = CONV, .name = "blk.%u.ssm_conv1d.weight", .shape = {FM_L_E, FM_L_W}, .flags = FM_W_LAYER | FM_W_F32},
    {.role = CONV_BIAS, .name = "blk.%u.ssm_conv1d.bias", .shape = {FM_L_E}, .flags = FM_W_LAYER | FM_W_F32},
    {.role = X_DT, X, .shape = {FM_L_DT, FM_L_E}},
    {.role = X_B, X, .shape = {FM_L_N, FM_L_E}, .row0 = FM_L_DT},
    {.role = X_C, X, .shape = {FM_L_N, FM_L_E}, .row0 = FM_L_DTN},
    {.role = DT, .name = "blk.%u.ssm_dt.weight", .shape = {FM_L_E, FM_L_DT}, .flags = FM_W_LAYER},
    {.role = DT_BIAS, .name = "blk.%u.ssm_dt.bias", .shape = {FM_L_E}, .flags = FM_W_LAYER | FM_W_F32},
    {.role = A, .name = "blk.%u.ssm_a", .shape = {FM_L_E, FM_L_N}, .flags = FM_W_LAYER | FM_W_F32},
    {.role = D, .name = "blk.%u.ssm_d", .shape = {FM_L_E}, .flags = FM_W_LAYER | FM_W_F32 | FM_W_FLAT},
    {.role = OUT, .name = "blk.%u.ssm_out.weight", .shape = {FM_L_D, FM_L_E}, .flags = FM_W_LAYER},
};

static enum fm_result config(const struct fm_file *file, struct fm_arena *arena, struct fm_config *out_config)
{
    struct fm_config c = {.ssm = 1};
    double eps, mixer_eps;
    enum fm_result r;
    (void)arena;
    if ((r = fm_keys_recurrent(file, ARCH, &c)) != FM_OK || (r = fm_keys_ssm(file, ARCH, &c)) != FM_OK ||
        (r = fm_keys_positive(file, ARCH, "attention.layer_norm_rms_epsilon", NAN, &eps)) != FM_OK ||
        (r = fm_keys_positive(file, ARCH, "ssm.dt_b_c_rms_epsilon", eps, &mixer_eps)) != FM_OK ||
        (r = fm_meta_bool(file, ARCH ".ssm.dt_b_c_rms", false, false, &c.dt_b_c_norm)) != FM_OK)
        return r;
    c.norm_eps = (float)eps;
    c.mixer_eps = (float)mixer_eps;
    *out_config = c;
    return FM_OK;
}

// x [T,width], normalised without a weight where the configuration says so.
static uint32_t maybe_norm(struct fm_builder *b, const struct fm_config *c, const char *name, uint32_t x, uint32_t width)
{
    return c->dt_b_c_norm ? fm_build_norm(b, name, FM_NORM_RMS, x, fm_build_ones(b, width), FM_NONE, c->mixer_eps) : x;
}

static uint32_t mixer(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w, uint32_t layer, uint32_t x)
{
    const struct fm_attr conv = {.act = FM_ACT_SILU, .repeat = 1}, scan = {.heads = 1, .heads_kv = 1, .state = c->state};
    uint32_t seg = fm_build_input(b, FM_INPUT_SEGMENT);
    uint32_t in = fm_build_matmul(b, "ssm_in_x", x, fm_weight(w, layer, IN_X), FM_NONE);
    uint32_t z = fm_build_matmul(b, "ssm_in_z", x, fm_weight(w, layer, IN_Z), FM_NONE);
    uint32_t window = fm_build_recurrent_state(b, "conv_state", c->conv - 1, c->inner);
    uint32_t u = fm_build_node(b, FM_OP_CONV1D, "ssm_conv1d", &conv, 5,
                               (uint32_t[]){in, fm_weight(w, layer, CONV), seg, window, fm_weight(w, layer, CONV_BIAS)});
    uint32_t low = fm_build_matmul(b, "ssm_x_dt", u, fm_weight(w, layer, X_DT), FM_NONE);
    uint32_t bb = fm_build_matmul(b, "ssm_x_b", u, fm_weight(w, layer, X_B), FM_NONE);
    uint32_t cc = fm_build_matmul(b, "ssm_x_c", u, fm_weight(w, layer, X_C), FM_NONE);
    low = maybe_norm(b, c, "ssm_dt_norm", low, c->dt_rank);
    bb = maybe_norm(b, c, "ssm_b_norm", bb, c->state);
    cc = maybe_norm(b, c, "ssm_c_norm", cc, c->state);
    uint32_t dt = fm_build_matmul(b, "ssm_dt", low, fm_weight(w, layer, DT), FM_NONE);
    uint32_t src[] = {u,
                      dt,
                      fm_weight(w, layer, A),
                      bb,
                      cc,
                      fm_weight(w, layer, D),
                      fm_weight(w, layer, DT_BIAS),
                      z,
                      seg,
                      fm_build_recurrent_state(b, "ssm_state", c->inner, c->state)};
    return fm_build_node(b, FM_OP_SELECTIVE_SCAN, "ssm_scan", &scan, FM_COUNT(src), src);
}

static void build(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w)
{
    uint32_t table = fm_weight(w, FM_NONE, TOKEN_EMBD);
    uint32_t x = fm_build_embed(b, "token_embd", table, fm_build_tokens(b), 1);
    for (uint32_t layer = 0; layer < c->n_layers; layer++) {
        fm_build_prefix(b, "blk.%u.", layer);
        uint32_t n = fm_build_norm(b, "attn_norm", FM_NORM_RMS, x, fm_weight(w, layer, NORM), FM_NONE, c->norm_eps);
        uint32_t y = mixer(b, c, w, layer, n);
        if (layer == c->n_layers - 1) {
            y = fm_build_output_rows(b, "scan_out", y);
            x = fm_build_output_rows(b, "residual_out", x);
        }
        y = fm_build_matmul(b, "ssm_out", y, fm_weight(w, layer, OUT), FM_NONE);
        x = fm_build_add(b, "ssm_add", y, x);
    }
    fm_build_prefix(b, "%s", "");
    fm_build_head(b, x, fm_weight(w, FM_NONE, OUTPUT_NORM), FM_NONE, FM_NORM_RMS, c->norm_eps,
                  c->tied ? table : fm_weight(w, FM_NONE, OUTPUT), FM_NONE, c->vocab_real);
}

const struct fm_arch fm_arch_mamba = {
    .name = ARCH,
    .aliases = (const char *const[]){"falcon_mamba", NULL},
    .weights = weights,
    .n_weights = FM_COUNT(weights),
    .n_roles = N_ROLES,
    .keys = (const char *const[]){FM_KEYS_RECURRENT, FM_KEYS_SSM, "attention.layer_norm_rms_epsilon", "ssm.dt_b_c_rms",
                                   "ssm.dt_b_c_rms_epsilon", NULL},
    .config = config,
    .build = build,
};
