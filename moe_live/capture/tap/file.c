// Where a log is written: a file that grows, a named pipe, or a Unix socket. Nothing here waits.
#define _GNU_SOURCE
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum { TAKES_MORE_MS = 100 };  // that a reader has to make room

// The kernel's own calls: before version 2.33 the C library had no function `stat`.
static bool status_of_name(const char *name, struct stat *status) {
    return !syscall(SYS_newfstatat, AT_FDCWD, name, status, 0);
}

static bool status_of_file(int file, struct stat *status) {
    return !syscall(SYS_fstat, file, status);
}

static bool is_named(int file, const char *name) {
    struct stat open, named;
    return status_of_file(file, &open) && status_of_name(name, &named) && open.st_dev == named.st_dev &&
           open.st_ino == named.st_ino;
}

static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    int file = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (file >= 0 && connect(file, (struct sockaddr *)&address, sizeof address)) {
        int reason = errno;
        close(file);
        errno = reason;
        return -1;
    }
    return file;
}

// Whether the file is a model: a slip in a command line must not spoil it.
static bool holds_model(int file) {
    char magic[4];
    return pread(file, magic, sizeof magic, 0) == sizeof magic && !memcmp(magic, "GGUF", sizeof magic);
}

// Opens a name for this process alone; -1 with EWOULDBLOCK if another one writes it.
static int open_alone(const char *name) {
    for (;;) {
        struct stat status;
        if (status_of_name(name, &status) && S_ISSOCK(status.st_mode))
            return connect_to(name);
        bool is_pipe = status_of_name(name, &status) && !S_ISREG(status.st_mode);
        int flags = is_pipe ? O_WRONLY : O_RDWR | O_CREAT;
        int file = open(name, flags | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
        if (file < 0)
            return -1;
        if (flock(file, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
            close(file);
            errno = EWOULDBLOCK;
            return -1;
        }
        if (holds_model(file)) {
            close(file);
            errno = EEXIST;
            return -1;
        }
        if (is_named(file, name))
            return file;
        close(file);  // it was renamed or removed in between
    }
}

// Ends the line that a writer who was killed left open, so that it cannot be read as a shorter one.
static bool spoil_torn_line(int file) {
    struct stat status;
    char last = '\n';
    if (!status_of_file(file, &status) || !status.st_size || pread(file, &last, 1, status.st_size - 1) != 1)
        return true;
    return last == '\n' || write(file, "!\n", 2) == 2;
}

static void say_why_not(const char *path) {
    if (errno == ENXIO || errno == ECONNREFUSED)  // a pipe or socket without a reader
        say(LOG_READER, "nobody reads %s: up to 64 MB are kept until somebody does", path);
    else
        say(LOG_OPEN, "cannot write %s: %s; it is tried again, and steps that find no room are dropped", path,
            strerror(errno));
}

// Opens the path, or the path and the number of this process if another one writes there. False if neither can be.
bool file_open(struct file *file) {
    struct stat status;
    snprintf(file->name, sizeof file->name, "%s", file->path);
    file->descriptor = open_alone(file->name);
    if (file->descriptor < 0 && errno == EWOULDBLOCK) {
        snprintf(file->name, sizeof file->name, "%s.%ld", file->path, (long)getpid());
        file->descriptor = open_alone(file->name);
        if (file->descriptor >= 0)
            say(LOG_LOCKED, "%s is written by another process: this one writes %s", file->path, file->name);
    }
    if (file->descriptor < 0) {
        say_why_not(file->path);
        return false;
    }
    file->is_regular = status_of_file(file->descriptor, &status) && S_ISREG(status.st_mode);
    if (file->is_regular && !spoil_torn_line(file->descriptor)) {
        file_close(file);
        return false;
    }
    return true;
}

void file_close(struct file *file) {
    close(file->descriptor);
    file->descriptor = -1;
}

// Whether the name leads elsewhere, or nowhere: the file was renamed, or is gone.
bool file_was_moved(const struct file *file) {
    return file->is_regular && !is_named(file->descriptor, file->name);
}

// Whether a regular file has room for so many bytes. File systems that cannot tell say yes.
static bool has_room(int file, size_t size) {
    struct stat status;
    struct rlimit limit;
    if (!status_of_file(file, &status))
        return true;
    if (!getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur != RLIM_INFINITY &&
        (rlim_t)status.st_size + size > limit.rlim_cur) {
        errno = EFBIG;
        return false;
    }
    return !fallocate(file, FALLOC_FL_KEEP_SIZE, status.st_size, (off_t)size) || (errno != ENOSPC && errno != EDQUOT);
}

// How much of a text of whole lines can be written now, in whole lines, so that none is torn where a disk or a quota
// ends. 0, with `errno` set, if nothing can.
static size_t size_that_fits(const struct file *file, const char *text, size_t size) {
    if (!file->is_regular || has_room(file->descriptor, size))
        return size;
    while (size && !has_room(file->descriptor, size))
        size /= 2;
    const char *end = memrchr(text, '\n', size);
    return end ? (size_t)(end - text) + 1 : 0;
}

static bool takes_more(int file) {
    struct pollfd reader = {.fd = file, .events = POLLOUT};
    return poll(&reader, 1, TAKES_MORE_MS) == 1;
}

// Writes as much as can be written now; returns how much that is, -1 if the reader has gone.
long file_write(const struct file *file, const char *text, size_t length) {
    size_t done = 0;
    while (done < length) {
        size_t size = size_that_fits(file, text + done, length - done);
        ssize_t written = size ? write(file->descriptor, text + done, size) : -1;
        if (written > 0) {
            done += (size_t)written;
        } else if (errno == EPIPE || errno == ECONNRESET) {
            return -1;
        } else if (errno == EAGAIN) {
            if (!takes_more(file->descriptor))
                break;
        } else if (errno != EINTR) {
            say(LOG_WRITE, "cannot write %s: %s; steps that find no room are dropped", file->name, strerror(errno));
            break;
        }
    }
    return (long)done;
}
