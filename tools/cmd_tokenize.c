// SPDX-License-Identifier: MIT
// fulmen tokenize: text to ids.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static const enum tool_option option_list[] = {OPT_MODEL,  OPT_PROMPT, OPT_FILE,   OPT_NO_BOS,
                                               OPT_NO_SPECIAL, OPT_JSON, OPT_VERBOSE};

static int interrupted(void)
{
    fflush(stdout);
    fprintf(stderr, "fulmen: interrupted\n");
    return TOOL_FAILED;
}

static int print_json(const uint32_t *tokens, size_t count)
{
    putchar('[');
    for (size_t i = 0; i < count && !tool_interrupted(); i++)
        printf("%s%u", i == 0 ? "" : ",", tokens[i]);
    if (tool_interrupted())
        return interrupted();
    printf("]\n");
    return TOOL_DONE;
}

// Is the token's text whole characters? `buffer` has room for fm_tokenizer_max_piece + 4 bytes.
static bool is_text(const struct fm_tokenizer *tokenizer, uint32_t token, const char *piece, size_t bytes, char *buffer)
{
    struct fm_utf8_stream stream = {.started = true};
    size_t n = fm_tokenizer_stream(tokenizer, &stream, token, true, buffer);
    return n == bytes && memcmp(buffer, piece, bytes) == 0;
}

// One line a token: id, and its text with what is no text as \xNN.
static int print_lines(const struct fm_tokenizer *tokenizer, const uint32_t *tokens, size_t count)
{
    char *buffer = malloc(fm_tokenizer_max_piece(tokenizer) + 4);
    if (buffer == NULL)
        return tool_fail(FM_NOMEM);
    for (size_t i = 0; i < count && !tool_interrupted(); i++) {
        size_t bytes = 0;
        const char *piece = fm_tokenizer_piece(tokenizer, tokens[i], true, &bytes);
        bool text = is_text(tokenizer, tokens[i], piece, bytes, buffer);
        printf("%6u -> '", tokens[i]);
        for (size_t b = 0; b < bytes; b++) {
            unsigned char c = (unsigned char)piece[b];
            if (c < 0x20 || c == 0x7f || c == '\\' || (c >= 0x80 && !text))
                printf("\\x%02x", c);
            else
                putchar(c);
        }
        printf("'\n");
    }
    free(buffer);
    return tool_interrupted() ? interrupted() : TOOL_DONE;
}

static int encode(const struct tool_options *options, const struct fm_tokenizer *tokenizer, const char *text,
                  size_t bytes)
{
    uint32_t *tokens = NULL;
    size_t count = 0;
    unsigned flags = (options->no_bos ? 0 : FM_ENCODE_BOS) | (options->no_parse_special ? 0 : FM_ENCODE_SPECIAL);
    tool_warn_two_bos(tokenizer, text, bytes, flags);
    enum fm_result result = fm_tokenizer_encode_until(tokenizer, text, bytes, flags, tool_cancelled, NULL, &tokens, &count);
    if (result != FM_OK)
        return tool_fail(result);
    int status = options->json ? print_json(tokens, count) : print_lines(tokenizer, tokens, count);
    fm_tokens_free(tokens);
    return status;
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
    else if (options->prompt != NULL)
        status = encode(options, tokenizer, options->prompt, strlen(options->prompt));
    else if ((status = tool_read_text(options->file, &text, &bytes)) == 0)
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
