// SPDX-License-Identifier: MIT
// Settings that configurations spell in more than one way: what is said twice has to be the same.
#include "convert/hf.h"

#define SETTINGS_MAX 64 // of RoPE: each is looked for among the others

// `key` is said as `one`, and as `other` in `place`.
static enum fm_result fail_different(const struct fm_hf *hf, const char *key, const cJSON *one, const cJSON *other,
                                     const char *place)
{
    char *texts[] = {cJSON_PrintUnformatted(one), cJSON_PrintUnformatted(other)};
    enum fm_result r = FM_OK;
    if (texts[0] != NULL && texts[1] != NULL)
        r = fm_fail(FM_FORMAT, "%s: '%s' is %s, but %s in %s: remove the one that does not hold", hf->config.path,
                    FM_QUOTE_Z(key), FM_QUOTE_Z(texts[0]), FM_QUOTE_Z(texts[1]), FM_QUOTE_Z(place));
    else
        r = fm_nomem();
    cJSON_free(texts[0]);
    cJSON_free(texts[1]);
    return r;
}

// Add `item` as `key`, or compare it with what is there.
static enum fm_result merge(const struct fm_hf *hf, cJSON *into, const char *key, const cJSON *item, const char *place)
{
    const cJSON *there = cJSON_GetObjectItemCaseSensitive(into, key);
    if (item == NULL || cJSON_IsNull(item))
        return FM_OK;
    if (there != NULL)
        return cJSON_Compare(there, item, true) ? FM_OK : fail_different(hf, key, there, item, place);
    cJSON *copy = cJSON_Duplicate(item, true);
    if (copy != NULL && cJSON_AddItemToObject(into, key, copy))
        return FM_OK;
    cJSON_Delete(copy);
    return fm_nomem();
}

static enum fm_result merge_object(const struct fm_hf *hf, cJSON *into, const cJSON *object, const char *place)
{
    enum fm_result r = FM_OK;
    unsigned count = 0;
    for (const cJSON *item = object != NULL ? object->child : NULL; r == FM_OK && item != NULL; item = item->next) {
        if (++count > SETTINGS_MAX)
            return fm_fail(FM_FORMAT, "%s: '%s': expected at most %d members", hf->config.path, place, SETTINGS_MAX);
        if (cJSON_IsObject(item))
            return fm_fail(FM_UNSUPPORTED, "%s: '%s' of %s is an object: settings by kind of layer are not supported", hf->config.path,
                           FM_QUOTE_Z(item->string), place);
        r = merge(hf, into, strcmp(item->string, "type") == 0 ? "rope_type" : item->string, item, place);
    }
    return r;
}

enum fm_result fm_hf_rope_settings(const struct fm_hf *hf, cJSON **out_settings)
{
    static const char *const outer[] = {"rope_theta", "partial_rotary_factor"};
    const cJSON *scaling, *parameters;
    enum fm_result r;
    *out_settings = NULL;
    if ((r = fm_conf_object(&hf->config, "rope_parameters", false, &parameters)) != FM_OK ||
        (r = fm_conf_object(&hf->config, "rope_scaling", false, &scaling)) != FM_OK)
        return r;
    cJSON *settings = cJSON_CreateObject();
    if (settings == NULL)
        return fm_nomem();
    r = merge_object(hf, settings, parameters, "rope_parameters");
    if (r == FM_OK)
        r = merge_object(hf, settings, scaling, "rope_scaling");
    for (size_t i = 0; r == FM_OK && i < FM_COUNT(outer); i++)
        r = merge(hf, settings, outer[i], fm_conf_get(&hf->config, NULL, outer[i]), "the configuration itself");
    // Newer files say the old length beside the settings that are for it.
    if (r == FM_OK && cJSON_GetObjectItemCaseSensitive(settings, "original_max_position_embeddings") != NULL)
        r = merge(hf, settings, "original_max_position_embeddings",
                  fm_conf_get(&hf->config, NULL, "original_max_position_embeddings"), "the configuration itself");
    if (r != FM_OK)
        cJSON_Delete(settings);
    *out_settings = r == FM_OK ? settings : NULL;
    return r;
}

enum fm_result fm_hf_same(const struct fm_hf *hf, const char *key, const char *other)
{
    const cJSON *one = fm_conf_get(&hf->config, NULL, key), *two = fm_conf_get(&hf->config, NULL, other);
    if (one == NULL || two == NULL || cJSON_Compare(one, two, true))
        return FM_OK;
    return fail_different(hf, key, one, two, other);
}
