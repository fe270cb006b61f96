// Contexts: which of them is the model's, and where the rows of each go.
#define _GNU_SOURCE
#include "context.h"

#include <pthread.h>
#include <stdlib.h>

static _Atomic(struct context *) contexts;

// The model whose rows go to the log, as long as it has contexts. The lock is taken once a context.
static struct {
    pthread_mutex_t lock;
    uint64_t model;
    int generation;  // of this model, and
    int generations;  // of models and drafts so far
    atomic_ullong numbers;  // a bit for each number in use
} chosen = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct context *context_of(const void *sched) {
    for (struct context *context = atomic_load(&contexts); context && sched; context = context->next)
        if (atomic_load(&context->sched) == sched)
            return context;
    return NULL;
}

// A record for a new scheduler; NULL without memory.
struct context *context_new(void *sched, const struct ggml *ggml) {
    struct context *context = atomic_load(&contexts);
    void *none = NULL;
    while (context && !atomic_compare_exchange_strong(&context->sched, &none, sched)) {
        none = NULL;
        context = context->next;
    }
    if (!context) {
        context = calloc(1, sizeof *context);
        if (!context)
            return NULL;
        atomic_store(&context->sched, sched);
        context->next = atomic_load(&contexts);
        while (!atomic_compare_exchange_weak(&contexts, &context->next, context)) {
        }
    }
    context->ggml = ggml;
    context->fresh = true;
    return context;
}

static void leave_model(struct context *context) {
    if (context->role != OF_MODEL)
        return;
    pthread_mutex_lock(&chosen.lock);
    atomic_fetch_and(&chosen.numbers, ~(1ULL << context->number));
    pthread_mutex_unlock(&chosen.lock);
}

void context_free(struct context *context) {
    leave_model(context);
    plan_free(&context->plan);
    staging_free(&context->staging, context->ggml);
    context->callback = NULL;
    context->role = UNDECIDED;
    atomic_store(&context->sched, NULL);
}

static int lowest_free(unsigned long long numbers) {
    int number = 0;
    while (number < 63 && numbers >> number & 1)
        number++;
    return number;
}

// The model is the first one that computes; what has another router or other layers is a draft, its head, or another
// model, until the model has no context left.
static void choose_role(struct context *context) {
    pthread_mutex_lock(&chosen.lock);
    unsigned long long numbers = atomic_load(&chosen.numbers);
    if (!numbers || chosen.model == context->plan.model) {
        context->begins = !numbers;
        if (context->begins)
            chosen.generation = ++chosen.generations;
        context->generation = chosen.generation;
        chosen.model = context->plan.model;
        context->number = lowest_free(numbers);
        atomic_store(&chosen.numbers, numbers | 1ULL << context->number);
        context->role = OF_MODEL;
    } else if (context->role == UNDECIDED) {
        context->begins = true;
        context->generation = ++chosen.generations;
        context->role = OF_OTHERS;
        if (!log_of(OTHERS))
            say(OTHER_MODEL, "another model or draft in this program (%d layers with experts) is left out of %s; "
                             "set MOE_LIVE_DRAFTS to a file for it", context->plan.blocks, settings.path[MODEL]);
    }
    pthread_mutex_unlock(&chosen.lock);
}

// Whether there is a thread that writes; the first step that is to be logged starts it.
static bool writer_runs(void) {
    static atomic_bool tried, failed;
    if (!atomic_exchange(&tried, true) && !log_start()) {
        say(CANNOT_START, "no thread can be started to write %s: nothing is logged", settings.path[MODEL]);
        atomic_store(&failed, true);
    }
    return !atomic_load(&failed);
}

// The log of a context; NULL if its rows are not logged.
struct log *context_log(struct context *context) {
    if (context->role == UNDECIDED && !context->plan.generates)
        context->role = IGNORED;  // of an embedding or a vision model
    if (context->role == UNDECIDED || (context->role == OF_OTHERS && !atomic_load(&chosen.numbers)))
        choose_role(context);
    if (context->role == IGNORED || !writer_runs())
        return NULL;
    return log_of(context->role == OF_MODEL ? MODEL : OTHERS);
}
