// SPDX-License-Identifier: MIT
// fulmen bench: tokens per second of prompts and of generation, in llama-bench's rows.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "plot.h"
#include "text.h"
#include "tool.h"

static const enum tool_option option_list[] = {
    OPT_MODEL, OPT_SHAPE, OPT_BENCH_P, OPT_BENCH_N, OPT_BENCH_D, OPT_BENCH_R, OPT_BENCH_O, OPT_UBATCH, OPT_CTK, OPT_CTV, OPT_DCA,
    OPT_DEVICE,
    OPT_RUNG, OPT_TUNING, OPT_PLOT, OPT_VERBOSE,
};

#define WARM_UP_SECONDS 0.5
#define FIRST_WARM_UP_SECONDS 2.0 // of the first test, on a GPU that idled until now

struct test {
    uint32_t n_prompt, n_gen, n_depth; // one of n_prompt and n_gen is 0
    size_t n_samples;
    double *seconds; // [n_samples]
    double mean_ts, sd_ts;
    double gb_per_s; // read by generation; 0 for prompts
};

struct bench {
    const struct tool_options *options;
    struct fm_device *device;
    struct fm_model *model;
    struct fm_device_info device_info;
    struct fm_model_info model_info;
    double read_gb_per_s; // measured; 0 = not
    struct test *tests;
    size_t n_tests;
};

static uint32_t test_tokens(const struct test *t)
{
    return t->n_prompt > 0 ? t->n_prompt : t->n_gen;
}

static const char *test_name(const struct test *t, char out[48])
{
    int n = snprintf(out, 48, "%s%u", t->n_prompt > 0 ? "pp" : "tg", test_tokens(t));
    if (t->n_depth > 0)
        snprintf(out + n, 48 - (size_t)n, " @ d%u", t->n_depth);
    return out;
}

// ---- measuring ---------------------------------------------------------------------------------------------------

// A recurrent model's state does not go back to the depth of the test: a second slot keeps it.
static bool keeps_state(const struct bench *b, const struct test *t)
{
    return b->model_info.is_recurrent && t->n_depth > 0;
}

static struct fm_session_params session_of(const struct bench *b, const struct test *t)
{
    const struct tool_options *o = b->options;
    uint64_t n_ctx = (uint64_t)t->n_depth + test_tokens(t) + 1; // too much is refused when the model is loaded
    return (struct fm_session_params){.n_ctx = n_ctx < UINT32_MAX ? (uint32_t)n_ctx : UINT32_MAX, .n_ubatch = o->ubatch,
                                      .n_slots = keeps_state(b, t) ? 2 : 1,
                                      .cache_type_k = o->cache_type_k, .cache_type_v = o->cache_type_v, .dca = o->dca.kind,
                                      .dca_cap = o->dca.cap, .dca_local = o->dca.local, .cancel = tool_cancel};
}

// Feed `count` tokens and generate `predict`.
static enum fm_result feed(struct fm_session *session, const uint32_t *tokens, size_t count, uint32_t predict)
{
    struct fm_request request = {.tokens = tokens, .n_tokens = count, .n_predict = predict, .ignore_end = true};
    return fm_session_generate(session, &request, 1);
}

// Back to the depth of the test.
static enum fm_result go_back(const struct bench *b, const struct test *t, struct fm_session *session)
{
    return keeps_state(b, t) ? fm_session_fork(session, 1, 0) : fm_session_rewind(session, 0, t->n_depth);
}

static enum fm_result sample_test(struct bench *b, struct test *t, struct fm_session *session, const uint32_t *tokens)
{
    size_t count = t->n_prompt > 0 ? t->n_prompt : 1;
    uint32_t predict = t->n_prompt > 0 ? 1 : t->n_gen;
    enum fm_result result = FM_OK;
    if (t->n_depth > 0)
        result = feed(session, tokens, t->n_depth, 1);
    if (result == FM_OK && keeps_state(b, t))
        result = fm_session_fork(session, 0, 1);
    // Warm up: pipelines are made, and a GPU that idled needs a while to raise its clocks.
    double start_warm = tool_seconds();
    double warm_up = t == b->tests && strcmp(b->device_info.kind, "cpu") != 0 ? FIRST_WARM_UP_SECONDS : WARM_UP_SECONDS;
    do {
        if (result == FM_OK)
            result = feed(session, tokens, count, t->n_prompt > 0 ? 1 : (predict < 4 ? predict : 4));
        if (result == FM_OK)
            result = go_back(b, t, session);
    } while (result == FM_OK && tool_seconds() - start_warm < warm_up);
    for (size_t i = 0; i < b->options->bench_r && result == FM_OK; i++) {
        double start = tool_seconds();
        result = feed(session, tokens, count, predict);
        t->seconds[t->n_samples++] = tool_seconds() - start;
        if (result == FM_OK)
            result = go_back(b, t, session);
    }
    return result;
}

static void summarise(struct bench *b, struct test *t, const struct fm_memory_need *need)
{
    double sum = 0, squares = 0, n = (double)t->n_samples;
    for (size_t i = 0; i < t->n_samples; i++) {
        double ts = test_tokens(t) / t->seconds[i];
        sum += ts;
        squares += ts * ts;
    }
    t->mean_ts = sum / n;
    t->sd_ts = n > 1 ? sqrt(fmax(0, (squares - n * t->mean_ts * t->mean_ts) / (n - 1))) : 0;
    if (t->n_gen > 0) { // weights, and on average this much of the cache
        t->gb_per_s = tool_token_bytes(&b->model_info, need, t->n_depth + t->n_gen * 0.5) * t->mean_ts * 1e-9;
    }
}

static enum fm_result run_test(struct bench *b, struct test *t)
{
    struct fm_session_params params = session_of(b, t);
    struct fm_session *session = NULL;
    struct fm_memory_need need;
    uint32_t n_tokens = t->n_prompt > t->n_depth ? t->n_prompt : t->n_depth;
    uint32_t *tokens = malloc(((size_t)n_tokens + 1) * sizeof(*tokens));
    t->seconds = calloc(b->options->bench_r, sizeof(*t->seconds));
    enum fm_result result = tokens && t->seconds ? fm_session_create(b->model, &params, &session) : FM_NOMEM;
    uint64_t random = 1;
    for (uint32_t i = 0; i <= n_tokens && result == FM_OK; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        tokens[i] = (uint32_t)(random >> 33) % b->model_info.vocab;
    }
    if (result == FM_OK) {
        tool_cancel_target(session);
        result = sample_test(b, t, session, tokens);
    }
    if (result == FM_OK) {
        fm_session_get_need(session, &need);
        summarise(b, t, &need);
    }
    tool_cancel_target(NULL);
    fm_session_destroy(&session);
    free(tokens);
    return result;
}

// ---- printing ----------------------------------------------------------------------------------------------------

static const char *model_label(const struct bench *b, char out[128])
{
    double params = (double)b->model_info.n_params;
    snprintf(out, 128, "%s %.*f%s %s", b->model_info.arch, params >= 1e9 ? 1 : 0, params * (params >= 1e9 ? 1e-9 : 1e-6),
             params >= 1e9 ? "B" : "M", b->model_info.type);
    return out;
}

static void print_md_head(void)
{
    printf("| model                          |       size |     params | backend    | ngl | test            |                  t/s "
           "|    GB/s | of read |\n"
           "| ------------------------------ | ---------: | ---------: | ---------- | --: | --------------- | -------------------: "
           "| ------: | ------: |\n");
}

static void print_md(const struct bench *b, const struct test *t)
{
    char name[48], label[128], speed[48], params[32], bytes[32], share[32];
    snprintf(speed, sizeof(speed), "%.2f ± %.2f", t->mean_ts, t->sd_ts);
    snprintf(params, sizeof(params), "%.2f %s", (double)b->model_info.n_params * (b->model_info.n_params >= 1000000000 ? 1e-9 : 1e-6),
             b->model_info.n_params >= 1000000000 ? "B" : "M");
    snprintf(bytes, sizeof(bytes), t->gb_per_s > 0 ? "%.1f" : "-", t->gb_per_s);
    bool known = t->gb_per_s > 0 && b->read_gb_per_s > 0;
    snprintf(share, sizeof(share), known ? "%.1f %%" : "-", known ? 100 * t->gb_per_s / b->read_gb_per_s : 0);
    printf("| %-30s | %6.2f GiB | %10s | %-10s | %3u | %-15s | %21s | %7s | %7s |\n", model_label(b, label),
           (double)b->model_info.weight_bytes / (1 << 30), params, "Vulkan", b->model_info.n_layers + 1, test_name(t, name), speed, bytes,
           share);
    tool_flush();
}

// What JSON and CSV say of a test, the same columns for every one: a text, a number, or nothing where the text is NULL and the
// number NaN.
struct field {
    const char *key, *text;
    double number;
};

struct fields {
    struct field list[24];
    size_t count;
    char label[128], when[32], name[48];
};

static void add_text(struct fields *f, const char *key, const char *text)
{
    f->list[f->count++] = (struct field){.key = key, .text = text, .number = NAN};
}

static void add_number(struct fields *f, const char *key, double number)
{
    f->list[f->count++] = (struct field){.key = key, .number = number};
}

static void fields_of(const struct bench *b, const struct test *t, struct fields *f)
{
    time_t now = time(NULL);
    struct tm utc;
    f->count = 0;
    strftime(f->when, sizeof(f->when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    add_text(f, "build_commit", fm_commit());
    add_text(f, "version", fm_version());
    add_text(f, "backends", "Vulkan");
    add_text(f, "gpu_info", b->device_info.name);
    add_text(f, "driver", b->device_info.driver);
    add_text(f, "device_uuid", b->device_info.uuid);
    add_text(f, "rung", b->device_info.rung);
    add_text(f, "model_filename", b->model_info.path);
    add_text(f, "model_type", model_label(b, f->label));
    add_number(f, "model_size", (double)b->model_info.weight_bytes);
    add_number(f, "model_n_params", (double)b->model_info.n_params);
    add_number(f, "n_ubatch", b->options->ubatch ? b->options->ubatch : 512);
    add_number(f, "n_prompt", t->n_prompt);
    add_number(f, "n_gen", t->n_gen);
    add_number(f, "n_depth", t->n_depth);
    add_text(f, "test", test_name(t, f->name));
    add_text(f, "test_time", f->when);
    add_number(f, "avg_ts", t->mean_ts);
    add_number(f, "stddev_ts", t->sd_ts);
    add_number(f, "read_gb_per_s", t->gb_per_s > 0 ? t->gb_per_s : NAN);
    add_number(f, "device_read_gb_per_s", b->read_gb_per_s > 0 ? b->read_gb_per_s : NAN);
}

static cJSON *json_of(const struct bench *b, const struct test *t)
{
    struct fields f;
    cJSON *o = cJSON_CreateObject();
    fields_of(b, t, &f);
    for (size_t i = 0; i < f.count; i++) {
        if (f.list[i].text != NULL)
            tool_json_add(o, f.list[i].key, f.list[i].text);
        else
            cJSON_AddNumberToObject(o, f.list[i].key, f.list[i].number); // null where it is none
    }
    cJSON *ns = cJSON_AddArrayToObject(o, "samples_ns"), *ts = cJSON_AddArrayToObject(o, "samples_ts");
    for (size_t i = 0; i < t->n_samples; i++) {
        cJSON_AddItemToArray(ns, cJSON_CreateNumber(floor(t->seconds[i] * 1e9)));
        cJSON_AddItemToArray(ts, cJSON_CreateNumber(test_tokens(t) / t->seconds[i]));
    }
    return o;
}

static void print_json(const struct bench *b, bool lines)
{
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < b->n_tests; i++)
        cJSON_AddItemToArray(list, json_of(b, &b->tests[i]));
    for (cJSON *o = lines ? list->child : NULL; o != NULL; o = o->next) {
        char *text = cJSON_PrintUnformatted(o);
        printf("%s\n", text != NULL ? text : "");
        cJSON_free(text);
    }
    char *text = lines ? NULL : cJSON_Print(list);
    if (text != NULL)
        printf("%s\n", text);
    cJSON_free(text);
    cJSON_Delete(list);
}

// The same fields as JSON, but for the samples.
static void print_csv(const struct bench *b)
{
    struct fields f;
    for (size_t i = 0; i < b->n_tests; i++) {
        fields_of(b, &b->tests[i], &f);
        for (size_t j = 0; j < f.count && i == 0; j++)
            printf("%s%s", j > 0 ? "," : "", f.list[j].key);
        if (i == 0)
            fputs(TOOL_CSV_END, stdout);
        for (size_t j = 0; j < f.count; j++) {
            if (f.list[j].text != NULL)
                tool_csv_text(j == 0, f.list[j].text);
            else
                tool_csv_number(j == 0, f.list[j].number);
        }
        fputs(TOOL_CSV_END, stdout);
    }
}

// ---- the picture -------------------------------------------------------------------------------------------------

static bool same_kind(const struct test *a, const struct test *b)
{
    return a->n_prompt == b->n_prompt && a->n_gen == b->n_gen;
}

static int by_x(const void *a, const void *b)
{
    uint64_t x = ((const struct plot_point *)a)->x, y = ((const struct plot_point *)b)->x;
    return (x > y) - (x < y);
}

// A line for each kind of test on prompts, or of those that generate; points and names come from the rooms given.
static size_t make_lines(const struct bench *b, bool prompts, struct plot_line *lines, struct plot_point *points, char (*names)[48])
{
    size_t n_lines = 0;
    for (size_t i = 0; i < b->n_tests; i++) {
        const struct test *first = &b->tests[i];
        bool seen = (first->n_prompt > 0) != prompts;
        for (size_t j = 0; j < i && !seen; j++)
            seen = same_kind(first, &b->tests[j]);
        if (seen)
            continue;
        const struct test name_of = {.n_prompt = first->n_prompt, .n_gen = first->n_gen};
        struct plot_line *line = &lines[n_lines];
        *line = (struct plot_line){.name = test_name(&name_of, names[n_lines]), .points = points};
        for (size_t j = i; j < b->n_tests; j++)
            if (same_kind(first, &b->tests[j]))
                points[line->n_points++] = (struct plot_point){b->tests[j].n_depth, b->tests[j].mean_ts, b->tests[j].sd_ts};
        qsort(points, line->n_points, sizeof(*points), by_x);
        points += line->n_points;
        n_lines++;
    }
    return n_lines;
}

static int plot(const struct bench *b)
{
    const char *labels[] = {"prompt, tokens/s", "generation, tokens/s"};
    struct plot_panel panels[2];
    size_t n_panels = 0;
    char title[320], label[128];
    struct plot_line *lines = calloc(2 * b->n_tests, sizeof(*lines));
    struct plot_point *points = calloc(2 * b->n_tests, sizeof(*points));
    char(*names)[48] = calloc(2 * b->n_tests, sizeof(*names));
    bool ok = lines != NULL && points != NULL && names != NULL;
    for (size_t i = 0; i < 2 && ok; i++) {
        size_t at = i * b->n_tests, n = make_lines(b, i == 0, lines + at, points + at, names + at);
        if (n > 0)
            panels[n_panels++] = (struct plot_panel){.y_label = labels[i], .lines = lines + at, .n_lines = n};
    }
    snprintf(title, sizeof(title), "%s on %.100s", model_label(b, label), b->device_info.name);
    int status = ok ? 0 : tool_fail(FM_NOMEM);
    enum fm_result result = ok ? tool_plot(b->options->plot, title, "tokens in the state before (powers of two)", panels, n_panels) : FM_OK;
    if (result != FM_OK)
        status = tool_fail(result);
    free(lines);
    free(points);
    free(names);
    return status;
}

// ---- the whole ---------------------------------------------------------------------------------------------------

static int add_tests(struct bench *b)
{
    uint32_t *p = NULL, *n = NULL, *d = NULL;
    size_t n_p = 0, n_n = 0, n_d = 0;
    int status = tool_parse_list(b->options->bench_p, "-p", &p, &n_p);
    if (status == 0)
        status = tool_parse_list(b->options->bench_n, "-n", &n, &n_n);
    if (status == 0)
        status = tool_parse_list(b->options->bench_d, "-d", &d, &n_d);
    if (status == 0 && (b->tests = calloc((n_p + n_n) * n_d, sizeof(*b->tests))) == NULL)
        status = tool_fail(FM_NOMEM);
    for (size_t i = 0; i < n_d && status == 0; i++) {
        for (size_t j = 0; j < n_p; j++)
            if (p[j] > 0)
                b->tests[b->n_tests++] = (struct test){.n_prompt = p[j], .n_depth = d[i]};
        for (size_t j = 0; j < n_n; j++)
            if (n[j] > 0)
                b->tests[b->n_tests++] = (struct test){.n_gen = n[j], .n_depth = d[i]};
    }
    free(p);
    free(n);
    free(d);
    if (status == 0 && b->n_tests == 0)
        status = tool_bad("bench: nothing to do with -p %s -n %s", b->options->bench_p, b->options->bench_n);
    return status;
}

static int open_all(struct bench *b)
{
    int status = tool_open_model(b->options, &b->model);
    if (status != 0)
        return status;
    fm_model_get_info(b->model, &b->model_info);
    struct fm_session_params largest = {0};
    for (size_t i = 0; i < b->n_tests; i++) {
        struct fm_session_params params = session_of(b, &b->tests[i]);
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

static int run_all(struct bench *b)
{
    const char *format = b->options->bench_o;
    bool md = strcmp(format, "md") == 0;
    if (md)
        print_md_head();
    for (size_t i = 0; i < b->n_tests; i++) {
        enum fm_result result = run_test(b, &b->tests[i]);
        if (result != FM_OK)
            return tool_fail(result);
        if (md)
            print_md(b, &b->tests[i]);
    }
    if (md)
        printf("\nfulmen %s (%s); %s, driver %s, rung %s, %s", fm_version(), fm_commit(), TOOL_QUOTE(b->device_info.name),
               TOOL_QUOTE(b->device_info.driver), b->device_info.rung, b->device_info.uuid);
    if (md && b->read_gb_per_s > 0)
        printf("; reads %.1f GB/s", b->read_gb_per_s);
    if (md)
        printf("\n");
    else if (strcmp(format, "csv") == 0)
        print_csv(b);
    else
        print_json(b, strcmp(format, "jsonl") == 0);
    return b->options->plot != NULL ? plot(b) : TOOL_DONE;
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
        free(b.tests[i].seconds);
    free(b.tests);
    fm_model_close(&b.model);
    fm_device_close(&b.device);
    return status;
}

const struct tool_command cmd_bench = {
    .name = "bench", .summary = "tokens per second of prompts and of generation", .options = option_list,
    .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
};
