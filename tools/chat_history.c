// SPDX-License-Identifier: MIT
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "chat_history.h"

bool chat_history_add(struct chat_history *h, const char *role, const char *content)
{
    if (h->count == h->cap) {
        size_t cap = h->cap * 2 + 8;
        struct fm_chat_message *more = realloc(h->messages, cap * sizeof(*more));
        if (more == NULL)
            return false;
        h->messages = more;
        h->cap = cap;
    }
    char *copy = strdup(content);
    if (copy == NULL)
        return false;
    h->messages[h->count++] = (struct fm_chat_message){.role = role, .content = copy};
    return true;
}

void chat_history_drop(struct chat_history *h, size_t keep)
{
    while (h->count > keep)
        free((void *)(uintptr_t)h->messages[--h->count].content);
}

void chat_history_finish(struct chat_history *h)
{
    chat_history_drop(h, 0);
    free(h->messages);
    *h = (struct chat_history){0};
}

void chat_history_clear(struct chat_history *h)
{
    chat_history_drop(h, h->count > 0 && strcmp(h->messages[0].role, "system") == 0 ? 1 : 0);
}

const char *chat_history_last(const struct chat_history *h)
{
    const char *role = h->count > 0 ? h->messages[h->count - 1].role : "";
    return strcmp(role, "system") == 0 ? "" : role;
}

// ---- as text -----------------------------------------------------------------------------------------------------

char *chat_history_write(const struct chat_history *h, enum fm_chat_template template)
{
    cJSON *root = cJSON_CreateObject();
    bool ok = cJSON_AddStringToObject(root, "template", fm_chat_template_name(template)) != NULL;
    cJSON *list = cJSON_AddArrayToObject(root, "messages");
    for (size_t i = 0; i < h->count && ok; i++) {
        cJSON *message = cJSON_CreateObject();
        ok = cJSON_AddStringToObject(message, "role", h->messages[i].role) != NULL &&
             cJSON_AddStringToObject(message, "content", h->messages[i].content) != NULL;
        if (!cJSON_AddItemToArray(list, message)) {
            cJSON_Delete(message);
            ok = false;
        }
    }
    char *text = ok && list != NULL ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    return text;
}

// The literal that a role's text is; NULL for others.
static const char *role_of(const cJSON *text)
{
    static const char *const roles[] = {"system", "user", "assistant"};
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
        if (cJSON_IsString(text) && strcmp(text->valuestring, roles[i]) == 0)
            return roles[i];
    return NULL;
}

int chat_history_read(const char *note, const char *path, struct chat_history *out_h,
                      enum fm_chat_template *out_template)
{
    cJSON *root = note != NULL ? cJSON_Parse(note) : NULL;
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(root, "template");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "messages"), *message;
    struct chat_history h = {0};
    enum fm_chat_template template = FM_CHAT_PLAIN;
    bool is_one = cJSON_IsString(name) && fm_chat_template_from_name(name->valuestring, &template) && cJSON_IsArray(list);
    int status = 0;
    if (is_one) {
        cJSON_ArrayForEach(message, list) {
            const char *role = role_of(cJSON_GetObjectItemCaseSensitive(message, "role"));
            const cJSON *content = cJSON_GetObjectItemCaseSensitive(message, "content");
            is_one = is_one && role != NULL && cJSON_IsString(content);
            if (is_one && status == 0 && !chat_history_add(&h, role, content->valuestring))
                status = tool_fail(FM_NOMEM);
        }
    }
    cJSON_Delete(root);
    if (!is_one)
        status = tool_bad("%s holds no conversation (/save of fulmen chat makes a file that does)", path);
    if (status != 0) {
        chat_history_finish(&h);
        return status;
    }
    *out_h = h;
    *out_template = template;
    return 0;
}
