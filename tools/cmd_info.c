// SPDX-License-Identifier: MIT
// fulmen info: what a model file holds, what it needs, and where it fits.
#include "text.h"
#include "tool.h"

static const enum tool_option option_list[] = {
    OPT_MODEL, OPT_SHAPE, OPT_CTX, OPT_UBATCH, OPT_CTK, OPT_CTV, OPT_ACTIVATIONS, OPT_DCA, OPT_DEVICE, OPT_RUNG, OPT_TUNING,
    OPT_JSON, OPT_VERIFY, OPT_VERBOSE,
};

static void print_model(const struct fm_model *model)
{
    struct fm_model_info info;
    char name[512];
    bool known = true;
    const struct fm_tokenizer *tokenizer = fm_model_tokenizer(model);
    fm_model_get_info(model, &info);
    printf("file          %s\n", TOOL_QUOTE(info.path));
    if (info.name_bytes > 0)
        printf("name          %s\n", fm_quote(info.name, info.name_bytes, name, sizeof(name)));
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
    cJSON_AddItemToObject(o, "name", tool_json_text(info.name, info.name_bytes));
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
    const struct fm_device_params params = {.selector = selector, .max_rung = options->rung, .tuning = options->tuning};
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
        bool asked = result == FM_ARG || (options->tuning != NULL && (result == FM_IO || result == FM_FORMAT));
        if (asked || (result != FM_OK && infos == NULL))
            status = tool_fail(result);
        else if (json != NULL)
            cJSON_AddItemToArray(list, json_of_fit(&fit));
        else
            print_fit(&fit);
    }
    fm_device_list_free(infos);
    return status;
}

// ---- looking at all of a file ------------------------------------------------------------------------------------

static void print_finding(void *user, const struct fm_finding *finding)
{
    char path[512], tensor[512];
    (void)user;
    tool_clear_bar();
    printf("%s: tensor '%s'", fm_quote(finding->path, strlen(finding->path), path, sizeof(path)),
           fm_quote(finding->tensor, strlen(finding->tensor), tensor, sizeof(tensor)));
    switch (finding->kind) {
    case FM_FINDING_NONFINITE:
        printf(": %llu of %llu weights are infinite or NaN, the first is element %llu\n", (unsigned long long)finding->count,
               (unsigned long long)finding->elems, (unsigned long long)finding->first);
        break;
    case FM_FINDING_UNUSED:
        printf(" is used by nothing of the architecture\n");
        break;
    }
}

static int verify(const char *path)
{
    struct fm_verify_result all;
    char label[] = "reading", quoted[512];
    const struct fm_verify_params params = {.finding = print_finding, .progress = tool_progress, .user = label};
    enum fm_result result = fm_verify(path, &params, &all);
    if (result != FM_OK) {
        int status = tool_fail(result);
        return result == FM_FORMAT ? TOOL_FAILED : status; // a file that cannot be opened for what is in it has not passed
    }
    printf("%s: %llu tensors, %.2f GB: ", fm_quote(path, strlen(path), quoted, sizeof(quoted)), (unsigned long long)all.tensors,
           (double)all.bytes * 1e-9);
    if (all.findings == 0)
        printf("nothing wrong\n");
    else
        printf("%llu finding%s\n", (unsigned long long)all.findings, all.findings == 1 ? "" : "s");
    return all.findings == 0 ? TOOL_DONE : TOOL_FAILED;
}

// ---- one file after the other ------------------------------------------------------------------------------------

static int describe(const struct tool_options *options, cJSON *list)
{
    struct fm_model *model = NULL;
    int status = tool_open_model(options, &model);
    if (status != 0)
        return status;
    cJSON *json = list != NULL ? json_of_model(model) : NULL;
    if (list == NULL)
        print_model(model);
    else if (json == NULL || !cJSON_AddItemToArray(list, json))
        status = tool_fail(FM_NOMEM);
    if (status == 0)
        status = report_fits(options, model, json);
    fm_model_close(&model);
    return status;
}

// The worst of all files: each is told of, whatever the others are.
static int each(struct tool_options *options, cJSON *list, size_t *out_count)
{
    const char *paths[TOOL_OPERANDS + 1];
    size_t count = 0;
    int worst = TOOL_DONE;
    if (options->model != NULL)
        paths[count++] = options->model;
    for (size_t i = 0; i < TOOL_OPERANDS && options->operands[i] != NULL; i++)
        paths[count++] = options->operands[i];
    *out_count = count;
    if (count == 0) // a shape
        return describe(options, list);
    for (size_t i = 0; i < count && !tool_interrupted(); i++) {
        options->model = paths[i];
        if (i > 0 && list == NULL && !options->verify)
            printf("\n");
        int status = options->verify ? verify(paths[i]) : describe(options, list);
        worst = status > worst ? status : worst;
    }
    return worst;
}

static int run(const struct tool_options *options)
{
    struct tool_options copy = *options;
    bool any = copy.model != NULL || copy.operands[0] != NULL;
    if (!any && copy.shape == NULL)
        return tool_bad("info: no model: give FILE or --shape NAME:TYPE");
    if (any && copy.shape != NULL)
        return tool_bad("info: a file and --shape, expected one of them");
    if (copy.verify && (copy.shape != NULL || copy.json))
        return tool_bad("info: --verify reads files, and has no --json");
    cJSON *list = copy.json ? cJSON_CreateArray() : NULL;
    if (copy.json && list == NULL)
        return tool_fail(FM_NOMEM);
    size_t count = 0;
    int status = each(&copy, list, &count);
    // One file is an object, several are an array of them.
    const cJSON *what = list == NULL || count > 1 ? list : cJSON_GetArrayItem(list, 0);
    char *text = list != NULL && cJSON_GetArraySize(list) > 0 ? cJSON_Print(what) : NULL;
    if (text != NULL)
        printf("%s\n", text);
    else if (list != NULL && status == TOOL_DONE)
        status = tool_fail(FM_NOMEM);
    cJSON_free(text);
    cJSON_Delete(list);
    return status;
}

const struct tool_command cmd_info = {
    .name = "info", .operand = "FILE...", .n_operands = TOOL_OPERANDS,
    .summary = "architecture, shapes, formats, memory at a context length, where it fits; --verify reads all of a file",
    .options = option_list, .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
};
