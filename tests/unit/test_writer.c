// SPDX-License-Identifier: MIT
// The writer of files: what it writes where, what it refuses, links, names, races, and what a kill left.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "base/writer.h"
#include "tests/support/folder.h"

#define NOBODY 65534

static int set_up(void **state)
{
    (void)state;
    return test_folder_make() ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    test_folder_remove();
    return 0;
}

static int empty(void **state)
{
    (void)state;
    test_folder_empty();
    return 0;
}

static void expect_text(const char *path, const char *text)
{
    size_t bytes = 0;
    char *data = test_file_get(path, &bytes);
    assert_non_null(data);
    assert_int_equal(bytes, strlen(text));
    assert_string_equal(data, text);
    free(data);
}

static enum fm_result save(const char *path, const char *text)
{
    return fm_writer_save(path, 0, text, strlen(text));
}

// Refused with this in the message, by the check as by the writer, and nothing was made.
static void expect_refused(const char *path, enum fm_result result, const char *says)
{
    size_t count = test_folder_count();
    assert_int_equal(fm_writer_check(path, NULL, 0), result);
    assert_non_null(strstr(fm_error_message(), says));
    assert_int_equal(save(path, "new"), result);
    assert_non_null(strstr(fm_error_message(), says));
    assert_int_equal(test_folder_count(), count);
}

static unsigned mode_of(const char *path)
{
    struct stat info;
    assert_int_equal(lstat(path, &info), 0);
    return (unsigned)info.st_mode & 07777;
}

// ---- contents and modes ---------------------------------------------------------------------------------------------

static void writes_all(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 65535, 65536, 65537, 1000003}, pieces[] = {1, 7, 4096, 65536, 70001, 2000000};
    uint8_t *data = malloc(1000003);
    assert_non_null(data);
    for (size_t i = 0; i < 1000003; i++)
        data[i] = (uint8_t)(i * 31 >> 3);
    for (size_t s = 0; s < FM_COUNT(sizes); s++)
        for (size_t p = sizes[s] > 70000 ? 2 : 0; p < FM_COUNT(pieces); p++) {
            struct fm_writer *w = NULL;
            size_t got = 0;
            assert_int_equal(fm_writer_open(in_folder("data"), 0, &w), FM_OK);
            for (size_t at = 0; at < sizes[s]; at += pieces[p])
                assert_int_equal(fm_writer_write(w, data + at, FM_MIN(pieces[p], sizes[s] - at)), FM_OK);
            assert_int_equal(fm_writer_finish(&w), FM_OK);
            assert_null(w);
            char *read = test_file_get(in_folder("data"), &got);
            assert_non_null(read);
            assert_int_equal(got, sizes[s]);
            assert_memory_equal(read, data, got);
            free(read);
            assert_int_equal(test_folder_count(), 1);
        }
    free(data);
}

static void the_old_file_stays_until_the_end(void **state)
{
    (void)state;
    struct fm_writer *w = NULL;
    const char *path = in_folder("kept"), *temp = NULL;
    fm_writer_discard(&w); // NULL is fine
    assert_int_equal(save(path, "old"), FM_OK);
    assert_int_equal(fm_writer_open(path, 0, &w), FM_OK);
    assert_int_equal(fm_writer_write(w, "newer", 5), FM_OK);
    expect_text(path, "old");
    fm_writer_discard(&w);
    assert_null(w);
    expect_text(path, "old");
    assert_int_equal(test_folder_count(), 1);

    assert_int_equal(fm_writer_open(path, 0, &w), FM_OK);
    assert_int_equal(fm_writer_write(w, "newer", 5), FM_OK);
    assert_int_equal(fm_writer_flush(w, &temp), FM_OK);
    assert_int_equal(fm_writer_write(w, "more", 4), FM_ARG);
    expect_text(temp, "newer");
    expect_text(path, "old");
    assert_int_equal(fm_writer_finish(&w), FM_OK);
    expect_text(path, "newer");
    assert_int_equal(test_folder_count(), 1);
}

static void modes(void **state)
{
    (void)state;
    mode_t before = umask(022);
    const char *path = in_folder("mode");
    assert_int_equal(save(path, "x"), FM_OK);
    assert_int_equal(mode_of(path), 0644);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(save(path, "y"), FM_OK);
    assert_int_equal(mode_of(path), 0640);
    assert_int_equal(fm_writer_save(path, FM_WRITER_PRIVATE, "z", 1), FM_OK);
    assert_int_equal(mode_of(path), 0600);
    assert_int_equal(fm_writer_save(in_folder("own"), FM_WRITER_PRIVATE, "z", 1), FM_OK);
    assert_int_equal(mode_of(in_folder("own")), 0600);
    assert_int_equal(chmod(path, 04755), 0);
    assert_int_equal(save(path, "y"), FM_OK);
    assert_int_equal(mode_of(path), 0755); // other contents do not run as somebody else
    umask(before);
}

static void the_disk_has_the_room(void **state)
{
    (void)state;
    struct fm_writer *w = NULL;
    assert_int_equal(fm_writer_open(in_folder("big"), 0, &w), FM_OK);
    assert_int_equal(fm_writer_room(w, 1), FM_OK);
    assert_int_equal(fm_writer_room(w, UINT64_MAX), FM_WRITE);
    assert_non_null(strstr(fm_error_message(), "the disk has"));
    fm_writer_discard(&w);
    assert_int_equal(test_folder_count(), 0);
}

// ---- targets --------------------------------------------------------------------------------------------------------

static void only_files_are_written(void **state)
{
    (void)state;
    assert_int_equal(mkdir(in_folder("dir"), 0700), 0);
    assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", in_folder("sock"));
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    expect_refused(in_folder("dir"), FM_ARG, "is a directory");
    expect_refused(in_folder("dir/."), FM_ARG, "is a directory");
    expect_refused(in_folder("dir/.."), FM_ARG, "is a directory");
    expect_refused(in_folder("pipe"), FM_ARG, "is a pipe");
    expect_refused(in_folder("sock"), FM_ARG, "is a socket");
    expect_refused("/dev/null", FM_ARG, "is a device");
    expect_refused("", FM_ARG, "empty");
    expect_refused("/", FM_ARG, "is a directory");
    expect_refused(in_folder("new/"), FM_ARG, "");
    expect_refused(in_folder("no/such/folder"), FM_ARG, "No such file");
    assert_int_equal(save(in_folder("file"), "x"), FM_OK);
    expect_refused(in_folder("file/below"), FM_ARG, "Not a directory");
    expect_refused(in_folder("file/"), FM_ARG, "Not a directory");
    char name[300];
    memset(name, 'n', 256);
    name[256] = '\0';
    expect_refused(in_folder(name), FM_ARG, "too long");
}

static void device_nodes_are_refused(void **state)
{
    (void)state;
    if (mknod(in_folder("null"), S_IFCHR | 0666, makedev(1, 3)) != 0) // only root may
        skip();
    expect_refused(in_folder("null"), FM_ARG, "is a device");
    struct stat info;
    assert_true(lstat(in_folder("null"), &info) == 0 && S_ISCHR(info.st_mode));
    assert_int_equal(symlink("null", in_folder("link")), 0);
    expect_refused(in_folder("link"), FM_ARG, "is a device");
}

static void links_are_followed(void **state)
{
    (void)state;
    struct stat info;
    assert_int_equal(mkdir(in_folder("sub"), 0700), 0);
    assert_int_equal(save(in_folder("sub/file"), "old"), FM_OK);
    assert_int_equal(symlink("sub/file", in_folder("one")), 0);
    assert_int_equal(symlink(in_folder("one"), in_folder("two")), 0);
    assert_int_equal(save(in_folder("two"), "new"), FM_OK);
    expect_text(in_folder("sub/file"), "new");
    assert_true(lstat(in_folder("one"), &info) == 0 && S_ISLNK(info.st_mode));
    assert_true(lstat(in_folder("two"), &info) == 0 && S_ISLNK(info.st_mode));

    assert_int_equal(symlink("sub/made", in_folder("dangling")), 0);
    assert_int_equal(fm_writer_check(in_folder("dangling"), NULL, 0), FM_OK);
    assert_int_equal(access(in_folder("sub/made"), F_OK), -1); // a check makes nothing
    assert_int_equal(save(in_folder("dangling"), "made"), FM_OK);
    expect_text(in_folder("sub/made"), "made");
    assert_true(lstat(in_folder("dangling"), &info) == 0 && S_ISLNK(info.st_mode));

    assert_int_equal(symlink("nowhere/file", in_folder("lost")), 0);
    expect_refused(in_folder("lost"), FM_ARG, "No such file");
    assert_int_equal(symlink("sub", in_folder("to-dir")), 0);
    expect_refused(in_folder("to-dir"), FM_ARG, "is a directory");
    assert_int_equal(symlink("round", in_folder("round")), 0);
    expect_refused(in_folder("round"), FM_ARG, "");
    assert_int_equal(save(in_folder("to-dir/file"), "newer"), FM_OK); // links on the way are the system's
    expect_text(in_folder("sub/file"), "newer");

    assert_int_equal(fm_writer_save(in_folder("one"), FM_WRITER_NO_LINK, "x", 1), FM_ARG);
    assert_non_null(strstr(fm_error_message(), "is a link"));
    expect_text(in_folder("sub/file"), "newer");
}

// What only /proc leads to has no name beside which a temporary could lie.
static void open_files_are_no_names(void **state)
{
    (void)state;
    int ends[2];
    char path[64];
    assert_int_equal(pipe(ends), 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", ends[1]);
    if (access(path, F_OK) != 0)
        skip();
    expect_refused(path, FM_ARG, "is a pipe");
    close(ends[0]);
    close(ends[1]);
    FILE *file = fopen(in_folder("gone"), "wb");
    assert_non_null(file);
    unlink(in_folder("gone"));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fileno(file));
    expect_refused(path, FM_ARG, "leads to an open file");
    fclose(file);
}

static void links_of_others_in_shared_folders_are_not_followed(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(save(in_folder("mine"), "mine"), FM_OK);
    assert_int_equal(mkdir(in_folder("shared"), 0777), 0);
    assert_int_equal(chmod(in_folder("shared"), 01777), 0);
    assert_int_equal(symlink(in_folder("mine"), in_folder("shared/trap")), 0);
    assert_int_equal(save(in_folder("shared/trap"), "own"), FM_OK); // our own link
    assert_int_equal(lchown(in_folder("shared/trap"), NOBODY, NOBODY), 0);
    expect_refused(in_folder("shared/trap"), FM_ARG, "link of another user");
    expect_text(in_folder("mine"), "own");
}

static void files_that_are_read_are_not_written(void **state)
{
    (void)state;
    const char *model = in_folder("model"), *prompt = in_folder("prompt"), *inputs[] = {NULL, model, in_folder("absent"), prompt};
    assert_int_equal(save(model, "m"), FM_OK);
    assert_int_equal(save(prompt, "p"), FM_OK);
    assert_int_equal(save(in_folder("other"), "o"), FM_OK);
    assert_int_equal(link(model, in_folder("hard")), 0);
    assert_int_equal(symlink("prompt", in_folder("soft")), 0);
    const char *bad[] = {model, prompt, in_folder("hard"), in_folder("soft"), in_folder("./model")};
    for (size_t i = 0; i < FM_COUNT(bad); i++) {
        assert_int_equal(fm_writer_check(bad[i], inputs, FM_COUNT(inputs)), FM_ARG);
        assert_non_null(strstr(fm_error_message(), "would replace a file that is read"));
    }
    assert_int_equal(fm_writer_check(in_folder("absent"), inputs, FM_COUNT(inputs)), FM_OK);
    assert_int_equal(fm_writer_check(in_folder("other"), inputs, FM_COUNT(inputs)), FM_OK);
    assert_int_equal(fm_writer_check(model, NULL, 0), FM_OK);
}

static void long_names(void **state)
{
    (void)state;
    const size_t lengths[] = {1, 210, 216, 217, 218, 219, 250, 254, 255};
    char name[300];
    for (size_t i = 0; i < FM_COUNT(lengths); i++)
        for (int wide = 0; wide < 2; wide++) {
            for (size_t at = 0; at < lengths[i]; at++) // U+00E4 as often as it fits
                name[at] = wide ? "\xc3\xa4"[at % 2] : 'n';
            name[lengths[i]] = '\0';
            if (wide && lengths[i] % 2 == 1)
                name[lengths[i] - 1] = 'n';
            assert_int_equal(save(in_folder(name), "first"), FM_OK);
            assert_int_equal(save(in_folder(name), "second"), FM_OK);
            expect_text(in_folder(name), "second");
            assert_int_equal(test_folder_count(), 1);
            unlink(in_folder(name));
        }
}

// ---- several writers ------------------------------------------------------------------------------------------------

#define RACERS 4
#define ROUNDS 40

struct race {
    char path[1024];
    _Atomic int failed, running;
};

// Content k: (k + 1) * 30,001 times the letter k.
static void race(void *user, uint32_t k)
{
    struct race *r = user;
    size_t bytes = (k + 1) * 30001u;
    char *data = malloc(bytes);
    if (data == NULL) {
        atomic_store(&r->failed, 1);
        return;
    }
    memset(data, 'a' + (int)k, bytes);
    for (int i = 0; i < ROUNDS; i++) {
        size_t got = 0;
        if (fm_writer_save(r->path, 0, data, bytes) != FM_OK)
            atomic_store(&r->failed, 2);
        char *read = test_file_get(r->path, &got); // somebody's, and whole
        size_t who = read != NULL && got > 0 ? (size_t)(read[0] - 'a') : RACERS;
        bool whole = who < RACERS && got == (who + 1) * 30001u && strspn(read, (char[]){read[0], 0}) == got;
        if (!whole)
            atomic_store(&r->failed, 3);
        free(read);
    }
    free(data);
}

static void threads_that_write_one_name_leave_a_whole_file(void **state)
{
    (void)state;
    struct race r = {.failed = 0};
    snprintf(r.path, sizeof(r.path), "%s", in_folder("raced"));
    fm_thread_for(RACERS, RACERS, race, &r);
    assert_int_equal(atomic_load(&r.failed), 0);
    assert_int_equal(test_folder_count(), 1);
}

// A child that begins to write `path` and is killed.
static void killed_while_writing(const char *path)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct fm_writer *w = NULL;
        static const uint8_t data[200000];
        if (fm_writer_open(path, 0, &w) == FM_OK && fm_writer_write(w, data, sizeof(data)) == FM_OK)
            raise(SIGKILL);
        _exit(1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void the_next_writer_removes_what_a_kill_left(void **state)
{
    (void)state;
    char longest[256];
    memset(longest, 'x', 255);
    longest[255] = '\0';
    const char *names[] = {"state", longest};
    for (size_t i = 0; i < FM_COUNT(names); i++) {
        test_folder_empty();
        assert_int_equal(save(in_folder(names[i]), "old"), FM_OK);
        killed_while_writing(in_folder(names[i]));
        killed_while_writing(in_folder(names[i]));
        expect_text(in_folder(names[i]), "old");
        assert_true(test_folder_count() >= 2); // the second one removed what the first one left
        assert_int_equal(save(in_folder("another"), "x"), FM_OK);
        assert_int_equal(test_folder_count(), 3);
        assert_int_equal(save(in_folder(names[i]), "new"), FM_OK);
        expect_text(in_folder(names[i]), "new");
        assert_int_equal(test_folder_count(), 2);
    }
}

static void what_is_being_written_stays(void **state)
{
    (void)state;
    struct fm_writer *slow = NULL;
    const char *temp = NULL;
    assert_int_equal(fm_writer_open(in_folder("state"), 0, &slow), FM_OK);
    assert_int_equal(fm_writer_write(slow, "slow", 4), FM_OK);
    assert_int_equal(save(in_folder("state"), "quick"), FM_OK);
    assert_int_equal(test_folder_count(), 2);
    assert_int_equal(fm_writer_flush(slow, &temp), FM_OK); // closed, but not named yet
    assert_int_equal(save(in_folder("state"), "quicker"), FM_OK);
    expect_text(temp, "slow");
    assert_int_equal(fm_writer_finish(&slow), FM_OK);
    expect_text(in_folder("state"), "slow");
    assert_int_equal(test_folder_count(), 1);
}

// Names that look like temporaries, and are something else's.
static void strangers_stay(void **state)
{
    (void)state;
#define STRANGER ".0123456789abcdef0123456789abcdef.part"
    assert_int_equal(save(in_folder("victim"), "victim"), FM_OK);
    assert_int_equal(symlink("victim", in_folder("a" STRANGER)), 0);
    assert_int_equal(mkdir(in_folder("b" STRANGER), 0700), 0);
    assert_int_equal(mkfifo(in_folder("c" STRANGER), 0600), 0);
    assert_true(test_file_put(in_folder("d.0123.part"), "x", 1));
    assert_true(test_file_put(in_folder("de" STRANGER), "x", 1));
    size_t count = test_folder_count();
    const char *names[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < FM_COUNT(names); i++)
        assert_int_equal(save(in_folder(names[i]), "new"), FM_OK);
    assert_int_equal(test_folder_count(), count + FM_COUNT(names));
    expect_text(in_folder("victim"), "victim");
    assert_int_equal(save(in_folder("de"), "new"), FM_OK); // but this one is like those that a kill leaves
    assert_int_equal(access(in_folder("de" STRANGER), F_OK), -1);
}

static void names_of_temporaries_cannot_be_guessed(void **state)
{
    (void)state;
    char seen[2][1024];
    for (int i = 0; i < 2; i++) {
        struct fm_writer *w = NULL;
        const char *temp = NULL;
        assert_int_equal(fm_writer_open(in_folder("state"), 0, &w), FM_OK);
        assert_int_equal(fm_writer_flush(w, &temp), FM_OK);
        snprintf(seen[i], sizeof(seen[i]), "%s", temp);
        fm_writer_discard(&w);
    }
    assert_int_equal(strlen(seen[0]), strlen(in_folder("state")) + strlen(STRANGER));
    assert_string_not_equal(seen[0], seen[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(writes_all, empty),
        cmocka_unit_test_teardown(the_old_file_stays_until_the_end, empty),
        cmocka_unit_test_teardown(modes, empty),
        cmocka_unit_test_teardown(the_disk_has_the_room, empty),
        cmocka_unit_test_teardown(only_files_are_written, empty),
        cmocka_unit_test_teardown(device_nodes_are_refused, empty),
        cmocka_unit_test_teardown(links_are_followed, empty),
        cmocka_unit_test_teardown(open_files_are_no_names, empty),
        cmocka_unit_test_teardown(links_of_others_in_shared_folders_are_not_followed, empty),
        cmocka_unit_test_teardown(files_that_are_read_are_not_written, empty),
        cmocka_unit_test_teardown(long_names, empty),
        cmocka_unit_test_teardown(threads_that_write_one_name_leave_a_whole_file, empty),
        cmocka_unit_test_teardown(the_next_writer_removes_what_a_kill_left, empty),
        cmocka_unit_test_teardown(what_is_being_written_stays, empty),
        cmocka_unit_test_teardown(strangers_stay, empty),
        cmocka_unit_test_teardown(names_of_temporaries_cannot_be_guessed, empty),
    };
    return cmocka_run_group_tests_name("writer", tests, set_up, tear_down);
}
