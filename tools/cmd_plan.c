// SPDX-License-Identifier: MIT
// fulmen plan: the compiled program as text, and why a kernel was taken.
#include "tool.h"

static const enum tool_option option_list[] = {
    OPT_MODEL, OPT_SHAPE, OPT_STEP, OPT_RUN, OPT_WHY, OPT_CTX, OPT_UBATCH, OPT_CTK, OPT_CTV, OPT_ACTIVATIONS, OPT_DCA, OPT_DEVICE, OPT_RUNG,
    OPT_TUNING, OPT_VERBOSE,
};

static int run(const struct tool_options *options)
{
    struct fm_model *model = NULL;
    struct fm_device *device = NULL;
    char *text = NULL;
    int status = tool_open_model(options, &model);
    if (status != 0)
        return status;
    const struct fm_device_params params = {.selector = options->device, .max_rung = options->rung, .tuning = options->tuning};
    struct fm_session_params session = tool_session_params(options, model);
    if (options->step_run > 0) // as many sequences as such a step has
        session.n_slots = (uint32_t)(((uint64_t)options->step + options->step_run - 1) / options->step_run);
    enum fm_result result = fm_device_open(&params, &device);
    if (result == FM_OK && options->why != NULL)
        result = fm_model_why(model, device, &session, options->step, options->step_run, options->why, &text);
    else if (result == FM_OK)
        result = fm_model_explain(model, device, &session, options->step, options->step_run, &text);
    if (result != FM_OK)
        status = tool_fail(result);
    else if (fputs(text, stdout) == EOF)
        status = tool_output_failed("standard output");
    fm_text_free(text);
    fm_model_close(&model);
    fm_device_close(&device);
    return status;
}

const struct tool_command cmd_plan = {
    .name = "plan", .summary = "what a step runs on the device, dispatch by dispatch", .options = option_list,
    .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
};
