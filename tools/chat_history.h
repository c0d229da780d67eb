// SPDX-License-Identifier: MIT
// The messages of a conversation, and the text that a saved one carries beside its state.
#ifndef FM_TOOLS_CHAT_HISTORY_H
#define FM_TOOLS_CHAT_HISTORY_H

#include "tool.h"

// All-zero is empty. Contents are its own, roles are literals.
struct chat_history {
    struct fm_chat_message *messages;
    size_t count, cap;
};

// false without memory; then nothing changed.
bool chat_history_add(struct chat_history *h, const char *role, const char *content);
void chat_history_drop(struct chat_history *h, size_t keep); // all but the first `keep`
void chat_history_finish(struct chat_history *h);
// Drop all but the system message, if the first one is that.
void chat_history_clear(struct chat_history *h);
// "user" or "assistant"; "" where there is neither.
const char *chat_history_last(const struct chat_history *h);

// Messages and template as JSON; release with cJSON_free. NULL without memory.
char *chat_history_write(const struct chat_history *h, enum fm_chat_template template);
// The other way round. `note` may be NULL. 0, or an exit code after a line that names `path`; then nothing is written.
int chat_history_read(const char *note, const char *path, struct chat_history *out_h,
                      enum fm_chat_template *out_template);

#endif
