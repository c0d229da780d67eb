// SPDX-License-Identifier: MIT
// From prompts to tokens. A decoded token never passes through the host on its way into the next step: the step that
// will read it is submitted before it is known (FM_TOKEN_LAST), and what a stopped sequence had too much is rewound.
#include "base/os.h"
#include "run/session.h"
#include "shaders/lib/abi.h"

#include <math.h>

struct running {
    struct fm_request *request;
    struct fm_batch_source source;
    uint32_t asked;     // output rows submitted
    uint32_t last;      // the token that was delivered last
    size_t read;        // prompt tokens of steps that are done
    bool done;
    uint64_t first_ns;
};

struct generating {
    struct fm_session *session;
    struct running *runs;
    size_t count;
    const struct fm_sampling **sampling; // [n_slots]
    uint32_t oldest, in_flight;          // ring entries
    const struct running *bad;           // the first sequence whose logits were no numbers, or NULL
    size_t turn;                         // whose prompt comes first
    struct fm_ahead ahead;               // programs of the steps to come
    uint64_t start_ns;
};

// ---- checks ------------------------------------------------------------------------------------------------------

static enum fm_result check_tokens(const struct fm_session *session, uint32_t slot, const uint32_t *tokens, size_t count)
{
    if (slot >= session->blueprint.n_slots)
        return fm_fail(FM_ARG, "slot %u of %u", slot, session->blueprint.n_slots);
    if (count == 0)
        return fm_fail(FM_ARG, "slot %u: an empty prompt", slot);
    uint32_t held = session->slots[slot].count;
    if (count > session->blueprint.n_ctx - held)
        return fm_fail(FM_NOSPACE, "a prompt of %zu tokens after %u does not fit the context of %u (-c sets it)", count, held,
                       session->blueprint.n_ctx);
    for (size_t i = 0; i < count; i++)
        if (tokens[i] >= session->model->config.vocab)
            return fm_fail(FM_ARG, "token %zu of the prompt is %u, expected less than %u", i, tokens[i], session->model->config.vocab);
    return FM_OK;
}

static enum fm_result check_sampling(uint32_t slot, const struct fm_sampling *s)
{
    const struct { const char *name; float value; } all[] = {
        {"temp", s->temp}, {"top_p", s->top_p}, {"min_p", s->min_p}, {"repeat_penalty", s->repeat_penalty}};
    for (size_t i = 0; i < FM_COUNT(all); i++)
        if (!isfinite(all[i].value))
            return fm_fail(FM_ARG, "slot %u: %s is %g, expected a finite number", slot, all[i].name, (double)all[i].value);
    return FM_OK;
}

static enum fm_result check_requests(const struct fm_session *session, const struct fm_request *requests, size_t count)
{
    if (count == 0 || count > session->blueprint.n_slots)
        return fm_fail(FM_ARG, "%zu requests for %u slots", count, session->blueprint.n_slots);
    for (size_t i = 0; i < count; i++) {
        enum fm_result result = check_tokens(session, requests[i].slot, requests[i].tokens, requests[i].n_tokens);
        if (result == FM_OK)
            result = check_sampling(requests[i].slot, &requests[i].sampling);
        if (result != FM_OK)
            return result;
        for (size_t j = 0; j < i; j++)
            if (requests[j].slot == requests[i].slot)
                return fm_fail(FM_ARG, "two requests for slot %u", requests[i].slot);
    }
    return FM_OK;
}

// ---- one step ----------------------------------------------------------------------------------------------------

static bool wants_decode(const struct generating *g, const struct running *r)
{
    return !r->done && r->source.left == 0 && r->asked > 0 && r->source.pos < g->session->blueprint.n_ctx &&
           (r->request->n_predict == 0 || r->asked < r->request->n_predict);
}

static void append(struct fm_slot *slot, uint32_t token)
{
    slot->tokens[slot->count++] = token; // never more than n_ctx: positions were checked
}

// Form and submit the next step. *out_any = false when no sequence has anything to do.
static enum fm_result advance(struct generating *g, bool *out_any)
{
    struct fm_session *session = g->session;
    uint32_t entry = (g->oldest + g->in_flight) % FM_RUN_RING;
    struct fm_batch *batch = &session->batch[entry];
    struct fm_batch_source sources[64], *list = sources;
    if (g->count > FM_COUNT(sources) && (list = fm_alloc_zero(g->count, sizeof(*list))) == NULL)
        return fm_nomem();
    for (size_t i = 0; i < g->count; i++) {
        list[i] = g->runs[i].source;
        list[i].decode = wants_decode(g, &g->runs[i]);
    }
    fm_batch_form(batch, list, g->count, g->turn, false);
    *out_any = batch->n_tokens > 0;
    for (uint32_t o = 0; o < batch->n_outputs; o++)
        g->sampling[o] = &g->runs[batch->owner[o]].request->sampling;
    enum fm_result result = *out_any ? fm_step_submit(session, entry, false, g->sampling) : FM_OK;
    for (size_t i = 0; i < g->count && result == FM_OK; i++) {
        struct running *r = &g->runs[i];
        uint32_t taken = list[i].taken;
        if (r->source.left > 0) {
            for (uint32_t t = 0; t < taken; t++)
                append(&session->slots[r->source.slot], r->source.tokens[t]);
            r->source.tokens += taken;
            r->source.left -= taken;
        }
        r->source.pos += taken;
    }
    for (uint32_t o = 0; o < batch->n_outputs && result == FM_OK; o++)
        g->runs[batch->owner[o]].asked++;
    if (result == FM_OK && *out_any) {
        g->in_flight++;
        g->turn++;
    }
    if (list != sources)
        fm_free(list);
    return result;
}

static void deliver(struct generating *g, struct running *r, uint32_t token)
{
    struct fm_request *request = r->request;
    const struct fm_tokenizer *tokenizer = g->session->model->tokenizer;
    uint64_t now = fm_clock_ns();
    if (request->n_generated++ == 0) {
        r->first_ns = now;
        request->prompt_ns = now - g->start_ns;
    } else {
        append(&g->session->slots[request->slot], r->last);
    }
    request->generate_ns = now - r->first_ns;
    r->last = token;
    bool more = request->on_token == NULL || request->on_token(request->user, token);
    r->done = true;
    if (!more)
        request->stop = FM_STOP_CALLER;
    else if (tokenizer != NULL && !request->ignore_end && fm_tokenizer_is_end(tokenizer, token))
        request->stop = FM_STOP_END;
    else if (request->n_predict != 0 && request->n_generated >= request->n_predict)
        request->stop = FM_STOP_LENGTH;
    else if (request->n_generated == r->asked && r->source.pos >= g->session->blueprint.n_ctx)
        request->stop = FM_STOP_CONTEXT;
    else
        r->done = false;
}

// The device found no token to choose. What was read stays, as after any other stop; the call ends.
static void no_numbers(struct generating *g, struct running *r)
{
    if (r->request->n_generated > 0)
        append(&g->session->slots[r->request->slot], r->last);
    r->done = true;
    if (g->bad == NULL)
        g->bad = r;
}

static enum fm_result bad_result(const struct generating *g)
{
    const struct fm_request *request = g->bad->request;
    return fm_fail(FM_NAN, "slot %u: the logits after %u tokens are no numbers: the file may be damaged (fulmen info --verify FILE "
                   "reads all of it), or the driver computes wrongly (fulmen check)", request->slot,
                   g->session->slots[request->slot].count);
}

// Prompt tokens of a sequence in a step.
static size_t prompt_tokens(const struct fm_batch *batch, const struct running *r)
{
    size_t count = 0;
    for (uint32_t t = 0; t < batch->n_tokens; t++)
        count += batch->slot[t] == r->source.slot && batch->token[t] != FM_TOKEN_LAST;
    return count;
}

// Wait for the oldest step and hand out what it brought, also when on_prompt cancels.
static enum fm_result collect(struct generating *g)
{
    bool more = true;
    const struct fm_batch *batch = &g->session->batch[g->oldest];
    const uint32_t *ids = NULL;
    enum fm_result result = fm_step_wait(g->session, g->oldest, &ids);
    g->oldest = (g->oldest + 1) % FM_RUN_RING;
    g->in_flight--;
    for (size_t i = 0; i < g->count && result == FM_OK; i++) {
        struct running *r = &g->runs[i];
        if (r->read >= r->request->n_tokens)
            continue;
        size_t read = prompt_tokens(batch, r);
        r->read += read;
        if (read > 0 && r->request->on_prompt != NULL && !r->request->on_prompt(r->request->user, r->read, r->request->n_tokens))
            more = false;
    }
    for (uint32_t o = 0; o < batch->n_outputs && result == FM_OK; o++) {
        struct running *r = &g->runs[batch->owner[o]];
        if (!r->done && ids[o] == FM_TOKEN_NAN)
            no_numbers(g, r);
        else if (!r->done)
            deliver(g, r, ids[o]);
    }
    return result == FM_OK && !more ? fm_fail(FM_CANCELLED, "cancelled") : result;
}

// ---- the whole ---------------------------------------------------------------------------------------------------

// Foresee the steps, and make the first one's program, so that this is not counted as reading the prompt.
static enum fm_result prepare(struct generating *g)
{
    struct fm_batch_source *sources = fm_alloc_zero(g->count, sizeof(*sources));
    if (sources == NULL)
        return fm_nomem();
    for (size_t i = 0; i < g->count; i++) {
        sources[i] = g->runs[i].source;
        sources[i].decode = g->runs[i].request->n_predict != 1;
    }
    enum fm_result result = fm_ahead_foresee(g->session, sources, g->count, &g->ahead);
    fm_free(sources);
    return result == FM_OK ? fm_step_prepare(g->session, g->ahead.step[0], false) : result;
}

// A program that cannot be made may never be wanted: the step that wants it says why.
static enum fm_result prepare_ahead(struct generating *g)
{
    enum fm_result result = fm_ahead_prepare(g->session, &g->ahead);
    return result == FM_CANCELLED || result == FM_LOST ? result : FM_OK;
}

static enum fm_result run_all(struct generating *g)
{
    enum fm_result result = prepare(g);
    g->start_ns = fm_clock_ns();
    while (result == FM_OK) {
        bool any = g->bad == NULL; // else steps under way are collected, and no more are formed
        while (result == FM_OK && any && g->in_flight < FM_RUN_RING)
            if ((result = fm_step_cancelled(g->session)) == FM_OK)
                result = advance(g, &any);
        if (g->in_flight == 0)
            break;
        if (result == FM_OK) // the device works
            result = prepare_ahead(g);
        if (result == FM_OK)
            result = collect(g);
    }
    while (g->in_flight > 0 && result == FM_CANCELLED) { // slots hold what these steps read: their tokens belong to it
        enum fm_result collected = collect(g);
        result = collected != FM_OK ? collected : result;
    }
    while (g->in_flight > 0) { // after a failure: what is under way must not outlive the call
        (void)fm_step_wait(g->session, g->oldest, NULL);
        g->oldest = (g->oldest + 1) % FM_RUN_RING;
        g->in_flight--;
    }
    return g->bad != NULL && (result == FM_OK || result == FM_CANCELLED) ? bad_result(g) : result;
}

enum fm_result fm_session_generate(struct fm_session *session, struct fm_request *requests, size_t count)
{
    struct generating g = {.session = session, .count = count};
    enum fm_result result = check_requests(session, requests, count);
    if (result != FM_OK)
        return result;
    g.runs = fm_alloc_zero(count, sizeof(*g.runs));
    g.sampling = fm_alloc_zero(session->blueprint.n_slots, sizeof(*g.sampling));
    if (g.runs == NULL || g.sampling == NULL) {
        fm_free(g.runs);
        fm_free(g.sampling);
        return fm_nomem();
    }
    for (size_t i = 0; i < count; i++) {
        struct fm_request *r = &requests[i];
        r->n_generated = 0;
        r->prompt_ns = r->generate_ns = 0;
        g.runs[i] = (struct running){.request = r, .source = {.slot = r->slot, .pos = session->slots[r->slot].count, .tokens = r->tokens,
                                                             .left = r->n_tokens}};
    }
    result = run_all(&g);
    atomic_store(&session->cancelled, false); // a request to stop was for this call, however it ended
    fm_free(g.runs);
    fm_free(g.sampling);
    return result;
}

// ---- logits ------------------------------------------------------------------------------------------------------

#define LOGITS_BYTES (8u << 20) // downloaded at once

static uint32_t logits_rows(const struct fm_session *session)
{
    return FM_MAX(LOGITS_BYTES / sizeof(float) / session->model->config.vocab, 1u);
}

// The next step, from token *io_first on, which is moved past what the step has read.
static enum fm_result logits_step(struct fm_session *session, uint32_t slot, const uint32_t *tokens, size_t count, size_t *io_first,
                                  bool all, const struct fm_sampling **sampling, float *buffer, fm_logits_fn *fn, void *user)
{
    size_t first = *io_first;
    struct fm_batch *batch = &session->batch[0];
    struct fm_batch_source source = {.slot = slot, .pos = session->slots[slot].count, .tokens = tokens + first, .left = count - first};
    enum fm_result result = fm_step_cancelled(session);
    fm_batch_form(batch, &source, 1, 0, all);
    if (result == FM_OK)
        result = fm_step_submit(session, 0, all, sampling);
    if (result == FM_OK)
        result = fm_step_wait(session, 0, NULL);
    if (result != FM_OK)
        return result;
    for (uint32_t t = 0; t < source.taken; t++)
        append(&session->slots[slot], tokens[first + t]);
    *io_first += source.taken;
    uint32_t at_once = logits_rows(session);
    for (uint32_t o = 0; o < batch->n_outputs && result == FM_OK; o += at_once) { // rows of one sequence follow one another
        uint32_t rows = FM_MIN(at_once, batch->n_outputs - o);
        result = fm_step_logits(session, 0, all, o, rows, buffer);
        if (result == FM_OK && !fn(user, first + batch->out_row[o], rows, buffer))
            result = fm_fail(FM_CANCELLED, "cancelled");
    }
    return result;
}

enum fm_result fm_session_logits(struct fm_session *session, uint32_t slot, const uint32_t *tokens, size_t count, bool all,
                                 fm_logits_fn *fn, void *user)
{
    static const struct fm_sampling greedy = {0};
    enum fm_result result = check_tokens(session, slot, tokens, count);
    if (result != FM_OK)
        return result;
    uint32_t n_ubatch = session->blueprint.n_ubatch;
    float *buffer = fm_alloc_zero(session->model->config.vocab, logits_rows(session) * sizeof(*buffer));
    const struct fm_sampling **sampling = fm_alloc_zero(n_ubatch, sizeof(*sampling));
    if (buffer == NULL || sampling == NULL)
        result = fm_nomem();
    for (uint32_t i = 0; i < n_ubatch && result == FM_OK; i++)
        sampling[i] = &greedy;
    for (size_t first = 0; first < count && result == FM_OK;)
        result = logits_step(session, slot, tokens, count, &first, all, sampling, buffer, fn, user);
    atomic_store(&session->cancelled, false);
    fm_free(buffer);
    fm_free(sampling);
    return result;
}
