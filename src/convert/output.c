// SPDX-License-Identifier: MIT
// One conversion and its list of tensors.
#include "convert/output.h"

enum fm_result fm_conv_init(struct fm_conv *conv, const struct fm_convert_params *params)
{
    *conv = (struct fm_conv){.want = FM_TYPE_NONE};
    if (params != NULL) {
        conv->progress = params->progress;
        conv->user = params->user;
    }
    enum fm_result r = params != NULL && params->type != NULL ? fm_conv_type(params->type, &conv->want) : FM_OK;
    if (r != FM_OK)
        return r;
    return fm_gguf_writer_create(&conv->writer);
}

void fm_conv_finish(struct fm_conv *conv)
{
    fm_gguf_writer_destroy(&conv->writer);
    fm_free(conv->outputs);
    fm_arena_finish(&conv->arena);
}

enum fm_result fm_conv_add(struct fm_conv *conv, const char *name, uint32_t n_dims, const uint64_t *dims,
                           const struct fm_part *parts, uint32_t n_parts)
{
    struct fm_output o = {.name = fm_arena_strdup(&conv->arena, name), .n_dims = n_dims, .rows = 1, .n_parts = n_parts};
    enum fm_result r = o.name == NULL ? fm_nomem()
                                      : fm_array_reserve((void **)&conv->outputs, &conv->output_cap,
                                                         conv->output_count + 1, sizeof(*conv->outputs));
    if (r != FM_OK)
        return r;
    bool by_element = n_dims == 1 && (n_parts > 1 || parts[0].move != FM_MOVE_NONE);
    o.cols = by_element ? 1 : dims[n_dims - 1];
    for (uint32_t i = 0; i < n_dims; i++)
        o.dims[i] = dims[i];
    for (uint32_t i = 0; i + (by_element ? 0 : 1) < n_dims; i++)
        o.rows *= dims[i];
    uint64_t rows = 0;
    for (uint32_t i = 0; i < n_parts; i++) {
        o.parts[i] = parts[i];
        rows += parts[i].rows;
    }
    if (rows != o.rows)
        return fm_fail(FM_ARG, "tensor '%s': its parts have %llu rows, expected %llu", FM_QUOTE_Z(name),
                       (unsigned long long)rows, (unsigned long long)o.rows);
    conv->outputs[conv->output_count++] = o;
    return FM_OK;
}
