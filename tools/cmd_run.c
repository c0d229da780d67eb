// SPDX-License-Identifier: MIT
// fulmen run: one prompt, one continuation.
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

static const enum tool_option option_list[] = {
    OPT_MODEL, OPT_PROMPT, OPT_FILE, OPT_TOKENS, OPT_PREDICT, OPT_CTX, OPT_UBATCH, OPT_TEMP, OPT_TOP_K, OPT_TOP_P, OPT_MIN_P, OPT_REPEAT,
    OPT_REPEAT_N, OPT_SEED, OPT_IGNORE_END, OPT_CTK, OPT_CTV, OPT_DCA, OPT_DEVICE, OPT_RUNG, OPT_JSON, OPT_VERBOSE,
    OPT_STATE_SAVE, OPT_STATE_LOAD,
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
        if (fwrite(text, 1, bytes, stdout) != bytes || fflush(stdout) != 0)
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
    size_t held = 0;
    struct fm_memory_need need;
    fm_session_get_need(setup->session, &need);
    (void)fm_session_tokens(setup->session, 0, &held);
    n.gb_per_s = n.generate_per_s * tool_token_bytes(&setup->model_info, &need, (double)held - r->n_generated * 0.5) * 1e-9;
    if (tool_has_bandwidth(&setup->device_info) && fm_device_read_bandwidth(setup->device, &n.read_gb_per_s) == FM_OK)
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
        cJSON_AddStringToObject(root, "text", out->text != NULL ? out->text : "");
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
    cJSON_AddStringToObject(device, "name", setup->device_info.name);
    cJSON_AddStringToObject(device, "driver", setup->device_info.driver);
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

// ---- state files
// -------------------------------------------------------------------------------------------------------

// Load the slot and put the token that it has still to read before the prompt. The seed is the file's unless one is given.
static int load_state(const struct tool_options *options, struct tool_setup *setup, struct fm_sampling *sampling, uint32_t **tokens,
                      size_t *count)
{
    struct fm_saved saved;
    size_t held = 0;
    enum fm_result result = fm_session_load(setup->session, 0, options->state_load, &saved);
    if (result == FM_NOSPACE)
        return tool_bad("%s", fm_error_message());
    if (result != FM_OK)
        return tool_fail(result);
    fm_text_free(saved.note);
    if (!options->given[OPT_SEED])
        sampling->seed = saved.seed;
    if (saved.token != FM_NO_TOKEN) {
        uint32_t *more = realloc(*tokens, (*count + 1) * sizeof(*more));
        if (more == NULL)
            return tool_fail(FM_NOMEM);
        memmove(more + 1, more, *count * sizeof(*more));
        more[0] = saved.token;
        *tokens = more;
        ++*count;
    }
    (void)fm_session_tokens(setup->session, 0, &held);
    if (*count == 0)
        return tool_bad("%s: it has no token to go on with: give -p TEXT, -f FILE or --tokens IDS", options->state_load);
    if (held + *count > setup->n_ctx)
        return tool_bad("%zu tokens after the %zu of %s do not fit the context of %u (-c sets it)", *count, held, options->state_load,
                        setup->n_ctx);
    return 0;
}

// Told before a long run, not after it: whether a file can be made at `path`.
static int check_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash != NULL ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    if (folder == NULL)
        return tool_fail(FM_NOMEM);
    int status = access(folder, W_OK) == 0 ? 0 : tool_bad("--state-save %s: %s", path, strerror(errno));
    free(folder);
    return status;
}

// The token that was generated last has not been read; where none was wanted, generate has left out the prompt's last.
static int save_state(const struct tool_options *options, const struct tool_setup *setup, const struct fm_sampling *sampling, uint32_t next)
{
    const struct fm_saved saved = {.token = next, .seed = sampling->seed};
    enum fm_result result = fm_session_save(setup->session, 0, &saved, options->state_save);
    return result == FM_OK ? 0 : tool_fail(result);
}

// ---- the run
// -----------------------------------------------------------------------------------------------------------

static int generate(const struct tool_options *options, struct tool_setup *setup, const struct fm_sampling *sampling,
                    const uint32_t *tokens, size_t count, struct output *out)
{
    bool wanted = options->predict > 0; // else only the prompt is read: the token that follows it is nobody's
    size_t left_out = !wanted && options->state_save != NULL; // it is what the next run begins with
    struct fm_request request = {.tokens = tokens, .n_tokens = count - left_out, .n_predict = wanted ? options->predict : 1,
                                 .ignore_end = options->ignore_end || !wanted, .sampling = *sampling,
                                 .on_token = wanted ? on_token : NULL, .on_prompt = on_prompt, .user = out, .stop = FM_STOP_LENGTH};
    enum fm_result result = request.n_tokens > 0 ? fm_session_generate(setup->session, &request, 1) : FM_OK;
    if (!wanted)
        request.n_generated = 0;
    if (out->write_error == 0 && out->tokenizer != NULL)
        emit(out, out->piece, fm_utf8_stream_end(&out->stream, out->piece));
    if (out->write_error == 0 && !out->quiet)
        emit(out, "\n", 1);
    if (out->write_error != 0) {
        errno = out->write_error;
        return tool_output_failed("standard output");
    }
    if (out->no_memory || result != FM_OK)
        return tool_fail(out->no_memory ? FM_NOMEM : result);
    if (request.stop == FM_STOP_CONTEXT)
        fprintf(stderr, "fulmen: stopped: the context of %u tokens is full (-c sets it)\n", setup->n_ctx);
    int status = options->state_save == NULL
                     ? 0
                     : save_state(options, setup, sampling, out->n_ids > 0 ? out->ids[out->n_ids - 1] : tokens[count - 1]);
    if (status != 0)
        return status;
    if (options->json)
        return print_json(setup, out, &request);
    print_stats(setup, &request);
    return TOOL_DONE;
}

static int run(const struct tool_options *options)
{
    struct tool_setup setup = {0};
    struct output out = {.quiet = options->json, .stream = {.started = true}}; // it goes on with the prompt
    struct fm_sampling sampling = tool_sampling(options);
    uint32_t *tokens = NULL;
    size_t count = 0;
    int status = options->state_save != NULL ? check_folder(options->state_save) : 0;
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
