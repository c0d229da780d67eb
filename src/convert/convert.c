// SPDX-License-Identifier: MIT
// A checkpoint folder to GGUF.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "convert/hf.h"
#include "fulmen/writer.h"

static const struct fm_family *const families[] = {
    &fm_family_llama,  &fm_family_mistral,      &fm_family_qwen2,  &fm_family_gpt2,
    &fm_family_mamba,  &fm_family_falcon_mamba, &fm_family_mamba2, &fm_family_transnormer,
};

static enum fm_result fail_type(const struct fm_hf *hf, const char *type)
{
    char known[1024] = "";
    for (size_t i = 0; i < FM_COUNT(families); i++)
        fm_append(known, sizeof(known), "%s%s", i > 0 ? ", " : "", families[i]->model_type);
    return fm_fail(FM_UNSUPPORTED,
                   "%s: model_type is '%s', known are %s, a llama or mistral with mamba_config.json, and the "
                   "state-spaces form of mamba and mamba2",
                   hf->config.path, FM_QUOTE_Z(type), known);
}

// The authors' configurations of Mamba name no type; ssm_cfg says which version.
static enum fm_result state_spaces(struct fm_hf *hf)
{
    const cJSON *ssm = fm_conf_get(&hf->config, NULL, "ssm_cfg");
    const cJSON *layer = cJSON_IsObject(ssm) ? fm_conf_get(&hf->config, ssm, "layer") : NULL;
    if (layer == NULL || (cJSON_IsString(layer) && strcmp(layer->valuestring, "Mamba1") == 0))
        hf->family = &fm_family_mamba_ssm;
    else if (cJSON_IsString(layer) && strcmp(layer->valuestring, "Mamba2") == 0)
        hf->family = &fm_family_mamba2_ssm;
    else
        return fm_fail(FM_UNSUPPORTED, "%s: 'ssm_cfg.layer' is '%s', known are Mamba1, Mamba2", hf->config.path,
                       FM_QUOTE_Z(cJSON_IsString(layer) ? layer->valuestring : ""));
    return FM_OK;
}

enum fm_result fm_hf_family(struct fm_hf *hf)
{
    const char *type;
    enum fm_result r = fm_conf_string(&hf->config, "model_type", false, &type);
    if (r != FM_OK)
        return r;
    bool llama = type != NULL && (strcmp(type, "llama") == 0 || strcmp(type, "mistral") == 0);
    if (llama && hf->hybrid.root != NULL) {
        const cJSON *ssm = fm_conf_get(&hf->hybrid, NULL, "ssm_cfg");
        bool second = cJSON_IsObject(ssm) && fm_conf_get(&hf->hybrid, ssm, "ngroups") != NULL;
        hf->family = second ? &fm_family_mambainllama2 : &fm_family_mambainllama1;
        return FM_OK;
    }
    if (type == NULL && fm_conf_get(&hf->config, NULL, "d_model") != NULL && fm_conf_get(&hf->config, NULL, "n_layer") != NULL)
        return state_spaces(hf);
    if (type == NULL)
        return fm_fail(FM_FORMAT, "%s: 'model_type' is missing", hf->config.path);
    for (size_t i = 0; i < FM_COUNT(families); i++)
        if (strcmp(families[i]->model_type, type) == 0)
            hf->family = families[i];
    return hf->family != NULL ? FM_OK : fail_type(hf, type);
}

// general.name: the folder's.
static enum fm_result put_name(const struct fm_hf *hf)
{
    char *whole = realpath(hf->folder, NULL); // so that "." has a name
    const char *slash = whole != NULL ? strrchr(whole, '/') : NULL;
    fm_gguf_put_string(hf->conv->writer, "general.architecture", hf->family->arch);
    if (slash != NULL && slash[1] != '\0')
        fm_gguf_put_string(hf->conv->writer, "general.name", slash + 1);
    free(whole);
    return fm_gguf_error(hf->conv->writer);
}

static enum fm_result unchanged(const void *from)
{
    return fm_checkpoint_unchanged(from);
}

// A folder of an adapter alone: its base model's configuration is elsewhere.
static enum fm_result refuse_adapter(const char *folder)
{
    struct fm_conf config = {0}, adapter = {0};
    enum fm_result r = fm_conf_load(folder, "config.json", false, &config);
    bool is_model = config.root != NULL;
    fm_conf_finish(&config);
    if (r != FM_OK || is_model)
        return r;
    r = fm_conf_load(folder, "adapter_config.json", false, &adapter);
    bool is_adapter = adapter.root != NULL;
    fm_conf_finish(&adapter);
    if (r == FM_OK && is_adapter)
        return fm_fail(FM_UNSUPPORTED, "%s: an adapter (LoRA), not a model: merge it into its base model and save that (PEFT's "
                                       "merge_and_unload), then convert the result", folder);
    return r;
}

static enum fm_result load_config(struct fm_hf *hf)
{
    struct stat info;
    if (stat(hf->folder, &info) == 0 && !S_ISDIR(info.st_mode))
        return fm_fail(FM_ARG, "%s: expected a checkpoint folder, found a file (fulmen quantize takes GGUF files)", hf->folder);
    enum fm_result r = refuse_adapter(hf->folder);
    if (r == FM_OK)
        r = fm_conf_load(hf->folder, "config.json", true, &hf->config);
    if (r == FM_OK)
        r = fm_conf_load(hf->folder, "mamba_config.json", false, &hf->hybrid);
    return r == FM_OK ? fm_conf_load(hf->folder, "generation_config.json", false, &hf->generation) : r;
}

static bool is_gguf(const char *path)
{
    char begin[4] = "";
    FILE *file = fopen(path, "rb");
    bool read = file != NULL && fread(begin, 1, sizeof(begin), file) == sizeof(begin);
    if (file != NULL)
        fclose(file);
    return read && memcmp(begin, "GGUF", sizeof(begin)) == 0;
}

// The result must be no file of the checkpoint, all of which lie in its folder. A GGUF file there is none: it is an earlier
// result.
static enum fm_result check_output(const struct fm_hf *hf, const char *out_path)
{
    enum fm_result r = fm_writer_check(out_path, NULL, 0);
    DIR *dir = r == FM_OK && !is_gguf(out_path) ? opendir(hf->folder) : NULL;
    for (const struct dirent *entry; r == FM_OK && dir != NULL && (entry = readdir(dir)) != NULL;) {
        const char *path = fm_arena_printf(&hf->conv->arena, "%s/%s", hf->folder, entry->d_name);
        r = path != NULL ? fm_writer_check(out_path, &path, 1) : fm_nomem();
    }
    if (dir != NULL)
        closedir(dir);
    return r;
}

static enum fm_result convert(struct fm_hf *hf, const char *out_path)
{
    enum fm_result r = check_output(hf, out_path);
    if (r == FM_OK)
        r = load_config(hf);
    if (r == FM_OK)
        r = fm_hf_family(hf);
    if (r == FM_OK)
        r = put_name(hf);
    if (r == FM_OK)
        r = hf->family->config(hf);
    if (r == FM_OK)
        r = fm_hf_extra_keys(hf);
    if (r == FM_OK)
        r = fm_checkpoint_open(hf->folder, &hf->checkpoint);
    if (r != FM_OK)
        return r;
    hf->conv->unchanged = unchanged;
    hf->conv->from = hf->checkpoint;
    r = fm_hf_tensors(hf);
    if (r == FM_OK && hf->family->extra != NULL)
        r = hf->family->extra(hf);
    if (r == FM_OK)
        r = fm_hf_vocab(hf);
    return r == FM_OK ? fm_conv_write(hf->conv, out_path, true) : r;
}

enum fm_result fm_convert(const char *folder, const char *out_path, const struct fm_convert_params *params)
{
    struct fm_conv conv;
    struct fm_hf *hf = fm_alloc_zero(1, sizeof(*hf));
    if (hf == NULL)
        return fm_nomem();
    enum fm_result r = fm_conv_init(&conv, params);
    hf->conv = &conv;
    hf->folder = folder;
    hf->pre = params != NULL ? params->pre : NULL;
    if (r == FM_OK)
        r = convert(hf, out_path);
    fm_conv_finish(&conv);
    fm_checkpoint_close(&hf->checkpoint);
    fm_conf_finish(&hf->config);
    fm_conf_finish(&hf->hybrid);
    fm_conf_finish(&hf->generation);
    fm_free(hf);
    return r;
}
