// SPDX-License-Identifier: MIT
// What the files of fulmen bench share: its tests, how they are run, and how they are told.
#ifndef FM_TOOLS_BENCH_H
#define FM_TOOLS_BENCH_H

#include <cjson/cJSON.h>

#include "tool.h"

struct bench_speed { // tokens per second
    double mean, sd;
};

struct bench_profile {
    struct fm_profile_step *steps; // [count]
    size_t count;
};

struct bench_test {
    uint32_t n_prompt, n_gen, n_depth; // tokens of a sequence. Where n_seqs is 0, one of n_prompt and n_gen is, too
    uint32_t n_seqs;                   // that run together, and have a prompt and generation both; 0 = one, as llama-bench has it
    size_t n_samples;
    double *seconds;        // [n_samples]
    double *prompt_seconds; // [n_samples] until the prompts were read
    struct bench_speed speed, prompt_speed, gen_speed; // of all, of the parts; n_seqs > 0: of all sequences together
    double gb_per_s;                                   // read by generation; 0 for prompts, and where n_seqs > 0
    struct bench_profile plain, profile;               // with timestamps at the ends of a step; with more between its groups
};

struct bench {
    const struct tool_options *options;
    struct fm_device *device;
    struct fm_model *model;
    struct fm_device_info device_info;
    struct fm_model_info model_info;
    double read_gb_per_s; // measured; 0 = not
    struct bench_test *tests;
    size_t n_tests;
};

// ---- measuring (bench_measure.c) -------------------------------------------------------------------------------------

struct fm_session_params bench_session_params(const struct bench *b, const struct bench_test *t);
// Make a session, warm up, take the samples and, where --profile asks for it, the profile.
enum fm_result bench_run(struct bench *b, struct bench_test *t);
void bench_test_finish(struct bench_test *t);

// ---- printing (bench_print.c) ----------------------------------------------------------------------------------------

#define BENCH_NAME_BYTES 64
const char *bench_test_name(const struct bench_test *t, char out[BENCH_NAME_BYTES]);
const char *bench_model_label(const struct bench *b, char out[128]);
void bench_print_head(const struct bench *b); // of the table in Markdown
void bench_print_row(const struct bench *b, const struct bench_test *t);
void bench_print_json(const struct bench *b, bool lines);
void bench_print_csv(const struct bench *b);

// What JSON and CSV say of a test, the same columns for every one: a text, a number, or nothing where the text is NULL and the
// number NaN.
struct bench_field {
    const char *key, *text;
    double number;
};

struct bench_fields {
    struct bench_field list[48];
    size_t count;
    char label[128], when[32], name[BENCH_NAME_BYTES];
};

void bench_add_text(struct bench_fields *f, const char *key, const char *text);
void bench_add_number(struct bench_fields *f, const char *key, double number);

// ---- profiles (bench_profile.c) --------------------------------------------------------------------------------------

void bench_print_profile(const struct bench_test *t);
// An array of the steps of a test, each with its ops and kernels. NULL without memory.
cJSON *bench_profile_json(const struct bench_test *t);
// Rows of CSV: how many a test has, and the columns of one of them.
size_t bench_profile_rows(const struct bench_test *t);
void bench_profile_fields(const struct bench_test *t, size_t row, struct bench_fields *f);

// ---- the picture (bench_plot.c) --------------------------------------------------------------------------------------

int bench_plot(const struct bench *b); // an exit code

#endif
