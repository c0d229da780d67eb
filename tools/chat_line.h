// SPDX-License-Identifier: MIT
// What somebody says at a terminal: a line, or several that were pasted or that end in a backslash.
#ifndef FM_TOOLS_CHAT_LINE_H
#define FM_TOOLS_CHAT_LINE_H

#include <stdbool.h>
#include <stddef.h>

struct chat_line; // the editor of one terminal

// NULL without memory. Close it before the program ends, so that the terminal is what it was; accepts NULL.
struct chat_line *chat_line_open(void);
void chat_line_close(struct chat_line **editor);

enum chat_said { CHAT_SAID, CHAT_LEFT, CHAT_NO_MEMORY };
// The next message in UTF-8, without the line feed that ends it; release with free. CHAT_LEFT after Ctrl-D, Ctrl-C or a signal.
enum chat_said chat_line_read(struct chat_line *editor, char **out_text);

#endif
