// SPDX-License-Identifier: MIT
// The picture of fulmen bench: tokens per second against depth.
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "plot.h"

static bool same_kind(const struct bench_test *a, const struct bench_test *b)
{
    return a->n_prompt == b->n_prompt && a->n_gen == b->n_gen;
}

static int by_x(const void *a, const void *b)
{
    uint64_t x = ((const struct plot_point *)a)->x, y = ((const struct plot_point *)b)->x;
    return (x > y) - (x < y);
}

// A line for each kind of test on prompts, or of those that generate; points and names come from the rooms given.
static size_t make_lines(const struct bench *b, bool prompts, struct plot_line *lines, struct plot_point *points,
                         char (*names)[BENCH_NAME_BYTES])
{
    size_t n_lines = 0;
    for (size_t i = 0; i < b->n_tests; i++) {
        const struct bench_test *first = &b->tests[i];
        bool seen = (first->n_prompt > 0) != prompts;
        for (size_t j = 0; j < i && !seen; j++)
            seen = same_kind(first, &b->tests[j]);
        if (seen)
            continue;
        const struct bench_test name_of = {.n_prompt = first->n_prompt, .n_gen = first->n_gen};
        struct plot_line *line = &lines[n_lines];
        *line = (struct plot_line){.name = bench_test_name(&name_of, names[n_lines]), .points = points};
        for (size_t j = i; j < b->n_tests; j++)
            if (same_kind(first, &b->tests[j]))
                points[line->n_points++] = (struct plot_point){b->tests[j].n_depth, b->tests[j].speed.mean, b->tests[j].speed.sd};
        qsort(points, line->n_points, sizeof(*points), by_x);
        points += line->n_points;
        n_lines++;
    }
    return n_lines;
}

int bench_plot(const struct bench *b)
{
    const char *labels[] = {"prompt, tokens/s", "generation, tokens/s"};
    struct plot_panel panels[2];
    size_t n_panels = 0;
    char title[320], label[128];
    struct plot_line *lines = calloc(2 * b->n_tests, sizeof(*lines));
    struct plot_point *points = calloc(2 * b->n_tests, sizeof(*points));
    char(*names)[BENCH_NAME_BYTES] = calloc(2 * b->n_tests, sizeof(*names));
    bool ok = lines != NULL && points != NULL && names != NULL;
    for (size_t i = 0; i < 2 && ok; i++) {
        size_t at = i * b->n_tests, n = make_lines(b, i == 0, lines + at, points + at, names + at);
        if (n > 0)
            panels[n_panels++] = (struct plot_panel){.y_label = labels[i], .lines = lines + at, .n_lines = n};
    }
    snprintf(title, sizeof(title), "%s on %.100s", bench_model_label(b, label), b->device_info.name);
    int status = ok ? 0 : tool_fail(FM_NOMEM);
    enum fm_result result = ok ? tool_plot(b->options->plot, title, "tokens in the state before (powers of two)", panels, n_panels) : FM_OK;
    if (result != FM_OK)
        status = tool_fail(result);
    free(lines);
    free(points);
    free(names);
    return status;
}
