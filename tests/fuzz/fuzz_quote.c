// SPDX-License-Identifier: MIT
// libFuzzer target: any bytes as text of unknown origin. The first two bytes say how much room there is and whether lines
// stay.
#include <stdlib.h>

#include "fuzz_file.h"

#define ELLIPSIS "..."

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

// Into a buffer of exactly out_bytes, so that a byte too many is found. Release with free.
static char *quoted(const char *text, size_t bytes, unsigned flags, size_t out_bytes)
{
    char *out = malloc(out_bytes);
    fuzz_require(out != NULL && fm_quote_flags(text, bytes, flags, out, out_bytes) == out);
    fuzz_require(memchr(out, '\0', out_bytes) != NULL);
    fuzz_shown(out, flags == FM_QUOTE_LINES);
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes < 2)
        return 0;
    size_t bytes = size_bytes - 2, room = (size_t)data[0] + 1;
    unsigned flags = data[1] & 1 ? FM_QUOTE_LINES : 0;
    char *text = malloc(bytes + (bytes == 0)); // a byte read past the end is found
    fuzz_require(text != NULL);
    memcpy(text, data + 2, bytes);
    char *whole = quoted(text, bytes, flags, 4 * bytes + 1);
    size_t whole_bytes = strlen(whole);
    fuzz_require(whole_bytes >= bytes);

    // What was quoted stays as it is.
    char *again = quoted(whole, whole_bytes, flags, whole_bytes + 1);
    fuzz_require(strcmp(again, whole) == 0);
    if (fm_utf8_valid_prefix(text, bytes) == bytes && whole_bytes == bytes)
        fuzz_require(memcmp(whole, text, bytes) == 0);

    // With less room: a beginning of it, and dots as far as there is room for them.
    char *cut = quoted(text, bytes, flags, room);
    size_t cut_bytes = strlen(cut);
    if (whole_bytes < room) {
        fuzz_require(strcmp(cut, whole) == 0);
    } else {
        size_t dots = room > strlen(ELLIPSIS) ? strlen(ELLIPSIS) : room - 1;
        fuzz_require(cut_bytes >= dots && memcmp(cut + cut_bytes - dots, ELLIPSIS, dots) == 0);
        fuzz_require(memcmp(cut, whole, cut_bytes - dots) == 0);
    }
    char none;
    fuzz_require(fm_quote_flags(text, bytes, flags, &none, 0)[0] == '\0');
    free(cut);
    free(again);
    free(whole);
    free(text);
    return 0;
}
