// SPDX-License-Identifier: MIT
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "text.h"
#include "tool.h"

#define BAR_COLUMNS 40
#define LINE_BYTES 4096 // of what is said on standard error

static int bar_shown = -1; // columns of the progress bar that stands on the terminal; -1 = none does

void tool_clear_bar(void)
{
    if (bar_shown >= 0)
        fputs("\r\033[K", stderr);
    bar_shown = -1;
}

int tool_fail(enum fm_result result)
{
    const char *message = result != FM_NOMEM ? fm_error_message() : ""; // memory may be short where the library has no part in it
    tool_clear_bar();
    if (result == FM_CANCELLED && !tool_interrupted()) // what stopped it is told at the end
        return tool_stopped_by_output();
    fprintf(stderr, "fulmen: %s\n", message[0] != '\0' ? message : fm_result_text(result));
    switch (result) {
    case FM_OK:
        return TOOL_DONE;
    case FM_IO:
    case FM_FORMAT:
    case FM_UNSUPPORTED:
    case FM_ARG:
        return TOOL_BAD_INPUT;
    case FM_NOMEM:
    case FM_DEVICE:
    case FM_NOSPACE:
        return TOOL_NO_DEVICE;
    default:
        return TOOL_FAILED;
    }
}

int tool_cancelled(void)
{
    if (!tool_interrupted())
        return tool_stopped_by_output();
    tool_clear_bar();
    fputs("fulmen: interrupted\n", stderr);
    return TOOL_FAILED;
}

bool tool_row_has_numbers(const float *logits, size_t vocab)
{
    float top = -INFINITY;
    bool nan = false;
    for (size_t i = 0; i < vocab; i++) {
        nan |= isnan(logits[i]);
        top = logits[i] > top ? logits[i] : top;
    }
    return !nan && isfinite(top);
}

FM_PRINTF(1, 0) static void say(const char *fmt, va_list args)
{
    char text[2 * LINE_BYTES], line[LINE_BYTES];
    if (vsnprintf(text, sizeof(text), fmt, args) < 0)
        text[0] = '\0';
    fprintf(stderr, "fulmen: %s\n", fm_quote(text, strlen(text), line, sizeof(line)));
}

void tool_say(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say(fmt, args);
    va_end(args);
}

int tool_bad(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say(fmt, args);
    va_end(args);
    return TOOL_BAD_INPUT;
}

double tool_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

bool tool_progress(void *user, uint64_t done, uint64_t total)
{
    if (tool_stopped()) {
        tool_clear_bar();
        return false;
    }
    if (!isatty(STDERR_FILENO) || total == 0)
        return true;
    int part = (int)((double)done / (double)total * BAR_COLUMNS);
    if (part == bar_shown && done < total)
        return true;
    bar_shown = part;
    fprintf(stderr, "\r%s [", (const char *)user);
    for (int i = 0; i < BAR_COLUMNS; i++)
        fputc(i < part ? '#' : '.', stderr);
    fputc(']', stderr);
    if (done >= total)
        tool_clear_bar();
    fflush(stderr);
    return true;
}

// ---- input -------------------------------------------------------------------------------------------------------

int tool_check_output(const struct tool_options *options, const char *path)
{
    bool reads_stdin = options->file != NULL && strcmp(options->file, "-") == 0;
    const char *const inputs[] = {options->model, reads_stdin ? "/dev/stdin" : options->file, options->tuning};
    enum fm_result result = path != NULL ? fm_writer_check(path, inputs, sizeof(inputs) / sizeof(inputs[0])) : FM_OK;
    return result == FM_OK ? 0 : tool_fail(result);
}

int tool_read_text(const char *path, char **out_text, size_t *out_bytes)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    size_t cap = 1 << 16, used = 0;
    char *text = malloc(cap);
    int status = 0;
    if (file == NULL) // opening a pipe waits for its writer
        status = errno == EINTR && tool_interrupted() ? tool_cancelled() : tool_bad("%s: %s", path, strerror(errno));
    else if (text == NULL)
        status = tool_fail(FM_NOMEM);
    while (status == 0) {
        size_t n = fread(text + used, 1, cap - used - 1, file);
        used += n;
        if (n == 0 || tool_interrupted())
            break;
        char *more = used + 1 < cap ? text : realloc(text, cap *= 2);
        if (more == NULL)
            status = tool_fail(FM_NOMEM);
        else
            text = more;
    }
    if (status == 0 && tool_interrupted())
        status = tool_cancelled();
    else if (status == 0 && ferror(file))
        status = tool_bad("%s: %s", path, strerror(errno));
    if (file != NULL && file != stdin)
        fclose(file);
    if (status != 0) {
        free(text);
        return status;
    }
    text[used] = '\0';
    status = tool_text_in(file == stdin ? "standard input" : path, &text, &used);
    if (status != 0) {
        free(text);
        return status;
    }
    *out_text = text;
    *out_bytes = used;
    return 0;
}

static void warn_two_bos(const struct fm_tokenizer *tokenizer, const char *text, size_t bytes, unsigned flags)
{
    size_t bos_bytes = 0;
    uint32_t bos = fm_tokenizer_bos(tokenizer);
    if (!(flags & FM_ENCODE_BOS) || !(flags & FM_ENCODE_SPECIAL) || bos == FM_TOKEN_NONE || !fm_tokenizer_adds_bos(tokenizer))
        return;
    const char *piece = fm_tokenizer_piece(tokenizer, bos, true, &bos_bytes);
    if (bos_bytes > 0 && bytes >= bos_bytes && memcmp(text, piece, bos_bytes) == 0)
        tool_say("warning: the text begins with %.*s, and the model adds one of its own: --no-bos leaves that out", (int)bos_bytes,
                 piece);
}

int tool_encode(const struct fm_tokenizer *tokenizer, const char *text, size_t bytes, unsigned flags, uint32_t **out_tokens,
                size_t *out_count)
{
    warn_two_bos(tokenizer, text, bytes, flags);
    enum fm_result result = fm_tokenizer_encode_until(tokenizer, text, bytes, flags, tool_cancel, NULL, out_tokens, out_count);
    return result != FM_OK ? tool_fail(result) : tool_interrupted() ? tool_cancelled() : 0;
}

static int prompt_text(const struct tool_options *options, const struct fm_tokenizer *tokenizer, const char *text, size_t bytes,
                       uint32_t **out_tokens, size_t *out_count)
{
    uint32_t *ids = NULL;
    size_t count = 0;
    if (tokenizer == NULL)
        return tool_bad("%s has no tokenizer: give the prompt with --tokens", options->model);
    unsigned begin = options->state_load == NULL && !options->no_bos ? FM_ENCODE_BOS : 0;
    int status = tool_encode(tokenizer, text, bytes, begin | FM_ENCODE_SPECIAL, &ids, &count);
    if (status != 0) {
        fm_tokens_free(ids);
        return status;
    }
    *out_tokens = count > 0 ? malloc(count * sizeof(**out_tokens)) : NULL;
    if (*out_tokens != NULL)
        memcpy(*out_tokens, ids, count * sizeof(**out_tokens));
    fm_tokens_free(ids);
    *out_count = count;
    if (count == 0)
        return tool_bad("the prompt is empty");
    return *out_tokens != NULL ? 0 : tool_fail(FM_NOMEM);
}

int tool_prompt(const struct tool_options *options, const struct fm_model *model, uint32_t **out_tokens, size_t *out_count)
{
    const struct fm_tokenizer *tokenizer = fm_model_tokenizer(model);
    if ((options->tokens != NULL) + (options->prompt != NULL) + (options->file != NULL) > 1)
        return tool_bad("more than one prompt: expected one of -p TEXT, -f FILE and --tokens IDS");
    if (options->tokens != NULL)
        return tool_parse_list(options->tokens, "--tokens", out_tokens, out_count);
    if (options->prompt != NULL) {
        tool_tell_invalid("-p", options->prompt, strlen(options->prompt));
        return prompt_text(options, tokenizer, options->prompt, strlen(options->prompt), out_tokens, out_count);
    }
    if (options->file == NULL) {
        *out_tokens = NULL;
        *out_count = 0;
        return options->state_load != NULL ? 0 : tool_bad("no prompt: give -p TEXT, -f FILE or --tokens IDS");
    }
    char *text = NULL;
    size_t bytes = 0;
    int status = tool_read_text(options->file, &text, &bytes);
    if (status == 0 && bytes > 0 && text[bytes - 1] == '\n') // of the file, not of the prompt; llama.cpp drops it too
        bytes--;
    if (status == 0)
        status = prompt_text(options, tokenizer, text, bytes, out_tokens, out_count);
    free(text);
    return status;
}

struct fm_sampling tool_sampling(const struct tool_options *o)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = o->seed;
    if (seed == TOOL_SEED_CLOCK)
        seed = (uint64_t)now.tv_sec * 1000000007u ^ (uint64_t)now.tv_nsec;
    // Zeros mean "default" to the library; on a command line they say: the likeliest token alone, and no look back.
    return (struct fm_sampling){.temp = o->temp, .top_k = o->top_k, .top_p = o->top_p > 0 ? o->top_p : FLT_MIN,
                                .min_p = o->min_p, .repeat_penalty = o->repeat_last_n > 0 ? o->repeat_penalty : 1,
                                .repeat_last_n = o->repeat_last_n, .seed = seed};
}

// ---- opening -----------------------------------------------------------------------------------------------------

int tool_open_model(const struct tool_options *options, struct fm_model **out_model)
{
    enum fm_result result;
    if (options->model != NULL && options->shape != NULL)
        return tool_bad("-m and --shape exclude one another");
    if (options->model != NULL) {
        result = fm_model_open(options->model, out_model);
    } else if (options->shape != NULL) {
        const char *colon = strrchr(options->shape, ':');
        char name[64];
        if (colon == NULL || (size_t)(colon - options->shape) >= sizeof(name))
            return tool_bad("--shape '%s', expected NAME:TYPE as llama-8b:q4_0", options->shape);
        snprintf(name, sizeof(name), "%.*s", (int)(colon - options->shape), options->shape);
        result = fm_model_open_shape(name, colon + 1, out_model);
    } else {
        return tool_bad("no model: give -m FILE");
    }
    return result == FM_OK ? 0 : tool_fail(result);
}

struct fm_session_params tool_session_params(const struct tool_options *o, const struct fm_model *model)
{
    struct fm_model_info info;
    fm_model_get_info(model, &info);
    uint32_t n_ctx = o->ctx;
    if (o->given[OPT_CTX] && o->ctx == 0)
        n_ctx = info.context;
    return (struct fm_session_params){.n_ctx = n_ctx, .n_ubatch = o->ubatch, .cache_type_k = o->cache_type_k,
                                      .cache_type_v = o->cache_type_v, .activations = o->activations, .dca = o->dca.kind,
                                      .dca_cap = o->dca.cap, .dca_local = o->dca.local, .cancel = tool_cancel};
}

int tool_open(const struct tool_options *options, uint32_t n_ctx, uint32_t n_slots, struct tool_setup *setup)
{
    int status = setup->model != NULL ? 0 : tool_open_model(options, &setup->model);
    if (status != 0)
        return status;
    fm_model_get_info(setup->model, &setup->model_info);
    const struct fm_device_params device = {.selector = options->device, .max_rung = options->rung, .tuning = options->tuning};
    enum fm_result result = fm_device_open(&device, &setup->device);
    if (result != FM_OK)
        return tool_fail(result);
    fm_device_get_info(setup->device, &setup->device_info);
    fprintf(stderr, "device: %s, rung %s, %.1f GB\n", TOOL_QUOTE(setup->device_info.name), setup->device_info.rung,
            (double)setup->device_info.memory_bytes * 1e-9);
    struct fm_session_params session = tool_session_params(options, setup->model);
    session.n_ctx = n_ctx != 0 ? n_ctx : session.n_ctx;
    session.n_slots = n_slots;
    char label[] = "loading";
    const struct fm_load_params load = {.session = &session, .progress = tool_progress, .user = label};
    double start = tool_seconds();
    result = fm_model_load(setup->model, setup->device, &load);
    if (result == FM_OK)
        result = fm_session_create(setup->model, &session, &setup->session);
    if (result != FM_OK)
        return tool_fail(result);
    setup->load_s = tool_seconds() - start;
    struct fm_memory_need need;
    fm_session_get_need(setup->session, &need);
    setup->n_ctx = need.n_ctx;
    setup->n_slots = need.n_slots;
    if (options->verbose)
        fprintf(stderr, "memory: %.1f MB = %.1f weights + %.1f state + %.1f activations; the driver says %.1f MB\n",
                (double)need.total_bytes * 1e-6, (double)need.weights_bytes * 1e-6, (double)need.state_bytes * 1e-6,
                (double)(need.total_bytes - need.weights_bytes - need.state_bytes) * 1e-6,
                (double)fm_device_used_bytes(setup->device) * 1e-6);
    tool_cancel_target(setup->session);
    return 0;
}

void tool_close(struct tool_setup *setup)
{
    tool_cancel_target(NULL);
    fm_session_destroy(&setup->session);
    fm_model_close(&setup->model);
    fm_device_close(&setup->device);
}

bool tool_has_bandwidth(const struct fm_device_info *device)
{
    return strcmp(device->kind, "cpu") != 0;
}

double tool_token_bytes(const struct fm_model_info *model, const struct fm_memory_need *need, double pos)
{
    double cached = (double)(need->state_bytes - need->state_fixed_bytes) / need->n_slots * (pos / need->n_ctx);
    double fixed = need->n_versions > 0 ? (double)need->state_fixed_bytes / need->n_slots / need->n_versions : 0;
    return (double)model->token_bytes + fixed + cached;
}
