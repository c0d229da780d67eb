// SPDX-License-Identifier: MIT
// The Vulkan layer on a real (or software) device: capabilities, memory, transfers, programs, the pipeline cache.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "support/temporary.h"
#include "support/vk_plan.h"

#define MINUTE_NS 60000000000ull

static struct fm_caps caps;
static struct fm_vk *vk;
static char cache_dir[TEST_PATH_BYTES];

#define assert_ok(call) check_ok((call), #call, __FILE__, __LINE__)
static void check_ok(enum fm_result err, const char *call, const char *file, int line)
{
    if (err)
        print_error("%s: %s\n", call, fm_error_message());
    _assert_int_equal((unsigned)err, FM_OK, file, line);
}

static void assert_message(const char *part)
{
    if (!strstr(fm_error_message(), part))
        fail_msg("'%s' not in the message '%s'", part, fm_error_message());
}

static int set_up(void **state)
{
    (void)state;
    if (!test_temporary_folder("vk", cache_dir))
        return -1;
    setenv("FULMEN_CACHE_DIR", cache_dir, 1);
    if (vk_test_caps(&caps) || fm_vk_open(&caps, &vk)) {
        print_error("%s\n", fm_error_message());
        return -1;
    }
    print_message("device: %s, %s %s, rung %s\n", caps.name, caps.driver, caps.driver_info,
                  fm_rung_name(fm_caps_rung(&caps)));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    uint32_t messages = fm_vk_validation_messages(vk);
    fm_vk_close(&vk);
    return test_remove_folder(cache_dir) && messages == 0 && vk == NULL ? 0 : -1;
}

// ---- capabilities ------------------------------------------------------------------------------------------------

static void caps_are_sane(void **state)
{
    (void)state;
    assert_true(caps.name[0] && caps.driver[0]);
    assert_true(caps.subgroup_size > 0 && (caps.subgroup_size & (caps.subgroup_size - 1)) == 0);
    assert_true(caps.subgroup_min <= caps.subgroup_size && caps.subgroup_size <= caps.subgroup_max);
    assert_true(caps.shared_bytes >= 16384 && caps.max_push_bytes >= 128 && caps.max_invocations >= 128);
    assert_true(caps.max_alloc_bytes >= 1u << 28 && caps.max_alloc_bytes <= caps.max_buffer_bytes);
    assert_true(caps.device_bytes > 0 && caps.available_bytes <= caps.device_bytes);
    assert_true(caps.max_workgroups[0] >= 65535 && caps.max_workgroups[1] >= 65535);
    for (uint32_t i = 0; i < caps.n_matrix; i++)
        assert_true(caps.matrix[i].m && caps.matrix[i].n && caps.matrix[i].k);
    assert_true(caps.n_matrix > 0 || !(caps.bits & (FM_CAP_COOPMAT | FM_CAP_COOPMAT_REG)));
}

static void opens_on_every_rung(void **state)
{
    (void)state;
    for (int rung = 0; rung <= (int)fm_caps_rung(&caps); rung++) {
        struct fm_caps masked = fm_caps_mask(&caps, (enum fm_rung)rung);
        struct fm_vk *lower = NULL;
        assert_ok(fm_vk_open(&masked, &lower));
        assert_int_equal(fm_vk_caps(lower)->bits, masked.bits);
        fm_vk_close(&lower);
        assert_null(lower);
    }
    struct fm_caps absent = caps;
    struct fm_vk *none = NULL;
    absent.uuid[3] ^= 0x55;
    assert_int_equal(fm_vk_open(&absent, &none), FM_DEVICE);
    assert_null(none);
    fm_vk_close(&none);
}

// ---- memory and transfers ----------------------------------------------------------------------------------------

static void fill_pattern(uint8_t *bytes, size_t count, uint32_t seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(seed >> 24);
    }
}

static void transfers_round_trip(void **state)
{
    (void)state;
    // Three allocations; more than the ring holds, at odd offsets.
    uint64_t used[3] = {48u << 20, 48u << 20, 24u << 20};
    struct fm_pool_size size = {.alloc_bytes = 48u << 20, .n_allocs = 3, .alloc_used = used, .total_bytes = 120u << 20};
    size_t bytes = (115u << 20) + 13;
    struct fm_vk_memory *memory = NULL;
    uint8_t *sent = malloc(bytes), *got = malloc(bytes);
    assert_non_null(sent);
    assert_non_null(got);
    fill_pattern(sent, bytes, 1);
    assert_ok(fm_vk_memory_create(vk, "round", FM_VK_DEVICE, &size, &memory));
    assert_int_equal(fm_vk_memory_bytes(memory), 120u << 20);
    assert_null(fm_vk_memory_host(memory));
    assert_ok(fm_vk_upload(vk, memory, 7, sent, bytes));
    assert_ok(fm_vk_upload_finish(vk));
    assert_ok(fm_vk_download(vk, memory, 7, got, bytes));
    assert_memory_equal(sent, got, bytes);

    // Writes to one place arrive in the order in which they were made; a download sees uploads that were not finished.
    assert_ok(fm_vk_upload(vk, memory, 100, sent, 1000));
    assert_ok(fm_vk_upload(vk, memory, 300, sent + 5000, 1000));
    assert_ok(fm_vk_upload(vk, memory, 200, sent + 9000, 150));
    memcpy(got, sent, 1000);
    memcpy(got + 200, sent + 5000, 1000);
    memcpy(got + 100, sent + 9000, 150);
    assert_ok(fm_vk_download(vk, memory, 100, got + 2000, 1200));
    assert_memory_equal(got, got + 2000, 1200);

    // Fill and copy, over the border of an allocation.
    uint64_t border = 48u << 20;
    assert_ok(fm_vk_fill(vk, memory, border - 64, 128, 0xdeadbeef));
    assert_ok(fm_vk_copy(vk, memory, 2 * border - 30, memory, border - 50, 100));
    uint32_t words[32];
    assert_ok(fm_vk_download(vk, memory, border - 64, words, sizeof(words)));
    for (int i = 0; i < 32; i++)
        assert_int_equal(words[i], 0xdeadbeef);
    assert_ok(fm_vk_download(vk, memory, border - 50, got, 100));
    assert_ok(fm_vk_download(vk, memory, 2 * border - 30, got + 100, 100));
    assert_memory_equal(got, got + 100, 100);
    fm_vk_memory_destroy(&memory);
    assert_null(memory);
    free(sent);
    free(got);
}

static void staging_is_reserved_and_committed(void **state)
{
    (void)state;
    struct fm_vk_memory *memory = NULL;
    uint64_t total = 100u << 20, offset = 0;
    assert_ok(fm_vk_memory_create_single(vk, "staged", FM_VK_DEVICE, total, &memory));
    while (offset < total) {
        uint64_t part = FM_MIN(total - offset, 9000000u);
        void *room = NULL;
        assert_ok(fm_vk_stage_reserve(vk, &part, &room));
        assert_true(part > 0 && part <= 9000000u);
        fill_pattern(room, part, (uint32_t)offset);
        assert_ok(fm_vk_stage_commit(vk, memory, offset, part));
        offset += part;
    }
    assert_ok(fm_vk_upload_finish(vk));
    uint8_t got[4096], expected[4096];
    fill_pattern(expected, sizeof(expected), 0);
    assert_ok(fm_vk_download(vk, memory, 0, got, sizeof(got)));
    assert_memory_equal(got, expected, sizeof(got));
    fill_pattern(expected, sizeof(expected), 81000000);
    assert_ok(fm_vk_download(vk, memory, 81000000, got, sizeof(got)));
    assert_memory_equal(got, expected, sizeof(got));

    uint64_t part = 100;
    void *room = NULL;
    assert_ok(fm_vk_stage_reserve(vk, &part, &room));
    assert_int_equal(fm_vk_stage_commit(vk, memory, 0, part + 1), FM_ARG);
    // An upload that nobody finished must not outlive its destination.
    assert_ok(fm_vk_upload(vk, memory, 0, expected, sizeof(expected)));
    fm_vk_memory_destroy(&memory);
    assert_ok(fm_vk_upload_finish(vk));
}

static void bad_ranges_are_refused(void **state)
{
    (void)state;
    struct fm_vk_memory *memory = NULL;
    uint8_t bytes[64] = {0};
    assert_ok(fm_vk_memory_create_single(vk, "narrow", FM_VK_DEVICE, 64, &memory));
    assert_int_equal(fm_vk_upload(vk, memory, 1, bytes, 64), FM_ARG);
    assert_message("narrow");
    assert_int_equal(fm_vk_upload(vk, memory, 64, bytes, 1), FM_ARG);
    assert_int_equal(fm_vk_download(vk, memory, UINT64_MAX - 3, bytes, 8), FM_ARG);
    assert_int_equal(fm_vk_fill(vk, memory, 2, 4, 0), FM_ARG);
    assert_int_equal(fm_vk_fill(vk, memory, 60, 8, 0), FM_ARG);
    assert_int_equal(fm_vk_copy(vk, memory, 8, memory, 0, 16), FM_ARG);
    assert_ok(fm_vk_copy(vk, memory, 16, memory, 0, 16));
    fm_vk_memory_destroy(&memory);
}

static void too_much_memory_is_refused(void **state)
{
    (void)state;
    struct fm_vk_memory *memory = NULL;
    assert_int_equal(fm_vk_memory_create_single(vk, "vast", FM_VK_DEVICE, caps.max_alloc_bytes + 16, &memory),
                     FM_NOSPACE);
    assert_message("vast");
    assert_null(memory);
    uint64_t used[3] = {1 << 20, 1 << 20, caps.max_alloc_bytes + 1};
    struct fm_pool_size size = {.alloc_bytes = 1 << 20, .n_allocs = 3, .alloc_used = used};
    assert_int_equal(fm_vk_memory_create(vk, "vast", FM_VK_DEVICE, &size, &memory), FM_NOSPACE);
    assert_null(memory);
}

// ---- programs ----------------------------------------------------------------------------------------------------

static void check_run(struct vk_plan *p, struct fm_vk_program *program, uint32_t entry, uint32_t s)
{
    uint64_t value = 0;
    uint32_t d[VK_PLAN_ELEMS];
    vk_plan_step(p, entry, s);
    assert_ok(fm_vk_program_submit(program, entry, &value));
    assert_ok(fm_vk_wait(vk, value, MINUTE_NS));
    assert_true(fm_vk_reached(vk, value));
    assert_int_equal(vk_plan_wrong_result(p, entry, s), VK_PLAN_ELEMS);
    assert_ok(fm_vk_download(vk, p->memory[FM_POOL_ARENA], p->d_offset, d, sizeof(d)));
    assert_int_equal(vk_plan_wrong_d(p, d, s), VK_PLAN_ELEMS);
}

static void program_replays(void **state)
{
    (void)state;
    struct vk_plan p;
    struct fm_vk_program *program = NULL, *second = NULL;
    uint64_t value[VK_PLAN_RING], ns;
    uint32_t before, created, cached;
    vk_plan_init(&p);
    assert_ok(vk_plan_memory(&p, vk));
    struct fm_vk_program_info info = vk_plan_info(&p, false);
    fm_vk_pipeline_stats(vk, &ns, &before, &cached);
    assert_ok(fm_vk_program_create(vk, &info, &program));
    fm_vk_pipeline_stats(vk, &ns, &created, &cached);
    assert_int_equal(created - before, VK_PLAN_DISPATCHES);
    for (uint32_t step = 0; step < 10; step++)
        check_run(&p, program, step % VK_PLAN_RING, 1000 + step);

    // The whole ring in flight.
    for (uint32_t i = 0; i < VK_PLAN_RING; i++) {
        vk_plan_step(&p, i, 77 * i);
        assert_ok(fm_vk_program_submit(program, i, &value[i]));
        assert_true(i == 0 || value[i] > value[i - 1]);
    }
    assert_ok(fm_vk_wait(vk, value[VK_PLAN_RING - 1], MINUTE_NS));
    for (uint32_t i = 0; i < VK_PLAN_RING; i++)
        assert_int_equal(vk_plan_wrong_result(&p, i, 77 * i), VK_PLAN_ELEMS);

    // A second program finds the first one's pipelines; the first may go before it.
    before = created;
    assert_ok(fm_vk_program_create(vk, &info, &second));
    fm_vk_pipeline_stats(vk, &ns, &created, &cached);
    assert_int_equal(created, before);
    fm_vk_program_destroy(&program);
    check_run(&p, second, 1, 5);
    assert_int_equal(fm_vk_program_submit(second, VK_PLAN_RING, &value[0]), FM_ARG);
    assert_int_equal(fm_vk_wait(vk, value[VK_PLAN_RING - 1] + 1000, 1000000), FM_BUSY);
    fm_vk_program_destroy(&second);
    vk_plan_memory_finish(&p);
}

static void program_is_cut_for_slow_devices(void **state)
{
    (void)state;
    struct vk_plan p;
    struct fm_vk_program *program = NULL;
    vk_plan_init(&p);
    for (uint32_t i = 0; i < VK_PLAN_DISPATCHES; i++)
        p.dispatches[i].moved_bytes = 4ull << 30; // as if; on a processor a submit each
    assert_ok(vk_plan_memory(&p, vk));
    struct fm_vk_program_info info = vk_plan_info(&p, caps.timestamp_ns > 0.0f);
    assert_ok(fm_vk_program_create(vk, &info, &program));
    for (uint32_t step = 0; step < 5; step++)
        check_run(&p, program, step % VK_PLAN_RING, step);
    fm_vk_program_destroy(&program);
    vk_plan_memory_finish(&p);
}

static void program_times(void **state)
{
    (void)state;
    struct vk_plan p;
    struct fm_vk_program *program = NULL;
    uint64_t total = 0, ns[VK_PLAN_DISPATCHES], sum = 0;
    vk_plan_init(&p);
    assert_ok(vk_plan_memory(&p, vk));
    struct fm_vk_program_info info = vk_plan_info(&p, true);
    if (caps.timestamp_ns <= 0.0f) {
        assert_int_equal(fm_vk_program_create(vk, &info, &program), FM_UNSUPPORTED);
    } else {
        assert_ok(fm_vk_program_create(vk, &info, &program));
        assert_int_equal(fm_vk_program_times(program, 0, &total, ns), FM_ARG);
        check_run(&p, program, 0, 9);
        assert_ok(fm_vk_program_times(program, 0, &total, ns));
        for (uint32_t i = 0; i < VK_PLAN_DISPATCHES; i++)
            sum += ns[i];
        assert_true(total > 0 && total < MINUTE_NS);
        assert_true(sum + VK_PLAN_DISPATCHES >= total && sum <= total + VK_PLAN_DISPATCHES); // groups are rounded each
        assert_ok(fm_vk_program_times(program, 0, &total, NULL));
        fm_vk_program_destroy(&program);
        info.timing = FM_VK_TIMED_WHOLE;
        assert_ok(fm_vk_program_create(vk, &info, &program));
        check_run(&p, program, 0, 9);
        total = 0;
        assert_ok(fm_vk_program_times(program, 0, &total, NULL));
        assert_true(total > 0 && total < MINUTE_NS);
        assert_int_equal(fm_vk_program_times(program, 0, &total, ns), FM_ARG);
        fm_vk_program_destroy(&program);
    }
    vk_plan_memory_finish(&p);
}

static bool cancel_at_once(void *user)
{
    (*(int *)user)++;
    return true;
}

static void bad_programs_are_refused(void **state)
{
    (void)state;
    struct vk_plan p;
    struct fm_vk_program *program = NULL;
    int asked = 0;
    vk_plan_init(&p);
    assert_ok(vk_plan_memory(&p, vk));
    struct fm_vk_program_info info = vk_plan_info(&p, false);

    p.dispatches[2].spec[0].value = 12345; // a pipeline that is not there yet
    info.cancel = cancel_at_once;
    info.cancel_user = &asked;
    assert_int_equal(fm_vk_program_create(vk, &info, &program), FM_CANCELLED);
    assert_int_equal(asked, 1);
    info.cancel = NULL;
    p.dispatches[2].spec[0].value = 7;

    p.dispatches[2].bind[2].offset = 1u << 20;
    assert_int_equal(fm_vk_program_create(vk, &info, &program), FM_ARG);
    assert_message("c, binding 2");
    p.dispatches[2].bind[2].offset = 0;
    p.dispatches[0].bind[1].offset = 65536 - 8; // over the border of an allocation
    assert_int_equal(fm_vk_program_create(vk, &info, &program), FM_ARG);
    p.dispatches[0].bind[1].offset = 65536;
    p.dispatches[1].grid[1] = 0;
    assert_int_equal(fm_vk_program_create(vk, &info, &program), FM_ARG);
    assert_message("grid[1]");
    p.dispatches[1].grid[1] = 1;
    p.kernel.shared_bytes = caps.shared_bytes + 1;
    assert_int_equal(fm_vk_program_create(vk, &info, &program), FM_UNSUPPORTED);
    p.kernel.shared_bytes = 0;
    p.plan.n_dispatches = 0;
    assert_int_equal(fm_vk_program_create(vk, &info, &program), FM_ARG);
    assert_null(program);
    vk_plan_memory_finish(&p);
}

struct worker {
    struct vk_plan plan;
    enum fm_result err;
    uint32_t wrong;
};

// A program of its own on the shared device: made, run, torn down.
static void work(void *user, uint32_t i)
{
    struct worker *w = (struct worker *)user + i;
    struct fm_vk_program *program = NULL;
    uint64_t value = 0;
    vk_plan_init(&w->plan);
    w->err = vk_plan_memory(&w->plan, vk);
    struct fm_vk_program_info info = vk_plan_info(&w->plan, false);
    if (!w->err)
        w->err = fm_vk_program_create(vk, &info, &program);
    for (uint32_t step = 0; !w->err && step < 20; step++) {
        uint32_t entry = step % VK_PLAN_RING, s = 100 * i + step, d[VK_PLAN_ELEMS];
        vk_plan_step(&w->plan, entry, s);
        w->err = fm_vk_program_submit(program, entry, &value);
        if (!w->err)
            w->err = fm_vk_wait(vk, value, MINUTE_NS);
        if (!w->err)
            w->err = fm_vk_download(vk, w->plan.memory[FM_POOL_ARENA], w->plan.d_offset, d, sizeof(d));
        w->wrong += !w->err && (vk_plan_wrong_result(&w->plan, entry, s) != VK_PLAN_ELEMS ||
                                vk_plan_wrong_d(&w->plan, d, s) != VK_PLAN_ELEMS);
    }
    fm_vk_program_destroy(&program);
    vk_plan_memory_finish(&w->plan);
}

static void threads_share_a_device(void **state)
{
    (void)state;
    enum { WORKERS = 4 };
    struct worker *workers = calloc(WORKERS, sizeof(*workers));
    assert_non_null(workers);
    fm_thread_for(WORKERS, WORKERS, work, workers);
    for (int i = 0; i < WORKERS; i++) {
        assert_int_equal(workers[i].err, FM_OK);
        assert_int_equal(workers[i].wrong, 0);
    }
    free(workers);
}

// ---- the pipeline cache on disk ----------------------------------------------------------------------------------

// Path of the one cache file; false when there is none.
static bool find_cache(char *out_path, size_t path_bytes)
{
    bool found = false;
    DIR *folder = opendir(cache_dir);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        size_t length = strlen(entry->d_name);
        if (length > 10 && strcmp(entry->d_name + length - 10, ".pipelines") == 0) {
            snprintf(out_path, path_bytes, "%s/%s", cache_dir, entry->d_name);
            found = true;
        }
    }
    if (folder)
        closedir(folder);
    return found;
}

// Open a device of its own, make pipelines, run, save.
static void run_with_cache(void)
{
    struct vk_plan p;
    struct fm_vk *own = NULL, *kept = vk;
    struct fm_vk_program *program = NULL;
    vk_plan_init(&p);
    assert_ok(fm_vk_open(&caps, &own));
    assert_ok(vk_plan_memory(&p, own));
    struct fm_vk_program_info info = vk_plan_info(&p, false);
    assert_ok(fm_vk_program_create(own, &info, &program));
    vk = own;
    check_run(&p, program, 0, 3);
    vk = kept;
    fm_vk_cache_save(own);
    fm_vk_program_destroy(&program);
    vk_plan_memory_finish(&p);
    fm_vk_close(&own);
}

static void rewrite(const char *path, const char *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
}

static void cache_is_saved_and_checked(void **state)
{
    (void)state;
    char path[TEST_PATH_BYTES + 512], *good = NULL, *now = NULL;
    size_t good_bytes = 0, now_bytes = 0;
    assert_false(find_cache(path, sizeof(path)));
    run_with_cache();
    assert_true(find_cache(path, sizeof(path)));
    assert_ok(fm_source_read_whole(path, 1u << 28, &good, &good_bytes));
    run_with_cache();

    // Every damage is noticed: the run goes well, and what is saved is whole again.
    for (int damage = 0; damage < 5; damage++) {
        char *bad = malloc(good_bytes + 16);
        size_t bad_bytes = good_bytes;
        assert_non_null(bad);
        memcpy(bad, good, good_bytes);
        if (damage == 0)
            bad_bytes = good_bytes - 1;
        else if (damage == 1)
            bad_bytes = 20;
        else if (damage == 2)
            bad[good_bytes - 1] ^= 1;
        else if (damage == 3)
            bad[16] ^= 1; // the device's UUID
        else
            bad_bytes = 0;
        rewrite(path, bad, bad_bytes);
        run_with_cache();
        assert_ok(fm_source_read_whole(path, 1u << 28, &now, &now_bytes));
        assert_true(now_bytes != bad_bytes || memcmp(now, bad, bad_bytes) != 0);
        fm_free(now);
        free(bad);
    }
    fm_free(good);
}

// Writing a cache removes old ones of this device, and nothing else.
static void stale_caches_are_removed(void **state)
{
    (void)state;
    char path[TEST_PATH_BYTES + 512], other[8][TEST_PATH_BYTES + 600];
    const char *slash;
    if (!find_cache(path, sizeof(path))) {
        run_with_cache();
        assert_true(find_cache(path, sizeof(path)));
    }
    slash = strrchr(path, '/') + 1;
    const struct {
        const char *uuid, *rest; // NULL: this device's
        int days;
        bool stays;
    } files[] = {
        {NULL, "-00000001-0123456789abcdef.pipelines", 31, false},
        {NULL, "-fedcba98-0123456789abcdef.pipelines", 400, false},
        {NULL, "-00000001-0123456789abcde0.pipelines", 29, true},
        {"00000000000000000000000000000000", "-00000001-0123456789abcdef.pipelines", 400, true},
        {NULL, "-00000001-0123456789abcdeX.pipelines", 400, true},
        {NULL, "-00000001-0123456789abcdef.pipelineX", 400, true},
        {NULL, "-00000001-0123456789abcdef.pipelines.bak", 400, true},
    };
    for (size_t i = 0; i < FM_COUNT(files); i++) {
        snprintf(other[i], sizeof(other[i]), "%s/%.32s%s", cache_dir, files[i].uuid ? files[i].uuid : slash,
                 files[i].rest);
        rewrite(other[i], "old", 3);
        const struct timespec when = {.tv_sec = time(NULL) - (time_t)files[i].days * 24 * 60 * 60};
        assert_int_equal(utimensat(AT_FDCWD, other[i], (const struct timespec[2]){when, when}, 0), 0);
    }
    assert_int_equal(remove(path), 0); // so that there is something to write
    run_with_cache();
    assert_int_equal(access(path, F_OK), 0);
    for (size_t i = 0; i < FM_COUNT(files); i++) {
        if ((access(other[i], F_OK) == 0) != files[i].stays)
            fail_msg("%s %s", other[i], files[i].stays ? "is gone" : "is still there");
        (void)remove(other[i]);
    }
}

static void no_cache_folder_costs_only_the_cache(void **state)
{
    (void)state;
    setenv("FULMEN_CACHE_DIR", "/dev/null/none", 1);
    run_with_cache();
    setenv("FULMEN_CACHE_DIR", cache_dir, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cache_is_saved_and_checked),
        cmocka_unit_test(stale_caches_are_removed),
        cmocka_unit_test(no_cache_folder_costs_only_the_cache),
        cmocka_unit_test(caps_are_sane),
        cmocka_unit_test(opens_on_every_rung),
        cmocka_unit_test(transfers_round_trip),
        cmocka_unit_test(staging_is_reserved_and_committed),
        cmocka_unit_test(bad_ranges_are_refused),
        cmocka_unit_test(too_much_memory_is_refused),
        cmocka_unit_test(program_replays),
        cmocka_unit_test(program_is_cut_for_slow_devices),
        cmocka_unit_test(program_times),
        cmocka_unit_test(bad_programs_are_refused),
        cmocka_unit_test(threads_share_a_device),
    };
    return cmocka_run_group_tests_name("vk", tests, set_up, tear_down);
}
