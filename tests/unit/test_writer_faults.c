// SPDX-License-Identifier: MIT
// The writer of files when something fails: every system call and every allocation of it, rights, limits. Whatever it is, the
// name holds the old file or the whole new one, and no temporary stays.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/writer.h"
#include "tests/support/folder.h"

#define NOBODY 65534
#define NEW_BYTES 150000u
#define STALE ".00112233445566778899aabbccddeeff.part"

static uint8_t new_data[NEW_BYTES];

static int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < NEW_BYTES; i++)
        new_data[i] = (uint8_t)(i * 7 + (i >> 8));
    return test_folder_make() ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    fm_writer_fail_at(UINT64_MAX, 0);
    test_folder_remove();
    return 0;
}

static int empty(void **state)
{
    (void)state;
    fm_writer_fail_at(UINT64_MAX, 0);
    fm_alloc_fail_at(UINT64_MAX);
    test_folder_empty();
    return 0;
}

static int lowest_descriptor(void)
{
    int fd = dup(STDERR_FILENO);
    close(fd);
    return fd;
}

enum content { OLD, NEW, OTHER };

static enum content content(const char *path, bool had_old)
{
    size_t bytes = 0;
    char *data = test_file_get(path, &bytes);
    enum content is = data == NULL ? (had_old ? OTHER : OLD)
                      : bytes == 3 && memcmp(data, "old", 3) == 0 && had_old ? OLD
                      : bytes == NEW_BYTES && memcmp(data, new_data, bytes) == 0 ? NEW : OTHER;
    free(data);
    return is;
}

// In small and large pieces, so that the buffer is filled, written around and written at the end.
static enum fm_result write_new(const char *path, unsigned flags)
{
    struct fm_writer *w = NULL;
    enum fm_result r = fm_writer_open(path, flags, &w);
    if (r == FM_OK)
        r = fm_writer_write(w, new_data, 1000);
    if (r == FM_OK)
        r = fm_writer_write(w, new_data + 1000, NEW_BYTES - 2000);
    if (r == FM_OK)
        r = fm_writer_write(w, new_data + NEW_BYTES - 1000, 1000);
    if (r == FM_OK)
        return fm_writer_finish(&w);
    fm_writer_discard(&w);
    return r;
}

struct scene {
    bool old, link, stale;
};

// The path to write.
static const char *make_scene(const struct scene *scene)
{
    test_folder_empty();
    if (scene->old)
        assert_true(test_file_put(in_folder("file"), "old", 3));
    if (scene->link)
        assert_int_equal(symlink("file", in_folder("link")), 0);
    if (scene->stale)
        assert_true(test_file_put(in_folder("file" STALE), "half", 4));
    return in_folder(scene->link ? "link" : "file");
}

// Call n fails with `reason`. Returns whether there was a call n.
static bool fail_one(const struct scene *scene, uint64_t n, int reason, unsigned *io_failures)
{
    const char *path = make_scene(scene);
    int lowest = lowest_descriptor();
    fm_writer_fail_at(n, reason);
    enum fm_result r = write_new(path, 0);
    uint64_t calls = fm_writer_fail_at(UINT64_MAX, 0);
    enum content is = content(in_folder("file"), scene->old);
    assert_int_not_equal(is, OTHER);
    assert_true(r == FM_OK || r == FM_WRITE || r == FM_ARG);
    if (r == FM_OK) {
        assert_int_equal(is, NEW);
    } else {
        *io_failures += 1;
        // Where a link was not there when it was first looked at, it has come since, which is another reason.
        bool told = (scene->link && reason == ENOENT) || strstr(fm_error_message(), strerror(reason)) != NULL;
        if (strstr(fm_error_message(), path) == NULL || !told)
            fail_msg("call %u, %s: '%s'", (unsigned)n, strerror(reason), fm_error_message());
        // Only the folder may fail to be synced once the file has its name, and that is said.
        assert_true(is == OLD || strstr(fm_error_message(), "is written, but") != NULL);
    }
    assert_int_equal(lowest_descriptor(), lowest);
    // One that a kill left may stay where removing it was what failed; the next writer has it then.
    size_t names = (is == NEW || scene->old) + (size_t)scene->link;
    assert_true(test_folder_count() == names || (scene->stale && test_folder_count() == names + 1));
    assert_int_equal(write_new(path, 0), FM_OK);
    assert_int_equal(content(in_folder("file"), true), NEW);
    assert_int_equal(test_folder_count(), 1 + (size_t)scene->link);
    return n < calls;
}

static void every_call_fails(void **state)
{
    (void)state;
    const int reasons[] = {EIO, ENOSPC, EACCES, ENOENT, EINVAL, EEXIST, EWOULDBLOCK};
    const struct scene scenes[] = {{0}, {.old = true}, {.old = true, .link = true}, {.link = true}, {.old = true, .stale = true}};
    for (size_t s = 0; s < FM_COUNT(scenes); s++)
        for (size_t e = 0; e < FM_COUNT(reasons); e++) {
            unsigned failures = 0;
            uint64_t n = 0;
            while (fail_one(&scenes[s], n, reasons[e], &failures))
                n++;
            assert_true(n > 15 && failures > 0);
        }
}

// Calls that a signal cuts off are made again, and a write that takes less is gone on with: nothing fails.
static void interrupted_and_short_calls(void **state)
{
    (void)state;
    const int reasons[] = {EINTR, 0};
    const struct scene scene = {.old = true};
    for (size_t e = 0; e < FM_COUNT(reasons); e++)
        for (uint64_t n = 0, calls = 1; n < calls; n++) {
            const char *path = make_scene(&scene);
            fm_writer_fail_at(n, reasons[e]);
            enum fm_result r = write_new(path, 0);
            calls = fm_writer_fail_at(UINT64_MAX, 0);
            bool interruptible = reasons[e] == 0 || r == FM_OK;
            assert_true(interruptible || strstr(fm_error_message(), strerror(EINTR)) != NULL);
            assert_int_equal(content(path, true), r == FM_OK || strstr(fm_error_message(), "is written, but") ? NEW : OLD);
            assert_int_equal(test_folder_count(), 1);
        }
}

// The system call that is named fails, counted from the calls that a good run makes.
static void a_full_disk_and_failing_syncs_keep_the_old_file(void **state)
{
    (void)state;
    const char *says[] = {"cannot write: No space left on device", "cannot sync the file: ", "cannot sync the folder: ",
                          "cannot name the finished file: "};
    bool seen[FM_COUNT(says)] = {false};
    const struct scene scene = {.old = true};
    bool more = true;
    for (uint64_t n = 0; more; n++) {
        const char *path = make_scene(&scene);
        fm_writer_fail_at(n, ENOSPC);
        enum fm_result r = write_new(path, 0);
        more = n < fm_writer_fail_at(UINT64_MAX, 0);
        for (size_t i = 0; i < FM_COUNT(says) && r != FM_OK; i++)
            if (strstr(fm_error_message(), says[i]) != NULL) {
                seen[i] = true;
                assert_int_equal(r, FM_WRITE);
                assert_int_equal(content(path, true), OLD);
            }
    }
    for (size_t i = 0; i < FM_COUNT(says); i++)
        assert_true(seen[i]);
}

static void a_failed_write_is_told_to_the_end(void **state)
{
    (void)state;
    struct fm_writer *w = NULL;
    assert_int_equal(fm_writer_open(in_folder("file"), 0, &w), FM_OK);
    fm_writer_fail_at(0, ENOSPC);
    assert_int_equal(fm_writer_write(w, new_data, NEW_BYTES), FM_WRITE);
    fm_writer_fail_at(UINT64_MAX, 0);
    (void)fm_writer_check("", NULL, 0); // another message
    assert_int_equal(fm_writer_write(w, new_data, 1), FM_WRITE);
    assert_non_null(strstr(fm_error_message(), "No space left"));
    assert_int_equal(fm_writer_finish(&w), FM_WRITE);
    assert_non_null(strstr(fm_error_message(), "No space left"));
    assert_int_equal(test_folder_count(), 0);
}

static void every_allocation_fails(void **state)
{
    (void)state;
    const struct scene scene = {.old = true, .link = true};
    bool more = true;
    uint64_t n = 0;
    for (; more; n++) {
        const char *path = make_scene(&scene);
        fm_alloc_fail_at(n);
        enum fm_result r = write_new(path, 0);
        more = n < fm_alloc_fail_at(UINT64_MAX);
        assert_int_equal(r, more ? FM_NOMEM : FM_OK);
        assert_int_equal(content(in_folder("file"), true), more ? OLD : NEW);
        assert_int_equal(test_folder_count(), 2);
    }
    assert_true(n > 5);
}

static void a_file_that_may_grow_no_more(void **state)
{
    (void)state;
    struct rlimit before, little = {.rlim_cur = 100000};
    const struct scene scene = {.old = true};
    const char *path = make_scene(&scene);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    little.rlim_max = before.rlim_max;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    enum fm_result r = write_new(path, 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(r, FM_WRITE);
    assert_non_null(strstr(fm_error_message(), "File too large"));
    assert_int_equal(content(path, true), OLD);
    assert_int_equal(test_folder_count(), 1);
}

// ---- rights ---------------------------------------------------------------------------------------------------------

struct rights {
    mode_t folder, file;
    enum fm_result result;
    const char *says;
};

// As a user whom rights bind.
static bool rights_are_kept(const struct rights *row)
{
    char path[1024];
    snprintf(path, sizeof(path), "%s", in_folder("sub/file"));
    if (geteuid() == 0 && (setgid(NOBODY) != 0 || setuid(NOBODY) != 0))
        return false;
    if (chmod(path, row->file) != 0 || chmod(in_folder("sub"), row->folder) != 0)
        return false;
    bool ok = fm_writer_check(path, NULL, 0) == row->result && (row->result == FM_OK || strstr(fm_error_message(), row->says) != NULL);
    ok = write_new(path, 0) == row->result && (row->result == FM_OK || strstr(fm_error_message(), row->says) != NULL) && ok;
    if (chmod(in_folder("sub"), 0700) != 0 || chmod(path, 0600) != 0)
        return false;
    return ok && content(path, true) == (row->result == FM_OK ? NEW : OLD);
}

static void rights(void **state)
{
    (void)state;
    const struct rights rows[] = {
        {0500, 0600, FM_WRITE, "cannot write into its folder: Permission denied"},
        {0700, 0400, FM_WRITE, "cannot write: Permission denied"}, // it could be replaced, but it was protected
        {0300, 0600, FM_OK, ""},                                   // a folder that cannot be listed
        {0700, 0200, FM_OK, ""},
    };
    for (size_t i = 0; i < FM_COUNT(rows); i++) {
        test_folder_empty();
        assert_int_equal(mkdir(in_folder("sub"), 0700), 0);
        assert_true(test_file_put(in_folder("sub/file"), "old", 3));
        if (geteuid() == 0) {
            assert_int_equal(chmod(test_folder, 0755), 0);
            assert_int_equal(chown(in_folder("sub"), NOBODY, NOBODY), 0);
            assert_int_equal(chown(in_folder("sub/file"), NOBODY, NOBODY), 0);
        }
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(rights_are_kept(&rows[i]) ? 0 : 1);
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fail_msg("folder of mode %03o, file of mode %03o", (unsigned)rows[i].folder, (unsigned)rows[i].file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_call_fails, empty),
        cmocka_unit_test_teardown(interrupted_and_short_calls, empty),
        cmocka_unit_test_teardown(a_full_disk_and_failing_syncs_keep_the_old_file, empty),
        cmocka_unit_test_teardown(a_failed_write_is_told_to_the_end, empty),
        cmocka_unit_test_teardown(every_allocation_fails, empty),
        cmocka_unit_test_teardown(a_file_that_may_grow_no_more, empty),
        cmocka_unit_test_teardown(rights, empty),
    };
    return cmocka_run_group_tests_name("writer-faults", tests, set_up, tear_down);
}
