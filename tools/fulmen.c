// SPDX-License-Identifier: MIT
// The command-line tool: one binary, sub-commands.
#include <string.h>

#include "tool.h"

static const struct tool_command *const commands[] = {
    &cmd_run, &cmd_logits, &cmd_tokenize, &cmd_info, &cmd_devices, &cmd_plan, &cmd_bench,
};

static void print_usage(FILE *file)
{
    fprintf(file, "fulmen COMMAND [options]\n\n");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        fprintf(file, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(file, "\nfulmen COMMAND --help lists a command's options. fulmen --version\n"
                  "Exit codes: 0 done, 1 failed, 2 bad input, 3 no device or out of memory.\n");
}

int main(int argc, char **argv)
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
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        struct tool_options options;
        bool help;
        if (strcmp(commands[i]->name, name) != 0)
            continue;
        int status = tool_parse(commands[i], argc - 2, argv + 2, &options, &help);
        if (status != 0 || help)
            return status;
        tool_catch_signals();
        if (options.verbose)
            fm_log_set(NULL, NULL, FM_LOG_INFO);
        status = commands[i]->run(&options);
        if (fflush(stdout) != 0 && status == TOOL_DONE && !tool_interrupted())
            status = TOOL_FAILED;
        return status;
    }
    if (name[0] != '\0')
        fprintf(stderr, "fulmen: unknown command '%s'\n", name);
    print_usage(stderr);
    return TOOL_BAD_INPUT;
}
