// SPDX-License-Identifier: MIT
// Recurrent families over long sequences, in one session, against the reference interpreter, whose states are in double from
// the first token to the last.
//
//   test_e2e_long [--tokens N] [--rung NAME] [--model NAME]
//
// N is 5,000 unless given; 1000000 takes minutes a model. Without --rung the lowest and the highest rung run. The logits
// after 10, 20, 50, 100, ... tokens and after the last are compared: those of the last token of a prompt that was read in
// micro-batches, and those of N_DECODED single tokens behind it, so that the kernels of both take part and hand the state to
// each other.
//
// Bounds are those of test_logits (oracle.h) with DRIFT; and since these leave much room, the logits of later marks may be off by
// GROWTH times what they are up to token EARLY, with DRIFT. As long as a state forgets, the error of each step is forgotten with
// what it was made on, and nothing grows. DRIFT is for states that do not:
//   A state is updated as s <- d s + z, rounded to f32 once: off by at most u |s|, u = 2^-24, variance (u |s|)^2 / 3. The decay
//   itself brings no error worth a line, for kernels multiply by the 1 - d of slow ones. (If they multiplied by d in f32, a rate of
//   4e-8 would be off by half of itself, and each product would be rounded the same way: errors that grow with T.)
//   Roundings are independent: where |s| grows or stays, T updates add up to a random walk of standard deviation at most
//   u |s| sqrt(T / 3); with a rate r to u |s| sqrt(1 / (6 r)) and no more. Kernels of prompts update once a block of tokens, which
//   is less. T = 10^6: 577 u = 3.4e-5 of the state.
//   The logits see the state through y = q s, a sum over some ten elements whose walks are independent, norms, which keep
//   relative errors, and layers, whose sums keep them too; SPREAD covers terms of y that cancel, several deviations from the mean,
//   and several layers.
// What rounding to f16 does is measured on the first tokens. It does not grow: states stay in f32, and a factor that is rounded
// enters the state once, as a share of what it adds.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/os.h"
#include "e2e/oracle.h"

#define MOST_TOKENS 1000000u
#define N_UBATCH 512u
#define N_DECODED 4u
#define N_ROWS (N_DECODED + 1) // compared at a mark
#define MARKS 24u
#define REFERENCE_ROWS 32u // of a step of the reference: small enough to stay in a cache
#define N_YARDSTICK 257u   // tokens on which the effect of f16 is measured
#define EARLY 500u
#define GROWTH 4
#define SPREAD 4
#define DRIFT(tokens) (SPREAD * 0x1p-24 * sqrt((double)(tokens) / 3))

static struct {
    uint32_t tokens;
    const char *rung, *model;
    bool table; // print every mark
} options = {.tokens = 5000};

struct subject {
    const char *name, *arch;
    bool f32; // matrices, else q8_0
};

static const struct subject subjects[] = {
    {"transnormer", "transnormer", true},       // LRPE in the first layer, rates of 2.5e-6 to 4e-8 in the last
    {"transnormer-decay", "transnormer", true}, // LRPE in the last layer, one head of which forgets nothing
    {"mamba", "mamba", true},
    {"mamba-state16", "mamba", true},
    {"falcon-mamba", "mamba", true},
    {"mamba2", "mamba2", true},
    {"mamba2-state32", "mamba2", true},
    {"mamba2-groups", "mamba2", true},
    {"mambainllama-1-none", "mambainllama", false},
    {"mambainllama-2-none", "mambainllama", false},
};

struct trial {
    const struct subject *subject;
    char path[1024];
    uint32_t *tokens;
    uint32_t marks[MARKS], n_marks; // tokens read
    size_t vocab;
    enum fm_rung rungs[2];
    uint32_t n_rungs;
    struct e2e_reader reader;
    double *expected;      // [n_marks,N_ROWS,V]
    float *got[2];         // likewise, of each rung
    uint64_t ns[3];        // what the rungs and the reference took
    enum fm_result result; // of the device's thread, with its message: cmocka knows the main thread only
    char message[512];
};

// 10, 20, 50, 100, ..., and the last.
static void place_marks(struct trial *t, uint32_t last)
{
    static const uint32_t factors[] = {1, 2, 5};
    for (uint32_t ten = 10; ten < last; ten *= 10)
        for (uint32_t i = 0; i < FM_COUNT(factors) && factors[i] * ten + N_ROWS <= last; i++) {
            assert_true(t->n_marks + 1 < MARKS);
            t->marks[t->n_marks++] = factors[i] * ten;
        }
    t->marks[t->n_marks++] = last;
}

// ---- both sides --------------------------------------------------------------------------------------------------

static void read_reference(struct trial *t)
{
    uint64_t began = fm_clock_ns();
    uint32_t pos = 0;
    for (uint32_t m = 0; m < t->n_marks; m++) {
        uint32_t before = t->marks[m] - N_ROWS;
        for (uint32_t n; pos < before; pos += n) {
            n = FM_MIN(REFERENCE_ROWS, before - pos);
            e2e_reader_read(&t->reader, t->tokens + pos, n);
        }
        const double *rows = e2e_reader_read(&t->reader, t->tokens + pos, N_ROWS);
        memcpy(t->expected + m * N_ROWS * t->vocab, rows, N_ROWS * t->vocab * sizeof(*rows));
        pos += N_ROWS;
    }
    t->ns[2] = fm_clock_ns() - began;
}

struct row {
    float *to;
    size_t vocab;
};

static bool take_row(void *user, size_t first_token, size_t n_rows, const float *logits)
{
    const struct row *row = user;
    (void)first_token;
    memcpy(row->to, logits + (n_rows - 1) * row->vocab, row->vocab * sizeof(*logits));
    return true;
}

// A prompt up to N_DECODED tokens before the mark, and these one by one.
static enum fm_result read_to_mark(const struct trial *t, struct fm_session *session, uint32_t pos, uint32_t mark, float *rows)
{
    enum fm_result r = FM_OK;
    for (uint32_t i = 0; i < N_ROWS && r == FM_OK; i++) {
        struct row row = {.to = rows + i * t->vocab, .vocab = t->vocab};
        uint32_t n = i == 0 ? mark - N_DECODED - pos : 1;
        r = fm_session_logits(session, 0, t->tokens + pos, n, false, take_row, &row);
        pos += n;
    }
    return r;
}

static enum fm_result read_device(struct trial *t, uint32_t which)
{
    const struct fm_device_params on = {.max_rung = fm_rung_name(t->rungs[which])};
    const struct fm_session_params params = {.n_ctx = t->marks[t->n_marks - 1], .n_ubatch = N_UBATCH};
    struct fm_device *device = NULL;
    struct fm_model *model = NULL;
    struct fm_session *session = NULL;
    enum fm_result r;
    if ((r = fm_device_open(&on, &device)) == FM_OK && (r = fm_model_open(t->path, &model)) == FM_OK &&
        (r = fm_model_load(model, device, NULL)) == FM_OK)
        r = fm_session_create(model, &params, &session);
    uint64_t began = fm_clock_ns();
    uint32_t pos = 0;
    for (uint32_t m = 0; m < t->n_marks && r == FM_OK; pos = t->marks[m++])
        r = read_to_mark(t, session, pos, t->marks[m], t->got[which] + m * N_ROWS * t->vocab);
    t->ns[which] = fm_clock_ns() - began;
    if (r != FM_OK)
        snprintf(t->message, sizeof(t->message), "rung %s, after token %u: %s", on.max_rung, pos, fm_error_message());
    if (session != NULL)
        fm_session_destroy(&session);
    if (model != NULL)
        fm_model_close(&model);
    if (device != NULL)
        fm_device_close(&device);
    return r;
}

// The reference beside the device.
static void read_side(void *user, uint32_t side)
{
    struct trial *t = user;
    if (side == 0)
        read_reference(t);
    for (uint32_t i = 0; side == 1 && i < t->n_rungs && t->result == FM_OK; i++)
        t->result = read_device(t, i);
}

// ---- comparing ---------------------------------------------------------------------------------------------------

// What f16 factors do to the logits of the first tokens, as a share of the largest.
static struct e2e_off off_by_factors(const struct trial *t)
{
    uint32_t n = FM_MIN(N_YARDSTICK, t->marks[t->n_marks - 1]), vocab;
    double *exact = e2e_reference(t->path, t->tokens, n, E2E_HALF_NONE, &vocab);
    double *rounded = e2e_reference(t->path, t->tokens, n, E2E_HALF_FACTORS, &vocab);
    struct e2e_off off = {0, 0};
    for (uint32_t i = 0; i < n; i++) // the mark's share is of its own row's largest
        off = e2e_greater(off, e2e_rounding_distance(exact + i * vocab, rounded + i * vocab, vocab));
    free(exact);
    free(rounded);
    assert_true(off.most < 2e-2); // else the yardstick itself is broken
    return off;
}

// As test_logits has it, without the drift.
static double bound_of_rung(const struct trial *t, enum fm_rung rung, struct e2e_off off)
{
    if (rung >= FM_RUNG_CM && (!t->subject->f32 || e2e_multiplies_activations(t->subject->arch)))
        return e2e_bound_of_factors(t->subject->arch, off).most;
    if (!t->subject->f32 && e2e_adds_halves(rung))
        return e2e_bound_of_sums(off).most;
    return rung >= FM_RUNG_DOT && !t->subject->f32 ? E2E_EXACT + E2E_SLACK * off.most / 8 : E2E_EXACT;
}

static void assert_finite(const struct trial *t, uint32_t which, uint32_t m)
{
    for (size_t i = 0; i < N_ROWS * t->vocab; i++)
        if (!isfinite(t->got[which][m * N_ROWS * t->vocab + i]))
            fail_msg("%s, rung %s: a logit after token %zu is %g", t->subject->name, fm_rung_name(t->rungs[which]),
                     t->marks[m] - N_DECODED + i / t->vocab, (double)t->got[which][m * N_ROWS * t->vocab + i]);
}

// Distances at a mark: of the prompt's last row, and of the worst single token.
static void measure(const struct trial *t, uint32_t which, uint32_t m, double out_off[2])
{
    out_off[0] = out_off[1] = 0;
    for (uint32_t i = 0; i < N_ROWS; i++) {
        size_t at = (m * N_ROWS + i) * t->vocab;
        out_off[i > 0] = fmax(out_off[i > 0], e2e_distance(t->got[which] + at, t->expected + at, t->vocab).most);
    }
}

static void compare(const struct trial *t, uint32_t which, struct e2e_off factors)
{
    const char *name = t->subject->name, *rung = fm_rung_name(t->rungs[which]);
    double worst[2] = {0}, early = 0, allowed = 0;
    for (uint32_t m = 0; m < t->n_marks; m++) {
        double off[2], drift = DRIFT(t->marks[m]);
        assert_finite(t, which, m);
        measure(t, which, m, off);
        allowed = bound_of_rung(t, t->rungs[which], factors) + drift;
        if (t->marks[m] <= EARLY)
            early = fmax(early, fmax(off[0], off[1]));
        else
            allowed = fmin(allowed, GROWTH * early + drift);
        if (options.table)
            print_message("  %s, %-4s %8u tokens: prompt %.2e, single %.2e of %.2e\n", name, rung, t->marks[m], off[0], off[1],
                          allowed);
        if (!(off[0] <= allowed && off[1] <= allowed))
            fail_msg("%s, rung %s, %u tokens: off by %.2e (prompt) and %.2e (single tokens) of the largest logit, %.2e allowed, "
                     "%.2e in the first %u", name, rung, t->marks[m], off[0], off[1], allowed, early, EARLY);
        worst[0] = fmax(worst[0], off[0]);
        worst[1] = fmax(worst[1], off[1]);
    }
    print_message("%s, rung %s, %u tokens in %.1f s (reference %.1f s): prompts off by %.2e, single tokens by %.2e; %.2e allowed at "
                  "the end\n", name, rung, options.tokens, (double)t->ns[which] * 1e-9, (double)t->ns[2] * 1e-9, worst[0], worst[1],
                  allowed);
}

// ---- the trial ---------------------------------------------------------------------------------------------------

static void *room(size_t count, size_t bytes)
{
    void *at = calloc(count, bytes);
    assert_non_null(at);
    return at;
}

static void prepare(struct trial *t)
{
    const char *folder = fm_env_text("FULMEN_TEST_DATA");
    uint64_t state = 2027;
    enum fm_rung top = e2e_rung(), wanted = options.rung != NULL ? fm_rung_from_name(options.rung) : top;
    assert_non_null(folder);
    snprintf(t->path, sizeof(t->path), "%s/models/%s.gguf", folder, t->subject->name);
    if (wanted > top)
        fail_msg("rung %s: the device reaches %s", options.rung, fm_rung_name(top));
    t->rungs[0] = FM_RUNG_BASE;
    t->n_rungs = options.rung == NULL && top > FM_RUNG_BASE ? 2 : 1;
    t->rungs[t->n_rungs - 1] = wanted;
    place_marks(t, options.tokens);
    e2e_reader_open(t->path, REFERENCE_ROWS, N_ROWS, E2E_HALF_NONE, &t->reader);
    t->vocab = t->reader.config.vocab;
    t->tokens = room(options.tokens, sizeof(*t->tokens));
    for (uint32_t i = 0; i < options.tokens; i++)
        t->tokens[i] = (uint32_t)(model_make_next(&state) >> 32) % (uint32_t)t->vocab;
    size_t count = t->n_marks * N_ROWS * t->vocab;
    t->expected = room(count, sizeof(*t->expected));
    for (uint32_t i = 0; i < t->n_rungs; i++)
        t->got[i] = room(count, sizeof(*t->got[i]));
}

static void run_subject(void **state)
{
    struct trial t = {.subject = *state};
    prepare(&t);
    fm_thread_for(2, 2, read_side, &t);
    if (t.result != FM_OK)
        fail_msg("%s: %s", t.subject->name, t.message);
    struct e2e_off off = off_by_factors(&t);
    for (uint32_t i = 0; i < t.n_rungs; i++) {
        compare(&t, i, off);
        free(t.got[i]);
    }
    e2e_reader_close(&t.reader);
    free(t.expected);
    free(t.tokens);
}

static bool take_option(const char *name, const char *value)
{
    char *end;
    if (strcmp(name, "--tokens") == 0) {
        unsigned long tokens = strtoul(value, &end, 10);
        options.tokens = (uint32_t)tokens;
        options.table = true;
        return *end == '\0' && tokens >= 10 && tokens <= MOST_TOKENS;
    }
    if (strcmp(name, "--rung") == 0) {
        options.rung = value;
        return fm_rung_from_name(value) != FM_RUNG_COUNT;
    }
    options.model = value;
    return strcmp(name, "--model") == 0;
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[FM_COUNT(subjects)];
    size_t n = 0;
    for (int i = 1; i < argc; i += 2)
        if (i + 1 == argc || !take_option(argv[i], argv[i + 1])) {
            fprintf(stderr, "%s: expected --tokens 10..%u, --rung NAME or --model NAME\n", argv[i], MOST_TOKENS);
            return 2;
        }
    for (size_t i = 0; i < FM_COUNT(subjects); i++)
        if (options.model == NULL || strcmp(options.model, subjects[i].name) == 0)
            tests[n++] = (struct CMUnitTest){.name = subjects[i].name, .test_func = run_subject,
                                             .initial_state = (void *)(uintptr_t)&subjects[i]};
    if (n == 0) {
        fprintf(stderr, "--model %s: not one of this test's models\n", options.model);
        return 2;
    }
    return _cmocka_run_group_tests("long", tests, n, NULL, NULL);
}
