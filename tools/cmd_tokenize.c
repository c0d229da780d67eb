// SPDX-License-Identifier: MIT
// fulmen tokenize: text to ids.
#include <stdlib.h>
#include <string.h>

#include "text.h"
#include "tool.h"

static const enum tool_option option_list[] = {OPT_MODEL,  OPT_PROMPT, OPT_FILE,   OPT_NO_BOS,
                                               OPT_NO_SPECIAL, OPT_JSON, OPT_VERBOSE};

static void print_json(const uint32_t *tokens, size_t count)
{
    putchar('[');
    for (size_t i = 0; i < count && !tool_stopped(); i++)
        printf("%s%u", i > 0 ? "," : "", tokens[i]);
    printf("]\n");
}

// One line a token: id, and its text with backslashes, controls and what is no character as \xNN.
static int print_lines(const struct fm_tokenizer *tokenizer, const uint32_t *tokens, size_t count)
{
    size_t shown_bytes = fm_tokenizer_max_piece(tokenizer) * 4 + 1; // all of it as \xNN
    char *shown = malloc(shown_bytes);
    if (shown == NULL)
        return tool_fail(FM_NOMEM);
    for (size_t i = 0; i < count && !tool_stopped(); i++) {
        size_t bytes = 0;
        const char *piece = fm_tokenizer_piece(tokenizer, tokens[i], true, &bytes);
        printf("%6u -> '", tokens[i]);
        for (size_t at = 0; at < bytes; at++) {
            const char *slash = memchr(piece + at, '\\', bytes - at);
            size_t part = slash != NULL ? (size_t)(slash - piece) - at : bytes - at;
            printf("%s%s", fm_quote(piece + at, part, shown, shown_bytes), slash != NULL ? "\\x5c" : "");
            at += part;
        }
        printf("'\n");
    }
    free(shown);
    return TOOL_DONE;
}

static int encode(const struct tool_options *options, const struct fm_tokenizer *tokenizer, const char *text,
                  size_t bytes)
{
    uint32_t *tokens = NULL;
    size_t count = 0;
    unsigned flags = (options->no_bos ? 0 : FM_ENCODE_BOS) | (options->no_parse_special ? 0 : FM_ENCODE_SPECIAL);
    int status = tool_encode(tokenizer, text, bytes, flags, &tokens, &count);
    if (status == 0 && options->json)
        print_json(tokens, count);
    else if (status == 0)
        status = print_lines(tokenizer, tokens, count);
    fm_tokens_free(tokens);
    return status == 0 && tool_stopped() ? tool_cancelled() : status;
}

static int run(const struct tool_options *options)
{
    struct fm_tokenizer *tokenizer = NULL;
    char *text = NULL;
    size_t bytes = 0;
    if ((options->prompt == NULL) == (options->file == NULL))
        return tool_bad("tokenize: expected one of -p TEXT and -f FILE, found %s",
                        options->prompt == NULL ? "none" : "both");
    if (options->model == NULL)
        return tool_bad("no model: give -m FILE");
    tool_catch_signals();
    enum fm_result result = fm_tokenizer_open(options->model, &tokenizer);
    int status = 0;
    if (result != FM_OK)
        status = tool_fail(result);
    else if (options->prompt != NULL) {
        tool_tell_invalid("-p", options->prompt, strlen(options->prompt));
        status = encode(options, tokenizer, options->prompt, strlen(options->prompt));
    } else if ((status = tool_read_text(options->file, &text, &bytes)) == 0)
        status = encode(options, tokenizer, text, bytes);
    free(text);
    fm_tokenizer_close(&tokenizer);
    return status;
}

const struct tool_command cmd_tokenize = {
    .name = "tokenize", .summary = "the ids of a text", .options = option_list,
    .n_options = sizeof(option_list) / sizeof(option_list[0]),
    .run = run,
};
