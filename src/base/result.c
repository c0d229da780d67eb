// SPDX-License-Identifier: MIT
// Result texts, the per-thread error message, and the version.
#include "base/base.h"

#include <stdio.h>

#include "fm_version.h"

#define MESSAGE_BYTES 4096 // longer messages end in "..."

static _Thread_local char message[MESSAGE_BYTES];

const char *fm_result_text(enum fm_result result)
{
    static const char *const texts[FM_RESULT_COUNT] = {
#define X(name, text) [FM_##name] = text,
        FM_RESULTS(X)
#undef X
    };
    if ((unsigned)result >= FM_RESULT_COUNT)
        return "unknown result";
    return texts[result];
}

const char *fm_error_message(void)
{
    return message;
}

const char *fm_version(void)
{
    return FM_VERSION_STRING;
}

const char *fm_commit(void)
{
    return FM_COMMIT_STRING;
}

// A message may hold text of a file that its author forgot to quote, so all of it is quoted here.
enum fm_result fm_fail(enum fm_result result, const char *fmt, ...)
{
    // Formatted aside first: an argument may be fm_error_message() itself.
    char text[2 * MESSAGE_BYTES];
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(text, sizeof(text), fmt, args) < 0)
        text[0] = '\0';
    va_end(args);
    fm_quote(text, strlen(text), message, sizeof(message));
    return result;
}

enum fm_result fm_fail_prefix(enum fm_result result, const char *fmt, ...)
{
    char text[2 * MESSAGE_BYTES];
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(text, MESSAGE_BYTES, fmt, args) < 0)
        text[0] = '\0';
    va_end(args);
    size_t used = strlen(text);
    snprintf(text + used, sizeof(text) - used, ": %s", message);
    fm_quote(text, strlen(text), message, sizeof(message));
    return result;
}
