// SPDX-License-Identifier: MIT
// The read bandwidth of a device: the time of a kernel that does nothing but read, over more memory than any cache
// holds.
#include "check/timing.h"

#include "shaders/lib/abi.h"

#define ROW_WORDS 16384u // one workgroup's
#define ROW_BYTES (4ull * ROW_WORDS)
#define BLOCK_ROWS 64u // filled by the host, then copied all over
#define BLOCK_BYTES (BLOCK_ROWS * ROW_BYTES)
#define MOST_ROWS 65535u // of a grid

#define GPU_BYTES (1ull << 30)
#define CPU_BYTES (64ull << 20)
#define GPU_REPEAT 15u
#define CPU_REPEAT 5u

FM_DISPATCH_LAYOUT(FM_PUSH_READ_SUM);

// Block 0 from the host, the rest by copies of twice the size each. Random words: nothing for a memory compressor.
static enum fm_result fill(struct fm_vk *vk, struct fm_reader *reader)
{
    uint32_t *block = fm_alloc(BLOCK_BYTES);
    uint64_t state = 1;
    if (!block)
        return fm_nomem();
    for (uint32_t row = 0; row < BLOCK_ROWS; row++) {
        reader->expected[row] = 0;
        for (uint32_t i = 0; i < ROW_WORDS; i++) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            reader->expected[row] += block[row * ROW_WORDS + i] = (uint32_t)(state >> 32);
        }
    }
    enum fm_result r = fm_vk_upload(vk, reader->data, 0, block, BLOCK_BYTES);
    if (!r)
        r = fm_vk_upload_finish(vk);
    for (uint64_t filled = BLOCK_BYTES; filled < reader->bytes && !r;) {
        uint64_t n = FM_MIN(filled, reader->bytes - filled);
        r = fm_vk_copy(vk, reader->data, filled, reader->data, 0, n);
        filled += n;
    }
    fm_free(block);
    return r;
}

static const struct fm_kernel *find_kernel(const struct fm_caps *caps, uint32_t rows)
{
    struct fm_want want = {.op = FM_OP_READ_SUM, .x = FM_TYPE_NONE, .w = FM_TYPE_NONE};
    want.param[FM_PARAM_ROWS] = rows;
    want.param[FM_PARAM_N] = want.param[FM_PARAM_K] = ROW_WORDS;
    want.param[FM_PARAM_SUBGROUP] = caps->subgroup_size;
    want.param[FM_PARAM_CORES] = caps->cores;
    return fm_kernel_select(caps, &want, NULL, NULL);
}

// The plan has one dispatch and is needed only until the program is recorded.
static enum fm_result make_program(struct fm_vk *vk, struct fm_reader *reader)
{
    const struct fm_kernel *kernel = find_kernel(fm_vk_caps(vk), reader->rows);
    if (!kernel)
        return fm_fail(FM_UNSUPPORTED, "%s: no kernel for read_sum", fm_vk_caps(vk)->name);
    struct fm_dispatch d = {.kernel = kernel, .n_spec = kernel->n_specs, .grid = {reader->rows, 1, 1},
                            .n_bind = n_bind, .n_words = n_words, .name = "read_sum", .moved_bytes = reader->bytes};
    for (uint32_t i = 0; i < kernel->n_specs; i++) {
        d.spec[i].id = kernel->spec[i].id;
        d.spec[i].value = kernel->spec[i].value;
    }
    d.bind[bind_step] = (struct fm_binding){.pool = FM_POOL_STEP, .bytes = 4 * FM_STEP_HEADER_WORDS};
    d.bind[bind_x] = (struct fm_binding){.pool = FM_POOL_WEIGHTS, .bytes = reader->bytes};
    d.bind[bind_y] = (struct fm_binding){.pool = FM_POOL_RESULT, .written = true, .bytes = 4ull * reader->rows};
    d.word[word_width] = ROW_WORDS;
    struct fm_plan plan = {.dims = {.t = reader->rows, .o = reader->rows, .s = 1, .l = 1}, .dispatches = &d, .n_dispatches = 1,
                           .n_groups = 1};
    struct fm_vk_program_info info = {.plan = &plan, .ring = FM_TIMING_RING, .timing = FM_VK_TIMED_GROUPS};
    info.memory[FM_POOL_WEIGHTS] = reader->data;
    info.memory[FM_POOL_STEP] = reader->step;
    info.memory[FM_POOL_RESULT] = reader->sums;
    return fm_vk_program_create(vk, &info, &reader->program);
}

enum fm_result fm_reader_create(struct fm_vk *vk, uint64_t bytes, struct fm_reader *out_reader)
{
    const struct fm_caps *caps = fm_vk_caps(vk);
    struct fm_reader reader = {0};
    uint64_t used = fm_vk_used_bytes(vk), room = caps->available_bytes > used ? caps->available_bytes - used : 0;
    bytes = FM_MIN(FM_MIN(bytes, room / 2), FM_MIN(caps->max_alloc_bytes, caps->max_buffer_bytes));
    reader.rows = (uint32_t)FM_MIN(bytes / ROW_BYTES, FM_MIN(MOST_ROWS, caps->max_workgroups[0]));
    reader.bytes = reader.rows * ROW_BYTES;
    if (reader.bytes < BLOCK_BYTES)
        return fm_fail(FM_NOSPACE, "%s: no room for %llu bytes to read, %llu are left", caps->name, BLOCK_BYTES,
                       (unsigned long long)room);
    enum fm_result r = fm_vk_memory_create_single(vk, "read data", FM_VK_DEVICE, reader.bytes, &reader.data);
    if (!r)
        r = fm_vk_memory_create_single(vk, "read step", FM_VK_UPLOAD, 256, &reader.step);
    if (!r)
        r = fm_vk_memory_create_single(vk, "read sums", FM_VK_READBACK, FM_MAX(4ull * reader.rows, 256), &reader.sums);
    if (!r)
        r = fill(vk, &reader);
    if (!r) {
        uint32_t *step = fm_vk_memory_host(reader.step);
        memset(step, 0, 256);
        step[FM_STEP_TOKENS] = step[FM_STEP_OUTPUTS] = reader.rows;
        r = make_program(vk, &reader);
    }
    if (r)
        fm_reader_finish(&reader);
    else
        *out_reader = reader;
    return r;
}

void fm_reader_finish(struct fm_reader *reader)
{
    fm_vk_program_destroy(&reader->program);
    fm_vk_memory_destroy(&reader->data);
    fm_vk_memory_destroy(&reader->step);
    fm_vk_memory_destroy(&reader->sums);
}

enum fm_result fm_reader_verify(const struct fm_reader *reader)
{
    const uint32_t *sums = fm_vk_memory_host(reader->sums);
    for (uint32_t row = 0; row < reader->rows; row++)
        if (sums[row] != reader->expected[row % BLOCK_ROWS])
            return fm_fail(FM_DEVICE, "read_sum: row %u sums to %08x, expected %08x", row, sums[row],
                           reader->expected[row % BLOCK_ROWS]);
    return FM_OK;
}

enum fm_result fm_check_read_bandwidth(struct fm_vk *vk, fm_cancel_fn *cancel, void *user, double *out_gbps)
{
    bool cpu = fm_vk_caps(vk)->kind == 4;
    uint32_t repeat = cpu ? CPU_REPEAT : GPU_REPEAT;
    uint64_t ns[FM_MAX(GPU_REPEAT, CPU_REPEAT)];
    struct fm_reader reader;
    enum fm_result r = fm_reader_create(vk, cpu ? CPU_BYTES : GPU_BYTES, &reader);
    if (r)
        return r;
    r = fm_timing_run(vk, reader.program, NULL, repeat, cancel, user, ns);
    if (!r)
        r = fm_reader_verify(&reader);
    if (!r && ns[repeat / 2] == 0)
        r = fm_fail(FM_DEVICE, "%s: its timestamps stand still", fm_vk_caps(vk)->name);
    if (!r)
        *out_gbps = (double)reader.bytes / (double)ns[repeat / 2];
    fm_reader_finish(&reader);
    return r;
}
