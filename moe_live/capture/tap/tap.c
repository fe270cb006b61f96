// The functions the tap stands before, and what it does when a graph is computed.
//
// A scheduler is a context: the model's, that of a draft or a draft head, of an embedding or a vision model. Their
// graphs tell them apart. While a graph with experts is computed the scheduler has the tap's callback, which asks for
// one tensor a layer and calls the program's own callback as if it were alone; else it has what the program set.
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
            context->plan.graph = NULL;  // this is called when a graph is built
        }
    }
    ggml->set_eval_callback(sched, callback, data);
}

EXPORT int ggml_backend_sched_graph_compute_async(void *sched, void *graph) {
    const struct ggml *ggml = ggml_for(__builtin_return_address(0));
    if (!ggml)
        return -1;
    struct context *context = is_tapped(ggml) ? context_of(sched) : NULL;
    if (!context || !step_begin(context, graph))
        return ggml->graph_compute_async(sched, graph);
    ggml->set_eval_callback(sched, step_watch, context);
    int status = ggml->graph_compute_async(sched, graph);
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
