// SPDX-License-Identifier: MIT
// fulmen perplexity: how well a text is foretold. Pieces of the context's length, each read from nothing; the second
// half of a piece is scored, so that every scored token has at least half a context before it. The same numbers as
// llama.cpp's tool without strides.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static const enum tool_option option_list[] = {
    OPT_MODEL, OPT_FILE, OPT_PROMPT, OPT_CTX, OPT_UBATCH, OPT_CTK, OPT_CTV, OPT_ACTIVATIONS, OPT_DCA, OPT_DEVICE, OPT_RUNG,
    OPT_TUNING, OPT_VERBOSE,
    OPT_NO_BOS,
};

#define DEFAULT_PIECE 512u

struct score {
    const uint32_t *tokens; // of the piece as it was read
    size_t vocab, first, end; // rows first ... end - 1 foretell a scored token
    double sum, sum_squares;  // of -log probability
    size_t count;
    bool bad;                 // a row was no numbers: the one after `bad_tokens` tokens of the piece
    size_t bad_tokens;
};

static double log_probability(const float *logits, size_t vocab, uint32_t token)
{
    float top = logits[0];
    double sum = 0;
    for (size_t i = 1; i < vocab; i++)
        top = logits[i] > top ? logits[i] : top;
    for (size_t i = 0; i < vocab; i++)
        sum += exp((double)(logits[i] - top));
    return (double)(logits[token] - top) - log(sum);
}

static bool on_rows(void *user, size_t first_token, size_t n_rows, const float *logits)
{
    struct score *s = user;
    for (size_t i = 0; i < n_rows; i++) {
        size_t row = first_token + i;
        if (!tool_row_has_numbers(logits + i * s->vocab, s->vocab)) {
            s->bad = true;
            s->bad_tokens = row + 1;
            return false;
        }
        if (row < s->first || row >= s->end)
            continue;
        double nll = -log_probability(logits + i * s->vocab, s->vocab, s->tokens[row + 1]);
        s->sum += nll;
        s->sum_squares += nll * nll;
        s->count++;
    }
    return !tool_stopped();
}

static int score_pieces(struct tool_setup *setup, uint32_t *tokens, size_t count, bool with_bos)
{
    const struct fm_tokenizer *tokenizer = fm_model_tokenizer(setup->model);
    uint32_t n_ctx = setup->n_ctx;
    size_t pieces = count / n_ctx;
    struct score s = {.vocab = setup->model_info.vocab, .first = n_ctx / 2, .end = n_ctx - 1};
    if (pieces == 0)
        return tool_bad("the text has %zu tokens, one piece %u (-c sets it)", count, n_ctx);
    for (size_t i = 0; i < pieces; i++) {
        uint32_t *piece = tokens + i * n_ctx, kept = piece[0];
        if (with_bos)
            piece[0] = fm_tokenizer_bos(tokenizer);
        s.tokens = piece;
        enum fm_result result = fm_session_rewind(setup->session, 0, 0);
        if (result == FM_OK)
            result = fm_session_logits(setup->session, 0, piece, n_ctx, true, on_rows, &s);
        if (s.bad) {
            tool_bad("piece %zu: the logits after %zu tokens are no numbers: the file may be damaged (fulmen info --verify FILE reads "
                     "all of it), or the driver computes wrongly (fulmen check)", i + 1, s.bad_tokens);
            return TOOL_FAILED;
        }
        if (result != FM_OK)
            return tool_fail(result);
        piece[0] = kept;
        printf("[%zu]%.4f%s", i + 1, exp(s.sum / (double)s.count), i + 1 < pieces ? "," : "\n");
        if (fflush(stdout) != 0)
            return tool_output_failed("standard output");
    }
    double n = (double)s.count, mean = s.sum / n, ppl = exp(mean);
    double error = n > 1 ? sqrt(fmax(0, s.sum_squares / n - mean * mean) / (n - 1)) * ppl : 0;
    printf("Final estimate: PPL = %.4f +/- %.5f (%zu tokens scored)\n", ppl, error, s.count);
    return TOOL_DONE;
}

// Models made for less than that are read in pieces of what they were made for.
static uint32_t default_piece(const struct fm_model *model)
{
    struct fm_model_info info;
    fm_model_get_info(model, &info);
    return info.context < DEFAULT_PIECE ? info.context : DEFAULT_PIECE;
}

static int run(const struct tool_options *options)
{
    struct tool_setup setup = {0};
    uint32_t *tokens = NULL;
    size_t count = 0;
    int status = tool_open_model(options, &setup.model);
    if (status == 0 && options->prompt == NULL && options->file == NULL)
        status = tool_bad("perplexity: no text: give -f FILE or -p TEXT");
    if (status == 0)
        status = tool_prompt(options, setup.model, &tokens, &count); // a bad prompt is told before anything is loaded
    if (status == 0)
        status = tool_open(options, options->given[OPT_CTX] ? 0 : default_piece(setup.model), 1, &setup);
    if (status == 0 && setup.n_ctx < 4)
        status = tool_bad("-c %u, expected at least 4", setup.n_ctx);
    if (status == 0) { // as the tokenizer began the text, so does every piece
        const struct fm_tokenizer *tokenizer = fm_model_tokenizer(setup.model);
        uint32_t bos = fm_tokenizer_bos(tokenizer);
        status = score_pieces(&setup, tokens, count, bos != FM_TOKEN_NONE && tokens[0] == bos);
    }
    free(tokens);
    tool_close(&setup);
    return status;
}

const struct tool_command cmd_perplexity = {
    .name = "perplexity", .summary = "how well the model foretells a text", .options = option_list,
    .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
};
