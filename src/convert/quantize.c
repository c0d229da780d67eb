// SPDX-License-Identifier: MIT
// GGUF to GGUF of another type.
#include "convert/output.h"
#include "fulmen/writer.h"

static enum fm_result unchanged(const void *from)
{
    return fm_file_unchanged(from);
}

static bool key_is(const struct fm_meta *meta, const char *key)
{
    return meta->key.bytes == strlen(key) && memcmp(meta->key.data, key, (size_t)meta->key.bytes) == 0;
}

// All of it but what the new file says anew.
static enum fm_result copy_metas(struct fm_conv *conv, const struct fm_file *file)
{
    static const char *const own[] = {"general.file_type", "general.quantization_version", "general.alignment"};
    for (uint32_t i = 0; i < fm_file_meta_count(file); i++) {
        const struct fm_meta *meta = fm_file_meta(file, i);
        bool skip = false;
        for (size_t k = 0; k < FM_COUNT(own); k++)
            skip = skip || key_is(meta, own[k]);
        if (skip)
            continue;
        char *key = fm_arena_alloc(&conv->arena, (size_t)meta->key.bytes + 1, 1);
        if (key == NULL)
            return fm_nomem();
        memcpy(key, meta->key.data, (size_t)meta->key.bytes);
        fm_gguf_put_meta(conv->writer, key, meta);
    }
    return fm_gguf_error(conv->writer);
}

static enum fm_result add_tensors(struct fm_conv *conv, const struct fm_file *file)
{
    enum fm_result r = FM_OK;
    const struct fm_tensor *coarse = NULL;
    for (uint32_t i = 0; r == FM_OK && i < fm_file_tensor_count(file); i++) {
        const struct fm_tensor *t = fm_file_tensor(file, i);
        const uint64_t one = 1;
        uint32_t n_dims = t->n_dims > 0 ? t->n_dims : 1;
        struct fm_part part = {.source = t, .rows = 1};
        if (!fm_type_info(t->type)->is_weight)
            return fm_fail(FM_UNSUPPORTED, "%s: tensor '%s' is %s, expected a type of weights", fm_file_path(file),
                           FM_QUOTE_Z(t->name), t->type_name);
        for (uint32_t d = 0; d + 1 < n_dims; d++)
            part.rows *= t->dims[d];
        if (coarse == NULL && fm_type_info(t->type)->block_elems > 1 && t->type != conv->want)
            coarse = t;
        r = fm_conv_add(conv, t->name, n_dims, t->n_dims > 0 ? t->dims : &one, &part, 1);
    }
    if (r == FM_OK && coarse != NULL)
        fm_log(FM_LOG_WARN, "%s: tensor '%s' is %s already: what it lost stays lost; the original file gives a better result",
               fm_file_path(file), FM_QUOTE_Z(coarse->name), coarse->type_name);
    return r;
}

enum fm_result fm_quantize(const char *path, const char *out_path, const struct fm_convert_params *params)
{
    struct fm_conv conv;
    struct fm_file *file = NULL;
    if (params == NULL || params->type == NULL)
        return fm_fail(FM_ARG, "fm_quantize needs a type");
    enum fm_result r = fm_conv_init(&conv, params);
    if (r == FM_OK)
        r = fm_writer_check(out_path, &path, 1);
    if (r == FM_OK)
        r = fm_file_open(path, &file);
    if (r == FM_OK && fm_file_tensor_count(file) == 0)
        r = fm_fail(FM_FORMAT, "%s: holds no tensors", path);
    if (r == FM_OK) {
        conv.unchanged = unchanged;
        conv.from = file;
        r = copy_metas(&conv, file);
    }
    if (r == FM_OK)
        r = add_tensors(&conv, file);
    if (r == FM_OK)
        r = fm_conv_write(&conv, out_path, false);
    fm_conv_finish(&conv);
    fm_file_close(&file);
    return r;
}
