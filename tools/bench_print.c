// SPDX-License-Identifier: MIT
// What fulmen bench prints of its tests: in llama-bench's rows, or in llama-batched-bench's where several sequences run together.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "text.h"

const char *bench_test_name(const struct bench_test *t, char out[BENCH_NAME_BYTES])
{
    int n = 0;
    if (t->n_prompt > 0)
        n += snprintf(out + n, BENCH_NAME_BYTES - (size_t)n, "pp%u", t->n_prompt);
    if (t->n_gen > 0)
        n += snprintf(out + n, BENCH_NAME_BYTES - (size_t)n, "%stg%u", n > 0 ? " + " : "", t->n_gen);
    if (t->n_depth > 0)
        n += snprintf(out + n, BENCH_NAME_BYTES - (size_t)n, " @ d%u", t->n_depth);
    if (t->n_seqs > 0)
        snprintf(out + n, BENCH_NAME_BYTES - (size_t)n, ", %u sequence%s", t->n_seqs, t->n_seqs > 1 ? "s" : "");
    return out;
}

const char *bench_model_label(const struct bench *b, char out[128])
{
    double params = (double)b->model_info.n_params;
    snprintf(out, 128, "%s %.*f%s %s", b->model_info.arch, params >= 1e9 ? 1 : 0, params * (params >= 1e9 ? 1e-9 : 1e-6),
             params >= 1e9 ? "B" : "M", b->model_info.type);
    return out;
}

// ---- sequences together -------------------------------------------------------------------------------------------

static double mean_of(const double *seconds, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += seconds[i];
    return count > 0 ? sum / (double)count : 0;
}

static uint64_t cached_tokens(const struct bench_test *t)
{
    return t->n_seqs * ((uint64_t)t->n_prompt + t->n_gen);
}

static const char *speed_text(struct bench_speed speed, char out[48])
{
    snprintf(out, 48, speed.mean > 0 ? "%.2f ± %.2f" : "-", speed.mean, speed.sd);
    return out;
}

static void print_together_head(void)
{
    printf("|    PP |    TG |    B |    N_KV |   T_PP s |             S_PP t/s |   T_TG s |             S_TG t/s |      T s |"
           "                S t/s |\n"
           "| ----: | ----: | ---: | ------: | -------: | -------------------: | -------: | -------------------: | -------: |"
           " -------------------: |\n");
}

static void print_together(const struct bench_test *t)
{
    char prompt[48], gen[48], all[48];
    double prompt_s = mean_of(t->prompt_seconds, t->n_samples), s = mean_of(t->seconds, t->n_samples);
    // The sign of plus and minus has two bytes in a column.
    printf("| %5u | %5u | %4u | %7llu | %8.3f | %*s | %8.3f | %*s | %8.3f | %21s |\n", t->n_prompt, t->n_gen, t->n_seqs,
           (unsigned long long)cached_tokens(t), prompt_s, t->n_prompt > 0 ? 21 : 20, speed_text(t->prompt_speed, prompt), s - prompt_s,
           t->n_gen > 0 ? 21 : 20, speed_text(t->gen_speed, gen), s, speed_text(t->speed, all));
}

// ---- one sequence -------------------------------------------------------------------------------------------------

static void print_alone_head(void)
{
    printf("| model                          |       size |     params | backend    | ngl | test            |                  t/s "
           "|    GB/s | of read |\n"
           "| ------------------------------ | ---------: | ---------: | ---------- | --: | --------------- | -------------------: "
           "| ------: | ------: |\n");
}

static void print_alone(const struct bench *b, const struct bench_test *t)
{
    char name[BENCH_NAME_BYTES], label[128], speed[48], params[32], bytes[32], share[32];
    snprintf(params, sizeof(params), "%.2f %s", (double)b->model_info.n_params * (b->model_info.n_params >= 1000000000 ? 1e-9 : 1e-6),
             b->model_info.n_params >= 1000000000 ? "B" : "M");
    snprintf(bytes, sizeof(bytes), t->gb_per_s > 0 ? "%.1f" : "-", t->gb_per_s);
    bool known = t->gb_per_s > 0 && b->read_gb_per_s > 0;
    snprintf(share, sizeof(share), known ? "%.1f %%" : "-", known ? 100 * t->gb_per_s / b->read_gb_per_s : 0);
    printf("| %-30s | %6.2f GiB | %10s | %-10s | %3u | %-15s | %21s | %7s | %7s |\n", bench_model_label(b, label),
           (double)b->model_info.weight_bytes / (1 << 30), params, "Vulkan", b->model_info.n_layers + 1, bench_test_name(t, name),
           speed_text(t->speed, speed), bytes, share);
}

void bench_print_head(const struct bench *b)
{
    if (b->options->bench_np != NULL)
        print_together_head();
    else
        print_alone_head();
}

void bench_print_row(const struct bench *b, const struct bench_test *t)
{
    if (t->n_seqs > 0)
        print_together(t);
    else
        print_alone(b, t);
    tool_flush();
}

// ---- JSON and CSV -------------------------------------------------------------------------------------------------

void bench_add_text(struct bench_fields *f, const char *key, const char *text)
{
    f->list[f->count++] = (struct bench_field){.key = key, .text = text, .number = NAN};
}

void bench_add_number(struct bench_fields *f, const char *key, double number)
{
    f->list[f->count++] = (struct bench_field){.key = key, .number = number};
}

// What llama-batched-bench calls them, and deviations.
static void add_together(const struct bench_test *t, struct bench_fields *f)
{
    double prompt_s = mean_of(t->prompt_seconds, t->n_samples), s = mean_of(t->seconds, t->n_samples);
    bench_add_number(f, "pp", t->n_prompt);
    bench_add_number(f, "tg", t->n_gen);
    bench_add_number(f, "pl", t->n_seqs);
    bench_add_number(f, "n_kv", (double)cached_tokens(t));
    bench_add_number(f, "t_pp", prompt_s);
    bench_add_number(f, "speed_pp", t->prompt_speed.mean);
    bench_add_number(f, "stddev_pp", t->prompt_speed.sd);
    bench_add_number(f, "t_tg", s - prompt_s);
    bench_add_number(f, "speed_tg", t->gen_speed.mean);
    bench_add_number(f, "stddev_tg", t->gen_speed.sd);
    bench_add_number(f, "t", s);
    bench_add_number(f, "speed", t->speed.mean);
    bench_add_number(f, "stddev", t->speed.sd);
}

static void add_alone(const struct bench *b, const struct bench_test *t, struct bench_fields *f)
{
    bench_add_number(f, "n_prompt", t->n_prompt);
    bench_add_number(f, "n_gen", t->n_gen);
    bench_add_number(f, "n_depth", t->n_depth);
    bench_add_text(f, "test", bench_test_name(t, f->name));
    bench_add_text(f, "test_time", f->when);
    bench_add_number(f, "avg_ts", t->speed.mean);
    bench_add_number(f, "stddev_ts", t->speed.sd);
    bench_add_number(f, "read_gb_per_s", t->gb_per_s > 0 ? t->gb_per_s : NAN);
    bench_add_number(f, "device_read_gb_per_s", b->read_gb_per_s > 0 ? b->read_gb_per_s : NAN);
}

static void fields_of(const struct bench *b, const struct bench_test *t, struct bench_fields *f)
{
    time_t now = time(NULL);
    struct tm utc;
    f->count = 0;
    strftime(f->when, sizeof(f->when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    bench_add_text(f, "build_commit", fm_commit());
    bench_add_text(f, "version", fm_version());
    bench_add_text(f, "backends", "Vulkan");
    bench_add_text(f, "gpu_info", b->device_info.name);
    bench_add_text(f, "driver", b->device_info.driver);
    bench_add_text(f, "device_uuid", b->device_info.uuid);
    bench_add_text(f, "rung", b->device_info.rung);
    bench_add_text(f, "model_filename", b->model_info.path);
    bench_add_text(f, "model_type", bench_model_label(b, f->label));
    bench_add_number(f, "model_size", (double)b->model_info.weight_bytes);
    bench_add_number(f, "model_n_params", (double)b->model_info.n_params);
    bench_add_number(f, "n_ubatch", b->options->ubatch ? b->options->ubatch : 512);
    if (t->n_seqs > 0)
        add_together(t, f);
    else
        add_alone(b, t, f);
}

// Of each sample the time, in ns, or the speed where `tokens` are given: of the prompts, of generation or of both.
static void add_samples(cJSON *o, const char *key, const struct bench_test *t, bool prompt, bool gen, double tokens)
{
    cJSON *list = cJSON_AddArrayToObject(o, key);
    for (size_t i = 0; i < t->n_samples; i++) {
        double seconds = (gen ? t->seconds[i] : t->prompt_seconds[i]) - (gen && !prompt ? t->prompt_seconds[i] : 0);
        cJSON_AddItemToArray(list, cJSON_CreateNumber(tokens > 0 ? tokens / seconds : floor(seconds * 1e9)));
    }
}

static cJSON *json_of(const struct bench *b, const struct bench_test *t)
{
    struct bench_fields f;
    cJSON *o = cJSON_CreateObject();
    fields_of(b, t, &f);
    for (size_t i = 0; i < f.count; i++) {
        if (f.list[i].text != NULL)
            tool_json_add(o, f.list[i].key, f.list[i].text);
        else
            cJSON_AddNumberToObject(o, f.list[i].key, f.list[i].number); // null where it is none
    }
    if (t->n_seqs > 0) {
        add_samples(o, "samples_pp_ns", t, true, false, 0);
        add_samples(o, "samples_tg_ns", t, false, true, 0);
    } else {
        add_samples(o, "samples_ns", t, true, true, 0);
        add_samples(o, "samples_ts", t, true, true, (double)t->n_prompt + t->n_gen);
    }
    if (b->options->profile)
        cJSON_AddItemToObject(o, "profile", bench_profile_json(t));
    return o;
}

void bench_print_json(const struct bench *b, bool lines)
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

static void print_csv_row(const struct bench_fields *f, bool head)
{
    for (size_t j = 0; j < f->count && head; j++)
        printf("%s%s", j > 0 ? "," : "", f->list[j].key);
    if (head)
        fputs(TOOL_CSV_END, stdout);
    for (size_t j = 0; j < f->count; j++) {
        if (f->list[j].text != NULL)
            tool_csv_text(j == 0, f->list[j].text);
        else
            tool_csv_number(j == 0, f->list[j].number);
    }
    fputs(TOOL_CSV_END, stdout);
}

// The same fields as JSON, but for the samples. With a profile a row for each of its rows, with more columns.
void bench_print_csv(const struct bench *b)
{
    struct bench_fields f;
    bool head = true;
    for (size_t i = 0; i < b->n_tests; i++) {
        size_t n_rows = b->options->profile ? bench_profile_rows(&b->tests[i]) : 1;
        for (size_t row = 0; row < n_rows; row++) {
            fields_of(b, &b->tests[i], &f);
            if (b->options->profile)
                bench_profile_fields(&b->tests[i], row, &f);
            print_csv_row(&f, head);
            head = false;
        }
    }
}
