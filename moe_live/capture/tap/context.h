// A scheduler, and what is known of it.
#ifndef MOE_LIVE_CONTEXT_H
#define MOE_LIVE_CONTEXT_H

#include "tap.h"

// Memory into which a device copies by itself, if it has such; else the program's.
struct staging {
    char *bytes;
    size_t size;
    void *buffer;  // of the device's kind; NULL: of the program's memory
};

bool staging_has_room(struct staging *staging, const struct ggml *ggml, void *backend, size_t size);
void staging_free(struct staging *staging, const struct ggml *ggml);

enum role { UNDECIDED, IGNORED, OF_MODEL, OF_OTHERS };

// What is known of a scheduler. Records are never unlinked, so that they are found without a lock: one whose scheduler
// is gone is used again.
struct context {
    struct context *next;
    _Atomic(void *) sched;
    const struct ggml *ggml;
    eval_callback callback;  // the program's own
    void *data;
    enum role role;
    int number;              // among those of the model
    int generation;          // that of its model; of a draft, one of its own
    bool begins;             // its next step is the first of a model in this log
    bool fresh;              // it computed nothing but warm-ups so far
    struct plan plan;
    struct step *step;
    bool broken;             // the program's callback ended the computation
    struct staging staging;
};

struct context *context_of(const void *sched);
struct context *context_new(void *sched, const struct ggml *ggml);
void context_free(struct context *context);
struct log *context_log(struct context *context);

// A step begins before a graph is computed and ends after it. Between the two `step_watch` must be the callback if the
// program has one.
bool step_begin(struct context *context, void *graph);
bool step_watch(struct tensor *tensor, bool ask, void *data);
void step_end(struct context *context, int status);

#endif
