// SPDX-License-Identifier: MIT
// Lists of whole numbers on a command line.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

#define MOST_OF_RANGES 10000u // numbers of a list with ranges: more is a slip of the keyboard

struct list {
    const char *text, *what; // all of it, and the option that it is of
    uint32_t *numbers;
    size_t count, cap;
};

static int add(struct list *list, uint64_t number)
{
    if (list->count == list->cap) {
        size_t cap = list->cap > 0 ? 2 * list->cap : 8;
        uint32_t *numbers = cap <= SIZE_MAX / sizeof(*numbers) ? realloc(list->numbers, cap * sizeof(*numbers)) : NULL;
        if (numbers == NULL)
            return tool_fail(FM_NOMEM);
        list->numbers = numbers;
        list->cap = cap;
    }
    list->numbers[list->count++] = (uint32_t)number;
    return 0;
}

// The digits at *at, which is moved past them; there may be blanks before. false: there are none, or too many.
static bool read_number(const char **at, uint64_t *out)
{
    *at += strspn(*at, " ");
    size_t digits = strspn(*at, "0123456789");
    char *end;
    errno = 0;
    unsigned long long value = strtoull(*at, &end, 10);
    if (digits == 0 || errno != 0 || value > UINT32_MAX)
        return false;
    *at += digits;
    *out = value;
    return true;
}

static bool ends_element(const char *at)
{
    return *at == ',' || *at == '\0';
}

// A-B, A-B+N or A-B*F, of which A and the dash were read. `first_char`: where it begins.
static int add_range(struct list *list, const char *first_char, uint64_t first, const char **at)
{
    uint64_t last = 0, by = 1;
    char sign = '+';
    bool read = read_number(at, &last);
    if (read && (**at == '+' || **at == '*')) {
        sign = *(*at)++;
        read = read_number(at, &by);
    }
    int bytes = (int)strcspn(first_char, ",");
    if (!read || !ends_element(*at))
        return tool_bad("%s: '%.*s' is no range, expected A-B, A-B+N or A-B*F, as 1-128*2", list->what, bytes, first_char);
    if (first > last)
        return tool_bad("%s: the range '%.*s' has nothing in it, expected the smaller number first", list->what, bytes, first_char);
    if (sign == '+' && by == 0)
        return tool_bad("%s: the range '%.*s' has no end, expected a step of at least 1", list->what, bytes, first_char);
    if (sign == '*' && (by < 2 || first == 0))
        return tool_bad("%s: the range '%.*s' has no end, expected a factor of at least 2 and a first number of at least 1", list->what,
                        bytes, first_char);
    for (uint64_t number = first; number <= last; number = sign == '*' ? number * by : number + by) {
        if (list->count == MOST_OF_RANGES)
            return tool_bad("%s: '%s' has more than %u numbers", list->what, list->text, MOST_OF_RANGES);
        int status = add(list, number);
        if (status != 0)
            return status;
    }
    return 0;
}

static int parse(const char *text, const char *what, bool ranges, uint32_t **out_list, size_t *out_count)
{
    struct list list = {.text = text, .what = what};
    int status = 0;
    for (const char *at = text; status == 0; at++) {
        const char *first_char = at;
        uint64_t number;
        bool read = read_number(&at, &number);
        if (read && ranges && *at == '-') {
            at++;
            status = add_range(&list, first_char, number, &at);
        } else if (read && ends_element(at)) {
            status = add(&list, number);
        } else {
            status = tool_bad("%s: '%s' is no list of whole numbers, as 5,17,3%s", what, text, ranges ? " or 1-128*2" : "");
        }
        if (*at == '\0')
            break;
    }
    if (status != 0) {
        free(list.numbers);
        return status;
    }
    *out_list = list.numbers;
    *out_count = list.count;
    return 0;
}

int tool_parse_list(const char *text, const char *what, uint32_t **out_list, size_t *out_count)
{
    return parse(text, what, false, out_list, out_count);
}

int tool_parse_ranges(const char *text, const char *what, uint32_t **out_list, size_t *out_count)
{
    return parse(text, what, true, out_list, out_count);
}
