// SPDX-License-Identifier: MIT
// JSON from files of any size and origin. Large objects are walked member by member, so that memory is needed for one
// member's value at a time; cJSON reads the values. Internal to format/.
#ifndef FM_FORMAT_JSON_H
#define FM_FORMAT_JSON_H

#include <cjson/cJSON.h>

#include "base/arena.h"
#include "format/file.h"

// A walk over the members of one object.
struct fm_json_object {
    struct fm_text text; // the object, whitespace around it allowed
    const char *what;    // what the text is, for messages
    uint64_t at;         // next byte
    bool started;        // the opening brace was read
};

// The next member: its key, decoded into `arena`, and the text of its value as it stands (delimited, not yet checked).
// *out_more is false, and the rest unset, after the last one, which nothing but whitespace may follow. Nesting is
// limited to 16 levels; control characters and \u0000 in strings are refused. FM_FORMAT, FM_NOMEM.
enum fm_result fm_json_next(struct fm_json_object *object, struct fm_arena *arena, struct fm_text *out_key,
                            struct fm_text *out_value, bool *out_more);

// Read a value delimited by fm_json_next. Release with cJSON_Delete. FM_FORMAT when it is longer than `max_bytes` (the
// tree may take 40 bytes for each) or no JSON; `what` begins the message.
enum fm_result fm_json_parse(struct fm_text value, uint64_t max_bytes, const char *what, cJSON **out_json);
// The same for a value that has to be a string, decoded into `arena` (NUL-terminated).
enum fm_result fm_json_string(struct fm_text value, struct fm_arena *arena, const char *what, struct fm_text *out_text);
// The same for an array of integers from 0 to 2^64 - 1, written as such: 32.0 and 3.2e1 are numbers, and no integers. `limit` of
// them are kept, all are counted. `what` names the array ("tensor 'x', shape").
enum fm_result fm_json_integers(struct fm_text value, const char *what, uint64_t limit, uint64_t *out_values, uint64_t *out_count);

#endif
