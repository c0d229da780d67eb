// SPDX-License-Identifier: MIT
// fulmen run: one prompt, one continuation.
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"
#include "tool.h"

static const enum tool_option option_list[] = {
    OPT_MODEL, OPT_PROMPT, OPT_FILE, OPT_TOKENS, OPT_PREDICT, OPT_CTX, OPT_UBATCH, OPT_TEMP, OPT_TOP_K, OPT_TOP_P, OPT_MIN_P, OPT_REPEAT,
    OPT_REPEAT_N, OPT_SEED, OPT_IGNORE_END, OPT_CTK, OPT_CTV, OPT_ACTIVATIONS, OPT_DCA, OPT_DEVICE, OPT_RUNG, OPT_TUNING, OPT_JSON,
    OPT_VERBOSE, OPT_STATE_SAVE, OPT_STATE_LOAD, OPT_NO_BOS,
};

struct output {
    const struct fm_tokenizer *tokenizer; // NULL: ids are printed
    struct fm_utf8_stream stream;
    char *piece;     // room for one token's text
    bool quiet;      // --json: collected, not printed
    int write_error; // errno of a failed write
    bool no_memory;
    char *text;
    size_t text_bytes, text_cap;
    uint32_t *ids;
    size_t n_ids, cap_ids;
};

static bool emit(struct output *out, const char *text, size_t bytes)
{
    if (!out->quiet) {
        if (!tool_write(text, bytes))
            out->write_error = errno;
        return out->write_error == 0;
    }
    if (out->text_bytes + bytes + 1 > out->text_cap) {
        size_t cap = (out->text_cap + bytes + 1) * 2;
        char *more = realloc(out->text, cap);
        if (more == NULL) {
            out->no_memory = true;
            return false;
        }
        out->text = more;
        out->text_cap = cap;
    }
    memcpy(out->text + out->text_bytes, text, bytes);
    out->text_bytes += bytes;
    out->text[out->text_bytes] = '\0';
    return true;
}

static bool on_token(void *user, uint32_t token)
{
    struct output *out = user;
    char number[16];
    if (out->n_ids == out->cap_ids) {
        size_t cap = out->cap_ids * 2 + 256;
        uint32_t *more = realloc(out->ids, cap * sizeof(*more));
        if (more == NULL) {
            out->no_memory = true;
            return false;
        }
        out->ids = more;
        out->cap_ids = cap;
    }
    out->ids[out->n_ids++] = token;
    if (out->tokenizer == NULL)
        return emit(out, number, (size_t)snprintf(number, sizeof(number), "%s%u", out->n_ids > 1 ? " " : "", token));
    return emit(out, out->piece, fm_tokenizer_stream(out->tokenizer, &out->stream, token, false, out->piece));
}

static bool on_prompt(void *user, uint64_t done, uint64_t total)
{
    static char label[] = "prompt";
    (void)user;
    return total <= 512 ? !tool_interrupted() : tool_progress(label, done, total);
}

static double rate(double count, uint64_t ns)
{
    return ns > 0 ? count / ((double)ns * 1e-9) : 0;
}

static size_t held_tokens(const struct tool_setup *setup)
{
    size_t held = 0;
    (void)fm_session_tokens(setup->session, 0, &held);
    return held;
}

struct numbers {
    double prompt_per_s, generate_per_s, gb_per_s;
    double read_gb_per_s; // that the device can read; 0 = unknown
    double load_s, pipelines_s;
};

static struct numbers measure(const struct tool_setup *setup, const struct fm_request *r)
{
    struct fm_pipeline_stats pipelines;
    fm_device_get_pipeline_stats(setup->device, &pipelines);
    struct numbers n = {.prompt_per_s = rate((double)r->n_tokens, r->prompt_ns), .load_s = setup->load_s,
                        .pipelines_s = (double)pipelines.create_ns * 1e-9};
    if (r->n_generated > 1)
        n.generate_per_s = rate(r->n_generated - 1, r->generate_ns);
    struct fm_memory_need need;
    fm_session_get_need(setup->session, &need);
    n.gb_per_s = n.generate_per_s * tool_token_bytes(&setup->model_info, &need, (double)held_tokens(setup) - r->n_generated * 0.5) * 1e-9;
    if (tool_has_bandwidth(&setup->device_info) && fm_device_read_bandwidth(setup->device, tool_cancel, NULL, &n.read_gb_per_s) == FM_OK)
        n.read_gb_per_s *= 1e-9;
    return n;
}

static void print_stats(const struct tool_setup *setup, const struct fm_request *r)
{
    struct numbers n = measure(setup, r);
    fprintf(stderr, "prompt: %zu tokens, %.1f tokens/s; generated: %u tokens, %.1f tokens/s, %.1f GB/s", r->n_tokens, n.prompt_per_s,
            r->n_generated, n.generate_per_s, n.gb_per_s);
    if (n.read_gb_per_s > 0)
        fprintf(stderr, " (%.0f %% of the %.1f GB/s that it can read)", 100 * n.gb_per_s / n.read_gb_per_s, n.read_gb_per_s);
    fprintf(stderr, "; load %.2f s, pipelines %.2f s\n", n.load_s, n.pipelines_s);
}

static int print_json(const struct tool_setup *setup, const struct output *out, const struct fm_request *r)
{
    static const char *const stops[] = {"end", "length", "context", "interrupted"};
    struct numbers n = measure(setup, r);
    cJSON *root = cJSON_CreateObject(), *ids = cJSON_AddArrayToObject(root, "tokens");
    if (out->tokenizer != NULL)
        cJSON_AddItemToObject(root, "text", tool_json_text(out->text, out->text_bytes));
    else
        cJSON_AddNullToObject(root, "text");
    for (size_t i = 0; i < out->n_ids; i++)
        cJSON_AddItemToArray(ids, cJSON_CreateNumber(out->ids[i]));
    cJSON_AddNumberToObject(root, "prompt_tokens", (double)r->n_tokens);
    cJSON_AddStringToObject(root, "stop", stops[r->stop]);
    cJSON *timings = cJSON_AddObjectToObject(root, "timings");
    cJSON_AddNumberToObject(timings, "prompt_ms", (double)r->prompt_ns * 1e-6);
    cJSON_AddNumberToObject(timings, "prompt_per_second", n.prompt_per_s);
    cJSON_AddNumberToObject(timings, "predicted_ms", (double)r->generate_ns * 1e-6);
    cJSON_AddNumberToObject(timings, "predicted_per_second", n.generate_per_s);
    cJSON_AddNumberToObject(timings, "read_gb_per_second", n.gb_per_s);
    if (n.read_gb_per_s > 0)
        cJSON_AddNumberToObject(timings, "device_read_gb_per_second", n.read_gb_per_s);
    cJSON_AddNumberToObject(timings, "load_ms", n.load_s * 1e3);
    cJSON_AddNumberToObject(timings, "pipelines_ms", n.pipelines_s * 1e3);
    cJSON *device = cJSON_AddObjectToObject(root, "device");
    tool_json_add(device, "name", setup->device_info.name);
    tool_json_add(device, "driver", setup->device_info.driver);
    cJSON_AddStringToObject(device, "uuid", setup->device_info.uuid);
    cJSON_AddStringToObject(device, "rung", setup->device_info.rung);
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    if (text == NULL)
        return tool_fail(FM_NOMEM);
    printf("%s\n", text);
    cJSON_free(text);
    return TOOL_DONE;
}

// ---- state files -------------------------------------------------------------------------------------------------

// What a run that was interrupted had still to read of its prompt, after the first of it: the note of its file.
#define UNREAD "unread "

// *io_tokens, [*io_count], becomes `list` and what it was.
static int put_before(const uint32_t *list, size_t count, uint32_t **io_tokens, size_t *io_count)
{
    uint32_t *more = realloc(*io_tokens, (count + *io_count) * sizeof(*more));
    if (more == NULL)
        return tool_fail(FM_NOMEM);
    memmove(more + count, more, *io_count * sizeof(*more));
    memcpy(more, list, count * sizeof(*more));
    *io_tokens = more;
    *io_count += count;
    return 0;
}

// Put what the slot has still to read before the prompt.
static int take_unread(const struct tool_options *options, const struct fm_saved *saved, uint32_t **tokens, size_t *count)
{
    uint32_t *list = NULL;
    size_t n = 0;
    int status = 0;
    if (saved->note != NULL && strncmp(saved->note, UNREAD, strlen(UNREAD)) == 0)
        status = tool_parse_list(saved->note + strlen(UNREAD), options->state_load, &list, &n);
    if (n > 0)
        status = put_before(list, n, tokens, count);
    free(list);
    return status == 0 && saved->token != FM_TOKEN_NONE ? put_before(&saved->token, 1, tokens, count) : status;
}

// Load the slot. The seed is the file's unless one is given.
static int load_state(const struct tool_options *options, struct tool_setup *setup, struct fm_sampling *sampling, uint32_t **tokens,
                      size_t *count)
{
    struct fm_saved saved;
    enum fm_result result = fm_session_load(setup->session, 0, options->state_load, &saved);
    if (result == FM_NOSPACE)
        return tool_bad("%s", fm_error_message());
    if (result != FM_OK)
        return tool_fail(result);
    if (!options->given[OPT_SEED])
        sampling->seed = saved.seed;
    int status = take_unread(options, &saved, tokens, count);
    fm_text_free(saved.note);
    if (status != 0)
        return status;
    size_t held = held_tokens(setup);
    if (*count == 0)
        return tool_bad("%s: it has no token to go on with: give -p TEXT, -f FILE or --tokens IDS", options->state_load);
    if (held + *count > setup->n_ctx)
        return tool_bad("%zu tokens after the %zu of %s do not fit the context of %u (-c sets it)", *count, held, options->state_load,
                        setup->n_ctx);
    return 0;
}

// `next`: what is to be read next, `count` of them, at least one.
static int save_state(const struct tool_options *options, const struct tool_setup *setup, const struct fm_sampling *sampling,
                      const uint32_t *next, size_t count)
{
    struct fm_saved saved = {.token = next[0], .seed = sampling->seed};
    if (count > 1) {
        size_t cap = strlen(UNREAD) + count * 11, at = strlen(UNREAD); // ten digits and a comma
        saved.note = malloc(cap);
        if (saved.note == NULL)
            return tool_fail(FM_NOMEM);
        memcpy(saved.note, UNREAD, at);
        for (size_t i = 1; i < count; i++)
            at += (size_t)snprintf(saved.note + at, cap - at, "%s%u", i > 1 ? "," : "", next[i]);
    }
    enum fm_result result = fm_session_save(setup->session, 0, &saved, options->state_save);
    free(saved.note);
    return result == FM_OK ? 0 : tool_fail(result);
}

// After a run of `tokens`, before which the slot held `before`. The token that was generated last has not been read; where
// there is none, the end of the prompt: its last token where none was wanted, more where the run was interrupted.
static int save_end(const struct tool_options *options, const struct tool_setup *setup, const struct fm_sampling *sampling,
                    const uint32_t *tokens, size_t count, size_t before, const struct output *out, bool interrupted)
{
    size_t read = out->n_ids > 0 ? count : held_tokens(setup) - before;
    int status = out->n_ids > 0 ? save_state(options, setup, sampling, out->ids + out->n_ids - 1, 1)
                                : save_state(options, setup, sampling, tokens + read, count - read);
    if (status == 0 && interrupted)
        tool_say("interrupted: %zu of %zu prompt tokens read, %zu generated; --state-load %s goes on", read, count, out->n_ids,
                 options->state_save);
    return status;
}

// ---- the run -----------------------------------------------------------------------------------------------------

static int generate(const struct tool_options *options, struct tool_setup *setup, const struct fm_sampling *sampling,
                    const uint32_t *tokens, size_t count, struct output *out)
{
    bool wanted = options->predict > 0; // else only the prompt is read: the token that follows it is nobody's
    size_t left_out = !wanted && options->state_save != NULL; // it is what the next run begins with
    struct fm_request request = {.tokens = tokens, .n_tokens = count - left_out, .n_predict = wanted ? options->predict : 1,
                                 .ignore_end = options->ignore_end || !wanted, .sampling = *sampling,
                                 .on_token = wanted ? on_token : NULL, .on_prompt = on_prompt, .user = out, .stop = FM_STOP_LENGTH};
    size_t before = held_tokens(setup);
    enum fm_result result = request.n_tokens > 0 ? fm_session_generate(setup->session, &request, 1) : FM_OK;
    bool interrupted = result == FM_CANCELLED && options->state_save != NULL; // else it is a failure
    if (!wanted)
        request.n_generated = 0;
    if (out->write_error == 0 && out->tokenizer != NULL)
        emit(out, out->piece, fm_utf8_stream_end(&out->stream, out->piece));
    if (out->write_error == 0 && !out->quiet && (result == FM_OK || out->n_ids > 0))
        emit(out, "\n", 1);
    if (out->write_error != 0) { // what was read and generated is not lost with the reader
        bool saves = options->state_save != NULL && !out->no_memory && (result == FM_OK || interrupted);
        int status = saves ? save_end(options, setup, sampling, tokens, count, before, out, tool_interrupted()) : 0;
        errno = out->write_error;
        int told = tool_output_failed("standard output");
        return status == 0 ? told : status;
    }
    if (out->no_memory || (result != FM_OK && !interrupted))
        return tool_fail(out->no_memory ? FM_NOMEM : result);
    if (interrupted)
        request.stop = FM_STOP_CALLER;
    else if (request.stop == FM_STOP_CONTEXT)
        fprintf(stderr, "fulmen: stopped: the context of %u tokens is full (-c sets it)\n", setup->n_ctx);
    int status = options->state_save == NULL ? 0 : save_end(options, setup, sampling, tokens, count, before, out, interrupted);
    if (status == 0 && options->json)
        status = print_json(setup, out, &request);
    else if (status == 0 && !interrupted)
        print_stats(setup, &request);
    return status == 0 && interrupted ? TOOL_FAILED : status;
}

static int run(const struct tool_options *options)
{
    struct tool_setup setup = {0};
    struct output out = {.quiet = options->json, .stream = {.started = true}}; // it goes on with the prompt
    struct fm_sampling sampling = tool_sampling(options);
    uint32_t *tokens = NULL;
    size_t count = 0;
    int status = tool_check_output(options, options->state_save);
    if (status == 0)
        status = tool_open_model(options, &setup.model);
    if (status == 0)
        status = tool_prompt(options, setup.model, &tokens, &count); // a bad prompt is told before anything is loaded
    if (status == 0)
        status = tool_open(options, 0, 1, &setup);
    if (status == 0 && count > setup.n_ctx)
        status = tool_bad("the prompt has %zu tokens, the context %u (-c sets it)", count, setup.n_ctx);
    if (status == 0) {
        out.tokenizer = fm_model_tokenizer(setup.model);
        if (out.tokenizer != NULL && (out.piece = malloc(fm_tokenizer_max_piece(out.tokenizer) + 8)) == NULL)
            status = tool_fail(FM_NOMEM);
    }
    if (status == 0 && options->state_load != NULL)
        status = load_state(options, &setup, &sampling, &tokens, &count);
    if (status == 0)
        status = generate(options, &setup, &sampling, tokens, count, &out);
    free(tokens);
    free(out.piece);
    free(out.text);
    free(out.ids);
    tool_close(&setup);
    return status;
}

const struct tool_command cmd_run = {
    .name = "run", .summary = "continue a text", .options = option_list,
    .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
};
