// SPDX-License-Identifier: MIT
// A model without a device: file, configuration, graph, tokenizer, and what can be said about them.
#include "run/run.h"
#include "fulmen/writer.h"

#include <stdio.h>

// ---- what the weights are ----------------------------------------------------------------------------------------

static void add_type(struct fm_model *model, enum fm_type type, uint64_t elems, uint64_t bytes)
{
    uint32_t i = 0;
    while (i < model->n_types && model->types[i].type != type)
        i++;
    if (i == model->n_types)
        model->types[model->n_types++] = (struct fm_model_type){.type = type};
    model->types[i].elems += elems;
    model->types[i].bytes += bytes;
}

static void sort_types(struct fm_model *model)
{
    for (uint32_t i = 1; i < model->n_types; i++) {
        struct fm_model_type moving = model->types[i];
        uint32_t at = i;
        for (; at > 0 && model->types[at - 1].bytes < moving.bytes; at--)
            model->types[at] = model->types[at - 1];
        model->types[at] = moving;
    }
}

// Is the weight read whole by every token? A table that is only looked up is not.
static bool is_streamed(const struct fm_graph *graph, uint32_t value)
{
    for (size_t n = 0; n < graph->n_nodes; n++) {
        const struct fm_node *node = &graph->nodes[n];
        for (unsigned i = 0; i < node->n_src && node->op != FM_OP_EMBED; i++)
            if (node->src[i] == value)
                return true;
    }
    return false;
}

static enum fm_result measure_weights(struct fm_model *model)
{
    static const struct fm_dims no_dims = {.t = 1, .o = 1, .s = 1, .l = 1};
    for (uint32_t id = 0; id < model->graph.n_values; id++) {
        const struct fm_value *value = &model->graph.values[id];
        uint64_t elems;
        struct fm_pack pack;
        if (value->kind != FM_VALUE_WEIGHT)
            continue;
        uint64_t k = value->dims[value->n_dims - 1];
        if (k == 0 || !fm_value_elems(value, &no_dims, &elems) || !fm_pack_layout(value->type, elems / k, k, &pack))
            return fm_fail(FM_FORMAT, "%s: weight '%s' is too large, or its rows are no whole blocks of %s", model->path,
                           FM_QUOTE_Z(value->name), fm_type_info(value->type)->name);
        add_type(model, value->type, elems, pack.bytes);
        model->n_params += elems;
        model->weight_bytes += pack.bytes;
        if (is_streamed(&model->graph, id))
            model->token_bytes += pack.bytes;
    }
    sort_types(model);
    return FM_OK;
}

// f32 caches only for models whose matrices are all f32: their users want exact results.
static enum fm_type default_kv_type(const struct fm_file *file)
{
    for (uint32_t i = 0; i < fm_file_tensor_count(file); i++) {
        const struct fm_tensor *tensor = fm_file_tensor(file, i);
        if (tensor->n_dims >= 2 && tensor->type != FM_TYPE_F32)
            return FM_TYPE_F16;
    }
    return FM_TYPE_F32;
}

static enum fm_result build_graph(struct fm_model *model)
{
    struct fm_graph_options options = {.kv_type = {model->kv_type, model->kv_type}, .random_type = model->random_type};
    enum fm_result result = fm_arch_build(model->arch, &model->config, model->file, &options, &model->graph);
    return result == FM_OK ? measure_weights(model) : result;
}

// ---- opening -----------------------------------------------------------------------------------------------------

// An adapter names its base model's architecture, and holds nothing that could run.
static enum fm_result refuse_adapter(const struct fm_file *file)
{
    struct fm_text type;
    enum fm_result result = fm_meta_string(file, "general.type", false, &type);
    if (result != FM_OK)
        return result;
    bool is_adapter = type.bytes == 7 && memcmp(type.data, "adapter", 7) == 0;
    for (uint32_t i = 0; i < fm_file_tensor_count(file) && !is_adapter; i++) {
        const char *name = fm_file_tensor(file, i)->name;
        is_adapter = strstr(name, ".lora_a") != NULL || strstr(name, ".lora_A.") != NULL;
    }
    if (!is_adapter)
        return FM_OK;
    return fm_fail(FM_UNSUPPORTED, "%s: is an adapter (LoRA), not a model: merge it into its base model first", fm_file_path(file));
}

static enum fm_result open_file(struct fm_model *model, const char *path)
{
    struct fm_text name;
    enum fm_result result = fm_file_open(path, &model->file);
    if (result != FM_OK)
        return result;
    model->path = fm_file_path(model->file);
    if (fm_file_tensor_count(model->file) == 0)
        return fm_fail(FM_UNSUPPORTED, "%s: holds no weights%s", model->path,
                       fm_file_meta_find(model->file, "tokenizer.ggml.model") != NULL
                           ? ", only a vocabulary: 'fulmen tokenize' can use it, running needs the whole model" : "");
    if ((result = refuse_adapter(model->file)) != FM_OK ||
        (result = fm_arch_open(model->file, &model->arena, &model->arch, &model->config)) != FM_OK ||
        (result = fm_meta_string(model->file, "general.name", false, &name)) != FM_OK)
        return result;
    char *copy = fm_arena_alloc(&model->arena, (size_t)name.bytes + 1, 1); // zeroed: ends in NUL
    if (copy == NULL)
        return fm_nomem();
    if (name.bytes > 0)
        memcpy(copy, name.data, (size_t)name.bytes);
    model->name = copy;
    model->name_bytes = (size_t)name.bytes;
    model->kv_type = default_kv_type(model->file);
    if ((result = build_graph(model)) != FM_OK)
        return result;
    return fm_tokenizer_create(model->file, &model->tokenizer);
}

enum fm_result fm_model_open(const char *path, struct fm_model **out_model)
{
    struct fm_model *model = fm_alloc_zero(1, sizeof(*model));
    if (model == NULL)
        return fm_nomem();
    model->graph = (struct fm_graph){.logits = FM_NONE, .ids = FM_NONE};
    enum fm_result result = open_file(model, path);
    if (result != FM_OK) {
        fm_model_close(&model);
        return result;
    }
    *out_model = model;
    return FM_OK;
}

enum fm_result fm_model_check_output(const struct fm_model *model, const char *path)
{
    struct fm_file_id id, own = model->file != NULL ? fm_file_identity(model->file) : (struct fm_file_id){0};
    const char *const inputs[] = {model->file != NULL ? model->path : NULL};
    if (model->file != NULL && fm_path_id(path, &id) && id.device == own.device && id.inode == own.inode)
        return fm_fail(FM_ARG, "%s: is the model's file, which is in use; name another", path);
    return fm_writer_check(path, inputs, FM_COUNT(inputs));
}

static enum fm_result unknown_shape(const char *shape)
{
    char known[2048] = "";
    for (const struct fm_shape *s = fm_shapes; s->name != NULL; s++)
        fm_append(known, sizeof(known), " %s", s->name);
    return fm_fail(FM_ARG, "no built-in shape '%s', there are%s", FM_QUOTE_Z(shape), known);
}

enum fm_result fm_model_open_shape(const char *name, const char *type_name, struct fm_model **out_model)
{
    const struct fm_shape *shape = fm_shape_find(name);
    enum fm_type type = fm_type_from_name(type_name);
    if (shape == NULL)
        return unknown_shape(name);
    if (type == FM_TYPE_NONE || !fm_type_info(type)->is_weight)
        return fm_fail(FM_ARG, "no weight type '%s' (f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q4_K q5_K q6_K)",
                       FM_QUOTE_Z(type_name));
    struct fm_model *model = fm_alloc_zero(1, sizeof(*model));
    if (model == NULL)
        return fm_nomem();
    model->graph = (struct fm_graph){.logits = FM_NONE, .ids = FM_NONE};
    model->path = model->name = shape->name;
    model->name_bytes = strlen(shape->name);
    model->arch = fm_arch_find(shape->arch, strlen(shape->arch));
    model->config = shape->config;
    model->random_type = type;
    model->kv_type = type == FM_TYPE_F32 ? FM_TYPE_F32 : FM_TYPE_F16;
    enum fm_result result = build_graph(model);
    if (result != FM_OK) {
        fm_model_close(&model);
        return result;
    }
    *out_model = model;
    return FM_OK;
}

const char *fm_model_shape_name(size_t index)
{
    for (const struct fm_shape *s = fm_shapes; s->name != NULL; s++)
        if (index-- == 0)
            return s->name;
    return NULL;
}

void fm_model_close(struct fm_model **handle)
{
    struct fm_model *model = *handle;
    if (model == NULL)
        return;
    *handle = NULL;
    fm_vk_memory_destroy(&model->weights);
    fm_tokenizer_destroy(&model->tokenizer);
    fm_graph_finish(&model->graph);
    fm_file_close(&model->file);
    fm_arena_finish(&model->arena);
    fm_free(model);
}

// ---- describing --------------------------------------------------------------------------------------------------

void fm_model_get_info(const struct fm_model *model, struct fm_model_info *out_info)
{
    const struct fm_config *c = &model->config;
    *out_info = (struct fm_model_info){
        .path = model->path, .name = model->name, .name_bytes = model->name_bytes, .arch = model->arch->name,
        .type = model->n_types > 0 ? fm_type_info(model->types[0].type)->name : "none",
        .n_layers = c->n_layers, .width = c->width, .heads = c->heads, .heads_kv = c->heads_kv, .head = c->head, .ffn = c->ffn,
        .vocab = c->vocab, .context = c->context, .n_params = model->n_params,
        .file_bytes = model->file != NULL ? fm_file_bytes(model->file) : 0,
        .weight_bytes = model->weight_bytes, .token_bytes = model->token_bytes, .is_recurrent = fm_graph_is_recurrent(&model->graph)};
}

const struct fm_tokenizer *fm_model_tokenizer(const struct fm_model *model)
{
    return model->tokenizer;
}

bool fm_model_type_at(const struct fm_model *model, size_t index, const char **out_name, uint64_t *out_elems, uint64_t *out_bytes)
{
    if (index >= model->n_types)
        return false;
    *out_name = fm_type_info(model->types[index].type)->name;
    *out_elems = model->types[index].elems;
    *out_bytes = model->types[index].bytes;
    return true;
}

enum fm_result fm_model_need(const struct fm_model *model, const struct fm_device *device, const struct fm_session_params *params,
                             struct fm_memory_need *out_need)
{
    struct fm_blueprint blueprint;
    enum fm_result result = fm_blueprint_make(model, fm_vk_caps(device->vk), params, &blueprint);
    if (result != FM_OK)
        return result;
    fm_blueprint_need(&blueprint, out_need);
    fm_blueprint_finish(&blueprint);
    return FM_OK;
}

// ---- explaining --------------------------------------------------------------------------------------------------

// Plan the bucket of a step of n_tokens, at most n_run of them of one sequence. Both results are the caller's.
static enum fm_result plan_step(const struct fm_model *model, const struct fm_device *device, const struct fm_session_params *params,
                                uint32_t n_tokens, uint32_t n_run, struct fm_blueprint *out_blueprint, struct fm_planned_step *out_planned)
{
    const struct fm_caps *caps = fm_vk_caps(device->vk);
    if (n_tokens == 0 || n_run > n_tokens)
        return fm_fail(FM_ARG, "a step of %u tokens, %u of one sequence; expected at least 1, and no more of one sequence than in all",
                       n_tokens, n_run);
    enum fm_result result = fm_blueprint_make(model, caps, params, out_blueprint);
    if (result != FM_OK)
        return result;
    struct fm_step_size step = {.rows = FM_MIN(n_tokens, out_blueprint->n_ubatch)};
    step.run = n_run == 0 ? step.rows : FM_MIN(n_run, step.rows);
    result = fm_blueprint_plan(out_blueprint, caps, fm_bucket_of(&out_blueprint->buckets, step), false, out_planned);
    if (result != FM_OK)
        fm_blueprint_finish(out_blueprint);
    return result;
}

enum fm_result fm_model_explain(const struct fm_model *model, const struct fm_device *device, const struct fm_session_params *params,
                                uint32_t n_tokens, uint32_t n_run, char **out_text)
{
    struct fm_blueprint blueprint;
    struct fm_planned_step planned;
    enum fm_result result = plan_step(model, device, params, n_tokens, n_run, &blueprint, &planned);
    if (result != FM_OK)
        return result;
    result = fm_plan_print(&planned.graph, &planned.plan, out_text);
    fm_planned_step_finish(&planned);
    fm_blueprint_finish(&blueprint);
    return result;
}

static enum fm_result why_text(const struct fm_caps *caps, const struct fm_node *node, const struct fm_want *want, char **out_text)
{
    size_t count = fm_kernel_count, cap = (fm_kernel_count + 2) * 256, used;
    struct fm_candidate *list = fm_alloc_zero(count + 1, sizeof(*list));
    char *text = fm_alloc(cap);
    if (list == NULL || text == NULL) {
        fm_free(list);
        fm_free(text);
        return fm_nomem();
    }
    fm_kernel_select(caps, want, list, &count);
    used = (size_t)snprintf(text, cap, "%.80s: %s", node->name, fm_op_info(node->op)->name);
    if (want->w < FM_TYPE_COUNT)
        used += (size_t)snprintf(text + used, cap - used, ", %s", fm_type_info(want->w)->name);
    for (int i = 0; i < FM_PARAM_COUNT; i++)
        used += (size_t)snprintf(text + used, cap - used, ", %s %u", fm_param_name((enum fm_param)i), want->param[i]);
    used += (size_t)snprintf(text + used, cap - used, "\n");
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(text + used, cap - used, "%c %-40.60s %s\n", list[i].reject == FM_REJECT_NONE ? '*' : ' ',
                                 list[i].kernel->name, list[i].reason);
    fm_free(list);
    *out_text = text;
    return FM_OK;
}

enum fm_result fm_model_why(const struct fm_model *model, const struct fm_device *device, const struct fm_session_params *params,
                            uint32_t n_tokens, uint32_t n_run, const char *name, char **out_text)
{
    const struct fm_caps *caps = fm_vk_caps(device->vk);
    struct fm_blueprint blueprint;
    struct fm_planned_step planned;
    enum fm_result result = plan_step(model, device, params, n_tokens, n_run, &blueprint, &planned);
    if (result != FM_OK)
        return result;
    const struct fm_node *node = NULL;
    for (size_t i = 0; i < planned.graph.n_nodes && node == NULL; i++)
        if (strcmp(planned.graph.nodes[i].name, name) == 0)
            node = &planned.graph.nodes[i];
    struct fm_want want;
    if (node == NULL)
        result = fm_fail(FM_ARG, "no node '%s' in the plan for %u tokens (its listing has their names)", FM_QUOTE_Z(name),
                         planned.bucket.rows);
    else
        result = fm_want_from_node(&planned.graph, node, &planned.plan.dims, caps, &want);
    if (result == FM_OK)
        result = why_text(caps, node, &want, out_text);
    fm_planned_step_finish(&planned);
    fm_blueprint_finish(&blueprint);
    return result;
}
