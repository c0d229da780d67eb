// SPDX-License-Identifier: MIT
// fulmen chat: a conversation on a terminal, or the answer to one prompt.
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chat_history.h"
#include "text.h"
#include "chat_line.h"
#include "tool.h"

static const enum tool_option option_list[] = {
    OPT_MODEL, OPT_PROMPT, OPT_FILE, OPT_SYSTEM, OPT_TEMPLATE, OPT_PREDICT, OPT_CTX, OPT_UBATCH, OPT_TEMP, OPT_TOP_K, OPT_TOP_P, OPT_MIN_P,
    OPT_REPEAT, OPT_REPEAT_N, OPT_SEED, OPT_CTK, OPT_CTV, OPT_ACTIVATIONS, OPT_DCA, OPT_DEVICE, OPT_RUNG, OPT_TUNING, OPT_VERBOSE,
};

// A model without a template writes the user's next line itself: the answer ends before it.
#define PLAIN_STOP "\nUser:"

#define COMMANDS "/exit /regen /clear /read FILE /save FILE /load FILE"

struct text {
    char *data;
    size_t bytes, cap;
};

struct chat {
    const struct tool_options *options;
    struct tool_setup setup;
    const struct fm_tokenizer *tokenizer;
    enum fm_chat_template template;
    struct chat_history history;
    struct fm_sampling sampling;
    char **read; // files that /read has read
    size_t n_read;
    char *piece;
    struct fm_utf8_stream stream;
    struct text answer;
    size_t printed; // bytes of the answer
    bool stopped, no_memory;
    int write_error; // errno of a failed write
};

// ---- the conversation ---------------------------------------------------------------------------------------------

static bool begin(struct chat *c)
{
    const char *system = c->options->system != NULL ? c->options->system : fm_tokenizer_chat_system(c->tokenizer);
    return system == NULL || system[0] == '\0' || chat_history_add(&c->history, "system", system);
}

// ---- answering ----------------------------------------------------------------------------------------------------

static bool append(struct text *t, const char *data, size_t bytes)
{
    if (t->bytes + bytes + 1 > t->cap) {
        size_t cap = (t->bytes + bytes + 1) * 2;
        char *more = realloc(t->data, cap);
        if (more == NULL)
            return false;
        t->data = more;
        t->cap = cap;
    }
    memcpy(t->data + t->bytes, data, bytes);
    t->bytes += bytes;
    t->data[t->bytes] = '\0';
    return true;
}

// How much of the answer may be shown: all but what may be the beginning of the stop text.
static size_t showable(struct chat *c)
{
    const char *found = c->template == FM_CHAT_PLAIN ? memmem(c->answer.data, c->answer.bytes, PLAIN_STOP, strlen(PLAIN_STOP)) : NULL;
    if (found != NULL) {
        c->stopped = true;
        c->answer.bytes = (size_t)(found - c->answer.data);
        c->answer.data[c->answer.bytes] = '\0';
        return c->answer.bytes;
    }
    size_t held = c->template == FM_CHAT_PLAIN ? strlen(PLAIN_STOP) - 1 : 0;
    for (; held > 0; held--)
        if (c->answer.bytes >= held && memcmp(c->answer.data + c->answer.bytes - held, PLAIN_STOP, held) == 0)
            break;
    return c->answer.bytes - held;
}

static bool show(struct chat *c, size_t end)
{
    if (end > c->printed && !tool_write(c->answer.data + c->printed, end - c->printed))
        c->write_error = errno;
    c->printed = end > c->printed ? end : c->printed;
    return c->write_error == 0;
}

static bool on_token(void *user, uint32_t token)
{
    struct chat *c = user;
    size_t bytes = fm_tokenizer_stream(c->tokenizer, &c->stream, token, false, c->piece);
    if (!append(&c->answer, c->piece, bytes)) {
        c->no_memory = true;
        return false;
    }
    return show(c, showable(c)) && !c->stopped;
}

static bool on_prompt(void *user, uint64_t done, uint64_t total)
{
    static char label[] = "reading";
    (void)user;
    return total <= 512 ? !tool_interrupted() : tool_progress(label, done, total);
}

// The conversation as tokens; what the slot holds of it already stays there.
static int read_tokens(struct chat *c, uint32_t **out_tokens, size_t *out_count, size_t *out_kept)
{
    enum fm_result result = fm_chat_encode(c->tokenizer, c->template, c->history.messages, c->history.count, true, tool_cancel, NULL,
                                           out_tokens, out_count);
    if (result == FM_OK && *out_count >= c->setup.n_ctx)
        return tool_bad("the conversation has %zu tokens, the context %u: -c sets it, /clear begins anew", *out_count, c->setup.n_ctx);
    if (result == FM_OK)
        result = fm_session_keep(c->setup.session, 0, *out_tokens, *out_count, out_kept);
    return result == FM_OK ? 0 : tool_fail(result);
}

// The answer becomes a message. Messages end at a NUL: where a model wrote one, U+FFFD stands for it.
static bool keep_answer(struct chat *c)
{
    struct text kept = {0};
    size_t nuls = 0, at = 0;
    bool ok = append(&kept, "", 0);
    while (ok && at < c->answer.bytes) {
        size_t part = strnlen(c->answer.data + at, c->answer.bytes - at);
        ok = append(&kept, c->answer.data + at, part);
        at += part;
        if (ok && at < c->answer.bytes) {
            ok = append(&kept, "\xEF\xBF\xBD", 3);
            nuls++;
            at++;
        }
    }
    if (nuls > 0)
        tool_say("the answer has %zu NUL characters: the conversation goes on with U+FFFD for each", nuls);
    ok = ok && chat_history_add(&c->history, "assistant", kept.data);
    free(kept.data);
    return ok;
}

// Answer the last message. An interrupted answer is kept as far as it came.
static int answer(struct chat *c)
{
    uint32_t *tokens = NULL;
    size_t count = 0, kept = 0;
    int status = read_tokens(c, &tokens, &count, &kept);
    if (status != 0) {
        fm_tokens_free(tokens);
        return status;
    }
    c->stream = (struct fm_utf8_stream){.started = true};
    c->answer.bytes = c->printed = 0;
    c->stopped = false;
    c->no_memory = !append(&c->answer, "", 0);
    bool wanted = c->options->predict > 0; // else the answer is empty
    struct fm_request request = {.tokens = tokens + kept, .n_tokens = count - kept,
                                 .n_predict = wanted ? c->options->predict : 1, .sampling = c->sampling,
                                 .on_token = wanted ? on_token : NULL, .on_prompt = on_prompt, .user = c};
    tool_clear_interrupt();
    tool_cancel_target(c->setup.session);
    enum fm_result result = c->no_memory ? FM_NOMEM : fm_session_generate(c->setup.session, &request, 1);
    tool_cancel_target(NULL);
    fm_tokens_free(tokens);
    c->sampling.seed++;
    c->no_memory = c->no_memory || !append(&c->answer, c->piece, fm_utf8_stream_end(&c->stream, c->piece));
    if (!c->no_memory)
        show(c, c->answer.bytes);
    if (c->write_error == 0 && (putchar('\n') == EOF || fflush(stdout) != 0))
        c->write_error = errno;
    if (c->write_error != 0) {
        errno = c->write_error;
        return tool_output_failed("standard output");
    }
    if (c->no_memory || (result != FM_OK && result != FM_CANCELLED)) {
        status = tool_fail(c->no_memory ? FM_NOMEM : result);
        if (result == FM_NAN) // what was read may hold what is no number: the next message begins anew
            (void)fm_session_rewind(c->setup.session, 0, 0);
        return status;
    }
    if (result == FM_OK && request.stop == FM_STOP_CONTEXT)
        fprintf(stderr, "fulmen: stopped: the context of %u tokens is full (-c sets it, /clear begins anew)\n", c->setup.n_ctx);
    if (c->options->verbose && result == FM_OK && request.prompt_ns > 0)
        fprintf(stderr, "prompt: %zu tokens (%zu kept), %.1f tokens/s; answer: %u tokens, %.1f tokens/s\n", request.n_tokens, kept,
                (double)request.n_tokens / ((double)request.prompt_ns * 1e-9), request.n_generated,
                request.n_generated > 1 ? (request.n_generated - 1) / ((double)request.generate_ns * 1e-9) : 0.0);
    if (!keep_answer(c))
        return tool_fail(FM_NOMEM);
    return result == FM_CANCELLED ? TOOL_FAILED : 0;
}

// ---- on a terminal ------------------------------------------------------------------------------------------------

// Answer `text`. What was not answered at all, since it was too long or the device failed, is forgotten.
static int ask(struct chat *c, const char *text)
{
    size_t before = c->history.count;
    if (!chat_history_add(&c->history, "user", text))
        return tool_fail(FM_NOMEM);
    int status = answer(c);
    if (status != 0 && c->history.count == before + 1)
        chat_history_drop(&c->history, before);
    return status;
}

static int regenerate(struct chat *c)
{
    const char *last = chat_history_last(&c->history);
    if (strcmp(last, "assistant") == 0)
        chat_history_drop(&c->history, c->history.count - 1);
    else if (strcmp(last, "user") != 0) // it is the user's when an answer could not be made again
        return tool_bad("no answer to make again");
    return answer(c);
}

// The slot's state, and beside it the messages: what the slot holds of them need not be read again. The seed is that of
// the next answer.
static int save(struct chat *c, const char *path)
{
    size_t held = 0;
    if (chat_history_last(&c->history)[0] == '\0')
        return tool_bad("nothing was said yet: no conversation to save");
    enum fm_result result = fm_writer_check(path, (const char *const *)c->read, c->n_read);
    if (result != FM_OK)
        return tool_fail(result);
    struct fm_saved saved = {.token = FM_TOKEN_NONE, .seed = c->sampling.seed, .note = chat_history_write(&c->history, c->template)};
    if (saved.note == NULL)
        return tool_fail(FM_NOMEM);
    result = fm_session_save(c->setup.session, 0, &saved, path);
    cJSON_free(saved.note);
    if (result != FM_OK)
        return tool_fail(result);
    (void)fm_session_tokens(c->setup.session, 0, &held);
    tool_say("saved %zu tokens to %s", held, path);
    return 0;
}

// The conversation becomes that of the file: messages, template, state and seed. What cannot be loaded leaves the conversation as it
// was; the slot may be empty then, and it is read again.
static int load(struct chat *c, const char *path)
{
    struct fm_saved saved = {0};
    struct chat_history history;
    size_t held = 0;
    enum fm_result result = fm_session_load(c->setup.session, 0, path, &saved);
    if (result != FM_OK)
        return tool_fail(result);
    int status = chat_history_read(saved.note, path, &history, &c->template);
    fm_text_free(saved.note);
    if (status != 0) {
        (void)fm_session_rewind(c->setup.session, 0, 0); // it holds somebody else's text: ours will be read again
        return status;
    }
    chat_history_finish(&c->history);
    c->history = history;
    c->sampling.seed = saved.seed;
    (void)fm_session_tokens(c->setup.session, 0, &held);
    tool_say("loaded %zu tokens from %s", held, path);
    return 0;
}

// /save must not replace it.
static bool remember_read(struct chat *c, const char *path)
{
    char **more = realloc(c->read, (c->n_read + 1) * sizeof(*more));
    if (more == NULL)
        return false;
    c->read = more;
    return (more[c->n_read] = strdup(path)) != NULL && ++c->n_read > 0;
}

static int read_aloud(struct chat *c, const char *path)
{
    char *text = NULL;
    size_t bytes = 0;
    int status = tool_read_text(path, &text, &bytes);
    if (status != 0)
        return status;
    status = tool_refuse_nul(path, text, bytes);
    if (status == 0 && bytes == 0)
        status = tool_bad("/read: %s is empty", path);
    if (status == 0)
        status = remember_read(c, path) ? ask(c, text) : tool_fail(FM_NOMEM);
    free(text);
    return status;
}

static int clear(struct chat *c)
{
    chat_history_clear(&c->history);
    return 0;
}

// A line that begins with '/'. *out_leave: it was /exit.
static int command(struct chat *c, const char *line, bool *out_leave)
{
    static const struct {
        const char *name;
        int (*run)(struct chat *c);
        int (*run_file)(struct chat *c, const char *path);
    } commands[] = {{"/regen", regenerate, NULL}, {"/clear", clear, NULL}, {"/read", NULL, read_aloud}, {"/save", NULL, save},
                    {"/load", NULL, load}};
    size_t bytes = strcspn(line, " ");
    const char *file = line + bytes + strspn(line + bytes, " ");
    *out_leave = strcmp(line, "/exit") == 0;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        const char *name = commands[i].name;
        if (strlen(name) != bytes || strncmp(line, name, bytes) != 0)
            continue;
        if (commands[i].run_file != NULL)
            return file[0] != '\0' ? commands[i].run_file(c, file) : tool_bad("%s needs a file: %s FILE", name, name);
        if (file[0] == '\0')
            return commands[i].run(c);
    }
    return *out_leave ? 0 : tool_bad("unknown command '%s', there are " COMMANDS, line);
}

static void take_message(struct chat *c, const char *text, bool *out_leave)
{
    if (text[0] == '/' && strchr(text, '\n') == NULL) { // several lines are a text, whatever it begins with
        (void)command(c, text, out_leave);
    } else if (text[0] != '\0') {
        tool_tell_invalid("the message", text, strlen(text));
        (void)ask(c, text);
    }
}

static int converse(struct chat *c)
{
    struct chat_line *editor = chat_line_open();
    enum chat_said said = editor != NULL ? CHAT_SAID : CHAT_NO_MEMORY;
    bool leave = false;
    if (said == CHAT_SAID)
        fprintf(stderr, "%s, template %s; " COMMANDS "; Ctrl-C stops an answer, and leaves at the prompt\n",
                TOOL_QUOTE(c->setup.model_info.name), fm_chat_template_name(c->template));
    while (said == CHAT_SAID && !leave && c->write_error == 0) {
        char *text = NULL;
        tool_clear_interrupt();
        said = chat_line_read(editor, &text);
        if (said == CHAT_SAID)
            take_message(c, text, &leave);
        free(text);
    }
    chat_line_close(&editor);
    return said == CHAT_NO_MEMORY ? tool_fail(FM_NOMEM) : 0;
}

// ---- the whole ----------------------------------------------------------------------------------------------------

static int answer_one(struct chat *c)
{
    char *text = NULL;
    size_t bytes = 0;
    int status = 0;
    if (c->options->prompt != NULL && c->options->file != NULL)
        return tool_bad("chat: expected one of -p TEXT and -f FILE, found both");
    if (c->options->prompt != NULL) {
        text = strdup(c->options->prompt);
        bytes = strlen(c->options->prompt);
        tool_tell_invalid("-p", c->options->prompt, bytes);
    } else {
        status = tool_read_text(c->options->file != NULL ? c->options->file : "-", &text, &bytes);
    }
    if (status != 0)
        return status;
    if (text == NULL)
        return tool_fail(FM_NOMEM);
    while (bytes > 0 && (text[bytes - 1] == '\n' || text[bytes - 1] == '\r'))
        text[--bytes] = '\0';
    status = tool_refuse_nul(c->options->file != NULL ? c->options->file : "standard input", text, bytes);
    if (status == 0 && bytes == 0)
        status = tool_bad(c->options->prompt != NULL || c->options->file != NULL ? "chat: the prompt is empty"
                                                                                 : "chat: no prompt on standard input");
    else if (status == 0 && !chat_history_add(&c->history, "user", text))
        status = tool_fail(FM_NOMEM);
    free(text);
    return status == 0 ? answer(c) : status;
}

static int choose_template(struct chat *c)
{
    bool known = true;
    c->template = fm_tokenizer_chat_template(c->tokenizer, &known);
    if (c->options->chat_template != NULL) {
        if (!fm_chat_template_from_name(c->options->chat_template, &c->template))
            return tool_bad("--chat-template '%s', expected plain, chatml, llama2, llama3, mistral or zephyr", c->options->chat_template);
    } else if (!known) {
        fprintf(stderr, "fulmen: the file's chat template is unknown: plain is taken (--chat-template sets it)\n");
    }
    return 0;
}

static int run(const struct tool_options *options)
{
    struct chat c = {.options = options, .sampling = tool_sampling(options)};
    int status = tool_open(options, 0, 1, &c.setup);
    tool_cancel_target(NULL);
    if (status == 0 && tool_interrupted())
        status = TOOL_FAILED;
    if (status == 0 && (c.tokenizer = fm_model_tokenizer(c.setup.model)) == NULL)
        status = tool_bad("%s has no tokenizer", options->model);
    if (status == 0)
        status = choose_template(&c);
    if (status == 0 && options->tuning != NULL && !remember_read(&c, options->tuning))
        status = tool_fail(FM_NOMEM);
    if (status == 0 && ((c.piece = malloc(fm_tokenizer_max_piece(c.tokenizer) + 8)) == NULL || !begin(&c)))
        status = tool_fail(FM_NOMEM);
    if (status == 0)
        status = options->prompt != NULL || options->file != NULL || !isatty(STDIN_FILENO) ? answer_one(&c) : converse(&c);
    chat_history_finish(&c.history);
    free(c.piece);
    free(c.answer.data);
    for (size_t i = 0; i < c.n_read; i++)
        free(c.read[i]);
    free(c.read);
    tool_close(&c.setup);
    return status;
}

const struct tool_command cmd_chat = {
    .name = "chat", .summary = "a conversation, or the answer to one prompt", .options = option_list,
    .n_options = sizeof(option_list) / sizeof(option_list[0]), .run = run,
    .notes = "On a terminal, a line that ends in \\ goes on in the next one, and what is pasted is one message. A line that\n"
             "begins with / is a command:\n"
             "  /exit        leave, as Ctrl-D does\n"
             "  /regen       make the last answer again\n"
             "  /clear       begin anew\n"
             "  /read FILE   say what the file says\n"
             "  /save FILE   keep the conversation with its state in a file\n"
             "  /load FILE   go on with such a conversation, as if it had never stopped",
};
