// SPDX-License-Identifier: MIT
// The command-line tool: one binary, sub-commands.
#include <string.h>

#include "tool.h"

static const struct tool_command *const commands[] = {
#define X(id) &cmd_##id,
#include "commands.def"
#undef X
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

// The command that the first words name, the longest name first: "bench kernels" is not "bench" with an argument.
// *out_words: how many they are.
static const struct tool_command *find_command(int argc, char **argv, int *out_words)
{
    const struct tool_command *found = NULL;
    for (size_t i = 0; i < N_COMMANDS; i++) {
        const char *second = strchr(commands[i]->name, ' ');
        size_t bytes = second != NULL ? (size_t)(second - commands[i]->name) : strlen(commands[i]->name);
        if (argc < 2 || strlen(argv[1]) != bytes || strncmp(argv[1], commands[i]->name, bytes) != 0)
            continue;
        if (second == NULL && found == NULL) {
            found = commands[i];
            *out_words = 1;
        } else if (second != NULL && argc > 2 && strcmp(argv[2], second + 1) == 0) {
            found = commands[i];
            *out_words = 2;
        }
    }
    return found;
}

static int unknown_command(const char *name)
{
    const char *names[N_COMMANDS];
    for (size_t i = 0; i < N_COMMANDS; i++)
        names[i] = commands[i]->name;
    const char *near = tool_nearest(name, names, N_COMMANDS);
    return tool_bad("unknown command '%s'%s%s%s (fulmen --help lists them)", name, near != NULL ? "; did you mean " : "",
                    near != NULL ? near : "", near != NULL ? "?" : "");
}

static void print_usage(FILE *file)
{
    fprintf(file, "fulmen COMMAND [options]\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(file, "  %-14s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(file, "\nfulmen COMMAND --help lists a command's options. fulmen --version\n"
                  "Exit codes: 0 done, 1 failed, 2 bad input, 3 no device or out of memory.\n");
}

static int run_command(const struct tool_command *command, int argc, char **argv)
{
    struct tool_options options;
    bool help;
    int status = tool_parse(command, argc, argv, &options, &help);
    if (status == 0 && !help) {
        if (options.verbose)
            fm_log_set(NULL, NULL, FM_LOG_INFO);
        status = command->run(&options);
    }
    return status;
}

static int run(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--version") == 0) {
        printf("fulmen %s (%s)\n", fm_version(), fm_commit());
        return TOOL_DONE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_usage(stdout);
        return TOOL_DONE;
    }
    int words = 0;
    const struct tool_command *command = find_command(argc, argv, &words);
    if (command != NULL)
        return run_command(command, argc - 1 - words, argv + 1 + words);
    if (name[0] == '-')
        return tool_bad("'%s' before a command: expected fulmen COMMAND [options], as fulmen run -m FILE -p TEXT", name);
    if (name[0] != '\0')
        return unknown_command(name);
    print_usage(stderr);
    return TOOL_BAD_INPUT;
}

int main(int argc, char **argv)
{
    tool_open_standard_files();
    tool_catch_signals();
    return tool_finish_output(run(argc, argv));
}
