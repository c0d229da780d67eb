// SPDX-License-Identifier: MIT
// Random bytes of the system's.
#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/os.h"

// For systems whose kernel has no getrandom, or refuses it.
static bool from_device(uint8_t *out, size_t size_bytes)
{
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    size_t got = 0;
    while (fd >= 0 && got < size_bytes) {
        ssize_t some = read(fd, out + got, size_bytes - got);
        if (some < 0 && errno == EINTR)
            continue;
        if (some <= 0)
            break;
        got += (size_t)some;
    }
    if (fd >= 0)
        close(fd);
    return got == size_bytes;
}

bool fm_random_bytes(void *out, size_t size_bytes)
{
    uint8_t *at = out;
    size_t got = 0;
    while (got < size_bytes) {
        ssize_t some = getrandom(at + got, size_bytes - got, 0);
        if (some < 0 && errno == EINTR)
            continue;
        if (some < 0)
            return from_device(at, size_bytes);
        got += (size_t)some;
    }
    return true;
}
