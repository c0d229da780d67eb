// SPDX-License-Identifier: MIT
// JSON files of a checkpoint folder, read by declared type: a value is never taken for another kind. Untrusted input.
#ifndef FM_CONVERT_CONF_H
#define FM_CONVERT_CONF_H

#include <cjson/cJSON.h>

#include "base/base.h"

#define FM_CONF_PATH_BYTES 4096

struct fm_conf {
    char path[FM_CONF_PATH_BYTES]; // for messages
    cJSON *root;                   // an object; NULL when the file is not there
};

// Read dir/name. Absent and not required: FM_OK with root NULL. Python's words Infinity and -Infinity are
// understood. FM_IO, FM_FORMAT (with the line), FM_UNSUPPORTED (a string with the character U+0000), FM_NOMEM.
enum fm_result fm_conf_load(const char *dir, const char *name, bool required, struct fm_conf *out_json);
// The same on text in memory, which is changed.
enum fm_result fm_conf_parse(char *text, size_t text_bytes, const char *path, struct fm_conf *out_json);
void fm_conf_finish(struct fm_conf *json);

// The member `key` of `object` (NULL = json->root); NULL when it is absent or null.
const cJSON *fm_conf_get(const struct fm_conf *json, const cJSON *object, const char *key);

// Typed getters of members of the root. Absent or null: the fallback, or FM_FORMAT naming file and key when `required`.
// A whole number may be written 32.0: JSON does not tell it from 32. Another kind, a fraction for a whole number, or a value
// out of [min, max]: FM_FORMAT naming expected and found.
enum fm_result fm_conf_u32(const struct fm_conf *json, const char *key, bool required, uint32_t min, uint32_t max, uint32_t fallback,
                           uint32_t *out_value);
enum fm_result fm_conf_f64(const struct fm_conf *json, const char *key, bool required, double fallback, double *out_value);
enum fm_result fm_conf_bool(const struct fm_conf *json, const char *key, bool fallback, bool *out_value);
// *out_text = NULL when absent. Lives as long as the document.
enum fm_result fm_conf_string(const struct fm_conf *json, const char *key, bool required, const char **out_text);
// The same of an object inside, whose name is for messages.
enum fm_result fm_conf_f64_of(const struct fm_conf *json, const cJSON *object, const char *name, const char *key, bool required,
                              double fallback, double *out_value);
// *out_list = NULL when absent.
enum fm_result fm_conf_array(const struct fm_conf *json, const char *key, bool required, const cJSON **out_list);
enum fm_result fm_conf_object(const struct fm_conf *json, const char *key, bool required, const cJSON **out_object);

// A whole number of at most `max`, or false.
bool fm_conf_whole(const cJSON *item, uint32_t max, uint32_t *out_value);

#endif
