// SPDX-License-Identifier: MIT
// One step: the host writes about 1 KB, submits a recorded program, and waits for a number. Two step blocks take turns,
// so that the host writes the next while the device works on the last.
#include "run/session.h"

#include "shaders/lib/abi.h"

static struct fm_step_program *program_of(struct fm_session *session, struct fm_step_size step, bool all_rows)
{
    const struct fm_buckets *buckets = &session->blueprint.buckets;
    uint32_t index = fm_bucket_index(buckets, fm_bucket_of(buckets, step));
    return all_rows ? &session->all[index] : &session->few[index];
}

static struct fm_step_size size_of(const struct fm_batch *batch)
{
    return (struct fm_step_size){.rows = batch->n_tokens, .run = batch->run};
}

// ---- memory ------------------------------------------------------------------------------------------------------

static void drop_programs(struct fm_session *session)
{
    for (uint32_t i = 0; i < 2 * FM_BUCKETS; i++) {
        struct fm_step_program *program = i < FM_BUCKETS ? &session->few[i] : &session->all[i - FM_BUCKETS];
        fm_vk_program_destroy(&program->program);
        fm_planned_step_finish(&program->planned);
    }
}

void fm_step_finish(struct fm_session *session)
{
    drop_programs(session);
    fm_vk_memory_destroy(&session->arena);
    fm_vk_memory_destroy(&session->step);
    fm_vk_memory_destroy(&session->result);
    fm_vk_memory_destroy(&session->counter);
    session->arena_bytes = session->step_stride = session->result_stride = 0;
}

// Memories at least as large as told. Those of the blueprint hold every step but one with logits of more rows than there are slots:
// for that they grow, which throws recorded programs away, since addresses are part of them.
static enum fm_result reserve(struct fm_session *session, uint64_t arena_bytes, uint64_t step_stride, uint64_t result_stride)
{
    if (arena_bytes <= session->arena_bytes && step_stride <= session->step_stride && result_stride <= session->result_stride)
        return FM_OK;
    arena_bytes = FM_MAX(arena_bytes, session->arena_bytes);
    step_stride = FM_MAX(step_stride, session->step_stride);
    result_stride = FM_MAX(result_stride, session->result_stride);
    if (session->arena != NULL)
        fm_log(FM_LOG_INFO, "activations grow from %.1f to %.1f MB, for logits of every token", (double)session->arena_bytes * 1e-6,
               (double)arena_bytes * 1e-6);
    fm_step_finish(session);
    enum fm_result result;
    if ((result = fm_vk_memory_create_single(session->vk, "arena", FM_VK_DEVICE, arena_bytes, &session->arena)) != FM_OK ||
        (result = fm_vk_memory_create_single(session->vk, "step", FM_VK_UPLOAD, step_stride * FM_RUN_RING, &session->step)) != FM_OK ||
        (result = fm_vk_memory_create_single(session->vk, "result", FM_VK_READBACK, result_stride * FM_RUN_RING,
                                              &session->result)) != FM_OK ||
        (result = fm_vk_memory_create_single(session->vk, "counter", FM_VK_DEVICE, FM_COUNTER_BYTES, &session->counter)) != FM_OK ||
        (result = fm_vk_fill(session->vk, session->counter, 0, FM_COUNTER_BYTES, 0)) != FM_OK ||
        (result = fm_vk_upload_finish(session->vk)) != FM_OK) {
        fm_step_finish(session);
        return result;
    }
    session->arena_bytes = arena_bytes;
    session->step_stride = step_stride;
    session->result_stride = result_stride;
    return FM_OK;
}

enum fm_result fm_step_reserve(struct fm_session *session)
{
    const struct fm_blueprint *b = &session->blueprint;
    return reserve(session, b->arena_bytes, b->step_stride, b->result_stride);
}

// ---- programs ----------------------------------------------------------------------------------------------------

static bool is_cancelled(void *user)
{
    struct fm_session *session = user;
    return atomic_load(&session->cancelled) || (session->cancel != NULL && session->cancel(session->cancel_user));
}

// Takes the request of fm_session_cancel in one operation, so that one that comes at the same time is not lost.
enum fm_result fm_step_cancelled(struct fm_session *session)
{
    bool cancelled = atomic_exchange(&session->cancelled, false);
    cancelled = cancelled || (session->cancel != NULL && session->cancel(session->cancel_user));
    return cancelled ? fm_fail(FM_CANCELLED, "cancelled") : FM_OK;
}

bool fm_step_is_ready(struct fm_session *session, struct fm_step_size step, bool all_rows)
{
    return program_of(session, step, all_rows)->program != NULL;
}

static enum fm_result make_program(struct fm_session *session, const struct fm_plan *plan, struct fm_vk_program **out_program)
{
    const struct fm_blueprint *b = &session->blueprint; // its sizes again after memories were lost, as when they could not grow
    enum fm_result result = reserve(session, FM_MAX(plan->arena_bytes, b->arena_bytes),
                                    FM_MAX(fm_blueprint_entry_bytes(plan->step.bytes), b->step_stride),
                                    FM_MAX(fm_blueprint_entry_bytes(plan->result_bytes), b->result_stride));
    if (result != FM_OK)
        return result;
    const struct fm_vk_program_info info = {
        .plan = plan,
        .memory = {[FM_POOL_WEIGHTS] = session->model->weights, [FM_POOL_STATE] = session->state, [FM_POOL_ARENA] = session->arena,
                   [FM_POOL_STEP] = session->step, [FM_POOL_RESULT] = session->result,
                   [FM_POOL_COUNTER] = session->counter},
        .ring = FM_RUN_RING, .step_stride = session->step_stride, .result_stride = session->result_stride,
        .timing = fm_profile_timing(session->profile), .cancel = is_cancelled, .cancel_user = session};
    result = fm_vk_program_create(session->vk, &info, out_program);
    if (result == FM_CANCELLED)
        atomic_store(&session->cancelled, false);
    return result;
}

enum fm_result fm_step_prepare(struct fm_session *session, struct fm_step_size step, bool all_rows)
{
    struct fm_step_program *program = program_of(session, step, all_rows);
    struct fm_planned_step planned;
    if (program->program != NULL)
        return FM_OK;
    struct fm_step_size bucket = fm_bucket_of(&session->blueprint.buckets, step);
    enum fm_result result = fm_blueprint_plan(&session->blueprint, fm_vk_caps(session->vk), bucket, all_rows, &planned);
    if (result != FM_OK)
        return result;
    result = make_program(session, &planned.plan, &program->program);
    if (result == FM_OK)
        program->planned = planned;
    else
        fm_planned_step_finish(&planned);
    return result;
}

// ---- steps -------------------------------------------------------------------------------------------------------

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

// All-zero settings are greedy; 0 means "off" also where the kernel's neutral value is 1.
static void write_sampler(uint32_t *record, const struct fm_sampling *s)
{
    record[FM_SAMPLER_TEMP] = float_bits(s->temp);
    record[FM_SAMPLER_TOP_K] = s->top_k;
    record[FM_SAMPLER_TOP_P] = float_bits(s->top_p > 0 ? s->top_p : 1.0f);
    record[FM_SAMPLER_MIN_P] = float_bits(s->min_p);
    record[FM_SAMPLER_REPEAT_PENALTY] = float_bits(s->repeat_penalty > 0 ? s->repeat_penalty : 1.0f);
    record[FM_SAMPLER_REPEAT_LAST_N] = s->repeat_penalty > 0 && s->repeat_penalty != 1 ? (s->repeat_last_n ? s->repeat_last_n : 64) : 0;
    record[FM_SAMPLER_SEED_LO] = (uint32_t)s->seed;
    record[FM_SAMPLER_SEED_HI] = (uint32_t)(s->seed >> 32);
}

static void write_step(struct fm_session *session, uint32_t entry, const struct fm_plan *plan, const struct fm_sampling *const *sampling)
{
    const struct fm_batch *b = &session->batch[entry];
    uint8_t *block = (uint8_t *)fm_vk_memory_host(session->step) + entry * session->step_stride;
    uint32_t header[FM_STEP_HEADER_WORDS] = {[FM_STEP_TOKENS] = b->n_tokens, [FM_STEP_OUTPUTS] = b->n_outputs,
                                             [FM_STEP_SEGMENTS] = b->n_segments};
    memcpy(block, header, sizeof(header));
    const uint32_t *offset = plan->step.input_offset;
    memcpy(block + offset[FM_INPUT_TOKEN], b->token, b->n_tokens * sizeof(uint32_t));
    memcpy(block + offset[FM_INPUT_POS], b->pos, b->n_tokens * sizeof(uint32_t));
    memcpy(block + offset[FM_INPUT_SLOT], b->slot, b->n_tokens * sizeof(uint32_t));
    memcpy(block + offset[FM_INPUT_OUT_ROW], b->out_row, b->n_outputs * sizeof(uint32_t));
    memcpy(block + offset[FM_INPUT_SEGMENT], b->segment, b->n_segments * FM_SEGMENT_WORDS * sizeof(uint32_t));
    memcpy(block + offset[FM_INPUT_LENGTH], b->length, b->n_tokens * sizeof(uint32_t));
    for (uint32_t o = 0; o < b->n_outputs; o++) {
        uint32_t record[FM_SAMPLER_WORDS];
        write_sampler(record, sampling[o]);
        memcpy(block + offset[FM_INPUT_SAMPLER] + o * sizeof(record), record, sizeof(record));
    }
}

enum fm_result fm_step_submit(struct fm_session *session, uint32_t entry, bool all_rows, const struct fm_sampling *const *sampling)
{
    const struct fm_batch *batch = &session->batch[entry];
    struct fm_step_size step = size_of(batch);
    enum fm_result result = fm_step_prepare(session, step, all_rows);
    if (result != FM_OK)
        return result;
    struct fm_step_program *program = program_of(session, step, all_rows);
    if (session->profile != NULL)
        result = fm_profile_begin(session->profile, entry, program->program, &program->planned.plan, batch);
    if (result != FM_OK)
        return result;
    write_step(session, entry, &program->planned.plan, sampling);
    result = fm_vk_program_submit(program->program, entry, &session->value[entry]);
    for (uint32_t i = 0; i < batch->n_segments && result == FM_OK; i++) {
        const uint32_t *segment = batch->segment + (size_t)i * FM_SEGMENT_WORDS;
        fm_state_moved(session, segment[FM_SEGMENT_SLOT], segment[FM_SEGMENT_POS], segment[FM_SEGMENT_ROWS],
                       program->planned.bucket.run);
    }
    return result;
}

enum fm_result fm_step_wait(struct fm_session *session, uint32_t entry, const uint32_t **out_ids)
{
    enum fm_result result = fm_vk_wait(session->vk, session->value[entry], UINT64_MAX);
    if (result == FM_OK && session->profile != NULL)
        result = fm_profile_end(session->profile, entry);
    if (result == FM_OK && out_ids != NULL)
        *out_ids = (const uint32_t *)fm_vk_memory_host(session->result) + entry * session->result_stride / sizeof(uint32_t);
    return result;
}

enum fm_result fm_step_logits(struct fm_session *session, uint32_t entry, bool all_rows, uint32_t first, uint32_t rows, float *out_logits)
{
    uint64_t row_bytes = session->model->config.vocab * sizeof(float);
    const struct fm_place *place = &program_of(session, size_of(&session->batch[entry]), all_rows)->planned.plan.logits;
    return fm_vk_download(session->vk, session->arena, place->offset + first * row_bytes, out_logits, rows * row_bytes);
}
