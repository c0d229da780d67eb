// SPDX-License-Identifier: MIT
// Log lines to the user's function or to standard error.
#include "base/base.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define LINE_BYTES 4096

static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static fm_log_fn *sink_fn;
static void *sink_user;
static _Atomic int sink_level = FM_LOG_WARN;

void fm_log_set(fm_log_fn *fn, void *user, enum fm_log_level max_level)
{
    pthread_mutex_lock(&sink_lock);
    sink_fn = fn;
    sink_user = user;
    atomic_store(&sink_level, (int)max_level);
    pthread_mutex_unlock(&sink_lock);
}

void fm_log(enum fm_log_level level, const char *fmt, ...)
{
    if ((int)level > atomic_load(&sink_level))
        return;
    char text[2 * LINE_BYTES], line[LINE_BYTES]; // so that what does not fit is cut by fm_quote, which says so
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(text, sizeof(text), fmt, args) < 0)
        text[0] = '\0';
    va_end(args);
    fm_quote(text, strlen(text), line, sizeof(line)); // as messages of errors are: see fm_fail

    // The user's function runs outside the lock, so that it may log or change the sink itself.
    pthread_mutex_lock(&sink_lock);
    fm_log_fn *fn = sink_fn;
    void *user = sink_user;
    pthread_mutex_unlock(&sink_lock);
    if (fn != NULL) {
        fn(user, level, line);
        return;
    }
    static const char *const names[] = {"error", "warning", "info", "debug"};
    fprintf(stderr, "fulmen: %s: %s\n", names[FM_MIN((size_t)level, FM_COUNT(names) - 1)], line);
}
