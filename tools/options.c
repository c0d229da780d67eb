// SPDX-License-Identifier: MIT
// Command lines: one table of options, of which every command takes some.
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

struct row {
    const char *short_name, *long_name, *argument;
    enum tool_kind kind;
    size_t offset;
    const char *help;
};

static const struct row rows[OPT_COUNT] = {
#define X(id, short_name, long_name, argument, kind, field, help) \
    [OPT_##id] = {short_name, long_name, argument, TOOL_##kind, offsetof(struct tool_options, field), help},
    TOOL_OPTIONS(X)
#undef X
};

// Values of an option without meaning: none, one, or one if the next word is on, off, auto, 0 or 1.
enum needless_value { NEEDLESS_NONE, NEEDLESS_ONE, NEEDLESS_SWITCH };

static const struct needless {
    const char *name[3];
    enum needless_value value;
    const char *command; // the only one that takes it; NULL = all that take a model
    const char *why;
} needless[] = {
#define X(short_name, long_name, other_name, value, command, why)                                                      \
    {{short_name, long_name, other_name}, NEEDLESS_##value, command, why},
    TOOL_NEEDLESS(X)
#undef X
};

#define N_NEEDLESS (sizeof(needless) / sizeof(needless[0]))

static bool takes_model(const struct tool_command *command)
{
    for (size_t i = 0; i < command->n_options; i++)
        if (command->options[i] == OPT_MODEL)
            return true;
    return false;
}

static bool takes_needless(const struct tool_command *command, const struct needless *row)
{
    if (row->command != NULL)
        return strcmp(row->command, command->name) == 0;
    bool model = false, device = false;
    for (size_t i = 0; i < command->n_options; i++) {
        model = model || command->options[i] == OPT_MODEL;
        device = device || command->options[i] == OPT_DEVICE;
    }
    return model && device;
}

static void print_needless(const struct tool_command *command)
{
    size_t column = 0;
    for (size_t i = 0; i < N_NEEDLESS; i++) {
        const char *name = needless[i].name[needless[i].name[0] == NULL];
        if (!takes_needless(command, &needless[i]))
            continue;
        if (column == 0)
            printf("\nTaken for llama.cpp's sake, without effect:");
        if (column == 0 || column + strlen(name) > 100)
            column = (size_t)printf("\n ");
        column += (size_t)printf(" %s", name);
    }
    if (column > 0)
        printf("\n");
}

static void print_help(const struct tool_command *command)
{
    printf("fulmen %s%s%s [options]\n%s\n\n", command->name, command->operand ? " " : "",
           command->operand ? command->operand : "", command->summary);
    for (size_t i = 0; i < command->n_options; i++) {
        const struct row *row = &rows[command->options[i]];
        char names[64];
        snprintf(names, sizeof(names), "%s%s%s%s%s", row->short_name ? row->short_name : "",
                 row->short_name ? ", " : "", row->long_name, row->argument ? " " : "",
                 row->argument ? row->argument : "");
        printf("  %-32s %s\n", names, row->help);
    }
    print_needless(command);
    if (command->notes != NULL)
        printf("\n%s\n", command->notes);
}

static bool parse_whole(const char *text, int64_t min, uint64_t max, uint64_t *out)
{
    char *end;
    errno = 0;
    if (text[0] == '-') {
        long long value = strtoll(text, &end, 10);
        if (errno != 0 || end == text || *end != '\0' || value < min)
            return false;
        *out = 0; // the one negative number that is allowed means "no limit"
        return true;
    }
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value > max)
        return false;
    *out = value;
    return true;
}

static bool parse_dca(const char *text, struct tool_dca *out)
{
    char *end;
    *out = (struct tool_dca){.kind = strcmp(text, "off") == 0 ? FM_DCA_OFF : strcmp(text, "auto") == 0 ? FM_DCA_AUTO : FM_DCA_GIVEN};
    if (out->kind != FM_DCA_GIVEN)
        return true;
    errno = 0;
    unsigned long long cap = strtoull(text, &end, 10);
    if (errno != 0 || end == text || text[0] == '-' || *end != ',' || cap == 0 || cap > UINT32_MAX)
        return false;
    uint64_t local;
    if (end[1] == '-' || !parse_whole(end + 1, 0, cap - 1, &local))
        return false;
    out->cap = (uint32_t)cap;
    out->local = (uint32_t)local;
    return true;
}

static bool store(const struct row *row, const char *text, struct tool_options *options)
{
    void *field = (char *)options + row->offset;
    uint64_t whole;
    char *end;
    float real;
    switch (row->kind) {
    case TOOL_TEXT:
        *(const char **)field = text;
        return true;
    case TOOL_U32:
        if (!parse_whole(text, 0, UINT32_MAX, &whole))
            return false;
        *(uint32_t *)field = (uint32_t)whole;
        return true;
    case TOOL_COUNT:
        if (!parse_whole(text, 0, UINT32_MAX, &whole) || whole == 0)
            return false;
        *(uint32_t *)field = (uint32_t)whole;
        return true;
    case TOOL_COUNT_OR_ALL:
        if (!parse_whole(text, -1, UINT32_MAX, &whole))
            return false;
        *(uint32_t *)field = (uint32_t)whole;
        return true;
    case TOOL_LENGTH:
        if (strcmp(text, "-1") == 0) {
            *(uint32_t *)field = TOOL_UNTIL_END;
            return true;
        }
        if (!parse_whole(text, 0, UINT32_MAX, &whole))
            return false;
        *(uint32_t *)field = (uint32_t)whole;
        return true;
    case TOOL_SEED:
        if (strcmp(text, "-1") == 0) {
            *(uint64_t *)field = TOOL_SEED_CLOCK;
            return true;
        }
        return parse_whole(text, 0, UINT64_MAX, field);
    case TOOL_FLOAT:
        real = strtof(text, &end);
        if (end == text || *end != '\0' || !isfinite(real))
            return false;
        *(float *)field = real;
        return true;
    case TOOL_FLAG:
        *(bool *)field = true;
        return true;
    case TOOL_DCA:
        return parse_dca(text, field);
    }
    return false;
}

static bool names_option(const struct row *row, const char *word)
{
    return (row->short_name != NULL && strcmp(row->short_name, word) == 0) || strcmp(row->long_name, word) == 0;
}

// Whether argv[*at] is an option without meaning; then *at is moved to the last word that belongs to it, and a line
// says so. *out_status: 0, or TOOL_BAD_INPUT when its value is not there.
static bool skip_needless(const struct tool_command *command, int argc, char **argv, int *at, int *out_status)
{
    const char *word = argv[*at], *next = *at + 1 < argc ? argv[*at + 1] : NULL;
    const struct needless *row = NULL;
    for (size_t i = 0; i < N_NEEDLESS && row == NULL; i++)
        for (size_t j = 0; j < 3 && row == NULL; j++)
            if (needless[i].name[j] != NULL && strcmp(needless[i].name[j], word) == 0)
                row = &needless[i];
    if (row == NULL || !takes_needless(command, row))
        return false;
    *out_status = 0;
    if (row->value == NEEDLESS_ONE && next == NULL) {
        *out_status = tool_bad("%s: %s needs a value", command->name, word);
        return true;
    }
    static const char *const switches[] = {"on", "off", "auto", "0", "1"};
    bool takes_next = row->value == NEEDLESS_ONE;
    for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++)
        if (row->value == NEEDLESS_SWITCH && next != NULL && strcmp(next, switches[i]) == 0)
            takes_next = true;
    *at += takes_next;
    fprintf(stderr, "fulmen: %s is not needed: %s\n", word, row->why);
    return true;
}

int tool_parse(const struct tool_command *command, int argc, char **argv, struct tool_options *out_options,
               bool *out_help)
{
    struct tool_options options = {
        .temp = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1, .repeat_last_n = 64, .step = 1,
        .seed = TOOL_SEED_CLOCK, .predict = TOOL_UNTIL_END,
        .bench_p = "512", .bench_n = "128", .bench_d = "0", .bench_r = 5, .bench_o = "md", .check_seed = 1,
        .kernel_r = 20, .convert_seed = 1, .ssm = 2,
    };
    size_t n_operands = 0;
    *out_help = false;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
            print_help(command);
            *out_help = true;
            return 0;
        }
        size_t n = 0;
        while (n < command->n_options && !names_option(&rows[command->options[n]], argv[i]))
            n++;
        int status;
        if (n == command->n_options && skip_needless(command, argc, argv, &i, &status)) {
            if (status != 0)
                return status;
            continue;
        }
        if (n == command->n_options) {
            size_t most = command->operand == NULL ? 0 : command->n_operands > 0 ? command->n_operands : 1;
            if (argv[i][0] == '-')
                return tool_bad("%s: unknown option '%s' (fulmen %s --help lists them)", command->name, argv[i], command->name);
            if (n_operands == most)
                return tool_bad("%s: unknown argument '%s': it belongs to no option%s (fulmen %s --help lists them)", command->name,
                                argv[i], takes_model(command) ? ", a model is given with -m" : "", command->name);
            options.operands[n_operands++] = argv[i];
            continue;
        }
        const struct row *row = &rows[command->options[n]];
        const char *word = argv[i], *value = NULL;
        if (row->kind != TOOL_FLAG && i + 1 == argc)
            return tool_bad("%s: %s needs a value: %s", command->name, word, row->argument);
        if (row->kind != TOOL_FLAG)
            value = argv[++i];
        if (!store(row, value, &options))
            return tool_bad("%s: %s: '%s' is no %s", command->name, word, value,
                            row->kind == TOOL_FLOAT ? "number"
                            : row->kind == TOOL_DCA ? "off, auto or CAP,LOCAL with CAP above LOCAL"
                                                    : "whole number in range");
        options.given[command->options[n]] = true;
    }
    *out_options = options;
    return 0;
}

int tool_parse_list(const char *text, const char *what, uint32_t **out_list, size_t *out_count)
{
    size_t cap = 1, count = 0;
    for (const char *at = text; *at; at++)
        cap += *at == ',';
    uint32_t *list = malloc(cap * sizeof(*list));
    if (list == NULL)
        return tool_fail(FM_NOMEM);
    for (const char *at = text;;) {
        char *end;
        errno = 0;
        unsigned long long value = strtoull(at, &end, 10);
        if (end == at || errno != 0 || value > UINT32_MAX || *at == '-' || (*end != ',' && *end != '\0')) {
            free(list);
            return tool_bad("%s: '%s' is no list of whole numbers, as 5,17,3", what, text);
        }
        list[count++] = (uint32_t)value;
        if (*end == '\0')
            break;
        at = end + 1;
    }
    *out_list = list;
    *out_count = count;
    return 0;
}
