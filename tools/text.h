// SPDX-License-Identifier: MIT
// Text that comes in from files, and text of files, models and drivers that goes out.
#ifndef FM_TOOLS_TEXT_H
#define FM_TOOLS_TEXT_H

#include <cjson/cJSON.h>
#include <string.h>

#include "tool.h"

// ---- in -------------------------------------------------------------------------------------------------------------

// What was read from `name` becomes UTF-8: a byte order mark is dropped, UTF-16 with a mark is converted; the text stays
// NUL-terminated. 0, or an exit code after a line that says why not: UTF-16 without a mark, broken UTF-16, UTF-32. What is
// no UTF-8 is told (tool_tell_invalid).
int tool_text_in(const char *name, char **io_text, size_t *io_bytes);
// A line on standard error where bytes of `text` are no UTF-8: which is the first, and how many. They are used as they are.
void tool_tell_invalid(const char *name, const char *text, size_t bytes);
// TOOL_BAD_INPUT after a line where there is a NUL in the text: messages of a chat end at one.
int tool_refuse_nul(const char *name, const char *text, size_t bytes);

// ---- out ------------------------------------------------------------------------------------------------------------

// Text for a line on a terminal, cut at about 1,000 bytes. The result lives until the end of the block.
#define TOOL_QUOTE_BYTES 1024
#define TOOL_QUOTE(text) fm_quote(text, strlen(text), (char[TOOL_QUOTE_BYTES]){0}, TOOL_QUOTE_BYTES)

// Write what a model says to standard output: unchanged, but for a terminal, on which control characters except line feeds
// and tabs are shown instead of sent. `text` is whole characters. false, and errno, when it cannot be written.
bool tool_write(const char *text, size_t bytes);

// A JSON string of text that may hold anything: NUL becomes \u0000, what is no UTF-8 U+FFFD for each byte; control characters
// are escaped. NULL without memory.
cJSON *tool_json_text(const char *text, size_t bytes);
// The same as member `key`, which is left out where there is no memory.
void tool_json_add(cJSON *object, const char *key, const char *text);

// A field of a line of CSV as RFC 4180 has it, with a comma before it unless it is the `first`: text in quotes, or a number,
// nothing where it is not finite. Lines end in TOOL_CSV_END.
#define TOOL_CSV_END "\r\n"
void tool_csv_text(bool first, const char *text);
void tool_csv_number(bool first, double value);

#endif
