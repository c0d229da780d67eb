// SPDX-License-Identifier: MIT
// TransNormerLLM as its released modelling file has it: norms without parameters, q, k, v and u in one projection.
#include "convert/hf.h"

#include <math.h>

#define LRPE FM_R_KIND_A
#define NORM_EPS 1e-6 // a constant of the code

static const struct fm_rule rules[] = {
    {.from = "model.embed_tokens.weight", .to = "token_embd.weight", .shape = {FM_S_V, FM_S_D}},
    {.from = "lm_head.weight", .to = "output.weight", .shape = {FM_S_V, FM_S_D}, .flags = FM_R_HEAD},
    {.from = "model.layers.%u.token_mixer.qkvu_proj.weight", .to = "blk.%u.attn_qkvu.weight", .shape = {FM_S_4D, FM_S_D},
     .flags = FM_R_LAYER},
    {.from = "model.layers.%u.token_mixer.lrpe.theta", .to = "blk.%u.attn_lrpe.weight", .shape = {FM_S_H, FM_S_1, FM_S_C},
     .flags = FM_R_LAYER | LRPE},
    {.from = "model.layers.%u.token_mixer.out_proj.weight", .to = "blk.%u.attn_output.weight", .shape = {FM_S_D, FM_S_D},
     .flags = FM_R_LAYER},
    {.from = "model.layers.%u.channel_mixer.l1.weight", .to = "blk.%u.ffn_gate.weight", .shape = {FM_S_F, FM_S_D},
     .flags = FM_R_LAYER},
    {.from = "model.layers.%u.channel_mixer.l2.weight", .to = "blk.%u.ffn_up.weight", .shape = {FM_S_F, FM_S_D},
     .flags = FM_R_LAYER},
    {.from = "model.layers.%u.channel_mixer.l3.weight", .to = "blk.%u.ffn_down.weight", .shape = {FM_S_D, FM_S_F},
     .flags = FM_R_LAYER},
};

static const char *const keys[] = {"norm_type", "bias", "no_scale_embedding", "linear_act_fun", "linear_use_lrpe",
                                   "linear_use_lrpe_list", "gate_dim", NULL};

// Which layers have LRPE: a list of 0 and 1, or one flag for all.
static enum fm_result lrpe_layers(struct fm_hf *hf)
{
    uint8_t flags[FM_HF_LAYERS_MAX] = {0};
    const cJSON *list, *item;
    bool all;
    uint32_t count = 0, value;
    enum fm_result r = fm_conf_array(&hf->config, "linear_use_lrpe_list", false, &list);
    if (r == FM_OK)
        r = fm_conf_bool(&hf->config, "linear_use_lrpe", false, &all);
    if (r != FM_OK)
        return r;
    if (list == NULL || list->child == NULL) {
        memset(flags, all, hf->n_layers);
        count = hf->n_layers;
    } else {
        cJSON_ArrayForEach(item, list)
        {
            if (count == hf->n_layers || !fm_conf_whole(item, 1, &value))
                break;
            flags[count++] = (uint8_t)value;
        }
        if (item != NULL || count != hf->n_layers)
            return fm_fail(FM_FORMAT, "%s: 'linear_use_lrpe_list': expected %u numbers, each 0 or 1", hf->config.path,
                           hf->n_layers);
    }
    for (uint32_t i = 0; i < hf->n_layers; i++)
        hf->layer_kind[i] = flags[i] ? LRPE : 0;
    fm_gguf_put_array(hf->conv->writer, "transnormer.attention.lrpe", FM_GGUF_BOOL, flags, hf->n_layers);
    return FM_OK;
}

static enum fm_result activation(struct fm_hf *hf)
{
    const char *word;
    enum fm_result r = fm_conf_string(&hf->config, "linear_act_fun", false, &word);
    if (r != FM_OK)
        return r;
    bool silu = word == NULL || strcmp(word, "silu") == 0 || strcmp(word, "swish") == 0;
    if (!silu && strcmp(word, "none") != 0 && strcmp(word, "identity") != 0)
        return fm_fail(FM_UNSUPPORTED, "%s: 'linear_act_fun' is '%s', known are silu, swish, none", hf->config.path,
                       FM_QUOTE_Z(word));
    fm_hf_put_string(hf, "attention.activation", silu ? "silu" : "none");
    return FM_OK;
}

static enum fm_result sizes(struct fm_hf *hf, uint64_t *out_inner, uint64_t *out_layers)
{
    uint64_t *size = hf->size;
    // Two settings of which the first is what the class goes by.
    const char *length =
        fm_conf_get(&hf->config, NULL, "model_max_length") != NULL ? "model_max_length" : "max_position_embeddings";
    const cJSON *item = fm_conf_get(&hf->config, NULL, "glu_dim");
    enum fm_result r;
    if ((r = fm_hf_size(hf, "decoder_embed_dim", NULL, 0, &size[FM_S_D])) != FM_OK ||
        (r = fm_hf_size(hf, "hidden_dim", NULL, size[FM_S_D], out_inner)) != FM_OK ||
        (r = fm_hf_size(hf, "decoder_layers", NULL, 0, out_layers)) != FM_OK ||
        (r = fm_hf_size(hf, "decoder_attention_heads", NULL, 0, &size[FM_S_H])) != FM_OK ||
        (r = fm_hf_size(hf, "vocab_size", NULL, 0, &size[FM_S_V])) != FM_OK ||
        (r = fm_hf_size(hf, length, NULL, 8192, &size[FM_S_P])) != FM_OK)
        return r;
    if (item == NULL || !cJSON_IsNumber(item) || item->valuedouble != -1)
        return fm_hf_size(hf, "glu_dim", NULL, 0, &size[FM_S_F]);
    size[FM_S_F] = size[FM_S_D]; // -1: as wide as the model
    return FM_OK;
}

static enum fm_result config(struct fm_hf *hf)
{
    uint64_t inner, layers, *size = hf->size;
    bool plain;
    enum fm_result r;
    if ((r = sizes(hf, &inner, &layers)) != FM_OK ||
        (r = fm_hf_expect_word(hf, "norm_type", "simplermsnorm", "simplermsnorm")) != FM_OK ||
        (r = fm_hf_refuse_true(hf, "bias")) != FM_OK ||
        (r = fm_conf_bool(&hf->config, "no_scale_embedding", false, &plain)) != FM_OK ||
        (r = fm_conf_bool(&hf->config, "tie_word_embeddings", true, &hf->tied)) != FM_OK)
        return r;
    if (fm_conf_get(&hf->config, NULL, "gate_dim") != NULL)
        return fm_fail(FM_UNSUPPORTED, "%s: 'gate_dim' is set: TransNormerLLM3's low-rank gate is not supported", hf->config.path);
    if (inner != size[FM_S_D])
        return fm_fail(FM_UNSUPPORTED, "%s: 'hidden_dim' is %llu, expected decoder_embed_dim, %llu", hf->config.path,
                       (unsigned long long)inner, (unsigned long long)size[FM_S_D]);
    if (size[FM_S_D] % size[FM_S_H] != 0 || layers > FM_HF_LAYERS_MAX || 4 * size[FM_S_D] > FM_HF_SIZE_MAX)
        return fm_fail(FM_FORMAT, "%s: decoder_layers %llu, heads %llu, decoder_embed_dim %llu: expected at most %d layers and whole heads",
                       hf->config.path, (unsigned long long)layers, (unsigned long long)size[FM_S_H],
                       (unsigned long long)size[FM_S_D], FM_HF_LAYERS_MAX);
    hf->n_layers = (uint32_t)layers;
    size[FM_S_4D] = 4 * size[FM_S_D];
    size[FM_S_C] = size[FM_S_D] / size[FM_S_H];
    fm_hf_put_u32(hf, "context_length", size[FM_S_P]);
    fm_hf_put_u32(hf, "embedding_length", size[FM_S_D]);
    fm_hf_put_u32(hf, "block_count", layers);
    fm_hf_put_u32(hf, "feed_forward_length", size[FM_S_F]);
    fm_hf_put_u32(hf, "vocab_size", size[FM_S_V]);
    fm_hf_put_u32(hf, "attention.head_count", size[FM_S_H]);
    fm_hf_put_f32(hf, "attention.layer_norm_rms_epsilon", NORM_EPS);
    fm_hf_put_f32(hf, "embedding_scale", plain ? 1 : sqrt((double)size[FM_S_D]));
    if ((r = activation(hf)) != FM_OK)
        return r;
    return lrpe_layers(hf);
}

const struct fm_family fm_family_transnormer = {.model_type = "transnormer", .arch = "transnormer", .rules = rules,
                                                .n_rules = FM_COUNT(rules), .keys = keys, .config = config};
