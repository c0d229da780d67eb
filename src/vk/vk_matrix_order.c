// SPDX-License-Identifier: MIT
// Where the elements of cooperative matrices lie in a subgroup's lanes. Vulkan says that this is the device's choice, and offers no
// way to ask. So each order that kernels are made for is tried: products of whole numbers that come out right only if all elements
// lie as the kernel takes for granted, with F16 weights and with Q8_0, whose scales meet the elements of accumulators.
#include "vk/vk_internal.h"

#include "base/half.h"
#include "shaders/lib/abi.h"

#define ROWS 8u
#define COLS 16u
#define DEPTH 128u
#define X_OFFSET 256u // in the memory that the host writes: the step's header, x, w
#define W_OFFSET (X_OFFSET + ROWS * DEPTH * 4u)
#define INPUT_BYTES (W_OFFSET + COLS * DEPTH * 2u + 256u)
#define BLOCK 32u // weights of Q8_0 that share a scale

FM_DISPATCH_LAYOUT(FM_PUSH_MATMUL);

// Small whole numbers without a pattern that a wrong order would keep.
static int32_t number_at(uint32_t i)
{
    return (int32_t)(((i + 1u) * 2654435761u) >> 24 & 15u) - 8;
}

static int32_t weight_at(uint32_t col, uint32_t k)
{
    return number_at(col * DEPTH + k + 7777u);
}

// Of a block of one column; 1 for F16.
static int32_t scale_at(enum fm_type w, uint32_t col, uint32_t k)
{
    return w == FM_TYPE_Q8_0 ? 1 + (int32_t)((col * 5u + k / BLOCK * 3u) % 11u) : 1;
}

// As src/quant/quant.h says: F16 as it is; Q8_0 the numbers of all blocks, then their scales.
static void write_weights(uint8_t *out, enum fm_type w)
{
    for (uint32_t col = 0; col < COLS; col++)
        for (uint32_t k = 0; k < DEPTH; k++) {
            uint32_t at = col * DEPTH + k;
            if (w == FM_TYPE_F16)
                ((uint16_t *)out)[at] = fm_float_to_half((float)weight_at(col, k));
            else
                ((int8_t *)out)[at] = (int8_t)weight_at(col, k);
            if (w == FM_TYPE_Q8_0 && k % BLOCK == 0)
                ((uint16_t *)(out + COLS * DEPTH))[at / BLOCK] = fm_float_to_half((float)scale_at(w, col, k));
        }
}

static void write_input(uint8_t *input, enum fm_type w)
{
    memset(input, 0, INPUT_BYTES);
    uint32_t *header = (uint32_t *)input;
    header[FM_STEP_TOKENS] = header[FM_STEP_OUTPUTS] = ROWS;
    float *x = (float *)(input + X_OFFSET);
    for (uint32_t i = 0; i < ROWS * DEPTH; i++)
        x[i] = (float)number_at(i);
    write_weights(input + W_OFFSET, w);
}

static bool is_right(const float *y, enum fm_type w)
{
    for (uint32_t row = 0; row < ROWS; row++)
        for (uint32_t col = 0; col < COLS; col++) {
            int32_t sum = 0;
            for (uint32_t k = 0; k < DEPTH; k++)
                sum += number_at(row * DEPTH + k) * weight_at(col, k) * scale_at(w, col, k);
            if (y[row * COLS + col] != (float)sum)
                return false;
        }
    return true;
}

static const struct fm_kernel *kernel_of(const struct fm_caps *caps, enum fm_matrix_order order, enum fm_type w)
{
    struct fm_want want = {.op = FM_OP_MATMUL, .x = FM_TYPE_F32, .w = w};
    want.param[FM_PARAM_ROWS] = ROWS;
    want.param[FM_PARAM_N] = COLS;
    want.param[FM_PARAM_K] = DEPTH;
    want.param[FM_PARAM_SUBGROUP] = caps->subgroup_size;
    want.param[FM_PARAM_CORES] = caps->cores;
    struct fm_caps guess = *caps;
    guess.matrix_order = order;
    for (size_t i = 0; i < fm_kernel_count; i++)
        if (fm_kernels[i].matrix_order == order && fm_kernels[i].x != FM_TYPE_F16 &&
            fm_kernel_fits(&guess, &fm_kernels[i], &want, NULL, NULL))
            return &fm_kernels[i];
    return NULL;
}

static enum fm_result run(struct fm_vk *vk, const struct fm_kernel *kernel, struct fm_vk_memory *input, struct fm_vk_memory *output)
{
    const struct fm_want none = {0};
    struct fm_dispatch d = {.kernel = kernel, .n_spec = kernel->n_specs, .n_bind = n_bind, .n_words = n_words, .name = "matrix order"};
    for (uint32_t i = 0; i < kernel->n_specs; i++) {
        d.spec[i].id = kernel->spec[i].id;
        d.spec[i].value = kernel->spec[i].param == FM_PARAM_SUBGROUP ? vk->caps.subgroup_size : kernel->spec[i].value;
    }
    uint32_t tile_rows = fm_kernel_tile(kernel->tile_rows, &none), tile_cols = fm_kernel_tile(kernel->tile_cols, &none);
    d.grid[0] = (COLS + tile_cols - 1) / tile_cols;
    d.grid[1] = (ROWS + tile_rows - 1) / tile_rows;
    d.grid[2] = 1;
    for (uint32_t i = 0; i < n_bind; i++)
        d.bind[i].pool = FM_POOL_NONE;
    d.bind[bind_step] = (struct fm_binding){.pool = FM_POOL_STEP, .bytes = 4 * FM_STEP_HEADER_WORDS};
    d.bind[bind_x] = (struct fm_binding){.pool = FM_POOL_STEP, .offset = X_OFFSET, .bytes = ROWS * DEPTH * 4};
    d.bind[bind_w] = (struct fm_binding){.pool = FM_POOL_STEP, .offset = W_OFFSET, .bytes = COLS * DEPTH * 2};
    d.bind[bind_y] = (struct fm_binding){.pool = FM_POOL_RESULT, .written = true, .bytes = ROWS * COLS * 4};
    d.word[word_n] = COLS;
    d.word[word_k] = d.word[word_stride_x] = DEPTH;
    d.word[word_rows_word] = FM_STEP_TOKENS;
    struct fm_plan plan = {.dims = {.t = ROWS, .o = ROWS, .s = 1, .l = 1}, .dispatches = &d, .n_dispatches = 1, .n_groups = 1};
    struct fm_vk_program_info info = {.plan = &plan, .ring = 1};
    info.memory[FM_POOL_STEP] = input;
    info.memory[FM_POOL_RESULT] = output;
    struct fm_vk_program *program;
    uint64_t value;
    enum fm_result err = fm_vk_program_create(vk, &info, &program);
    if (err)
        return err;
    if (!(err = fm_vk_program_submit(program, 0, &value)))
        err = fm_vk_wait(vk, value, UINT64_MAX);
    fm_vk_program_destroy(&program);
    return err;
}

// *out_has: every product came out right. FM_OK without one where no kernel of the order fits the device.
static enum fm_result try_order(struct fm_vk *vk, enum fm_matrix_order order, struct fm_vk_memory *input, struct fm_vk_memory *output,
                                bool *out_has)
{
    static const enum fm_type types[] = {FM_TYPE_F16, FM_TYPE_Q8_0};
    bool has = true;
    for (size_t i = 0; i < FM_COUNT(types) && has; i++) {
        const struct fm_kernel *kernel = kernel_of(&vk->caps, order, types[i]);
        enum fm_result err = FM_OK;
        write_input(fm_vk_memory_host(input), types[i]);
        memset(fm_vk_memory_host(output), 0, ROWS * COLS * 4);
        if (kernel)
            err = run(vk, kernel, input, output);
        if (err)
            return err;
        has = kernel && is_right(fm_vk_memory_host(output), types[i]);
    }
    *out_has = has;
    return FM_OK;
}

static enum fm_result find(struct fm_vk *vk, struct fm_vk_memory **input, struct fm_vk_memory **output)
{
    enum fm_result err = fm_vk_memory_create_single(vk, "matrix order input", FM_VK_UPLOAD, INPUT_BYTES, input);
    if (!err)
        err = fm_vk_memory_create_single(vk, "matrix order output", FM_VK_READBACK, ROWS * COLS * 4, output);
    for (enum fm_matrix_order order = FM_MATRIX_ORDER_NONE + 1; order < FM_MATRIX_ORDER_COUNT && !err; order++) {
        bool has = false;
        err = try_order(vk, order, *input, *output, &has);
        if (has)
            vk->caps.matrix_order = order;
    }
    return err;
}

enum fm_result fm_vk_matrix_order_find(struct fm_vk *vk)
{
    struct fm_vk_memory *input = NULL, *output = NULL;
    vk->caps.matrix_order = FM_MATRIX_ORDER_NONE;
    if (!(vk->caps.bits & FM_CAP_COOPMAT))
        return FM_OK;
    enum fm_result err = find(vk, &input, &output);
    fm_vk_memory_destroy(&input);
    fm_vk_memory_destroy(&output);
    if (!err || err == FM_LOST || err == FM_NOMEM)
        return err;
    fm_log(FM_LOG_WARN, "%s: how its matrices lie was not found out, products of few rows take other kernels: %s", vk->caps.name,
           fm_error_message());
    vk->caps.matrix_order = FM_MATRIX_ORDER_NONE;
    return FM_OK;
}
