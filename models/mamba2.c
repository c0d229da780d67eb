// SPDX-License-Identifier: MIT
// Mamba-2 (Dao and Gu, "Transformers are SSMs", 2024), with any number of groups: the gated norm is per group, as in the
// authors' code.
#include "models/arch.h"

#include <math.h>

#define ARCH "mamba2"

enum { TOKEN_EMBD, OUTPUT_NORM, OUTPUT, NORM, IN_Z, IN_XBC, IN_DT, CONV, CONV_BIAS, DT_BIAS, A, D, GATE_NORM, OUT, N_ROLES };

#define IN .name = "blk.%u.ssm_in.weight", .flags = FM_W_LAYER, .tensor_rows = FM_L_EXBCDT
#define VECTOR .flags = FM_W_LAYER | FM_W_F32 | FM_W_FLAT

static const struct fm_weight_spec weights[] = {
    {.role = TOKEN_EMBD, .name = "token_embd.weight", .shape = {FM_L_V, FM_L_D}},
    {.role = OUTPUT_NORM, .name = "output_norm.weight", .shape = {FM_L_D}, .flags = FM_W_F32},
    {.role = OUTPUT, .name = "output.weight", .shape = {FM_L_V, FM_L_D}, .flags = FM_W_HEAD},
    {.role = NORM, .name = "blk.%u.attn_norm.weight", .shape = {FM_L_D}, .flags = FM_W_LAYER | FM_W_F32},
    {.role = IN_Z, IN, .shape = {FM_L_E, FM_L_D}},
    {.role = IN_XBC, IN, .shape = {FM_L_XBC, FM_L_D}, .row0 = FM_L_E},
    {.role = IN_DT, IN, .shape = {FM_L_DT, FM_L_D}, .row0 = FM_L_EXBC},
    {.role = CONV, .name = "blk.%u.ssm_conv1d.weight", .shape = {FM_L_XBC, FM_L_W}, .flags = FM_W_LAYER | FM_W_F32},
    {.role = CONV_BIAS, .name = "blk.%u.ssm_conv1d.bias", .shape = {FM_L_XBC}, .flags = FM_W_LAYER | FM_W_F32},
    {.role = DT_BIAS, .name = "blk.%u.ssm_dt.bias", .shape = {FM_L_DT}, VECTOR},
    {.role = A, .name = "blk.%u.ssm_a", .shape = {FM_L_DT}, VECTOR},
    {.role = D, .name = "blk.%u.ssm_d", .shape = {FM_L_DT}, VECTOR},
    {.role = GATE_NORM, .name = "blk.%u.ssm_norm.weight", .shape = {FM_L_E}, VECTOR},
    {.role = OUT, .name = "blk.%u.ssm_out.weight", .shape = {FM_L_D, FM_L_E}, .flags = FM_W_LAYER},
};

static enum fm_result config(const struct fm_file *file, struct fm_arena *arena, struct fm_config *out_config)
{
    struct fm_config c = {.ssm = 2};
    double eps;
    enum fm_result r;
    (void)arena;
    if ((r = fm_keys_recurrent(file, ARCH, &c)) != FM_OK || (r = fm_keys_ssm(file, ARCH, &c)) != FM_OK ||
        (r = fm_keys_size(file, ARCH, "ssm.group_count", c.dt_rank, 1, &c.groups)) != FM_OK ||
        (r = fm_keys_positive(file, ARCH, "attention.layer_norm_rms_epsilon", NAN, &eps)) != FM_OK)
        return r;
    if (c.inner % c.dt_rank != 0 || c.dt_rank % c.groups != 0)
        return fm_fail(FM_FORMAT, "%s: " ARCH ".ssm.time_step_rank is %u heads, expected a divisor of inner_size, %u, and a multiple of "
                       "group_count, %u", fm_file_path(file), c.dt_rank, c.inner, c.groups);
    c.norm_eps = (float)eps;
    *out_config = c;
    return FM_OK;
}

static uint32_t mixer(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w, uint32_t layer, uint32_t x,
                      uint32_t *out_gate)
{
    const struct fm_attr conv = {.act = FM_ACT_SILU, .repeat = 1};
    const struct fm_attr ssd = {.heads = c->dt_rank, .head = c->inner / c->dt_rank, .heads_kv = c->dt_rank, .groups = c->groups,
                                .groups_c = c->groups, .state = c->state};
    uint32_t channels = c->inner + 2 * c->groups * c->state, seg = fm_build_input(b, FM_INPUT_SEGMENT);
    *out_gate = fm_build_matmul(b, "ssm_in_z", x, fm_weight(w, layer, IN_Z), FM_NONE);
    uint32_t in = fm_build_matmul(b, "ssm_in_xbc", x, fm_weight(w, layer, IN_XBC), FM_NONE);
    uint32_t dt = fm_build_matmul(b, "ssm_in_dt", x, fm_weight(w, layer, IN_DT), FM_NONE);
    uint32_t window = fm_build_recurrent_state(b, "conv_state", c->conv - 1, channels);
    uint32_t xbc = fm_build_node(b, FM_OP_CONV1D, "ssm_conv1d", &conv, 5,
                                 (uint32_t[]){in, fm_weight(w, layer, CONV), seg, window, fm_weight(w, layer, CONV_BIAS)});
    uint32_t src[] = {xbc,
                      dt,
                      fm_weight(w, layer, A),
                      fm_weight(w, layer, D),
                      fm_weight(w, layer, DT_BIAS),
                      seg,
                      fm_build_recurrent_state(b, "ssm_state", c->inner, c->state)};
    return fm_build_node(b, FM_OP_SSD, "ssm_ssd", &ssd, FM_COUNT(src), src);
}

static void build(struct fm_builder *b, const struct fm_config *c, const struct fm_weights *w)
{
    const struct fm_attr gated = {.gate = FM_GATE_FIRST, .act = FM_ACT_SILU, .groups = c->groups, .eps = c->norm_eps};
    uint32_t table = fm_weight(w, FM_NONE, TOKEN_EMBD);
    uint32_t x = fm_build_embed(b, "token_embd", table, fm_build_tokens(b), 1);
    for (uint32_t layer = 0; layer < c->n_layers; layer++) {
        fm_build_prefix(b, "blk.%u.", layer);
        uint32_t z, n = fm_build_norm(b, "attn_norm", FM_NORM_RMS, x, fm_weight(w, layer, NORM), FM_NONE, c->norm_eps);
        uint32_t y = mixer(b, c, w, layer, n, &z);
        if (layer == c->n_layers - 1) {
            y = fm_build_output_rows(b, "ssd_out", y);
            z = fm_build_output_rows(b, "gate_out", z);
            x = fm_build_output_rows(b, "residual_out", x);
        }
        y = fm_build_node(b, FM_OP_NORM_GATE, "ssm_norm", &gated, 3, (uint32_t[]){y, z, fm_weight(w, layer, GATE_NORM)});
        y = fm_build_matmul(b, "ssm_out", y, fm_weight(w, layer, OUT), FM_NONE);
        x = fm_build_add(b, "ssm_add", y, x);
    }
    fm_build_prefix(b, "%s", "");
    fm_build_head(b, x, fm_weight(w, FM_NONE, OUTPUT_NORM), FM_NONE, FM_NORM_RMS, c->norm_eps,
                  c->tied ? table : fm_weight(w, FM_NONE, OUTPUT), FM_NONE, c->vocab_real);
}

const struct fm_arch fm_arch_mamba2 = {
    .name = ARCH,
    .weights = weights,
    .n_weights = FM_COUNT(weights),
    .n_roles = N_ROLES,
    .keys = (const char *const[]){FM_KEYS_RECURRENT, FM_KEYS_SSM, "attention.layer_norm_rms_epsilon", "ssm.group_count", NULL},
    .config = config,
    .build = build,
};
