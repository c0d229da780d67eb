// SPDX-License-Identifier: MIT
// fulmen info: what a model file holds, what it needs, and where it fits.
#include "tool.h"

static const enum tool_option option_list[] = {OPT_CTX, OPT_UBATCH, OPT_CTK, OPT_CTV, OPT_DEVICE, OPT_RUNG, OPT_SHAPE, OPT_VERBOSE};

static void print_model(const struct fm_model *model)
{
    struct fm_model_info info;
    bool known = true;
    const struct fm_tokenizer *tokenizer = fm_model_tokenizer(model);
    fm_model_get_info(model, &info);
    printf("file          %s\n", info.path);
    if (info.name[0] != '\0')
        printf("name          %s\n", info.name);
    printf("architecture  %s, %u layers\n", info.arch, info.n_layers);
    printf("widths        model %u, FFN %u, %u heads of %u (%u for keys and values), vocabulary %u\n", info.width, info.ffn, info.heads,
           info.head, info.heads_kv, info.vocab);
    printf("context       %u tokens\n", info.context);
    printf("parameters    %.3f M in %.1f MB\n", (double)info.n_params * 1e-6, (double)info.weight_bytes * 1e-6);
    const char *type = NULL;
    uint64_t elems = 0, bytes = 0;
    for (size_t i = 0; fm_model_type_at(model, i, &type, &elems, &bytes); i++)
        printf("  %-10s  %.3f M in %.1f MB\n", type, (double)elems * 1e-6, (double)bytes * 1e-6);
    if (tokenizer == NULL) {
        printf("tokenizer     none\n");
        return;
    }
    enum fm_chat_template chat = fm_tokenizer_chat_template(tokenizer, &known);
    printf("tokenizer     %u tokens, chat template %s%s\n", fm_tokenizer_vocab(tokenizer), fm_chat_template_name(chat),
           known ? "" : " (the file's is unknown)");
}

static int print_need(const struct tool_options *options, const struct fm_model *model, const char *selector, const char *label)
{
    struct fm_device *device = NULL;
    struct fm_memory_need need;
    struct fm_device_info info;
    const struct fm_device_params params = {.selector = selector, .max_rung = options->rung};
    const struct fm_session_params session = tool_session_params(options, model);
    enum fm_result result = fm_device_open(&params, &device);
    if (result == FM_OK)
        result = fm_model_need(model, device, &session, &need);
    if (result != FM_OK) {
        printf("device        %s: %s\n", label, fm_error_message());
        fm_device_close(&device);
        return result == FM_ARG ? TOOL_BAD_INPUT : TOOL_DONE;
    }
    fm_device_get_info(device, &info);
    printf("device        %s, rung %s: context %u needs %.1f MB = %.1f weights + %.1f state + %.1f activations; %s (%.1f MB available)\n",
           info.name, info.rung, need.n_ctx, (double)need.total_bytes * 1e-6, (double)need.weights_bytes * 1e-6,
           (double)need.state_bytes * 1e-6, (double)(need.total_bytes - need.weights_bytes - need.state_bytes) * 1e-6,
           need.total_bytes <= info.available_bytes ? "fits" : "does not fit", (double)info.available_bytes * 1e-6);
    fm_device_close(&device);
    return TOOL_DONE;
}

static int run(const struct tool_options *options)
{
    struct tool_options copy = *options;
    struct fm_model *model = NULL;
    struct fm_device_info *infos = NULL;
    size_t count = 0;
    copy.model = options->operand;
    if (copy.model == NULL && copy.shape == NULL)
        return tool_bad("info: which file?");
    int status = tool_open_model(&copy, &model);
    if (status != 0)
        return status;
    print_model(model);
    if (options->device != NULL) {
        status = print_need(options, model, options->device, options->device);
    } else if (fm_device_list(&infos, &count) != FM_OK) {
        printf("device        none: %s\n", fm_error_message());
    }
    for (size_t i = 0; i < count && status == 0; i++)
        status = print_need(options, model, infos[i].uuid, infos[i].name);
    fm_device_list_free(infos);
    fm_model_close(&model);
    return status;
}

const struct tool_command cmd_info = {
    .name = "info", .operand = "FILE", .summary = "architecture, shapes, formats, memory at a context length, where it fits",
    .options = option_list, .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
};
