// SPDX-License-Identifier: MIT
// fulmen bench: tokens per second of prompts and of generation, and where the time goes.
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "text.h"

static const enum tool_option option_list[] = {
    OPT_MODEL, OPT_SHAPE, OPT_BENCH_P, OPT_BENCH_N, OPT_BENCH_D, OPT_BENCH_NP, OPT_BENCH_R, OPT_BENCH_O, OPT_PROFILE, OPT_PLOT,
    OPT_UBATCH, OPT_CTK, OPT_CTV, OPT_ACTIVATIONS, OPT_DCA, OPT_DEVICE, OPT_RUNG, OPT_TUNING, OPT_VERBOSE,
};

#define MOST_TESTS 100000u

// ---- which tests -------------------------------------------------------------------------------------------------

struct numbers {
    uint32_t *list;
    size_t count;
};

// In llama-bench's order: for each depth the prompts, then generation.
static void add_alone(struct bench *b, struct numbers p, struct numbers n, struct numbers d)
{
    for (size_t i = 0; i < d.count; i++) {
        for (size_t j = 0; j < p.count; j++)
            if (p.list[j] > 0)
                b->tests[b->n_tests++] = (struct bench_test){.n_prompt = p.list[j], .n_depth = d.list[i]};
        for (size_t j = 0; j < n.count; j++)
            if (n.list[j] > 0)
                b->tests[b->n_tests++] = (struct bench_test){.n_gen = n.list[j], .n_depth = d.list[i]};
    }
}

// In llama-batched-bench's.
static void add_together(struct bench *b, struct numbers p, struct numbers n, struct numbers seqs)
{
    for (size_t i = 0; i < p.count; i++)
        for (size_t j = 0; j < n.count; j++)
            for (size_t k = 0; k < seqs.count; k++)
                if (p.list[i] > 0 || n.list[j] > 0)
                    b->tests[b->n_tests++] = (struct bench_test){.n_prompt = p.list[i], .n_gen = n.list[j], .n_seqs = seqs.list[k]};
}

static int parse_together(const struct tool_options *o, struct numbers *out_seqs)
{
    int status = tool_parse_ranges(o->bench_np, "-np", &out_seqs->list, &out_seqs->count);
    for (size_t i = 0; i < out_seqs->count && status == 0; i++)
        if (out_seqs->list[i] == 0)
            status = tool_bad("-np: '%s' has no sequences in it, expected at least 1", o->bench_np);
    if (status == 0 && o->given[OPT_BENCH_D])
        status = tool_bad("bench: -np and -d exclude one another (a longer prompt, -p, is the depth that generation begins at)");
    if (status == 0 && o->plot != NULL)
        status = tool_bad("bench: -np and --plot exclude one another (the picture is of depths)");
    return status;
}

static int add_tests(struct bench *b)
{
    const struct tool_options *o = b->options;
    struct numbers p = {0}, n = {0}, d = {0}, seqs = {0};
    int status = tool_parse_ranges(o->bench_p, "-p", &p.list, &p.count);
    if (status == 0)
        status = tool_parse_ranges(o->bench_n, "-n", &n.list, &n.count);
    if (status == 0)
        status = tool_parse_ranges(o->bench_d, "-d", &d.list, &d.count);
    if (status == 0 && o->bench_np != NULL)
        status = parse_together(o, &seqs);
    size_t most = o->bench_np != NULL ? p.count * n.count * seqs.count : (p.count + n.count) * d.count;
    if (status == 0 && most > MOST_TESTS)
        status = tool_bad("bench: %zu tests, expected at most %u", most, MOST_TESTS);
    if (status == 0 && (b->tests = calloc(most, sizeof(*b->tests))) == NULL)
        status = tool_fail(FM_NOMEM);
    if (status == 0 && o->bench_np != NULL)
        add_together(b, p, n, seqs);
    else if (status == 0)
        add_alone(b, p, n, d);
    free(p.list);
    free(n.list);
    free(d.list);
    free(seqs.list);
    if (status == 0 && b->n_tests == 0)
        status = tool_bad("bench: nothing to do with -p %s -n %s", o->bench_p, o->bench_n);
    return status;
}

// ---- the whole ---------------------------------------------------------------------------------------------------

static int open_all(struct bench *b)
{
    int status = tool_open_model(b->options, &b->model);
    if (status != 0)
        return status;
    fm_model_get_info(b->model, &b->model_info);
    struct fm_session_params largest = {0};
    for (size_t i = 0; i < b->n_tests; i++) {
        struct fm_session_params params = bench_session_params(b, &b->tests[i]);
        if ((uint64_t)params.n_ctx * params.n_slots > (uint64_t)largest.n_ctx * largest.n_slots)
            largest = params;
    }
    const struct fm_device_params device = {.selector = b->options->device, .max_rung = b->options->rung, .tuning = b->options->tuning};
    char label[] = "loading";
    const struct fm_load_params load = {.session = &largest, .progress = tool_progress, .user = label};
    enum fm_result result = fm_device_open(&device, &b->device);
    double read_bytes_per_s = 0;
    if (result == FM_OK)
        fm_device_get_info(b->device, &b->device_info);
    if (result == FM_OK && tool_has_bandwidth(&b->device_info) &&
        fm_device_read_bandwidth(b->device, tool_cancel, NULL, &read_bytes_per_s) != FM_OK && !tool_stopped())
        tool_say("no share of the read bandwidth: %s", fm_error_message());
    b->read_gb_per_s = read_bytes_per_s * 1e-9;
    if (result == FM_OK)
        result = fm_model_load(b->model, b->device, &load);
    if (result != FM_OK)
        return tool_fail(result);
    return 0;
}

static void print_foot(const struct bench *b)
{
    char label[128];
    printf("\nfulmen %s (%s); ", fm_version(), fm_commit());
    if (b->options->bench_np != NULL) // its rows do not name it
        printf("%s; ", bench_model_label(b, label));
    printf("%s, driver %s, rung %s, %s", TOOL_QUOTE(b->device_info.name), TOOL_QUOTE(b->device_info.driver), b->device_info.rung,
           b->device_info.uuid);
    if (b->read_gb_per_s > 0)
        printf("; reads %.1f GB/s", b->read_gb_per_s);
    printf("\n");
}

static int run_all(struct bench *b)
{
    const char *format = b->options->bench_o;
    bool md = strcmp(format, "md") == 0;
    if (md)
        bench_print_head(b);
    for (size_t i = 0; i < b->n_tests; i++) {
        enum fm_result result = bench_run(b, &b->tests[i]);
        if (result != FM_OK)
            return tool_fail(result);
        if (md)
            bench_print_row(b, &b->tests[i]);
    }
    for (size_t i = 0; i < b->n_tests && md; i++)
        bench_print_profile(&b->tests[i]);
    if (md)
        print_foot(b);
    else if (strcmp(format, "csv") == 0)
        bench_print_csv(b);
    else
        bench_print_json(b, strcmp(format, "jsonl") == 0);
    return b->options->plot != NULL ? bench_plot(b) : TOOL_DONE;
}

static int run(const struct tool_options *options)
{
    struct bench b = {.options = options};
    const char *format = options->bench_o;
    if (strcmp(format, "md") != 0 && strcmp(format, "json") != 0 && strcmp(format, "jsonl") != 0 && strcmp(format, "csv") != 0)
        return tool_bad("bench: -o '%s', expected md, json, jsonl or csv", format);
    if (options->bench_r == 0)
        return tool_bad("bench: -r 0, expected at least 1");
    int status = tool_check_output(options, options->plot);
    if (status == 0)
        status = add_tests(&b);
    if (status == 0)
        status = open_all(&b);
    if (status == 0)
        status = run_all(&b);
    for (size_t i = 0; i < b.n_tests; i++)
        bench_test_finish(&b.tests[i]);
    free(b.tests);
    fm_model_close(&b.model);
    fm_device_close(&b.device);
    return status;
}

const struct tool_command cmd_bench = {
    .name = "bench", .summary = "tokens per second of prompts and of generation", .options = option_list,
    .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
    .notes = "N,... may hold ranges: A-B counts by one, A-B+N by N, A-B*F multiplies by F, so that 1-128*2 is 1,2,4,...,128.\n"
             "With -np the sequences read prompts of -p tokens, then all decode -n tokens together, in llama-batched-bench's rows.\n"
             "--profile runs each test again with timestamps between what runs at the same time (barrier groups). A group's time is\n"
             "shared among its kernels by the bytes that must move and, at 32 flops to the byte, by arithmetic.",
};
