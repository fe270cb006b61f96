// Messages on the program's standard error: one line for each kind of trouble, once.
#define _GNU_SOURCE
#include "tap.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#if defined(__GLIBC__)
OLDEST(pthread_sigmask);
#endif

static atomic_bool said[TROUBLES];

// Writes to descriptor 2 if that can be done at once. A reader that has gone must not end the program: the
// signal of it is held back in this thread, and taken away unless one was waiting before.
static void write_without_harm(const char *line, size_t size) {
    sigset_t pipe, former, pending;
    struct pollfd output = {.fd = 2, .events = POLLOUT};
    if (poll(&output, 1, 0) != 1 || !(output.revents & POLLOUT))
        return;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigpending(&pending);
    bool waiting = sigismember(&pending, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &former);
    if (write(2, line, size) < 0 && !waiting) {
        struct timespec none = {0, 0};
        sigtimedwait(&pipe, NULL, &none);
    }
    pthread_sigmask(SIG_SETMASK, &former, NULL);
}

void say(enum trouble trouble, const char *format, ...) {
    if (atomic_exchange(&said[trouble], true))
        return;
    char line[1024] = "moe-live tap: ";
    size_t length = 14, most = sizeof line - 2;
    va_list values;
    va_start(values, format);
    int wanted = vsnprintf(line + length, most - length, format, values);
    va_end(values);
    if (wanted < 0)
        return;
    length += (size_t)wanted < most - length ? (size_t)wanted : most - length - 1;
    line[length++] = '\n';
    write_without_harm(line, length);
}
