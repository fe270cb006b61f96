// The functions the tap stands before, and what it does when a graph is computed.
//
// A scheduler is a context: the model's, that of a draft or a draft head, of an embedding or a vision model. Their graphs
// tell them apart. While a graph with experts is computed the scheduler has the tap's callback, which asks for one tensor
// a layer and calls the program's own callback as if it were alone; else the scheduler has what the program set.
#define _GNU_SOURCE
#include "tap.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct settings settings;

enum role { UNDECIDED, IGNORED, OF_MODEL, OF_OTHERS };

// What is known of a scheduler. Records are never unlinked, so that they are found without a lock: one whose scheduler
// is gone is used again.
struct context {
    struct context *next;
    _Atomic(void *) sched;
    const struct ggml *ggml;
    eval_callback callback;  // the program's own
    void *data;
    bool asked;              // for the tensor that comes next
    enum role role;
    int number;              // among those of the model
    bool begins;             // its next step is the first of a model in this log
    bool fresh;              // it computed nothing but warm-ups so far
    struct plan plan;
    struct step *step;
    int next_reading;
    bool broken;             // something of the step could not be read
    char *scratch;
    size_t scratch_size;
};

static _Atomic(struct context *) contexts;
static pid_t owner;  // a forked child must not write into its parent's log

// The model whose rows go to the log, as long as it has contexts. The lock is taken once a context.
static struct {
    pthread_mutex_t lock;
    uint64_t model;
    atomic_ullong numbers;  // a bit for each number in use
} chosen = {.lock = PTHREAD_MUTEX_INITIALIZER};

// ---- settings

bool logs_inputs(int32_t layer) {
    return layer >= 0 && layer < 1024 && settings.gate_layers[layer / 64] >> (layer % 64) & 1;
}

// A list such as "20-24,30"; false if it is none.
static bool read_layers(const char *text) {
    while (*text) {
        char *end;
        long first = strtol(text, &end, 10), last = first;
        if (end == text)
            return false;
        if (*end == '-') {
            text = end + 1;
            last = strtol(text, &end, 10);
            if (end == text)
                return false;
        }
        if (first < 0 || last < first || last >= 1024 || (*end && *end != ','))
            return false;
        for (long layer = first; layer <= last; layer++)
            settings.gate_layers[layer / 64] |= UINT64_C(1) << (layer % 64);
        text = *end ? end + 1 : end;
    }
    return true;
}

// The path from the root, for programs that change their directory; kept for good. NULL if it is not set.
static const char *read_path(const char *variable) {
    const char *value = getenv(variable);
    char directory[4096], *path = NULL;
    if (!value || !*value)
        return NULL;
    if (*value == '/' || !getcwd(directory, sizeof directory))
        return strdup(value);
    return asprintf(&path, "%s/%s", directory, value) < 0 ? NULL : path;
}

static void prepare(void) __attribute__((constructor));

static void prepare(void) {
    const char *weights = getenv("MOE_LIVE_WEIGHTS"), *layers = getenv("MOE_LIVE_GATE_LAYERS");
    owner = getpid();
    settings.path[MODEL] = read_path("MOE_LIVE_LOG");
    settings.path[OTHERS] = read_path("MOE_LIVE_DRAFTS");
    settings.weights = weights && !strcmp(weights, "1");
    settings.on = settings.path[MODEL] != NULL;
    if (settings.on && layers && !read_layers(layers)) {
        say(SETTING, "MOE_LIVE_GATE_LAYERS=%s is not a list of layers such as 20-24,30: nothing is logged", layers);
        settings.on = false;
    }
    log_prepare();
}

// ---- contexts

static struct context *context_of(const void *sched) {
    for (struct context *context = atomic_load(&contexts); context && sched; context = context->next)
        if (atomic_load(&context->sched) == sched)
            return context;
    return NULL;
}

// A record for a new scheduler; NULL without memory.
static struct context *new_context(void *sched, const struct ggml *ggml) {
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

static void free_context(struct context *context) {
    leave_model(context);
    plan_free(&context->plan);
    free(context->scratch);
    context->callback = NULL;
    context->role = UNDECIDED;
    context->scratch = NULL;
    context->scratch_size = 0;
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
        chosen.model = context->plan.model;
        context->number = lowest_free(numbers);
        atomic_store(&chosen.numbers, numbers | 1ULL << context->number);
        context->role = OF_MODEL;
    } else if (context->role == UNDECIDED) {
        context->begins = true;
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
static struct log *log_for(struct context *context) {
    if (context->role == UNDECIDED && !context->plan.generates)
        context->role = IGNORED;  // of an embedding or a vision model
    if (context->role == UNDECIDED || (context->role == OF_OTHERS && !atomic_load(&chosen.numbers)))
        choose_role(context);
    if (context->role == IGNORED || !writer_runs())
        return NULL;
    return log_of(context->role == OF_MODEL ? MODEL : OTHERS);
}

// ---- reading tensors

static char *scratch_of(struct context *context, size_t size) {
    if (context->scratch_size < size) {
        free(context->scratch);
        context->scratch = malloc(size);
        context->scratch_size = context->scratch ? size : 0;
    }
    return context->scratch;
}

// Copies a matrix row by row, at its own stride, wherever it is. False: no memory.
static bool read_matrix(struct context *context, const struct tensor *tensor, const struct matrix *matrix, int32_t *to) {
    const struct ggml *ggml = context->ggml;
    size_t size = ggml->nbytes(tensor);
    if (matrix->column_stride == 4 && matrix->row_stride == 4 * (size_t)matrix->columns) {
        ggml->tensor_get(tensor, to, 0, 4 * (size_t)matrix->rows * (size_t)matrix->columns);
        return true;
    }
    const char *from = scratch_of(context, size);
    if (!from)
        return false;
    ggml->tensor_get(tensor, context->scratch, 0, size);
    for (int64_t row = 0; row < matrix->rows; row++)
        for (int64_t column = 0; column < matrix->columns; column++)
            memcpy(to++, from + (size_t)row * matrix->row_stride + (size_t)column * matrix->column_stride, 4);
    return true;
}

// The numbers of an input of the graph, which is read before the graph is computed: later its memory holds others.
// NULL if there is none, or it has no memory.
static int32_t *read_input(const struct context *context, const struct tensor *tensor, int64_t *count) {
    const struct ggml *ggml = context->ggml;
    if (!tensor || tensor->type != GGML_TYPE_I32 || !tensor->buffer || !ggml->get_data(tensor))
        return NULL;
    *count = (int64_t)(ggml->nbytes(tensor) / 4);
    int32_t *numbers = malloc(ggml->nbytes(tensor) + 4);
    if (numbers && *count)
        ggml->tensor_get(tensor, numbers, 0, ggml->nbytes(tensor));
    return numbers;
}

// ---- steps

// How the readings of a block are read, by part; a part that does not fit is left out.
struct shapes {
    struct matrix part[3];
    bool has[3];
};

static void find_shapes(const struct plan *plan, struct shapes *shapes) {
    memset(shapes, 0, (size_t)plan->blocks * sizeof *shapes);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < plan->readings; i++) {
            const struct reading *reading = &plan->reading[i];
            struct shapes *of = &shapes[reading->block];
            if ((reading->part == EXPERTS) != !pass || (pass && !of->has[EXPERTS]))
                continue;
            of->has[reading->part] = matrix_of(reading, pass ? &of->part[EXPERTS] : NULL, &of->part[reading->part]);
            if (of->has[reading->part])
                continue;
            of->part[reading->part] = (struct matrix){0};
            say(SHAPE, "the %s of layer %d are not laid out as in other models: they are left out",
                reading->part == EXPERTS ? "experts" : reading->part == WEIGHTS ? "weights" : "router's inputs",
                (int)plan->layer[reading->block]);
        }
}

static size_t bytes_of(const struct shapes *shapes, enum part part) {
    return shapes->has[part] ? 4 * (size_t)shapes->part[part].rows * (size_t)shapes->part[part].columns : 0;
}

// Gives a block its place in the step, and returns what lies behind it.
static char *place_block(struct block *block, int32_t layer, const struct shapes *shapes, char *at) {
    const struct matrix *experts = &shapes->part[EXPERTS];
    *block = (struct block){.layer = layer, .rows = (int32_t)experts->rows, .top_k = (int32_t)experts->columns,
                            .n_embd = (int32_t)shapes->part[INPUTS].columns, .experts = (int32_t *)(void *)at};
    at += bytes_of(shapes, EXPERTS);
    if (shapes->has[WEIGHTS])
        block->weights = (float *)(void *)at;
    at += bytes_of(shapes, WEIGHTS);
    if (shapes->has[INPUTS])
        block->inputs = (float *)(void *)at;
    return at + bytes_of(shapes, INPUTS);
}

// What is known of the rows of a graph before it is computed.
struct rows {
    int32_t count;
    int32_t *position, *token, *output;
    int64_t positions, tokens, outputs;
};

static void free_rows(struct rows *rows) {
    free(rows->position);
    free(rows->token);
    free(rows->output);
}

// Some architectures have four positions a token, those of all tokens one after the other: the first is the one in time.
static void read_rows(const struct context *context, int64_t first_block_rows, struct rows *rows) {
    *rows = (struct rows){0};
    rows->position = read_input(context, context->plan.positions, &rows->positions);
    rows->token = read_input(context, context->plan.tokens, &rows->tokens);
    rows->output = read_input(context, context->plan.outputs, &rows->outputs);
    int64_t count = rows->token ? rows->tokens : first_block_rows;
    if (rows->position && count > 0 && rows->positions % count == 0 && rows->positions / count <= 4)
        rows->count = (int32_t)count;
}

static bool same_outputs(const struct rows *rows, const int32_t *output) {
    int64_t marked = 0;
    for (int64_t i = 0; i < rows->outputs; i++) {
        int32_t row = rows->output[i];
        marked += row >= 0 && row < rows->count && output[row];
    }
    int64_t all = 0;
    for (int32_t i = 0; i < rows->count; i++)
        all += output[i];
    return marked == rows->outputs && all == rows->outputs;
}

// Sequence and output of each row, from the batch. False if it does not tell, or says otherwise than the graph.
static bool add_batch(struct context *context, struct step *step, const struct rows *rows) {
    struct row *row = malloc((size_t)rows->count * sizeof *row);
    bool known = row && batch_rows(rows->count, rows->position, rows->token, row), sequences = known;
    for (int32_t i = 0; i < rows->count && known; i++) {
        sequences = sequences && row[i].sequence >= 0;
        step->sequence[i] = row[i].sequence + 256 * context->number;  // contexts of one model have sequences of their own
        step->output[i] = row[i].output;
    }
    free(row);
    // With embeddings, or a draft head, the library computes all rows to the end, whatever the batch asked for.
    if (known && rows->output && rows->outputs < rows->count && !same_outputs(rows, step->output))
        known = false;
    if (!known || !sequences)
        step->sequence = NULL;
    return known;
}

// Whether each row is an output, from the graph. That all of several are does not tell which of them were asked for.
static bool add_outputs(struct step *step, const struct rows *rows) {
    if (!rows->output || (rows->outputs >= rows->count && rows->count > 1))
        return false;
    memset(step->output, 0, (size_t)rows->count * sizeof *step->output);
    for (int64_t i = 0; i < rows->outputs; i++)
        if (rows->output[i] >= 0 && rows->output[i] < rows->count)
            step->output[rows->output[i]] = 1;
    return true;
}

static char *add_rows(struct context *context, struct step *step, const struct rows *rows, char *at) {
    size_t size = (size_t)rows->count * sizeof *step->position;
    if (!rows->count)
        return at;
    step->tokens = rows->count;
    step->position = memcpy(at, rows->position, size);
    step->sequence = (int32_t *)(void *)(at + size);
    step->output = (int32_t *)(void *)(at + 2 * size);
    if (!add_batch(context, step, rows) && !add_outputs(step, rows))
        step->output = NULL;
    return at + 3 * size;
}

static struct step *new_step(struct context *context, struct log *log, const struct shapes *shapes, const struct rows *rows) {
    const struct plan *plan = &context->plan;
    size_t size = (size_t)rows->count * 3 * sizeof(int32_t);
    for (int i = 0; i < plan->blocks; i++)
        if (shapes[i].has[EXPERTS])
            size += bytes_of(&shapes[i], EXPERTS) + bytes_of(&shapes[i], WEIGHTS) + bytes_of(&shapes[i], INPUTS);
    struct step *step = log_new_step(log, size, plan->blocks);
    if (!step)
        return NULL;
    char *at = add_rows(context, step, rows, (char *)&step->block[plan->blocks]);
    for (int i = 0; i < plan->blocks; i++)
        at = place_block(&step->block[i], plan->layer[i], &shapes[i], at);
    step->drafts = context->role == OF_OTHERS;
    step->first = context->begins;
    step->warmup = context->fresh && batch_is_warmup();
    return step;
}

// Prepares for a graph that is about to be computed; false if nothing of it is to be logged.
static bool begin_step(struct context *context, void *graph) {
    struct plan *plan = &context->plan;
    if (!plan_holds(plan, context->ggml, graph) && !plan_graph(plan, context->ggml, graph))
        return false;
    struct log *log = plan->blocks ? log_for(context) : NULL;
    if (!log)
        return false;
    struct shapes *shapes = malloc((size_t)plan->blocks * sizeof *shapes);
    if (!shapes)
        return false;
    struct rows rows;
    find_shapes(plan, shapes);
    read_rows(context, shapes[0].has[EXPERTS] ? shapes[0].part[EXPERTS].rows : 0, &rows);
    context->step = new_step(context, log, shapes, &rows);
    context->next_reading = 0;
    context->broken = false;
    free_rows(&rows);
    free(shapes);
    return context->step != NULL;
}

// Reads all that can be read now that `tensor` has been computed.
static void read_at(struct context *context, const struct tensor *tensor) {
    struct plan *plan = &context->plan;
    for (; context->next_reading < plan->readings; context->next_reading++) {
        const struct reading *reading = &plan->reading[context->next_reading];
        struct block *block = &context->step->block[reading->block];
        if (reading->at != tensor)
            return;
        struct matrix experts = {.rows = block->rows, .columns = block->top_k}, matrix;
        int32_t *to = reading->part == EXPERTS ? block->experts
                    : reading->part == WEIGHTS ? (int32_t *)(void *)block->weights : (int32_t *)(void *)block->inputs;
        if (block->rows && to &&
            !(matrix_of(reading, reading->part == EXPERTS ? NULL : &experts, &matrix) &&
              read_matrix(context, reading->of, &matrix, to)))
            context->broken = true;
    }
}

static bool watch(struct tensor *tensor, bool ask, void *data) {
    struct context *context = data;
    bool ours = context->next_reading < context->plan.readings &&
                context->plan.reading[context->next_reading].at == tensor;
    if (ask) {
        context->asked = context->callback && context->callback(tensor, true, context->data);
        return ours || context->asked;
    }
    if (ours)
        read_at(context, tensor);
    return context->asked ? context->callback(tensor, false, context->data) : true;
}

// The graph has been computed, or that failed, or was broken off: then what there is of it is no step.
static void end_step(struct context *context, int status) {
    struct log *log = log_of(context->role == OF_MODEL ? MODEL : OTHERS);
    bool whole = status == 0 && !context->broken && context->next_reading == context->plan.readings;
    if (whole) {
        context->begins = false;
        context->fresh = context->step->warmup;
    } else {
        context->step->blocks = 0;
    }
    log_add(log, context->step);
    context->step = NULL;
}

// ---- what the tap stands before

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
        if (context || (context = new_context(sched, ggml))) {
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
    if (!context || !begin_step(context, graph))
        return ggml->graph_compute_async(sched, graph);
    ggml->set_eval_callback(sched, watch, context);
    int status = ggml->graph_compute_async(sched, graph);
    ggml->set_eval_callback(sched, context->callback, context->data);
    end_step(context, status);
    return status;
}

EXPORT void ggml_backend_sched_free(void *sched) {
    const struct ggml *ggml = ggml_for(__builtin_return_address(0));
    struct context *context = ggml && is_tapped(ggml) ? context_of(sched) : NULL;
    if (context)
        free_context(context);
    if (ggml)
        ggml->sched_free(sched);
}

static void finish(void) __attribute__((destructor));

static void finish(void) {
    if (settings.on && getpid() == owner)
        log_finish();
}
