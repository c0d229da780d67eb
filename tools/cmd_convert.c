// SPDX-License-Identifier: MIT
// fulmen convert: checkpoint folders to GGUF, and Llamas to hybrids.
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "text.h"
#include "tool.h"

static const enum tool_option option_list[] = {OPT_CONVERT_O, OPT_TYPE, OPT_PRE,          OPT_TO,
                                               OPT_ATTENTION, OPT_SSM,  OPT_CONVERT_SEED, OPT_VERBOSE};

static int done(enum fm_result result, const char *path)
{
    struct stat info;
    if (result != FM_OK)
        return tool_fail(result);
    if (stat(path, &info) == 0)
        fprintf(stderr, "%s: %.1f MB\n", TOOL_QUOTE(path), (double)info.st_size / 1e6);
    return TOOL_DONE;
}

static int make_hybrid(const struct tool_options *options, const struct fm_convert_params *params)
{
    struct fm_hybrid_params hybrid = {.ssm_version = options->ssm, .seed = options->convert_seed};
    uint32_t *layers = NULL;
    if (strcmp(options->to, "mambainllama") != 0)
        return tool_bad("convert: --to '%s' is unknown, known is mambainllama", options->to);
    if (options->pre != NULL)
        return tool_bad("convert: --pre is for checkpoint folders, not for --to");
    if (options->ssm != 1 && options->ssm != 2)
        return tool_bad("convert: --ssm %u, expected 1 or 2", options->ssm);
    if (options->attention_layers == NULL)
        return tool_bad("convert: --to mambainllama needs --attention-layers 1,3,5 (or none)");
    if (strcmp(options->attention_layers, "none") != 0) {
        int status = tool_parse_list(options->attention_layers, "convert: --attention-layers", &layers, &hybrid.n_attention_layers);
        if (status != 0)
            return status;
        hybrid.attention_layers = layers;
    }
    enum fm_result result = fm_convert_mambainllama(options->operands[0], options->convert_o, &hybrid, params);
    free(layers);
    return done(result, options->convert_o);
}

static int run(const struct tool_options *options)
{
    char label[] = "converting";
    const struct fm_convert_params params = {.type = options->type, .pre = options->pre, .progress = tool_progress, .user = label};
    const enum tool_option of_hybrid[] = {OPT_ATTENTION, OPT_SSM, OPT_CONVERT_SEED};
    if (options->operands[0] == NULL)
        return tool_bad("convert: no %s given", options->to != NULL ? "GGUF file" : "checkpoint folder");
    if (options->convert_o == NULL)
        return tool_bad("convert: give the file to make with -o FILE.gguf");
    if (options->to != NULL)
        return make_hybrid(options, &params);
    for (size_t i = 0; i < sizeof(of_hybrid) / sizeof(of_hybrid[0]); i++)
        if (options->given[of_hybrid[i]])
            return tool_bad("convert: --attention-layers, --ssm and --seed go with --to mambainllama");
    return done(fm_convert(options->operands[0], options->convert_o, &params), options->convert_o);
}

const struct tool_command cmd_convert = {
    .name = "convert", .operand = "FOLDER",
    .summary = "a Hugging Face or PyTorch checkpoint folder to GGUF; a llama GGUF to a hybrid", .options = option_list,
    .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
    .notes = TOOL_TYPE_NOTES,
};
