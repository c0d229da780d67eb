// SPDX-License-Identifier: MIT
// fulmen quantize: a GGUF file to one of another type.
#include "text.h"
#include "tool.h"

static const enum tool_option option_list[] = {OPT_VERBOSE};

static int run(const struct tool_options *options)
{
    struct fm_model *model = NULL;
    if (options->operands[2] == NULL)
        return tool_bad("quantize: expected IN.gguf OUT.gguf TYPE");
    char label[] = "quantizing";
    const struct fm_convert_params params = {.type = options->operands[2], .progress = tool_progress, .user = label};
    enum fm_result result = fm_quantize(options->operands[0], options->operands[1], &params);
    if (result != FM_OK)
        return tool_fail(result);
    struct fm_model_info info;
    if (fm_model_open(options->operands[1], &model) != FM_OK)
        return TOOL_DONE; // of an architecture that is not ours to run
    fm_model_get_info(model, &info);
    fprintf(stderr, "%s: %.1f MB, %.2f bits a weight\n", TOOL_QUOTE(options->operands[1]), (double)info.file_bytes / 1e6,
            8.0 * (double)info.file_bytes / (double)info.n_params);
    fm_model_close(&model);
    return TOOL_DONE;
}

const struct tool_command cmd_quantize = {
    .name = "quantize", .operand = "IN.gguf OUT.gguf TYPE", .n_operands = 3,
    .summary = "a GGUF file with its matrices in another type", .options = option_list,
    .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
    .notes = TOOL_TYPE_NOTES,
};
