// A step: what is read of a graph before and after it is computed.
#define _GNU_SOURCE
#include "context.h"

#include <stdlib.h>
#include <string.h>

// Takes the rows of a matrix, each at its own stride, out of a copy of its tensor.
static void take_rows(const struct matrix *matrix, const char *from, int32_t *to) {
    for (int64_t row = 0; row < matrix->rows; row++, from += matrix->row_stride) {
        if (matrix->column_stride == 4) {
            memcpy(to, from, 4 * (size_t)matrix->columns);
            to += matrix->columns;
            continue;
        }
        for (int64_t column = 0; column < matrix->columns; column++)
            memcpy(to++, from + (size_t)column * matrix->column_stride, 4);
    }
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

// Some architectures have four positions a token, first those in time of all tokens.
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
        step->sequence[i] = row[i].sequence + 256 * context->number;  // each context has sequences of its own
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

static struct step *new_step(struct context *context, struct log *log, const struct shapes *shapes,
                             const struct rows *rows) {
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
    step->generation = context->generation;
    step->first = context->begins;
    step->warmup = context->fresh && batch_is_warmup();
    return step;
}

// Prepares for a graph that is about to be computed; false if nothing of it is to be logged.
bool step_begin(struct context *context, void *graph) {
    struct plan *plan = &context->plan;
    if (!plan_holds(plan, context->ggml, graph) && !plan_graph(plan, context->ggml, graph))
        return false;
    if (!plan->blocks)
        return false;
    if (!plan->kept) {
        say(NOT_KEPT, "this program gives graphs their memory in another way than llama.cpp does: nothing is logged");
        return false;
    }
    struct log *log = context_log(context);
    if (!log)
        return false;
    struct shapes *shapes = malloc((size_t)plan->blocks * sizeof *shapes);
    if (!shapes)
        return false;
    struct rows rows;
    find_shapes(plan, shapes);
    read_rows(context, shapes[0].has[EXPERTS] ? shapes[0].part[EXPERTS].rows : 0, &rows);
    context->step = new_step(context, log, shapes, &rows);
    context->broken = false;
    free_rows(&rows);
    free(shapes);
    return context->step != NULL;
}

// Where the numbers of a reading belong; NULL: nowhere, they are left out.
static int32_t *place_of(const struct step *step, const struct reading *reading) {
    const struct block *block = &step->block[reading->block];
    if (!block->rows)
        return NULL;
    return reading->part == EXPERTS ? block->experts
         : reading->part == WEIGHTS ? (int32_t *)(void *)block->weights
                                    : (int32_t *)(void *)block->inputs;
}

static size_t room_for(const struct context *context, const struct reading *reading) {
    enum { LINE = 64 };
    return (context->ggml->nbytes(reading->of) + LINE - 1) / LINE * LINE;
}

// Asks the devices for all tensors, and waits for them once. False: no memory.
static bool copy_tensors(struct context *context) {
    const struct ggml *ggml = context->ggml;
    const struct plan *plan = &context->plan;
    void *sched = atomic_load(&context->sched);
    size_t size = 0, at = 0;
    for (int i = 0; i < plan->readings; i++)
        size += room_for(context, &plan->reading[i]);
    if (!staging_has_room(&context->staging, ggml, ggml->backend_of(sched, plan->reading[0].of), size))
        return false;
    for (int i = 0; i < plan->readings; i++) {
        struct tensor *of = plan->reading[i].of;
        void *backend = ggml->backend_of(sched, of);
        if (place_of(context->step, &plan->reading[i]) && backend)
            ggml->tensor_get_async(backend, of, context->staging.bytes + at, 0, ggml->nbytes(of));
        else if (place_of(context->step, &plan->reading[i]))
            return false;
        at += room_for(context, &plan->reading[i]);
    }
    ggml->synchronize(sched);
    return true;
}

// Fills the step with what has been computed. False if something of it cannot be read.
static bool fill_step(struct context *context) {
    const struct plan *plan = &context->plan;
    if (!copy_tensors(context))
        return false;
    const char *from = context->staging.bytes;
    for (int i = 0; i < plan->readings; i++) {
        const struct reading *reading = &plan->reading[i];
        const struct block *block = &context->step->block[reading->block];
        const struct matrix experts = {.rows = block->rows, .columns = block->top_k};
        struct matrix matrix;
        int32_t *to = place_of(context->step, reading);
        if (to && !matrix_of(reading, reading->part == EXPERTS ? NULL : &experts, &matrix))
            return false;
        if (to)
            take_rows(&matrix, from, to);
        from += room_for(context, reading);
    }
    return true;
}

// The program's own callback, for all tensors.
bool step_watch(struct tensor *tensor, bool ask, void *data) {
    struct context *context = data;
    bool answer = context->callback(tensor, ask, context->data);
    context->broken = context->broken || (!ask && !answer);
    return answer;
}

// The graph has been computed, or that failed, or was broken off: then what there is of it is no step.
void step_end(struct context *context, int status) {
    struct log *log = log_of(context->role == OF_MODEL ? MODEL : OTHERS);
    if (status == 0 && !context->broken && fill_step(context)) {
        context->begins = false;
        context->fresh = context->step->warmup;
    } else {
        context->step->blocks = 0;
    }
    log_add(log, context->step);
    context->step = NULL;
}
