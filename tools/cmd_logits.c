// SPDX-License-Identifier: MIT
// fulmen logits: raw logits, little-endian f32.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static const enum tool_option option_list[] = {
    OPT_MODEL, OPT_PROMPT, OPT_FILE, OPT_TOKENS, OPT_ALL, OPT_OUTPUT, OPT_CTX, OPT_UBATCH, OPT_CTK, OPT_CTV, OPT_DCA, OPT_DEVICE,
    OPT_RUNG, OPT_VERBOSE, OPT_NO_BOS,
};

struct sink {
    FILE *file;
    size_t vocab;
    int error; // errno of a failed write
};

static bool on_rows(void *user, size_t first_token, size_t n_rows, const float *logits)
{
    struct sink *sink = user;
    (void)first_token;
    for (size_t i = 0; i < n_rows * sink->vocab; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof(bits));
        const unsigned char bytes[4] = {(unsigned char)bits, (unsigned char)(bits >> 8), (unsigned char)(bits >> 16),
                                        (unsigned char)(bits >> 24)};
        if (fwrite(bytes, sizeof(bytes), 1, sink->file) != 1) {
            sink->error = errno;
            return false;
        }
    }
    return !tool_interrupted();
}

static int write_logits(const struct tool_options *options, struct tool_setup *setup, const uint32_t *tokens, size_t count)
{
    struct sink sink = {.file = stdout, .vocab = setup->model_info.vocab};
    if (options->output != NULL && strcmp(options->output, "-") != 0 && (sink.file = fopen(options->output, "wb")) == NULL)
        return tool_bad("%s: %s", options->output, strerror(errno));
    enum fm_result result = fm_session_logits(setup->session, 0, tokens, count, options->all, on_rows, &sink);
    if ((sink.file != stdout ? fclose(sink.file) : fflush(stdout)) != 0 && sink.error == 0)
        sink.error = errno;
    if (sink.error != 0) {
        errno = sink.error;
        return tool_output_failed(sink.file != stdout ? options->output : "standard output");
    }
    return result == FM_OK ? TOOL_DONE : tool_fail(result);
}

static int run(const struct tool_options *options)
{
    struct tool_setup setup = {0};
    uint32_t *tokens = NULL;
    size_t count = 0;
    int status = tool_open_model(options, &setup.model);
    if (status == 0)
        status = tool_prompt(options, setup.model, &tokens, &count); // a bad prompt is told before anything is loaded
    if (status == 0)
        status = tool_open(options, 0, 1, &setup);
    if (status == 0 && count > setup.n_ctx)
        status = tool_bad("the prompt has %zu tokens, the context %u (-c sets it)", count, setup.n_ctx);
    if (status == 0)
        status = write_logits(options, &setup, tokens, count);
    free(tokens);
    tool_close(&setup);
    return status;
}

const struct tool_command cmd_logits = {
    .name = "logits", .summary = "raw logits after a prompt, little-endian f32", .options = option_list,
    .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
};
