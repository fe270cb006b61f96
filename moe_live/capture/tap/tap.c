// The functions the tap stands before, and what it does when a graph is computed.
//
// A scheduler is a context: the model's, that of a draft or a draft head, of an embedding or a vision model. Their
// graphs tell them apart. When a graph with experts is given its memory, what is wanted of it is kept, and read when the
// graph has been computed. A callback of the program's own is watched meanwhile: it may break off.
#define _GNU_SOURCE
#include "context.h"

#include <unistd.h>

static pid_t owner;  // a forked child must not write into its parent's log

__attribute__((constructor)) static void prepare(void) {
    owner = getpid();
    settings_read();
    log_prepare();
}

static const struct ggml *ggml_for(void *caller) {
    const struct ggml *ggml = ggml_called_from(caller);
    if (!ggml)
        say(CANNOT_FIND, "the functions of ggml are not to be found in this program; start it without the tap");
    return ggml;
}

static bool is_tapped(const struct ggml *ggml) {
    return settings.on && ggml->usable && getpid() == owner;
}

EXPORT void ggml_backend_sched_set_eval_callback(void *sched, eval_callback callback, void *data) {
    const struct ggml *ggml = ggml_for(__builtin_return_address(0));
    if (!ggml)
        return;
    if (sched && is_tapped(ggml)) {
        struct context *context = context_of(sched);
        if (context || (context = context_new(sched, ggml))) {
            context->callback = callback;
            context->data = data;
        }
    }
    ggml->set_eval_callback(sched, callback, data);
}

// What is given memory here is the largest graph there may be: it must be large enough for what is kept.
EXPORT bool ggml_backend_sched_reserve(void *sched, void *graph) {
    const struct ggml *ggml = ggml_for(__builtin_return_address(0));
    struct plan plan = {0};
    if (!ggml)
        return false;
    if (is_tapped(ggml) && plan_graph(&plan, ggml, graph))
        plan_mark(&plan);
    bool done = ggml->reserve(sched, graph);
    plan_unmark(&plan);
    plan_free(&plan);
    return done;
}

EXPORT bool ggml_backend_sched_alloc_graph(void *sched, void *graph) {
    const struct ggml *ggml = ggml_for(__builtin_return_address(0));
    if (!ggml)
        return false;
    struct context *context = is_tapped(ggml) ? context_of(sched) : NULL;
    if (!context || !plan_graph(&context->plan, ggml, graph))
        return ggml->alloc_graph(sched, graph);
    plan_mark(&context->plan);
    context->plan.kept = ggml->alloc_graph(sched, graph);
    plan_unmark(&context->plan);
    return context->plan.kept;
}

EXPORT int ggml_backend_sched_graph_compute_async(void *sched, void *graph) {
    const struct ggml *ggml = ggml_for(__builtin_return_address(0));
    if (!ggml)
        return -1;
    struct context *context = is_tapped(ggml) ? context_of(sched) : NULL;
    if (!context || !step_begin(context, graph))
        return ggml->graph_compute_async(sched, graph);
    if (context->callback)
        ggml->set_eval_callback(sched, step_watch, context);
    int status = ggml->graph_compute_async(sched, graph);
    if (context->callback)
        ggml->set_eval_callback(sched, context->callback, context->data);
    step_end(context, status);
    return status;
}

EXPORT void ggml_backend_sched_free(void *sched) {
    const struct ggml *ggml = ggml_for(__builtin_return_address(0));
    struct context *context = ggml && is_tapped(ggml) ? context_of(sched) : NULL;
    if (context)
        context_free(context);
    if (ggml)
        ggml->sched_free(sched);
}

__attribute__((destructor)) static void finish(void) {
    if (settings.on && getpid() == owner)
        log_finish();
}
