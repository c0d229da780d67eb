// SPDX-License-Identifier: MIT
#include "e2e/oracle.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/half.h"
#include "shaders/lib/abi.h"
#include "support/temporary.h"
#include "support/tensor_data.h"

void e2e_ok(enum fm_result result, const char *what, const char *file, int line)
{
    if (result != FM_OK) {
        print_error("%s: %s: %s\n", what, fm_result_text(result), fm_error_message());
        _fail(file, line);
    }
}

struct fm_device *e2e_device(const char *rung)
{
    const struct fm_device_params params = {.max_rung = rung};
    struct fm_device *device = NULL;
    E2E_OK(fm_device_open(&params, &device));
    return device;
}

enum fm_rung e2e_rung(void)
{
    struct fm_device_info info;
    struct fm_device *device = e2e_device(NULL);
    fm_device_get_info(device, &info);
    fm_device_close(&device);
    return fm_rung_from_name(info.rung);
}

const char *e2e_model_file(const char *arch, const struct fm_config *config, enum fm_type type, uint32_t seed)
{
    static char path[TEST_PATH_BYTES];
    struct gguf_writer w = {0};
    int fd = test_temporary_file("e2e", path);
    assert_true(fd >= 0);
    close(fd);
    model_make(&w, arch, config, type, seed);
    assert_true(gguf_write_file(&w, path));
    gguf_write_finish(&w);
    return path;
}

// ---- the reference -----------------------------------------------------------------------------------------------

// Rows [row0, row0 + dims[0]) of the tensor, decoded.
static void set_weight(struct fm_ref *ref, const struct fm_file *file, const struct fm_value *v, uint32_t id)
{
    const struct fm_tensor *tensor = fm_file_tensor(file, v->of.tensor);
    struct fm_ref_tensor *to = fm_ref_tensor(ref, id);
    uint64_t elems = 1, first = v->row0 * (v->n_dims > 1 ? (uint64_t)v->dims[1] : 1);
    for (uint32_t i = 0; i < tensor->n_dims; i++)
        elems *= tensor->dims[i];
    float *all = calloc(elems, sizeof(*all));
    assert_non_null(all);
    uint8_t *data = tensor_data(tensor);
    E2E_OK(data != NULL ? FM_OK : FM_IO);
    fm_quant_decode(tensor->type, data, elems, all);
    free(data);
    for (uint64_t i = 0; i < to->elems; i++)
        to->v[i] = (double)all[first + i];
    free(all);
}

// Weights of the file, once.
static void set_weights(struct fm_ref *ref, const struct fm_graph *graph, const struct fm_file *file)
{
    for (uint32_t id = 0; id < graph->n_values; id++)
        if (graph->values[id].kind == FM_VALUE_WEIGHT)
            set_weight(ref, file, &graph->values[id], id);
}

// What the step block holds for n tokens behind the reader's position; logits are wanted of the last ones.
static void set_inputs(struct e2e_reader *r, const uint32_t *tokens, uint32_t n)
{
    uint32_t first_out = n - FM_MIN(n, r->dims.o);
    for (uint32_t id = 0; id < r->graph.n_values; id++) {
        const struct fm_value *v = &r->graph.values[id];
        double *to = fm_ref_tensor(r->ref, id)->v;
        if (v->kind != FM_VALUE_INPUT)
            continue;
        for (uint32_t i = 0; i < n; i++) {
            if (v->of.input == FM_INPUT_TOKEN)
                to[i] = tokens[i];
            if (v->of.input == FM_INPUT_POS)
                to[i] = r->pos + i;
            if (v->of.input == FM_INPUT_LENGTH)
                to[i] = r->pos + n;
        }
        for (uint32_t o = 0; v->of.input == FM_INPUT_OUT_ROW && first_out + o < n; o++)
            to[o] = first_out + o;
        if (v->of.input == FM_INPUT_SEGMENT) {
            to[FM_SEGMENT_ROWS] = n;
            to[FM_SEGMENT_POS] = r->pos;
        }
    }
}

struct rounding {
    struct fm_ref_tensor copy[2];
    bool queries;
};

// Like the kernel `cast`: beyond the range of f16 its largest number stays.
static const struct fm_ref_tensor *rounded(struct fm_ref_tensor *copy, const struct fm_ref_tensor *from)
{
    double *v = realloc(copy->v, (from->elems + 1) * sizeof(*v));
    assert_non_null(v);
    *copy = *from;
    copy->v = v;
    for (uint64_t i = 0; i < from->elems; i++)
        v[i] = (double)fm_half_to_float(fm_float_to_half((float)fmin(fmax(from->v[i], -65504.0), 65504.0)));
    return copy;
}

static void round_factors(void *user, struct fm_ref_call *call)
{
    struct rounding *r = user;
    enum fm_op op = call->node->op;
    bool two = op == FM_OP_MATMUL || op == FM_OP_LINEAR_ATTEND;
    if (two || op == FM_OP_SSD || (op == FM_OP_ATTEND && r->queries))
        call->src[0] = rounded(&r->copy[0], call->src[0]);
    if (two)
        call->src[1] = rounded(&r->copy[1], call->src[1]);
}

void e2e_reader_open(const char *path, uint32_t rows, uint32_t outputs, unsigned halves, struct e2e_reader *out_reader)
{
    enum fm_type cache = halves & E2E_Q8_CACHE ? FM_TYPE_Q8_0 : halves & E2E_HALF_CACHE ? FM_TYPE_F16 : FM_TYPE_F32;
    const struct fm_graph_options options = {.kv_type = {cache, cache}};
    struct e2e_reader *r = out_reader;
    const struct fm_arch *arch;
    *r = (struct e2e_reader){.dims = {.t = rows, .o = outputs, .s = 1, .l = rows}};
    E2E_OK(fm_file_open(path, &r->file));
    E2E_OK(fm_arch_open(r->file, &r->arena, &arch, &r->config));
    E2E_OK(fm_arch_build(arch, &r->config, r->file, &options, &r->graph));
    E2E_OK(fm_ref_create(&r->graph, &r->dims, &r->ref));
    set_weights(r->ref, &r->graph, r->file);
}

static void read_with(struct e2e_reader *r, const uint32_t *tokens, uint32_t n, fm_ref_before_fn *before, void *user)
{
    set_inputs(r, tokens, n);
    fm_ref_run_with(r->ref, before, user);
    r->pos += n;
}

const double *e2e_reader_read(struct e2e_reader *r, const uint32_t *tokens, uint32_t n)
{
    read_with(r, tokens, n, NULL, NULL);
    return fm_ref_tensor(r->ref, r->graph.logits)->v;
}

void e2e_reader_close(struct e2e_reader *r)
{
    fm_ref_destroy(&r->ref);
    fm_graph_finish(&r->graph);
    fm_file_close(&r->file);
    fm_arena_finish(&r->arena);
}

double *e2e_reference(const char *path, const uint32_t *tokens, uint32_t n, unsigned halves, uint32_t *out_vocab)
{
    struct rounding rounding = {.queries = (halves & (E2E_HALF_CACHE | E2E_Q8_CACHE)) == E2E_HALF_CACHE};
    struct e2e_reader reader;
    e2e_reader_open(path, n, n, halves, &reader);
    read_with(&reader, tokens, n, halves & E2E_HALF_FACTORS ? round_factors : NULL, &rounding);
    free(rounding.copy[0].v);
    free(rounding.copy[1].v);
    const struct fm_ref_tensor *logits = fm_ref_tensor(reader.ref, reader.graph.logits);
    double *copy = calloc(logits->elems, sizeof(*copy));
    assert_non_null(copy);
    memcpy(copy, logits->v, logits->elems * sizeof(*copy));
    *out_vocab = reader.config.vocab;
    e2e_reader_close(&reader);
    return copy;
}

// ---- the library -------------------------------------------------------------------------------------------------

struct rows {
    float *to;
    size_t vocab, count;
};

static bool take_rows(void *user, size_t first_token, size_t n_rows, const float *logits)
{
    struct rows *rows = user;
    memcpy(rows->to + first_token * rows->vocab, logits, n_rows * rows->vocab * sizeof(*logits));
    rows->count += n_rows;
    return true;
}

float *e2e_logits(struct fm_session *session, const uint32_t *tokens, size_t n, size_t vocab)
{
    struct rows rows = {.to = calloc(n * vocab, sizeof(float)), .vocab = vocab};
    assert_non_null(rows.to);
    E2E_OK(fm_session_logits(session, 0, tokens, n, true, take_rows, &rows));
    assert_int_equal(rows.count, n);
    return rows.to;
}

struct e2e_off e2e_distance(const float *got, const double *expected, size_t count)
{
    double most = 0, squares = 0, greatest = 0;
    for (size_t i = 0; i < count; i++) {
        double off = fabs((double)got[i] - expected[i]);
        most = off > most || isnan(off) ? off : most;
        squares += off * off;
        greatest = fmax(greatest, fabs(expected[i]));
    }
    return (struct e2e_off){most / greatest, sqrt(squares / (double)count) / greatest};
}

struct e2e_off e2e_rounding_distance(const double *exact, const double *rounded, size_t count)
{
    float *got = calloc(count, sizeof(*got));
    assert_non_null(got);
    for (size_t i = 0; i < count; i++)
        got[i] = (float)rounded[i];
    struct e2e_off off = e2e_distance(got, exact, count);
    free(got);
    return off;
}

struct e2e_off e2e_greater(struct e2e_off a, struct e2e_off b)
{
    return (struct e2e_off){fmax(a.most, b.most), fmax(a.rms, b.rms)};
}

bool e2e_within(struct e2e_off off, struct e2e_off bound)
{
    return off.most <= bound.most && off.rms <= bound.rms;
}

struct e2e_off e2e_exact(void)
{
    return (struct e2e_off){E2E_EXACT, E2E_EXACT_RMS};
}

struct e2e_off e2e_bound(struct e2e_off off)
{
    return (struct e2e_off){E2E_EXACT + E2E_SLACK * off.most, E2E_EXACT_RMS + E2E_SLACK * off.rms};
}

bool e2e_multiplies_activations(const char *arch)
{
    return strcmp(arch, "transnormer") == 0 || strcmp(arch, "mamba2") == 0 || strcmp(arch, "mambainllama") == 0;
}

struct e2e_off e2e_bound_of_factors(const char *arch, struct e2e_off off)
{
    if (!e2e_multiplies_activations(arch))
        return e2e_bound(off);
    struct e2e_off bound = e2e_bound((struct e2e_off){2 * off.most, 2 * off.rms});
    return (struct e2e_off){fmin(bound.most, 1e-2), bound.rms};
}

bool e2e_adds_halves(enum fm_rung rung)
{
    struct fm_device_info info;
    if (rung < FM_RUNG_F16 || rung >= FM_RUNG_CM)
        return false;
    struct fm_device *device = e2e_device(NULL);
    fm_device_get_info(device, &info);
    fm_device_close(&device);
    return strcmp(info.kind, "cpu") != 0;
}

struct e2e_off e2e_bound_of_sums(struct e2e_off off)
{
    struct e2e_off bound = e2e_bound((struct e2e_off){3 * off.most, 3 * off.rms});
    return (struct e2e_off){fmin(bound.most, 2e-2), bound.rms};
}
