// SPDX-License-Identifier: MIT
// libFuzzer target: the writer of files under faults. The input is a list of records of 6 bytes, each one file written to the
// same name: how many writes of which sizes, which system call fails how, whether the caller gives up at the end, and whether a
// temporary lies there that a kill left. After each the name holds the file before or the whole new one, and no more
// temporaries are there than before; where no fault was injected there are none.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/writer.h"
#include "fuzz_file.h"
#include "tests/support/folder.h"

#define RECORD_BYTES 6
#define MOST_RECORDS 24
#define MOST_BYTES 200000u
#define NO_CALL 255 // nothing fails
#define STALE ".00112233445566778899aabbccddeeff.part"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

struct record {
    uint8_t call, reason, writes, size, end, flags;
};

static uint8_t bytes[MOST_BYTES];
static size_t held_bytes; // what the name holds; SIZE_MAX = nothing
static uint8_t held_first;      // every byte of it

static void remove_folder(void)
{
    fm_writer_fail_at(UINT64_MAX, 0);
    test_folder_remove();
}

static bool holds(const char *path, size_t expected, uint8_t first)
{
    size_t got = 0;
    char *data = test_file_get(path, &got);
    if (data == NULL)
        return expected == SIZE_MAX;
    bool same = got == expected && (got == 0 || (data[0] == (char)first && memcmp(data, data + 1, got - 1) == 0));
    free(data);
    return same;
}

// -> the bytes of the whole file. *out_result of the writer.
static size_t write_one(const char *path, const struct record *r, uint8_t first, enum fm_result *out_result)
{
    struct fm_writer *w = NULL;
    size_t total = 0;
    memset(bytes, first, sizeof(bytes));
    enum fm_result result = fm_writer_open(path, r->flags % 4, &w);
    for (unsigned i = 0; i < r->writes % 6u; i++) {
        size_t some = FM_MIN((size_t)r->size << (i * 3 % 10), MOST_BYTES - total);
        if (result == FM_OK)
            result = fm_writer_write(w, bytes + total, some);
        total += some;
    }
    if (result == FM_OK && r->end % 4 == 0)
        result = FM_CANCELLED; // its caller gave up
    else if (result == FM_OK)
        result = fm_writer_finish(&w);
    fm_writer_discard(&w);
    *out_result = result;
    return total;
}

static void play(const char *path, const struct record *r, uint8_t first)
{
    static const int reasons[] = {EIO, ENOSPC, EINTR, 0, EACCES, EINVAL, ENOENT, EEXIST, EWOULDBLOCK, ENOTSUP, EROFS, EMFILE};
    bool faulty = r->call != NO_CALL;
    enum fm_result result;
    if ((r->flags & 4) != 0)
        fuzz_require(test_file_put(in_folder("file" STALE), "half", 4));
    size_t temps = test_folder_count() - (held_bytes != SIZE_MAX);
    if (faulty)
        fm_writer_fail_at(r->call % 48u, reasons[r->reason % FM_COUNT(reasons)]);
    size_t total = write_one(path, r, first, &result);
    fm_writer_fail_at(UINT64_MAX, 0);
    bool is_new = holds(path, total, first);
    fuzz_require(is_new || holds(path, held_bytes, held_first));
    fuzz_require(is_new || result != FM_OK);
    fuzz_require(result == FM_OK || faulty || result == FM_CANCELLED);
    if (is_new) {
        held_bytes = total;
        held_first = first;
    }
    // Only where nothing else went wrong can the one fault have been the removal of the temporary itself.
    size_t now = test_folder_count() - (held_bytes != SIZE_MAX);
    fuzz_require(faulty ? now <= temps + (result == FM_CANCELLED) : now == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    static bool made;
    char path[1024];
    if (!made) {
        fuzz_require(test_folder_make());
        atexit(remove_folder);
        made = true;
    }
    test_folder_empty();
    held_bytes = SIZE_MAX;
    snprintf(path, sizeof(path), "%s", in_folder("file"));
    for (size_t i = 0; i < MOST_RECORDS && (i + 1) * RECORD_BYTES <= size_bytes; i++) {
        struct record r;
        memcpy(&r, data + i * RECORD_BYTES, sizeof(r));
        play(path, &r, (uint8_t)(i * 17 + 1));
    }
    return 0;
}
