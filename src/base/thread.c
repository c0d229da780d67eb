// SPDX-License-Identifier: MIT
// A parallel loop: workers draw indices from one counter.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE // sched_getaffinity
#endif
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/os.h"

#define MAX_THREADS 64

struct loop {
    _Atomic uint32_t next;
    uint32_t count;
    void (*fn)(void *user, uint32_t i);
    void *user;
};

unsigned fm_thread_cpus(void)
{
#ifdef __linux__
    // What this process may use, not what the machine has: containers and taskset narrow it.
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
        return (unsigned)CPU_COUNT(&set);
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

static void *loop_run(void *arg)
{
    struct loop *loop = arg;
    for (;;) {
        uint32_t i = atomic_load(&loop->next);
        do { // never past count, so that the counter cannot wrap round
            if (i >= loop->count)
                return NULL;
        } while (!atomic_compare_exchange_weak(&loop->next, &i, i + 1));
        loop->fn(loop->user, i);
    }
}

void fm_thread_for(unsigned threads, uint32_t count, void (*fn)(void *user, uint32_t i), void *user)
{
    struct loop loop = {.count = count, .fn = fn, .user = user};
    pthread_t workers[MAX_THREADS];
    unsigned started = 0;
    if (threads == 0)
        threads = fm_thread_cpus();
    threads = FM_MIN(FM_MIN(threads, count), (unsigned)MAX_THREADS);
    for (unsigned i = 1; i < threads; i++) {
        if (pthread_create(&workers[started], NULL, loop_run, &loop) != 0)
            break; // the calling thread and those that started do all of the work
        started++;
    }
    loop_run(&loop);
    for (unsigned i = 0; i < started; i++)
        pthread_join(workers[i], NULL);
}
