// SPDX-License-Identifier: MIT
// fulmen logits: raw logits, little-endian f32.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static const enum tool_option option_list[] = {
    OPT_MODEL, OPT_PROMPT, OPT_FILE, OPT_TOKENS, OPT_ALL, OPT_OUTPUT, OPT_CTX, OPT_UBATCH, OPT_CTK, OPT_CTV, OPT_ACTIVATIONS, OPT_DCA,
    OPT_DEVICE, OPT_RUNG, OPT_TUNING, OPT_VERBOSE, OPT_NO_BOS,
};

#define WRITE_BYTES 65536

struct sink {
    struct fm_writer *file; // NULL: standard output
    size_t vocab;
    enum fm_result failed; // of a write to the file
    int error;             // errno of a failed write to standard output
    size_t bad_rows, first_bad; // rows that are no numbers; the first one's token
};

static bool put(struct sink *sink, const unsigned char *bytes, size_t count)
{
    if (sink->file != NULL)
        sink->failed = fm_writer_write(sink->file, bytes, count);
    else if (fwrite(bytes, 1, count, stdout) != count)
        sink->error = errno;
    return sink->failed == FM_OK && sink->error == 0;
}

static bool on_rows(void *user, size_t first_token, size_t n_rows, const float *logits)
{
    struct sink *sink = user;
    unsigned char bytes[WRITE_BYTES];
    size_t used = 0;
    for (size_t i = 0; i < n_rows; i++)
        if (!tool_row_has_numbers(logits + i * sink->vocab, sink->vocab) && sink->bad_rows++ == 0)
            sink->first_bad = first_token + i;
    for (size_t i = 0; i < n_rows * sink->vocab; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof(bits));
        for (unsigned b = 0; b < 4; b++)
            bytes[used++] = (unsigned char)(bits >> 8 * b);
        if (used == sizeof(bytes)) {
            if (!put(sink, bytes, used))
                return false;
            used = 0;
        }
    }
    return put(sink, bytes, used) && !tool_stopped();
}

// NULL where the logits go to standard output.
static const char *output_file(const struct tool_options *options)
{
    return options->output != NULL && strcmp(options->output, "-") != 0 ? options->output : NULL;
}

static int write_logits(const struct tool_options *options, struct tool_setup *setup, const uint32_t *tokens, size_t count)
{
    const char *path = output_file(options);
    struct sink sink = {.vocab = setup->model_info.vocab};
    enum fm_result result = path != NULL ? fm_writer_open(path, 0, &sink.file) : FM_OK;
    if (result == FM_OK)
        result = fm_session_logits(setup->session, 0, tokens, count, options->all, on_rows, &sink);
    if (path != NULL && (result == FM_OK || sink.failed != FM_OK))
        result = fm_writer_finish(&sink.file); // says what failed, too
    fm_writer_discard(&sink.file);
    if (path == NULL && fflush(stdout) != 0 && sink.error == 0)
        sink.error = errno;
    if (sink.error != 0) {
        errno = sink.error;
        return tool_output_failed("standard output");
    }
    if (sink.bad_rows > 0)
        fprintf(stderr, "fulmen: %zu rows of logits are no numbers (NaN or infinite), the first is that of token %zu: the file may be "
                "damaged (fulmen info --verify FILE reads all of it), or the driver computes wrongly (fulmen check)\n", sink.bad_rows,
                sink.first_bad);
    return result == FM_OK ? TOOL_DONE : tool_fail(result);
}

static int run(const struct tool_options *options)
{
    struct tool_setup setup = {0};
    uint32_t *tokens = NULL;
    size_t count = 0;
    int status = tool_check_output(options, output_file(options));
    if (status == 0)
        status = tool_open_model(options, &setup.model);
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
