// SPDX-License-Identifier: MIT
#include "fake_kernels.h"

#define BIT(cap) (1ull << FM_CAP_INDEX_##cap)
#define FIXED(number, v) {number, FM_PARAM_COUNT, v}
#define NO_W .w = FM_TYPE_NONE
#define BASE(op_id, text, workgroup_size, cols) \
    {.name = text "_base", .op = FM_OP_##op_id, .rung = FM_RUNG_BASE, .x = FM_TYPE_NONE, NO_W, .spec = {FIXED(0, workgroup_size)}, \
     .n_specs = 1, .workgroup = workgroup_size, .tile_cols = cols, .split = 1, .priority = 10, .bound_c = 1, .bound_unit = 0x1p-24}
#define BASE_W(op_id, text, type_id, type_text, workgroup_size, rows, cols) \
    {.name = text "_" type_text "_base", .op = FM_OP_##op_id, .rung = FM_RUNG_BASE, .x = FM_TYPE_NONE, .w = FM_TYPE_##type_id, \
     .spec = {FIXED(0, workgroup_size)}, .n_specs = 1, .workgroup = workgroup_size, .tile_rows = rows, .tile_cols = cols, .split = 1, \
     .priority = 10, .bound_c = 4, .bound_unit = 0x1p-24}
#define PRODUCTS(op_id, text) \
    BASE_W(op_id, text, F32, "f32", 64, 4, 16), BASE_W(op_id, text, F16, "f16", 64, 4, 16), \
    BASE_W(op_id, text, Q4_0, "q4_0", 64, 4, 16), \
    {.name = text "_vec_q4_0_sg", .op = FM_OP_##op_id, .rung = FM_RUNG_SG, .needs = BIT(SUBGROUP), .x = FM_TYPE_NONE, \
     .w = FM_TYPE_Q4_0, .window = {{FM_PARAM_ROWS, 1, 8, 1}, {FM_PARAM_K, 0, UINT32_MAX, 32}, {FM_PARAM_SUBGROUP, 8, 128, 1}}, \
     .n_windows = 3, .spec = {FIXED(0, 256), {1, FM_PARAM_SUBGROUP, 0}, {2, FM_PARAM_ROWS, 0}}, .n_specs = 3, .workgroup = 256, \
     .tile_rows = 8, .tile_cols = 8, .split = 1, .shared_bytes = 4096, .full_subgroups = true, .priority = 20, .bound_c = 8, \
     .bound_unit = 0x1p-24}, \
    {.name = text "_one_q4_0_sg", .op = FM_OP_##op_id, .rung = FM_RUNG_SG, .needs = BIT(SUBGROUP), .x = FM_TYPE_NONE, \
     .w = FM_TYPE_Q4_0, .window = {{FM_PARAM_ROWS, 1, 1, 1}, {FM_PARAM_SUBGROUP, 8, 128, 1}}, .n_windows = 2, \
     .spec = {FIXED(0, 128)}, .n_specs = 1, .workgroup = 128, .tile_rows = 1, .tile_cols = 4, .split = 1, .full_subgroups = true, \
     .priority = 20, .bound_c = 8, .bound_unit = 0x1p-24}, \
    {.name = text "_vec_q4_0_dot", .op = FM_OP_##op_id, .rung = FM_RUNG_DOT, .needs = BIT(SUBGROUP) | BIT(INT_DOT), \
     .x = FM_TYPE_NONE, .w = FM_TYPE_Q4_0, .window = {{FM_PARAM_ROWS, 2, 8, 1}}, .n_windows = 1, .spec = {FIXED(0, 64)}, \
     .n_specs = 1, .workgroup = 64, .tile_rows = 8, .tile_cols = 4, .split = 1, .priority = 40, .bound_c = 8, .bound_unit = 0x1p-8}, \
    {.name = text "_tile_q4_0_cm", .op = FM_OP_##op_id, .rung = FM_RUNG_CM, .needs = BIT(SUBGROUP) | BIT(FLOAT16) | BIT(STORAGE16) \
     | BIT(COOPMAT), .x = FM_TYPE_F16, .y = FM_TYPE_F16, .w = FM_TYPE_Q4_0, .window = {{FM_PARAM_ROWS, 16, UINT32_MAX, 1}}, \
     .n_windows = 1, .spec = {FIXED(0, 128)}, .n_specs = 1, .workgroup = 128, .tile_rows = 64, .tile_cols = 64, .split = 1, \
     .shared_bytes = 20480, .matrix_m = 16, .matrix_n = 16, .matrix_k = 16, .full_subgroups = true, .priority = 60, .bound_c = 2, \
     .bound_unit = 0x1p-11}, \
    {.name = text "_tile_q4_0_cmr", .op = FM_OP_##op_id, .rung = FM_RUNG_CMR, .needs = BIT(SUBGROUP) | BIT(FLOAT16) | \
     BIT(STORAGE16) | BIT(COOPMAT) | BIT(COOPMAT_REG), .x = FM_TYPE_F16, .y = FM_TYPE_F16, .w = FM_TYPE_Q4_0, \
     .window = {{FM_PARAM_ROWS, 16, UINT32_MAX, 1}}, .n_windows = 1, .spec = {FIXED(0, 256)}, .n_specs = 1, .workgroup = 256, \
     .tile_rows = 128, .tile_cols = 128, .split = 8, .shared_bytes = 36864, .matrix_m = 16, .matrix_n = 16, .matrix_k = 64, \
     .priority = 70, .bound_c = 2, .bound_unit = 0x1p-11}
#define NORMED(op_id, text) \
    {.name = text "_one_q4_0_sg", .op = FM_OP_##op_id, .rung = FM_RUNG_SG, .needs = BIT(SUBGROUP), .x = FM_TYPE_NONE, \
     .w = FM_TYPE_Q4_0, .window = {{FM_PARAM_ROWS, 1, 1, 1}, {FM_PARAM_SUBGROUP, 16, 128, 1}}, .n_windows = 2, \
     .spec = {FIXED(0, 128)}, .n_specs = 1, .workgroup = 128, .tile_rows = 1, .tile_cols = 4, .split = 1, .full_subgroups = true, \
     .priority = 20, .bound_c = 8, .bound_unit = 0x1p-24}
#define ATTEND(type_id, type_text) \
    {.name = "attend_" type_text "_base", .op = FM_OP_ATTEND, .rung = FM_RUNG_BASE, .x = FM_TYPE_NONE, .w = FM_TYPE_##type_id, \
     .spec = {FIXED(0, 64)}, .n_specs = 1, .workgroup = 64, .tile_rows = 1, .tile_cols = 1, .split = 16, .priority = 10, .bound_c = 8, \
     .bound_unit = 0x1p-24}

const struct fm_kernel fm_kernels[] = {
    BASE(TOKEN_FEED, "token_feed", 64, 0),
    BASE(NORM, "norm", 128, 0),
    BASE(ADD_NORM, "add_norm", 128, 0),
    BASE(ROPE, "rope", 64, 64),
    BASE(GLU, "glu", 128, 1024),
    BASE(ACT, "act", 128, 1024),
    BASE(ADD, "add", 128, 1024),
    BASE(GATHER, "gather", 128, 0),
    BASE(SAMPLE, "sample", 128, 0),
    {.name = "cast_f16", .op = FM_OP_CAST, .rung = FM_RUNG_F16, .needs = BIT(STORAGE16), .x = FM_TYPE_NONE, NO_W,
     .spec = {FIXED(0, 128)}, .n_specs = 1, .workgroup = 128, .tile_cols = 512, .split = 1, .priority = 30, .bound_c = 1,
     .bound_unit = 0x1p-11},
    BASE_W(EMBED, "embed", F32, "f32", 128, 1, 1024),
    BASE_W(EMBED, "embed", F16, "f16", 128, 1, 1024),
    BASE_W(EMBED, "embed", Q4_0, "q4_0", 128, 1, 1024),
    BASE_W(KV_WRITE, "kv_write", F32, "f32", 128, 1, 256),
    BASE_W(KV_WRITE, "kv_write", F16, "f16", 128, 1, 256),
    BASE_W(ROPE_KV_WRITE, "rope_kv_write", F32, "f32", 64, 1, 0),
    BASE_W(ROPE_KV_WRITE, "rope_kv_write", F16, "f16", 64, 1, 0),
    PRODUCTS(MATMUL, "matmul"),
    PRODUCTS(MATMUL_ADD, "matmul_add"),
    PRODUCTS(MATMUL_GLU, "matmul_glu"),
    NORMED(NORM_MATMUL, "norm_matmul"),
    NORMED(NORM_MATMUL_ADD, "norm_matmul_add"),
    NORMED(NORM_MATMUL_GLU, "norm_matmul_glu"),
    ATTEND(F32, "f32"),
    ATTEND(F16, "f16"),
    {.name = "attend_heads_f16_cm", .op = FM_OP_ATTEND, .rung = FM_RUNG_CM, .needs = BIT(SUBGROUP) | BIT(FLOAT16) | BIT(STORAGE16) |
     BIT(COOPMAT), .x = FM_TYPE_F16, .w = FM_TYPE_F16, .window = {{FM_PARAM_ROWS, 16, UINT32_MAX, 1}, {FM_PARAM_HEAD, 16, 256, 16},
     {FM_PARAM_HEADS_PER_KV, 2, 16, 1}}, .n_windows = 3, .spec = {FIXED(0, 128), {3, FM_PARAM_HEAD, 0}}, .n_specs = 2, .workgroup = 128,
     .tile_rows = 16, .tile_cols = FM_TILE_PARAM | FM_PARAM_HEADS_PER_KV, .split = 4, .shared_bytes = 30000, .matrix_m = 16, .matrix_n = 16,
     .matrix_k = 16, .full_subgroups = true, .priority = 60, .bound_c = 4, .bound_unit = 0x1p-11},
};
const size_t fm_kernel_count = FM_COUNT(fm_kernels);
const uint64_t fm_kernel_manifest_hash = 0x66616b65;
const char *const fm_kernel_rungs_built = "base sg f16 dot cm cmr";

static struct fm_caps device(const char *name, enum fm_rung rung, uint32_t subgroup, uint32_t smallest, uint32_t largest,
                             uint32_t shared_bytes, uint32_t invocations)
{
    struct fm_caps caps = {.bits = fm_rung_bits(rung), .subgroup_size = subgroup, .subgroup_min = smallest, .subgroup_max = largest,
                           .subgroup_size_control = true, .shared_bytes = shared_bytes, .max_invocations = invocations,
                           .max_push_bytes = 128, .max_workgroup_size = {invocations, invocations, 64},
                           .max_workgroups = {65535, 65535, 65535}, .max_alloc_bytes = 2ull << 30, .max_buffer_bytes = 2ull << 30,
                           .device_bytes = 8ull << 30, .available_bytes = 8ull << 30};
    strncpy(caps.name, name, sizeof(caps.name) - 1);
    return caps;
}

static void list_matrix(struct fm_caps *caps, uint32_t m, uint32_t n, uint32_t k)
{
    caps->matrix[caps->n_matrix++] = (struct fm_matrix_shape){.m = m, .n = n, .k = k};
}

struct fm_caps fake_caps(const char *name)
{
    struct fm_caps caps = {0};
    if (strcmp(name, "software-4") == 0) // no 16-bit and no 8-bit types, no integer dot
        return device(name, FM_RUNG_SG, 4, 4, 4, 16384, 256);
    if (strcmp(name, "software-8") == 0)
        return device(name, FM_RUNG_DOT, 8, 8, 8, 32768, 1024);
    if (strcmp(name, "mobile-16k") == 0)
        return device(name, FM_RUNG_DOT, 64, 64, 128, 16384, 128);
    if (strcmp(name, "amd-64") == 0)
        return device(name, FM_RUNG_DOT, 64, 64, 64, 65536, 1024);
    if (strcmp(name, "amd-rdna3") == 0) {
        caps = device(name, FM_RUNG_CM, 64, 32, 64, 65536, 1024);
        list_matrix(&caps, 16, 16, 16);
        caps.vendor_id = 0x1002;
    } else if (strcmp(name, "intel-8-32") == 0) {
        caps = device(name, FM_RUNG_CM, 32, 8, 32, 65536, 1024);
        list_matrix(&caps, 8, 16, 16); // another shape than the kernels'
        caps.vendor_id = 0x8086;
    } else if (strcmp(name, "nvidia-cmr") == 0) {
        caps = device(name, FM_RUNG_CMR, 32, 32, 32, 49152, 1024);
        list_matrix(&caps, 16, 16, 16);
        list_matrix(&caps, 16, 16, 64); // deep, so that widths have to be padded
        caps.cores = 132;
    }
    return caps;
}
