// SPDX-License-Identifier: MIT
// What ends a command before its work is done: a signal, or output that nobody can take.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

// ---- signals -------------------------------------------------------------------------------------------------------

#define NUDGE_US 100000
#define SAME_SIGNAL_NS 20000000 // what comes that soon after the first is the same wish: timeout(1) sends its signal twice

static volatile sig_atomic_t interrupted;
static struct timespec first_signal;
static struct fm_session *volatile cancel_target;
static void (*volatile last_words)(void);

// Of standard output:
static bool output_told;       // that it failed
static bool stopped_by_output; // a command ended since its output failed
static int output_reason;      // errno of the first write that failed

// Calls on_nudge every `period_us`, never for 0. After the first signal a call that the process sits in must not outlast it:
// stdio goes on with a write that the signal interrupted half-way, and waits for the reader of a full pipe again.
static void nudge_every(suseconds_t period_us)
{
    const struct itimerval every = {.it_interval = {.tv_usec = period_us}, .it_value = {.tv_usec = period_us}};
    setitimer(ITIMER_REAL, &every, NULL);
}

static void on_nudge(int signal_number)
{
    (void)signal_number; // that it came has ended the call
}

// The first signal asks; the next one, before the first was heeded, ends the process as if nobody had caught it.
static void on_signal(int signal_number)
{
    struct fm_session *session = cancel_target;
    struct timespec now;
    int reason = errno;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (interrupted) {
        int64_t after_ns = (int64_t)(now.tv_sec - first_signal.tv_sec) * 1000000000 + now.tv_nsec - first_signal.tv_nsec;
        if (after_ns < SAME_SIGNAL_NS)
            return;
        if (last_words != NULL)
            last_words();
        signal(signal_number, SIG_DFL);
        raise(signal_number);
        return;
    }
    first_signal = now;
    interrupted = 1;
    nudge_every(NUDGE_US);
    if (session != NULL)
        fm_session_cancel(session);
    errno = reason;
}

void tool_catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal}, old;
    sigemptyset(&action.sa_mask); // no SA_RESTART: reading a line from the terminal ends too
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (numbers[i] != SIGHUP || (sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler != SIG_IGN)) // nohup stays
            sigaction(numbers[i], &action, NULL);
    action.sa_handler = on_nudge;
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); // a file that grows beyond its limit is a write error, too
}

void tool_last_words(void (*fn)(void))
{
    last_words = fn;
}

void tool_cancel_target(struct fm_session *session)
{
    cancel_target = session;
    if (session != NULL && interrupted) // it came before there was anything to cancel
        fm_session_cancel(session);
}

bool tool_interrupted(void)
{
    return interrupted != 0;
}

void tool_clear_interrupt(void)
{
    nudge_every(0);
    interrupted = 0;
}

bool tool_stopped(void)
{
    bool failed = ferror(stdout) != 0;
    if (failed && output_reason == 0) // loops ask right after they print
        output_reason = errno;
    return interrupted || failed;
}

bool tool_cancel(void *user)
{
    (void)user;
    return tool_stopped();
}

// ---- standard output -----------------------------------------------------------------------------------------------

// A pipe or socket whose other end is closed, as with `| head`.
static bool reader_has_gone(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

int tool_output_failed(const char *name)
{
    int reason = errno;
    if (reason == EPIPE) { // the reader has seen enough: nothing more to say, and nothing is wrong
        if (freopen("/dev/null", "w", stdout) == NULL)
            clearerr(stdout);
        return TOOL_DONE;
    }
    output_told = true;
    if (reason == EINTR && interrupted)
        return tool_cancelled();
    fprintf(stderr, "fulmen: %s: %s\n", name, reason != 0 ? strerror(reason) : "could not be written");
    return TOOL_FAILED;
}

void tool_flush(void)
{
    if (fflush(stdout) != 0 && output_reason == 0)
        output_reason = errno;
}

int tool_stopped_by_output(void)
{
    stopped_by_output = true;
    return TOOL_FAILED;
}

int tool_finish_output(int status)
{
    tool_flush();
    if ((output_reason == 0 && !ferror(stdout)) || output_told)
        return status;
    errno = reader_has_gone() ? EPIPE : output_reason;
    int told = tool_output_failed("standard output");
    return status == TOOL_DONE || stopped_by_output ? told : status;
}

void tool_open_standard_files(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF && open("/dev/null", O_RDONLY) != fd)
            return;
}
