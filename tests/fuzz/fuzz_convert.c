// SPDX-License-Identifier: MIT
// libFuzzer target: what a checkpoint folder holds besides tensors. The first byte says what the rest is; texts are
// separated by NULs. 0: config.json, mamba_config.json. 1: tokenizer.json, tokenizer_config.json. 2: tokenizer.model.
// 3: tokenizer_config.json, added_tokens.json beside a good tokenizer.model. Seeds: seeds_convert.py.
#include <stdlib.h>

#include "convert/vocab.h"
#include "fuzz_file.h"

#define ROWS 40 // of the embedding that the tokenizers are for

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

// Pieces "<unk>" (unknown), "<s>" and "</s>" (control), "a", "b", "ab"; BPE.
static const uint8_t good_model[] = {
    10, 9,  10, 5,  '<', 'u', 'n', 'k', '>', 24,  2,  10, 7,  10, 3,  '<', 's', '>',  24, 3, 10, 8,  10, 4,  '<', '/', 's',
    '>', 24, 3,  10, 3,  10, 1,   'a', 10,  3,   10, 1,  'b', 10, 9,  10, 2,  'a', 'b', 21, 0, 0,  128, 191, 18, 2,  24, 2,
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void ignore(void *user, enum fm_log_level level, const char *line)
{
    (void)user;
    (void)level;
    fuzz_shown(line, false);
}

// Parse the text up to the next NUL; an empty one is an absent file. Steps over it.
static enum fm_result next_text(const uint8_t **at, const uint8_t *end, struct fm_conf *out_conf)
{
    const uint8_t *stop = memchr(*at, 0, (size_t)(end - *at));
    size_t bytes = (size_t)((stop != NULL ? stop : end) - *at);
    char *text = calloc(1, bytes + 1);
    enum fm_result r = FM_OK;
    require(text != NULL);
    memcpy(text, *at, bytes);
    if (bytes > 0)
        r = fm_conf_parse(text, bytes, "fuzz.json", out_conf);
    free(text);
    *at = stop != NULL ? stop + 1 : end;
    return r;
}

static enum fm_result read_config(struct fm_hf *hf, const uint8_t *data, const uint8_t *end)
{
    enum fm_result r = next_text(&data, end, &hf->config);
    if (r == FM_OK)
        r = next_text(&data, end, &hf->hybrid);
    if (r != FM_OK || hf->config.root == NULL)
        return r;
    r = fm_hf_family(hf);
    if (r == FM_OK)
        r = hf->family->config(hf);
    if (r == FM_OK) {
        require(hf->n_layers > 0 && hf->n_layers <= FM_HF_LAYERS_MAX);
        for (int i = 0; i < FM_S_COUNT; i++)
            require(hf->size[i] <= (uint64_t)1 << 50); // so that shapes do not overflow
    }
    return r;
}

static enum fm_result read_vocab(struct fm_hf *hf, unsigned kind, const uint8_t *data, const uint8_t *end)
{
    struct fm_vocab_files files = {.model_path = "fuzz.model"};
    enum fm_result r = FM_OK;
    hf->size[FM_S_V] = ROWS;
    if (kind == 2) {
        files.model = data;
        files.model_bytes = (size_t)(end - data);
    } else if (kind == 1) {
        r = next_text(&data, end, &files.tokenizer);
    } else {
        files.model = good_model;
        files.model_bytes = sizeof(good_model);
    }
    if (r == FM_OK && kind != 2)
        r = next_text(&data, end, &files.config);
    if (r == FM_OK && kind == 3)
        r = next_text(&data, end, &files.added);
    if (r == FM_OK)
        r = fm_vocab_put(hf, &files);
    fm_conf_finish(&files.tokenizer);
    fm_conf_finish(&files.config);
    fm_conf_finish(&files.added);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct fm_conv conv;
    struct fm_hf *hf = calloc(1, sizeof(*hf));
    if (size_bytes < 1 || hf == NULL) {
        free(hf);
        return 0;
    }
    fm_log_set(ignore, NULL, FM_LOG_ERROR);
    require(fm_conv_init(&conv, NULL) == FM_OK);
    hf->conv = &conv;
    hf->folder = "fuzz";
    const uint8_t *end = data + size_bytes;
    enum fm_result r = data[0] % 4 == 0 ? read_config(hf, data + 1, end) : read_vocab(hf, data[0] % 4, data + 1, end);
    if (r != FM_OK)
        fuzz_message();
    fm_conf_finish(&hf->config);
    fm_conf_finish(&hf->hybrid);
    fm_conv_finish(&conv);
    free(hf);
    return 0;
}
