// The thread that writes.
//
// Threads that compute put whole steps on a list and never wait. What they have put there is bounded: a step that finds
// no room is dropped and counted, and the log says so where it would have stood. The writing thread has all signals
// blocked (a file that may not grow, or a pipe without a reader, must not end the program), opens and writes without
// blocking, and tries again later what cannot be done now.
#define _GNU_SOURCE
#include "tap.h"

#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

OLDEST(pthread_create);
OLDEST(pthread_detach);
OLDEST(pthread_sigmask);
OLDEST(sem_init);
OLDEST(sem_post);
OLDEST(sem_wait);

enum {
    HELD_MOST = 64 << 20,   // bytes of steps that wait to be written
    WRITE_SIZE = 256 << 10, // bytes that are written at once
    PAUSE_MS = 20,          // between two looks at the list while steps come
    RETRY_MS = 100,         // until what could not be written is tried again
    QUIET_PAUSES = 50,      // without a step, until the thread sleeps
    FINISH_MS = 1000,       // that the end of the program waits for it
    LOOK_MS = 250,          // between two looks whether the file still has its name
};

struct log {
    _Atomic(struct step *) added;  // newest first
    atomic_size_t held;
    atomic_uint dropped;  // since the last step that was added

    // What follows is the writing thread's own.
    struct step *step;  // the oldest that is not yet text, with those after it
    struct cursor cursor;
    struct text text;
    size_t written;  // of the text
    unsigned steps_in_text;  // whole or in part
    struct file file;
    bool has_header;
    int generation;  // of the step before
    unsigned lost;  // steps cut off because a reader went away
    int64_t looked;  // when it was last seen that the file has its name, in milliseconds
};

static struct log logs[LOGS];
static sem_t wake;
static atomic_bool started, asleep, finishing, finished;

struct log *log_of(int which) {
    return settings.path[which] ? &logs[which] : NULL;
}

// ---- in the threads that compute

static void wake_writer(void) {
    if (atomic_exchange(&asleep, false))
        sem_post(&wake);
}

// A step with room for so many bytes of arrays, which lie behind its blocks. NULL if there is no room: it is counted.
struct step *log_new_step(struct log *log, size_t arrays, int blocks) {
    size_t size = sizeof(struct step) + (size_t)blocks * sizeof(struct block) + arrays;
    struct step *step = NULL;
    if (size > HELD_MOST)
        say(STEP_TOO_LARGE, "a step of %zu MB does not fit the buffer and is dropped: log fewer gate layers, or "
                            "compute with a smaller ubatch", size >> 20);
    else if (atomic_fetch_add(&log->held, size) + size > HELD_MOST || !(step = malloc(size)))
        atomic_fetch_sub(&log->held, size);
    if (!step) {
        log_drop(log);
        return NULL;
    }
    *step = (struct step){.size = size, .blocks = blocks};
    return step;
}

void log_drop(struct log *log) {
    atomic_fetch_add(&log->dropped, 1);
    wake_writer();
}

static void release(struct log *log, struct step *step) {
    atomic_fetch_sub(&log->held, step->size);
    free(step);
}

// Hands a step over. One without blocks, whose computation failed, is only let go.
void log_add(struct log *log, struct step *step) {
    if (!step->blocks) {
        release(log, step);
        return;
    }
    step->dropped = atomic_exchange(&log->dropped, 0);
    step->next = atomic_load(&log->added);
    while (!atomic_compare_exchange_weak(&log->added, &step->next, step)) {
    }
    wake_writer();
}

// ---- the text that waits to be written

// Nothing more can be written here: what is left of a step that was begun is lost.
static void give_up_text(struct log *log) {
    file_close(&log->file);
    log->lost += log->steps_in_text;
    log->steps_in_text = 0;
    log->text.length = log->written = 0;
    if (log->cursor.block >= 0) {
        struct step *step = log->step;
        log->step = step->next;
        log->cursor.block = -1;
        release(log, step);
    }
}

// Writes what there is of the text; false if not all of it could be written now.
static bool write_text(struct log *log) {
    long written = file_write(&log->file, log->text.bytes + log->written, log->text.length - log->written);
    if (written < 0) {
        give_up_text(log);
        return false;
    }
    log->written += (size_t)written;
    if (log->written < log->text.length)
        return false;
    log->text.length = log->written = 0;
    log->steps_in_text = log->cursor.block >= 0;
    return true;
}

// ---- the writing thread

// Takes what was added, oldest first, behind what is there.
static bool take_added(struct log *log) {
    struct step *newest = atomic_exchange(&log->added, NULL), *oldest = NULL, **end = &log->step;
    bool any = newest != NULL;
    while (newest) {
        struct step *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (*end)
        end = &(*end)->next;
    *end = oldest;
    return any;
}

// Adds what stands before a step.
static bool add_beginning(struct log *log, const struct step *step) {
    unsigned lost = log->lost + step->dropped;
    // Where several contexts compute at once, the first step of a model need not come first.
    bool anew = step->first && step->generation != log->generation;
    if ((anew || !log->has_header) && !text_of_header(&log->text, settings.weights))
        return false;
    log->has_header = true;
    log->generation = step->generation;
    if (lost && !text_of_dropped(&log->text, lost))
        return false;
    log->lost = 0;
    log->steps_in_text++;
    return true;
}

static void tell_dropped(struct log *log) {
    if (atomic_load(&log->dropped) || log->lost || (log->step && log->step->dropped))
        say(STEPS_DROPPED, "%s cannot be written as fast as steps come: some are dropped, and counted there",
            log->file.path);
}

// Turns the oldest steps into text, up to what is written at once. False: no memory, so the step is lost.
static void fill_text(struct log *log) {
    while (log->step && log->text.length < WRITE_SIZE) {
        struct step *step = log->step;
        bool done = (log->cursor.block >= 0 || add_beginning(log, step)) &&
                    text_of_step(&log->text, step, &log->cursor, WRITE_SIZE);
        if (done && log->cursor.block < step->blocks)
            return;
        log->lost += !done;
        log->step = step->next;
        log->cursor.block = -1;
        release(log, step);
    }
}

static int64_t milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// Whether the log is to be opened anew, between two steps: its file was renamed, or is gone.
static void look_at_name(struct log *log) {
    int64_t now = milliseconds();
    if (log->file.descriptor < 0 || now - log->looked < LOOK_MS || log->cursor.block >= 0 || log->text.length)
        return;
    log->looked = now;
    if (file_was_moved(&log->file))
        file_close(&log->file);
}

enum outcome { NOTHING, WROTE, STUCK };

// Writes all that has come.
static enum outcome serve(struct log *log) {
    bool any = take_added(log);
    look_at_name(log);
    tell_dropped(log);
    while (log->step || log->text.length) {
        if (log->file.descriptor < 0) {
            if (!file_open(&log->file))
                return STUCK;
            log->has_header = false;
            log->looked = milliseconds();
        }
        fill_text(log);
        if (!write_text(log))
            return STUCK;
    }
    return any ? WROTE : NOTHING;
}

// Says at the end how many steps were dropped after the last one.
static void write_last_dropped(struct log *log) {
    unsigned dropped = atomic_exchange(&log->dropped, 0) + log->lost;
    if (dropped && log->file.descriptor >= 0 && !log->text.length && text_of_dropped(&log->text, dropped))
        write_text(log);
}

static enum outcome serve_all(void) {
    enum outcome outcome = NOTHING;
    for (int i = 0; i < LOGS; i++)
        if (logs[i].file.path) {
            enum outcome one = serve(&logs[i]);
            outcome = one > outcome ? one : outcome;
        }
    return outcome;
}

static void *write_steps(void *unused) {
    int quiet = 0;
    (void)unused;
    uselocale(newlocale(LC_ALL_MASK, "C", (locale_t)0));  // for the point in numbers, whatever the program uses
    for (;;) {
        bool last = atomic_load(&finishing);
        enum outcome outcome = serve_all();
        if (last)
            break;
        quiet = outcome == NOTHING ? quiet + 1 : 0;
        if (quiet < QUIET_PAUSES) {
            poll(NULL, 0, outcome == STUCK ? RETRY_MS : PAUSE_MS);
            continue;
        }
        // Who adds a step after this either sees that the thread sleeps, or is seen by the next look at the list.
        atomic_store(&asleep, true);
        if (serve_all() == NOTHING && !atomic_load(&finishing))
            sem_wait(&wake);
        atomic_store(&asleep, false);
        quiet = 0;
    }
    for (int i = 0; i < LOGS; i++)
        if (logs[i].file.path)
            write_last_dropped(&logs[i]);
    atomic_store(&finished, true);
    return NULL;
}

// Before anything else: steps may be added before the thread has been started.
void log_prepare(void) {
    for (int i = 0; i < LOGS; i++)
        logs[i] = (struct log){.file = {.path = settings.path[i], .descriptor = -1}, .cursor = {-1, 0}};
    sem_init(&wake, 0, 0);
}

bool log_start(void) {
    sigset_t all, former;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &former);
    atomic_store(&started, !pthread_create(&thread, NULL, write_steps, NULL));
    pthread_sigmask(SIG_SETMASK, &former, NULL);
    if (atomic_load(&started))
        pthread_detach(thread);
    return atomic_load(&started);
}

// Lets the thread write what is left, and waits for it, but not for long: the program is ending. Takes no lock, since
// the end may have come in the middle of anything.
void log_finish(void) {
    if (!atomic_load(&started))
        return;
    atomic_store(&finishing, true);
    atomic_store(&asleep, false);
    sem_post(&wake);
    for (int waited = 0; waited < FINISH_MS && !atomic_load(&finished); waited += 5)
        poll(NULL, 0, 5);
}
