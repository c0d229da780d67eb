// SPDX-License-Identifier: MIT
// fulmen info: what a model file holds, what it needs, and where it fits.
#include "text.h"
#include "tool.h"

static const enum tool_option option_list[] = {
    OPT_MODEL, OPT_SHAPE, OPT_CTX, OPT_UBATCH, OPT_CTK, OPT_CTV, OPT_DCA, OPT_DEVICE, OPT_RUNG, OPT_JSON, OPT_VERBOSE,
};

static void print_model(const struct fm_model *model)
{
    struct fm_model_info info;
    bool known = true;
    const struct fm_tokenizer *tokenizer = fm_model_tokenizer(model);
    fm_model_get_info(model, &info);
    printf("file          %s\n", TOOL_QUOTE(info.path));
    if (info.name[0] != '\0')
        printf("name          %s\n", TOOL_QUOTE(info.name));
    printf("architecture  %s, %u layers\n", info.arch, info.n_layers);
    printf("widths        model %u, FFN %u, %u heads of %u (%u for keys and values), vocabulary %u\n", info.width,
           info.ffn, info.heads, info.head, info.heads_kv, info.vocab);
    printf("context       %u tokens\n", info.context);
    printf("parameters    %.3f M in %.1f MB\n", (double)info.n_params * 1e-6, (double)info.weight_bytes * 1e-6);
    const char *type = NULL;
    uint64_t elems = 0, bytes = 0;
    for (size_t i = 0; fm_model_type_at(model, i, &type, &elems, &bytes); i++)
        printf("  %-12s%.3f M in %.1f MB\n", type, (double)elems * 1e-6, (double)bytes * 1e-6);
    if (tokenizer == NULL) {
        printf("tokenizer     none\n");
        return;
    }
    enum fm_chat_template chat = fm_tokenizer_chat_template(tokenizer, &known);
    printf("tokenizer     %u tokens, chat template %s%s\n", fm_tokenizer_vocab(tokenizer), fm_chat_template_name(chat),
           known ? "" : " (the file's is unknown)");
}

static cJSON *json_of_model(const struct fm_model *model)
{
    struct fm_model_info info;
    bool known = true;
    const struct fm_tokenizer *tokenizer = fm_model_tokenizer(model);
    cJSON *o = cJSON_CreateObject();
    fm_model_get_info(model, &info);
    tool_json_add(o, "file", info.path);
    tool_json_add(o, "name", info.name);
    cJSON_AddStringToObject(o, "architecture", info.arch);
    const struct { const char *key; uint64_t value; } numbers[] = {
        {"layers", info.n_layers}, {"width", info.width}, {"ffn", info.ffn}, {"heads", info.heads},
        {"heads_kv", info.heads_kv}, {"head", info.head}, {"vocab", info.vocab}, {"context", info.context},
        {"params", info.n_params}, {"file_bytes", info.file_bytes}, {"weight_bytes", info.weight_bytes},
        {"token_bytes", info.token_bytes},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        cJSON_AddNumberToObject(o, numbers[i].key, (double)numbers[i].value);
    cJSON *types = cJSON_AddArrayToObject(o, "types");
    const char *type = NULL;
    uint64_t elems = 0, bytes = 0;
    for (size_t i = 0; fm_model_type_at(model, i, &type, &elems, &bytes); i++) {
        cJSON *t = cJSON_CreateObject();
        cJSON_AddStringToObject(t, "type", type);
        cJSON_AddNumberToObject(t, "elems", (double)elems);
        cJSON_AddNumberToObject(t, "bytes", (double)bytes);
        cJSON_AddItemToArray(types, t);
    }
    cJSON_AddNumberToObject(o, "tokenizer_tokens", tokenizer != NULL ? fm_tokenizer_vocab(tokenizer) : 0);
    if (tokenizer != NULL) {
        enum fm_chat_template chat = fm_tokenizer_chat_template(tokenizer, &known);
        cJSON_AddStringToObject(o, "chat_template", fm_chat_template_name(chat));
        cJSON_AddBoolToObject(o, "chat_template_known", known);
    }
    return o;
}

// What the model needs on one device, or why it cannot run there.
struct fit {
    struct fm_device_info device;
    struct fm_memory_need need;
    bool can_run;
    char message[4096]; // when it cannot
};

static enum fm_result find_fit(const struct tool_options *options, const struct fm_model *model, const char *selector,
                               struct fit *fit)
{
    struct fm_device *device = NULL;
    const struct fm_device_params params = {.selector = selector, .max_rung = options->rung};
    const struct fm_session_params session = tool_session_params(options, model);
    enum fm_result result = fm_device_open(&params, &device);
    if (result == FM_OK) {
        fm_device_get_info(device, &fit->device);
        result = fm_model_need(model, device, &session, &fit->need);
    }
    fit->can_run = result == FM_OK;
    if (result != FM_OK)
        snprintf(fit->message, sizeof(fit->message), "%s", fm_error_message());
    fm_device_close(&device);
    return result;
}

// One sequence's state: what it takes whatever its length, and for each token.
static void print_state(const struct fm_memory_need *n)
{
    double fixed = (double)n->state_fixed_bytes / n->n_slots;
    double token = (double)(n->state_bytes - n->state_fixed_bytes) / n->n_slots / n->n_ctx;
    if (n->n_versions > 0)
        printf("state         %.3f MB whatever the context (%u versions), and %.0f bytes a token%s\n", fixed * 1e-6, n->n_versions, token,
               token < 8 ? ": its id" : "");
    else
        printf("state         %.0f bytes a token\n", token);
}

static void print_fit(const struct fit *fit)
{
    const struct fm_memory_need *n = &fit->need;
    if (!fit->can_run) {
        printf("device        %s: %s\n", TOOL_QUOTE(fit->device.name), fit->message);
        return;
    }
    double rest = (double)(n->total_bytes - n->weights_bytes - n->state_bytes);
    printf("device        %s, rung %s: context %u needs %.1f MB = %.1f weights + %.1f state + %.1f activations; "
           "%s (%.1f MB available)\n",
           TOOL_QUOTE(fit->device.name), fit->device.rung, n->n_ctx, (double)n->total_bytes * 1e-6, (double)n->weights_bytes * 1e-6,
           (double)n->state_bytes * 1e-6, rest * 1e-6,
           n->total_bytes <= fit->device.available_bytes ? "fits" : "does not fit",
           (double)fit->device.available_bytes * 1e-6);
}

static cJSON *json_of_fit(const struct fit *fit)
{
    const struct fm_memory_need *n = &fit->need;
    cJSON *o = cJSON_CreateObject();
    tool_json_add(o, "name", fit->device.name);
    cJSON_AddStringToObject(o, "uuid", fit->device.uuid);
    cJSON_AddNumberToObject(o, "available_bytes", (double)fit->device.available_bytes);
    cJSON_AddBoolToObject(o, "fits", fit->can_run && n->total_bytes <= fit->device.available_bytes);
    if (!fit->can_run) {
        tool_json_add(o, "message", fit->message);
        return o;
    }
    cJSON_AddStringToObject(o, "rung", fit->device.rung);
    cJSON_AddNumberToObject(o, "context", n->n_ctx);
    cJSON_AddNumberToObject(o, "total_bytes", (double)n->total_bytes);
    cJSON_AddNumberToObject(o, "weights_bytes", (double)n->weights_bytes);
    cJSON_AddNumberToObject(o, "state_bytes", (double)n->state_bytes);
    cJSON_AddNumberToObject(o, "state_fixed_bytes", (double)n->state_fixed_bytes);
    cJSON_AddNumberToObject(o, "arena_bytes", (double)n->arena_bytes);
    return o;
}

// On the device asked for, or on all. What the user asked for and cannot be had is an error; that there is no device
// is not.
static int report_fits(const struct tool_options *options, const struct fm_model *model, cJSON *json)
{
    struct fm_device_info *infos = NULL;
    size_t count = 1;
    int status = TOOL_DONE;
    bool state_told = false; // the same on all devices
    cJSON *list = json != NULL ? cJSON_AddArrayToObject(json, "devices") : NULL;
    if (options->device == NULL && fm_device_list(&infos, &count) != FM_OK) {
        count = 0;
        if (json == NULL)
            printf("device        none: %s\n", fm_error_message());
    }
    for (size_t i = 0; i < count && status == TOOL_DONE; i++) {
        struct fit fit = {0};
        if (infos != NULL)
            fit.device = infos[i];
        enum fm_result result = find_fit(options, model, infos != NULL ? infos[i].uuid : options->device, &fit);
        if (json == NULL && fit.can_run && !state_told) {
            print_state(&fit.need);
            state_told = true;
        }
        if (result == FM_ARG || (result != FM_OK && infos == NULL))
            status = tool_fail(result);
        else if (json != NULL)
            cJSON_AddItemToArray(list, json_of_fit(&fit));
        else
            print_fit(&fit);
    }
    fm_device_list_free(infos);
    return status;
}

static int run(const struct tool_options *options)
{
    struct tool_options copy = *options;
    struct fm_model *model = NULL;
    if (options->operands[0] != NULL && options->model != NULL)
        return tool_bad("info: two files, '%s' and '%s', expected one", options->operands[0], options->model);
    if (options->operands[0] != NULL)
        copy.model = options->operands[0];
    if (copy.model == NULL && copy.shape == NULL)
        return tool_bad("info: no model: give FILE or --shape NAME:TYPE");
    int status = tool_open_model(&copy, &model);
    if (status != 0)
        return status;
    cJSON *json = options->json ? json_of_model(model) : NULL;
    if (!options->json)
        print_model(model);
    status = report_fits(options, model, json);
    char *text = json != NULL && status == TOOL_DONE ? cJSON_Print(json) : NULL;
    if (text != NULL)
        printf("%s\n", text);
    else if (json != NULL && status == TOOL_DONE)
        status = tool_fail(FM_NOMEM);
    cJSON_free(text);
    cJSON_Delete(json);
    fm_model_close(&model);
    return status;
}

const struct tool_command cmd_info = {
    .name = "info", .operand = "FILE",
    .summary = "architecture, shapes, formats, memory at a context length, where it fits", .options = option_list,
    .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
};
