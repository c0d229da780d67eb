// SPDX-License-Identifier: MIT
// Chat templates. Files carry them as Jinja programs; fulmen recognises the common ones by their markers and renders
// them itself.
#include "text/vocab.h"

struct out {
    char *text;
    size_t used;
    size_t cap;
    struct fm_text_range *inputs; // what came from messages
    size_t input_count, input_cap;
    enum fm_result result; // sticky
};

struct chat {
    const char *name;
    // How its Jinja text is recognised: all of `with`, none of `without`. The first row that fits is taken.
    const char *with[3];
    const char *without[4];
    // One message; `index` counts from 0. `system` is the text of a leading system message that the template puts into
    // the first user message (only templates with `folds_system` get one), else NULL.
    void (*render)(struct out *out, const struct fm_chat_message *message, size_t index, const struct fm_chat_message *system);
    const char *prompt; // opens the assistant's answer
    bool folds_system;
};

static void put_bytes(struct out *out, const char *text, size_t bytes)
{
    if (out->result == FM_OK)
        out->result = fm_array_reserve((void **)&out->text, &out->cap, out->used + bytes + 1, 1);
    if (out->result != FM_OK)
        return;
    memcpy(out->text + out->used, text, bytes);
    out->used += bytes;
    out->text[out->used] = '\0';
}

static void put(struct out *out, const char *text)
{
    put_bytes(out, text, strlen(text));
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// Text of a message.
static void put_input(struct out *out, const char *text, size_t bytes)
{
    size_t begin = out->used;
    put_bytes(out, text, bytes);
    if (out->result == FM_OK && bytes > 0)
        out->result = fm_array_reserve((void **)&out->inputs, &out->input_cap, out->input_count + 1, sizeof(*out->inputs));
    if (out->result == FM_OK && bytes > 0)
        out->inputs[out->input_count++] = (struct fm_text_range){.begin = begin, .end = out->used};
}

static void put_content(struct out *out, const struct fm_chat_message *message)
{
    put_input(out, message->content, strlen(message->content));
}

// Without white space at both ends, as the templates' trim and strip() do.
static void put_trimmed(struct out *out, const struct fm_chat_message *message)
{
    const char *text = message->content;
    size_t bytes = strlen(text);
    while (bytes > 0 && is_space(text[bytes - 1]))
        bytes--;
    while (bytes > 0 && is_space(*text)) {
        text++;
        bytes--;
    }
    put_input(out, text, bytes);
}

static bool is_role(const struct fm_chat_message *message, const char *role)
{
    return strcmp(message->role, role) == 0;
}

static void render_plain(struct out *out, const struct fm_chat_message *message, size_t index, const struct fm_chat_message *system)
{
    (void)index;
    (void)system;
    if (!is_role(message, "system"))
        put(out, is_role(message, "user") ? "User: " : "Assistant: ");
    put_content(out, message);
    put(out, is_role(message, "system") ? "\n\n" : "\n");
}

static void render_chatml(struct out *out, const struct fm_chat_message *message, size_t index, const struct fm_chat_message *system)
{
    (void)index;
    (void)system;
    put(out, "<|im_start|>");
    put(out, message->role);
    put(out, "\n");
    put_content(out, message);
    put(out, "<|im_end|>\n");
}

static void render_llama3(struct out *out, const struct fm_chat_message *message, size_t index, const struct fm_chat_message *system)
{
    (void)index;
    (void)system;
    put(out, "<|start_header_id|>");
    put(out, message->role);
    put(out, "<|end_header_id|>\n\n");
    put_trimmed(out, message);
    put(out, "<|eot_id|>");
}

// Every exchange is a sequence of its own, <s> … </s>; the first <s> comes from the encoder.
static void render_llama2(struct out *out, const struct fm_chat_message *message, size_t index, const struct fm_chat_message *system)
{
    if (is_role(message, "assistant")) {
        put(out, " ");
        put_trimmed(out, message);
        put(out, " </s>");
        return;
    }
    put(out, index == 0 ? "[INST] " : "<s>[INST] ");
    if (system != NULL) {
        put(out, "<<SYS>>\n");
        put_content(out, system);
        put(out, "\n<</SYS>>\n\n");
    }
    put_trimmed(out, message);
    put(out, " [/INST]");
}

static void render_mistral(struct out *out, const struct fm_chat_message *message, size_t index, const struct fm_chat_message *system)
{
    (void)index;
    if (is_role(message, "assistant")) {
        put(out, " ");
        put_trimmed(out, message);
        put(out, "</s>");
        return;
    }
    put(out, "[INST] ");
    if (system != NULL) {
        put_content(out, system);
        put(out, "\n\n");
    }
    put_trimmed(out, message);
    put(out, " [/INST]");
}

static void render_zephyr(struct out *out, const struct fm_chat_message *message, size_t index, const struct fm_chat_message *system)
{
    (void)index;
    (void)system;
    put(out, "<|");
    put(out, message->role);
    put(out, "|>\n");
    put_content(out, message);
    put(out, "</s>\n");
}

// In the order of enum fm_chat_template.
static const struct chat chats[FM_CHAT_COUNT] = {
    [FM_CHAT_PLAIN] = {"plain", {0}, {0}, render_plain, "Assistant:", false},
    [FM_CHAT_CHATML] = {"chatml", {"<|im_start|>", "<|im_end|>"}, {0}, render_chatml, "<|im_start|>assistant\n", false},
    [FM_CHAT_LLAMA2] = {"llama2", {"[INST]", "<<SYS>>"}, {0}, render_llama2, "", true},
    [FM_CHAT_LLAMA3] = {"llama3",
                        {"<|start_header_id|>", "<|eot_id|>"},
                        {0},
                        render_llama3,
                        "<|start_header_id|>assistant<|end_header_id|>\n\n",
                        false},
    [FM_CHAT_MISTRAL] = {"mistral", {"[INST]"}, {"<<SYS>>", "[SYSTEM_PROMPT]"}, render_mistral, "", true},
    // The roles' marks are often made from the role's name ('<|' + role + '|>'), the end of a message from eos_token.
    // Others with such marks end their messages otherwise.
    [FM_CHAT_ZEPHYR] = {"zephyr",
                        {"<|user|>", "<|assistant|>", "eos_token"},
                        {"<|end|>", "[gMASK]", "<|endoftext|>", "<|observation|>"},
                        render_zephyr,
                        "<|assistant|>\n",
                        false},
};

const char *fm_chat_template_name(enum fm_chat_template t)
{
    return (unsigned)t < FM_CHAT_COUNT ? chats[t].name : "unknown";
}

bool fm_chat_template_from_name(const char *name, enum fm_chat_template *out_template)
{
    for (int t = 0; t < FM_CHAT_COUNT; t++) {
        if (strcmp(name, chats[t].name) == 0) {
            *out_template = (enum fm_chat_template)t;
            return true;
        }
    }
    return false;
}

static bool fits(const struct chat *chat, const char *jinja)
{
    for (size_t i = 0; i < FM_COUNT(chat->with) && chat->with[i] != NULL; i++) {
        if (strstr(jinja, chat->with[i]) == NULL)
            return false;
    }
    for (size_t i = 0; i < FM_COUNT(chat->without) && chat->without[i] != NULL; i++) {
        if (strstr(jinja, chat->without[i]) != NULL)
            return false;
    }
    return true;
}

// A ChatML template that brings a system text writes it out between its markers, in one string:
// '<|im_start|>system\nYou are …<|im_end|>\n'. *out_system stays NULL when there is none; FM_NOMEM.
static enum fm_result find_system(struct fm_tokenizer *tok, const char *jinja)
{
    const char *marks[] = {"<|im_start|>system\\n", "<|im_start|>system\n"};
    for (size_t i = 0; i < FM_COUNT(marks); i++) {
        for (const char *at = strstr(jinja, marks[i]); at != NULL; at = strstr(at + 1, marks[i])) {
            const char *text = at + strlen(marks[i]);
            size_t bytes = strcspn(text, "'\"{}<\\");
            if (bytes == 0 || strncmp(text + bytes, "<|im_end|>", 10) != 0)
                continue;
            char *copy = fm_arena_alloc(&tok->arena, bytes + 1, 1);
            if (copy == NULL)
                return fm_nomem();
            memcpy(copy, text, bytes);
            tok->chat_system = copy;
            return FM_OK;
        }
    }
    return FM_OK;
}

enum fm_result fm_chat_detect(const struct fm_file *file, struct fm_tokenizer *tok)
{
    struct fm_text text;
    enum fm_result r = fm_meta_string(file, "tokenizer.chat_template", false, &text);
    tok->chat = FM_CHAT_PLAIN;
    tok->chat_known = true;
    if (r != FM_OK || text.data == NULL)
        return r;
    char *jinja = fm_alloc((size_t)text.bytes + 1);
    if (jinja == NULL)
        return fm_nomem();
    if (text.bytes > 0)
        memcpy(jinja, text.data, (size_t)text.bytes);
    jinja[text.bytes] = '\0';
    tok->chat_known = false;
    for (int t = FM_CHAT_PLAIN + 1; t < FM_CHAT_COUNT && !tok->chat_known; t++) {
        if (fits(&chats[t], jinja)) {
            tok->chat = (enum fm_chat_template)t;
            tok->chat_known = true;
        }
    }
    if (tok->chat == FM_CHAT_CHATML)
        r = find_system(tok, jinja);
    fm_free(jinja);
    return r;
}

enum fm_chat_template fm_tokenizer_chat_template(const struct fm_tokenizer *tok, bool *out_known)
{
    *out_known = tok->chat_known;
    return tok->chat;
}

const char *fm_tokenizer_chat_system(const struct fm_tokenizer *tok)
{
    return tok->chat_system;
}

static enum fm_result check(enum fm_chat_template t, const struct fm_chat_message *messages, size_t count)
{
    if ((unsigned)t >= FM_CHAT_COUNT)
        return fm_fail(FM_ARG, "chat template %d: expected 0 to %d", (int)t, FM_CHAT_COUNT - 1);
    for (size_t i = 0; i < count; i++) {
        if (messages[i].role == NULL || messages[i].content == NULL)
            return fm_fail(FM_ARG, "chat message %zu: role or content is NULL", i);
        if (!is_role(&messages[i], "system") && !is_role(&messages[i], "user") && !is_role(&messages[i], "assistant"))
            return fm_fail(FM_ARG, "chat message %zu: role '%s', expected system, user or assistant", i,
                           FM_QUOTE_Z(messages[i].role));
    }
    return FM_OK;
}

// To be released, also after a failure.
static enum fm_result render(enum fm_chat_template t, const struct fm_chat_message *messages, size_t count, bool add_prompt,
                             struct out *out)
{
    *out = (struct out){.result = check(t, messages, count)};
    if (out->result != FM_OK)
        return out->result;
    const struct chat *chat = &chats[t];
    const struct fm_chat_message *system = NULL;
    size_t index = 0;
    put(out, "");
    for (size_t i = 0; i < count; i++) {
        if (chat->folds_system && is_role(&messages[i], "system")) {
            system = &messages[i];
            continue;
        }
        bool carries = is_role(&messages[i], "user");
        chat->render(out, &messages[i], index++, carries ? system : NULL);
        if (carries)
            system = NULL;
    }
    if (add_prompt)
        put(out, chat->prompt);
    return out->result;
}

enum fm_result fm_chat_render(enum fm_chat_template t, const struct fm_chat_message *messages, size_t count,
                              bool add_prompt, char **out_text)
{
    struct out out;
    enum fm_result r = render(t, messages, count, add_prompt, &out);
    fm_free(out.inputs);
    if (r == FM_OK)
        *out_text = out.text;
    else
        fm_free(out.text);
    return r;
}

enum fm_result fm_chat_encode(const struct fm_tokenizer *tok, enum fm_chat_template t, const struct fm_chat_message *messages,
                              size_t count, bool add_prompt, fm_cancel_fn *cancel, void *user, uint32_t **out_ids, size_t *out_count)
{
    struct out out;
    enum fm_result r = render(t, messages, count, add_prompt, &out);
    if (r == FM_OK) {
        const struct fm_mixed_text text = {.text = out.text, .bytes = out.used, .inputs = out.inputs, .input_count = out.input_count};
        r = fm_tokenizer_encode_mixed(tok, &text, cancel, user, out_ids, out_count);
    }
    fm_free(out.inputs);
    fm_free(out.text);
    return r;
}
