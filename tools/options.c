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

// Digits only: no blanks, no sign.
static bool parse_whole(const char *text, uint64_t max, uint64_t *out)
{
    if (text[0] == '\0' || text[strspn(text, "0123456789")] != '\0')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    if (errno != 0 || value > max)
        return false;
    *out = value;
    return true;
}

static bool is_negative(const char *text)
{
    uint64_t value;
    return text[0] == '-' && parse_whole(text + 1, UINT64_MAX, &value) && value > 0;
}

// A plain decimal number: no blanks, no "0x1p3", no "nan".
static bool parse_real(const char *text, float *out)
{
    char *end;
    if (text[0] == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0')
        return false;
    float value = strtof(text, &end);
    if (end == text || *end != '\0' || !isfinite(value))
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
    if (!parse_whole(end + 1, cap - 1, &local))
        return false;
    out->cap = (uint32_t)cap;
    out->local = (uint32_t)local;
    return true;
}

static bool store_u32(const char *text, uint32_t min, void *field)
{
    uint64_t whole;
    if (!parse_whole(text, UINT32_MAX, &whole) || whole < min)
        return false;
    *(uint32_t *)field = (uint32_t)whole;
    return true;
}

// The number that stands for "all there is", or a count.
static bool store_or(const char *text, bool all, uint32_t stands_for, void *field)
{
    if (all)
        *(uint32_t *)field = stands_for;
    return all || store_u32(text, 0, field);
}

static bool store(const struct row *row, const char *text, struct tool_options *options)
{
    void *field = (char *)options + row->offset;
    switch (row->kind) {
    case TOOL_TEXT:
        *(const char **)field = text;
        return true;
    case TOOL_U32:
        return store_u32(text, 0, field);
    case TOOL_COUNT:
        return store_u32(text, 1, field);
    case TOOL_COUNT_OR_ALL:
        return store_or(text, is_negative(text), 0, field);
    case TOOL_LENGTH:
        return store_or(text, strcmp(text, "-1") == 0 || strcmp(text, "-2") == 0, TOOL_UNTIL_END, field);
    case TOOL_LOOK_BACK:
        return store_or(text, strcmp(text, "-1") == 0, UINT32_MAX, field);
    case TOOL_SEED:
        if (strcmp(text, "-1") == 0)
            *(uint64_t *)field = TOOL_SEED_CLOCK;
        return strcmp(text, "-1") == 0 || parse_whole(text, UINT64_MAX, field);
    case TOOL_FLOAT:
        return parse_real(text, field);
    case TOOL_PENALTY:
        return parse_real(text, field) && (*(float *)field == 0 || (*(float *)field >= 0.01f && *(float *)field <= 100));
    case TOOL_FLAG:
        *(bool *)field = true;
        return true;
    case TOOL_DCA:
        return parse_dca(text, field);
    }
    return false;
}

// What a value of this kind must be.
static const char *expected(enum tool_kind kind)
{
    switch (kind) {
    case TOOL_U32:
        return "a whole number, 0 to 4294967295";
    case TOOL_COUNT:
        return "a whole number, 1 to 4294967295";
    case TOOL_COUNT_OR_ALL:
        return "a whole number, 0 to 4294967295, or -1 for all";
    case TOOL_LENGTH:
        return "a whole number, 0 to 4294967295, or -1 or -2 for no limit but the context";
    case TOOL_LOOK_BACK:
        return "a whole number, 0 to 4294967295, or -1 for the whole context";
    case TOOL_SEED:
        return "a whole number, 0 to 18446744073709551615, or -1 for the clock";
    case TOOL_FLOAT:
        return "a number, as 0.8";
    case TOOL_PENALTY:
        return "a number from 0.01 to 100; 1 is no penalty, and so is 0";
    case TOOL_DCA:
        return "off, auto or CAP,LOCAL with CAP above LOCAL";
    case TOOL_TEXT:
    case TOOL_FLAG:
        break;
    }
    return "a value";
}

static bool names_option(const struct row *row, const char *word)
{
    return (row->short_name != NULL && strcmp(row->short_name, word) == 0) || strcmp(row->long_name, word) == 0;
}

// ---- one word after another ----------------------------------------------------------------------------------------

#define NAME_BYTES 64

// A command line being read. The word at `at` is a name and, written --name=value, its value.
struct line {
    const struct tool_command *command;
    int argc, at;
    char **argv;
    char name[NAME_BYTES]; // cut off where it is longer than any option's
    const char *value;     // after the first '=' of a word that begins with --; NULL = none
    struct tool_options options;
    size_t n_operands;
    bool only_operands; // after --
};

static void split_word(struct line *line)
{
    const char *word = line->argv[line->at], *equals = strncmp(word, "--", 2) == 0 ? strchr(word, '=') : NULL;
    int bytes = equals != NULL && equals - word < NAME_BYTES ? (int)(equals - word) : NAME_BYTES - 1;
    snprintf(line->name, sizeof(line->name), "%.*s", bytes, word);
    line->value = equals != NULL ? equals + 1 : NULL;
}

// The value of the option at hand: its own or the next word, which is then used up. NULL when there is none.
static const char *take_value(struct line *line)
{
    if (line->value == NULL && line->at + 1 < line->argc)
        line->value = line->argv[++line->at];
    return line->value;
}

// Whether the word is an option without meaning; a line says so. *out_status: 0, or TOOL_BAD_INPUT when its value is not there.
static bool skip_needless(struct line *line, int *out_status)
{
    static const char *const switches[] = {"on", "off", "auto", "0", "1"};
    const struct needless *row = NULL;
    for (size_t i = 0; i < N_NEEDLESS && row == NULL; i++)
        for (size_t j = 0; j < 3 && row == NULL; j++)
            if (needless[i].name[j] != NULL && strcmp(needless[i].name[j], line->name) == 0)
                row = &needless[i];
    if (row == NULL || !takes_needless(line->command, row))
        return false;
    *out_status = 0;
    const char *next = line->at + 1 < line->argc ? line->argv[line->at + 1] : NULL;
    if (row->value == NEEDLESS_ONE && take_value(line) == NULL) {
        *out_status = tool_bad("%s: %s needs a value", line->command->name, line->name);
        return true;
    }
    for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++)
        if (row->value == NEEDLESS_SWITCH && line->value == NULL && next != NULL && strcmp(next, switches[i]) == 0)
            (void)take_value(line);
    fprintf(stderr, "fulmen: %s is not needed: %s\n", line->name, row->why);
    return true;
}

static int unknown_option(const struct line *line)
{
    const char *names[2 * OPT_COUNT];
    size_t count = 0;
    char hint[NAME_BYTES + 32] = "";
    for (size_t i = 0; i < line->command->n_options; i++) {
        const struct row *row = &rows[line->command->options[i]];
        names[count++] = row->long_name;
        if (row->short_name != NULL)
            names[count++] = row->short_name;
    }
    const char *near = tool_nearest(line->name, names, count);
    if (near != NULL)
        snprintf(hint, sizeof(hint), "; did you mean %s?", near);
    return tool_bad("%s: unknown option '%s'%s (fulmen %s --help lists them)", line->command->name, line->name, hint, line->command->name);
}

static int take_operand(struct line *line)
{
    const struct tool_command *command = line->command;
    size_t most = command->operand == NULL ? 0 : command->n_operands > 0 ? command->n_operands : 1;
    if (line->n_operands == most)
        return tool_bad("%s: unknown argument '%s': it belongs to no option%s (fulmen %s --help lists them)", command->name,
                        line->argv[line->at], takes_model(command) ? ", a model is given with -m" : "", command->name);
    line->options.operands[line->n_operands++] = line->argv[line->at];
    return 0;
}

static int take_option(struct line *line, enum tool_option option)
{
    const struct row *row = &rows[option];
    const char *command = line->command->name;
    if (row->kind == TOOL_FLAG && line->value != NULL)
        return tool_bad("%s: %s takes no value, found '%s'", command, line->name, line->value);
    if (row->kind != TOOL_FLAG && take_value(line) == NULL)
        return tool_bad("%s: %s needs a value: %s", command, line->name, row->argument);
    if (!store(row, line->value, &line->options))
        return tool_bad("%s: %s: '%s', expected %s", command, line->name, line->value, expected(row->kind));
    line->options.given[option] = true;
    return 0;
}

static int take_word(struct line *line)
{
    const struct tool_command *command = line->command;
    int status = 0;
    size_t n = 0;
    split_word(line);
    while (n < command->n_options && !names_option(&rows[command->options[n]], line->name))
        n++;
    if (line->only_operands || line->argv[line->at][0] != '-')
        return take_operand(line);
    if (n < command->n_options)
        return take_option(line, command->options[n]);
    return skip_needless(line, &status) ? status : unknown_option(line);
}

int tool_parse(const struct tool_command *command, int argc, char **argv, struct tool_options *out_options,
               bool *out_help)
{
    struct line line = {.command = command, .argc = argc, .argv = argv, .options = {
        .temp = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1, .repeat_last_n = 64, .step = 1,
        .seed = TOOL_SEED_CLOCK, .predict = TOOL_UNTIL_END,
        .bench_p = "512", .bench_n = "128", .bench_d = "0", .bench_r = 5, .bench_o = "md", .check_seed = 1,
        .kernel_r = 20, .convert_seed = 1, .ssm = 2,
    }};
    *out_help = false;
    for (; line.at < argc; line.at++) {
        const char *word = argv[line.at];
        if (!line.only_operands && (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0)) {
            print_help(command);
            *out_help = true;
            return 0;
        }
        if (!line.only_operands && strcmp(word, "--") == 0) {
            line.only_operands = true;
            continue;
        }
        int status = take_word(&line);
        if (status != 0)
            return status;
    }
    *out_options = line.options;
    return 0;
}

// ---- near names ----------------------------------------------------------------------------------------------------

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c == '_' ? '-' : c;
}

// Letters to change, put in, leave out or swap with their neighbour, whatever their case: Damerau and Levenshtein's distance.
static size_t distance(const char *a, const char *b)
{
    size_t before[NAME_BYTES + 1], last[NAME_BYTES + 1], row[NAME_BYTES + 1], n = strlen(b);
    if (n > NAME_BYTES || strlen(a) > NAME_BYTES)
        return SIZE_MAX;
    for (size_t j = 0; j <= n; j++)
        last[j] = before[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            bool same = lower(a[i - 1]) == lower(b[j - 1]);
            row[j] = last[j - 1] + !same;
            row[j] = last[j] + 1 < row[j] ? last[j] + 1 : row[j];
            row[j] = row[j - 1] + 1 < row[j] ? row[j - 1] + 1 : row[j];
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]) && before[j - 2] + 1 < row[j])
                row[j] = before[j - 2] + 1;
        }
        memcpy(before, last, sizeof(before));
        memcpy(last, row, sizeof(last));
    }
    return last[n];
}

const char *tool_nearest(const char *word, const char *const *names, size_t count)
{
    size_t letters = strlen(word + strspn(word, "-")), best = letters > 6 ? 3 : letters > 2 ? 2 : 1;
    const char *found = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(word, names[i]);
        if (d < best || (d == best && found == NULL && letters > 3)) {
            best = d;
            found = names[i];
        }
    }
    return found;
}
