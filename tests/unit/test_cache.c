// SPDX-License-Identifier: MIT
// What of the cache folder is trusted: files and folders of the user's own that nobody else may write, and nothing that makes the
// reader wait.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "tests/support/folder.h"

#define NOBODY 65534

static unsigned warnings;
static char warning[512];

static void count_warning(void *user, enum fm_log_level level, const char *line)
{
    (void)user;
    warnings += level == FM_LOG_WARN;
    snprintf(warning, sizeof(warning), "%s", line);
}

static int set_up(void **state)
{
    (void)state;
    fm_log_set(count_warning, NULL, FM_LOG_WARN);
    return test_folder_make() ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    fm_log_set(NULL, NULL, FM_LOG_WARN);
    test_folder_remove();
    return 0;
}

static bool reads(const char *name)
{
    char *data = NULL;
    size_t bytes = 0;
    bool read = fm_cache_read(in_folder(name), 100, &data, &bytes);
    if (read) {
        assert_int_equal(bytes, 5);
        assert_memory_equal(data, "bytes", 5);
        fm_free(data);
    }
    return read;
}

static void own_files_are_read(void **state)
{
    (void)state;
    assert_false(reads("absent"));
    assert_true(test_file_put(in_folder("own"), "bytes", 5));
    assert_int_equal(chmod(in_folder("own"), 0600), 0);
    assert_true(reads("own"));
    assert_int_equal(chmod(in_folder("own"), 0644), 0);
    assert_true(reads("own"));
    assert_int_equal(warnings, 0);
}

static void nothing_else_is(void **state)
{
    (void)state;
    char many[101] = {0};
    assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
    assert_false(reads("pipe")); // and does not wait for a writer
    assert_int_equal(warnings, 1);
    assert_non_null(strstr(warning, "is no regular file"));
    assert_non_null(strstr(warning, "pipe"));
    assert_int_equal(symlink("own", in_folder("link")), 0);
    assert_false(reads("link"));
    assert_int_equal(symlink("pipe", in_folder("link-to-pipe")), 0);
    assert_false(reads("link-to-pipe"));
    assert_int_equal(mkdir(in_folder("folder"), 0700), 0);
    assert_false(reads("folder"));
    assert_true(test_file_put(in_folder("long"), many, sizeof(many)));
    assert_false(reads("long"));
    assert_true(test_file_put(in_folder("open"), "bytes", 5));
    assert_int_equal(chmod(in_folder("open"), 0602), 0);
    assert_false(reads("open"));
    assert_int_equal(chmod(in_folder("open"), 0620), 0);
    assert_false(reads("open"));
    assert_int_equal(warnings, 1); // once a process
}

static void files_of_others_are_not_read(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_true(test_file_put(in_folder("other"), "bytes", 5));
    assert_int_equal(chmod(in_folder("other"), 0644), 0);
    assert_int_equal(chown(in_folder("other"), NOBODY, NOBODY), 0);
    assert_false(reads("other"));
}

static enum fm_result cache_dir(const char *folder)
{
    char path[1024];
    setenv("FULMEN_CACHE_DIR", folder, 1);
    return fm_env_cache_dir(path, sizeof(path));
}

static void folders(void **state)
{
    (void)state;
    struct stat info;
    mode_t before = umask(0);
    assert_int_equal(cache_dir(in_folder("deep/er")), FM_OK);
    assert_int_equal(stat(in_folder("deep/er"), &info), 0);
    assert_int_equal(info.st_mode & 07777, 0700);
    umask(before);
    assert_int_equal(chmod(in_folder("deep/er"), 0755), 0);
    assert_int_equal(cache_dir(in_folder("deep/er")), FM_OK);
    assert_int_equal(chmod(in_folder("deep/er"), 0775), 0);
    assert_int_equal(cache_dir(in_folder("deep/er")), FM_IO);
    assert_int_equal(chmod(in_folder("deep/er"), 01777), 0);
    assert_int_equal(cache_dir(in_folder("deep/er")), FM_IO);
    assert_non_null(strstr(fm_error_message(), "not to be trusted"));
    if (geteuid() == 0) {
        assert_int_equal(chmod(in_folder("deep/er"), 0700), 0);
        assert_int_equal(chown(in_folder("deep/er"), NOBODY, NOBODY), 0);
        assert_int_equal(cache_dir(in_folder("deep/er")), FM_IO);
    }
    assert_int_equal(warnings, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_files_are_read),
        cmocka_unit_test(nothing_else_is),
        cmocka_unit_test(files_of_others_are_not_read),
        cmocka_unit_test(folders),
    };
    return cmocka_run_group_tests_name("cache", tests, set_up, tear_down);
}
