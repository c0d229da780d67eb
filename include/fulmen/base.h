// SPDX-License-Identifier: MIT
// Results, errors, logging and tensor types: what every other public header needs.
#ifndef FULMEN_BASE_H
#define FULMEN_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FM_PRINTF(fmt_index, first_arg) __attribute__((format(printf, fmt_index, first_arg)))
#define FM_API __attribute__((visibility("default")))
#else
#define FM_PRINTF(fmt_index, first_arg)
#define FM_API
#endif

// One row per result: name, text.
#define FM_RESULTS(X)                                                                                                  \
    X(OK, "success")                                                                                                   \
    X(NOMEM, "out of host memory")                                                                                     \
    X(IO, "input/output error")                                                                                        \
    X(FORMAT, "the file is malformed")                                                                                 \
    X(UNSUPPORTED, "not supported")                                                                                    \
    X(ARG, "bad argument")                                                                                             \
    X(DEVICE, "no usable device, or the device failed")                                                                \
    X(LOST, "the device was lost")                                                                                     \
    X(NOSPACE, "out of device memory or context")                                                                      \
    X(CANCELLED, "cancelled")                                                                                          \
    X(BUSY, "busy")                                                                                                    \
    X(WRITE, "a file could not be written")                                                                            \
    X(CHANGED, "a file was changed while it was read")

enum fm_result {
#define X(name, text) FM_##name,
    FM_RESULTS(X)
#undef X
    FM_RESULT_COUNT
};

// Asked now and then by calls that may take long, one question at a time, from any thread: true ends the call with FM_CANCELLED.
typedef bool fm_cancel_fn(void *user);

// Short English text of a result; never NULL. The string is static.
FM_API const char *fm_result_text(enum fm_result result);

// Where a token is expected: none.
#define FM_TOKEN_NONE UINT32_MAX

// The one-line message of the last error on this thread ("" when none): what, where, expected, found.
// Valid until the next failing fulmen call on the same thread.
FM_API const char *fm_error_message(void);

// The version of these headers. FM_VERSION_NUMBER grows from version to version, so that #if can compare it.
#define FM_VERSION_MAJOR 0
#define FM_VERSION_MINOR 1
#define FM_VERSION_PATCH 0
#define FM_VERSION_NUMBER (FM_VERSION_MAJOR * 10000 + FM_VERSION_MINOR * 100 + FM_VERSION_PATCH)
#define FM_VERSION_STRING "0.1.0"

// Of the library that runs: "0.1.0", and the commit the library was built from ("unknown" outside a checkout). Static strings.
FM_API const char *fm_version(void);
FM_API const char *fm_commit(void);

// Text of unknown origin (a file's, a model's) as it may be shown on a terminal or in a log: well-formed UTF-8 as it is, \xNN
// for each byte of control characters (C0, DEL, C1, line and paragraph separators, controls of bidirectional text) and of
// what is no UTF-8. Text that does not fit out_bytes ends in "...", never within a character. Returns out, NUL-terminated.
FM_API const char *fm_quote(const char *text, size_t text_bytes, char *out, size_t out_bytes);
// The same; with FM_QUOTE_LINES line feeds and tabs stay, as in text that a model writes.
enum fm_quote_flag { FM_QUOTE_LINES = 1 };
FM_API const char *fm_quote_flags(const char *text, size_t text_bytes, unsigned flags, char *out, size_t out_bytes);

// Length of the longest beginning of text that is well-formed UTF-8, in bytes.
FM_API size_t fm_utf8_valid_prefix(const char *text, size_t text_bytes);

enum fm_log_level { FM_LOG_ERROR, FM_LOG_WARN, FM_LOG_INFO, FM_LOG_DEBUG };

// Receives every log line (no newline at the end). May be called from any thread.
typedef void fm_log_fn(void *user, enum fm_log_level level, const char *line);

// Route log lines to `fn` (NULL = standard error) and drop lines above `max_level` (default: WARN).
FM_API void fm_log_set(fm_log_fn *fn, void *user, enum fm_log_level max_level);

#ifdef __cplusplus
}
#endif

#endif
