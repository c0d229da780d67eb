// SPDX-License-Identifier: MIT
// fulmen tokenize: text to ids.
#include <cjson/cJSON.h>
#include <stdlib.h>

#include "tool.h"

static const enum tool_option option_list[] = {OPT_MODEL, OPT_PROMPT, OPT_FILE, OPT_JSON, OPT_VERBOSE};

static int print_json(const uint32_t *tokens, size_t count)
{
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < count; i++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber(tokens[i]));
    char *text = cJSON_PrintUnformatted(list);
    cJSON_Delete(list);
    if (text == NULL)
        return tool_fail(FM_NOMEM);
    printf("%s\n", text);
    cJSON_free(text);
    return TOOL_DONE;
}

// One line a token: id, and its text with everything unprintable as \xNN.
static void print_lines(const struct fm_tokenizer *tokenizer, const uint32_t *tokens, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t bytes = 0;
        const unsigned char *piece = (const unsigned char *)fm_tokenizer_piece(tokenizer, tokens[i], true, &bytes);
        printf("%6u -> '", tokens[i]);
        for (size_t b = 0; b < bytes; b++) {
            if (piece[b] < 0x20 || piece[b] == 0x7f || piece[b] == '\\')
                printf("\\x%02x", piece[b]);
            else
                putchar(piece[b]);
        }
        printf("'\n");
    }
}

static int run(const struct tool_options *options)
{
    struct fm_model *model = NULL;
    uint32_t *tokens = NULL;
    size_t count = 0;
    int status = tool_open_model(options, &model);
    if (status != 0)
        return status;
    status = tool_prompt(options, model, &tokens, &count);
    if (status == 0 && options->json)
        status = print_json(tokens, count);
    else if (status == 0)
        print_lines(fm_model_tokenizer(model), tokens, count);
    free(tokens);
    fm_model_close(&model);
    return status;
}

const struct tool_command cmd_tokenize = {
    .name = "tokenize", .summary = "the ids of a text", .options = option_list, .n_options = sizeof(option_list) / sizeof(option_list[0]),
    .run = run,
};
