// SPDX-License-Identifier: MIT
#include "kernel/tuning.h"

#include <errno.h>
#include <stdlib.h>

#include "kernel/kernel.h"

#define NAME_BYTES 96
#define PRIORITY_MOST 1000

const struct fm_tuning fm_tuning_shipped = {
#define X(name, value, least, most) .name = (value),
#include "kernel/tuning.def"
#undef X
};

static const struct row {
    const char *name;
    uint32_t least, most;
    size_t offset;
} rows[] = {
#define X(name, value, least, most) {#name, least, most, offsetof(struct fm_tuning, name)},
#include "kernel/tuning.def"
#undef X
};

const struct fm_tuning *fm_tuning_of(const struct fm_caps *caps)
{
    return caps->tuning != NULL ? caps->tuning : &fm_tuning_shipped;
}

int32_t fm_tuning_priority(const struct fm_caps *caps, uint32_t kernel)
{
    const struct fm_tuning *t = fm_tuning_of(caps);
    for (size_t low = 0, high = t->n_priorities; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (t->priorities[middle].kernel == kernel)
            return t->priorities[middle].priority;
        if (t->priorities[middle].kernel < kernel)
            low = middle + 1;
        else
            high = middle;
    }
    return fm_kernels[kernel].priority;
}

static enum fm_result set_priority(struct fm_tuning *t, uint32_t kernel, int32_t priority)
{
    size_t at = 0;
    while (at < t->n_priorities && t->priorities[at].kernel < kernel)
        at++;
    if (at == t->n_priorities || t->priorities[at].kernel != kernel) {
        enum fm_result r = fm_array_reserve((void **)&t->priorities, &t->cap_priorities, t->n_priorities + 1, sizeof(*t->priorities));
        if (r != FM_OK)
            return r;
        memmove(&t->priorities[at + 1], &t->priorities[at], (t->n_priorities - at) * sizeof(*t->priorities));
        t->n_priorities++;
    }
    t->priorities[at] = (struct fm_tuning_priority){.kernel = kernel, .priority = priority};
    return FM_OK;
}

// The next word of [*at, end), a run of what is neither blank nor '='. false at the end, and for one that is too long.
static bool take_word(const char **at, const char *end, char out[NAME_BYTES])
{
    size_t bytes = 0;
    while (*at < end && (**at == ' ' || **at == '\t' || **at == '\r'))
        (*at)++;
    while (*at + bytes < end && strchr(" \t\r=", (*at)[bytes]) == NULL)
        bytes++;
    if (bytes == 0 || bytes >= NAME_BYTES)
        return false;
    memcpy(out, *at, bytes);
    out[bytes] = '\0';
    *at += bytes;
    return true;
}

// "= NUMBER" and nothing after it.
static bool take_value(const char **at, const char *end, long least, long most, long *out_value)
{
    char word[NAME_BYTES], rest[NAME_BYTES], *stop;
    while (*at < end && (**at == ' ' || **at == '\t'))
        (*at)++;
    if (*at == end || *(*at)++ != '=' || !take_word(at, end, word))
        return false;
    errno = 0;
    *out_value = strtol(word, &stop, 10);
    return *stop == '\0' && errno == 0 && *out_value >= least && *out_value <= most && !take_word(at, end, rest) &&
           (*at == end || **at != '=');
}

static enum fm_result bad_line(const char *source, unsigned line, const char *expected)
{
    return fm_fail(FM_FORMAT, "%s: line %u: expected %s", source, line, expected);
}

static enum fm_result read_priority(struct fm_tuning *t, const char *at, const char *end, const char *source, unsigned line)
{
    char name[NAME_BYTES];
    long value;
    if (!take_word(&at, end, name) || !take_value(&at, end, -PRIORITY_MOST, PRIORITY_MOST, &value))
        return bad_line(source, line, "priority KERNEL = NUMBER, a number from -1000 to 1000");
    for (uint32_t i = 0; i < fm_kernel_count; i++)
        if (strcmp(fm_kernels[i].name, name) == 0)
            return set_priority(t, i, (int32_t)value);
    fm_log(FM_LOG_DEBUG, "%s: line %u: no kernel %s in this build", source, line, FM_QUOTE_Z(name));
    return FM_OK;
}

static enum fm_result read_line(struct fm_tuning *t, const char *at, const char *end, const char *source, unsigned line)
{
    char name[NAME_BYTES];
    long value;
    const char *comment = memchr(at, '#', (size_t)(end - at));
    end = comment != NULL ? comment : end;
    if (!take_word(&at, end, name)) // blank, but for a lone '='
        return at == end ? FM_OK : bad_line(source, line, "NAME = NUMBER");
    if (strcmp(name, "priority") == 0)
        return read_priority(t, at, end, source, line);
    for (size_t i = 0; i < FM_COUNT(rows); i++) {
        if (strcmp(rows[i].name, name) != 0)
            continue;
        if (!take_value(&at, end, rows[i].least, rows[i].most, &value))
            return fm_fail(FM_FORMAT, "%s: line %u: expected %s = NUMBER, a number from %u to %u", source, line, rows[i].name,
                           rows[i].least, rows[i].most);
        uint32_t number = (uint32_t)value;
        memcpy((uint8_t *)t + rows[i].offset, &number, sizeof(number));
        return FM_OK;
    }
    return fm_fail(FM_FORMAT, "%s: line %u: '%s' is no name of a tuning", source, line, FM_QUOTE_Z(name));
}

enum fm_result fm_tuning_parse(const char *text, size_t text_bytes, const char *source, struct fm_tuning *out_tuning)
{
    struct fm_tuning t = fm_tuning_shipped;
    const char *at = text, *end = text + text_bytes;
    enum fm_result r = FM_OK;
    for (unsigned line = 1; r == FM_OK && at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop != NULL ? stop : end;
        r = read_line(&t, at, stop, source, line);
        at = stop + (stop < end);
    }
    if (r == FM_OK && t.ssd_least_resident > t.ssd_most_resident)
        r = fm_fail(FM_FORMAT, "%s: ssd_least_resident = %u is above ssd_most_resident = %u", source, t.ssd_least_resident,
                    t.ssd_most_resident);
    if (r != FM_OK) {
        fm_tuning_finish(&t);
        return r;
    }
    *out_tuning = t;
    return FM_OK;
}

void fm_tuning_finish(struct fm_tuning *tuning)
{
    fm_free(tuning->priorities);
    *tuning = (struct fm_tuning){0};
}
