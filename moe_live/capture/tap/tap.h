// What the parts of the tap share. The tap is preloaded into a program that computes with a shared libggml,
// stands before a few of its functions, and logs which experts each row of a computation chose.
//
//   tap.c       the functions of ggml it stands before, the beginning and the end
//   llama.c     those of libllama, which tell of batches
//   settings.c  what the environment tells
//   library.c   finding what a caller would have called, and proving that tensors are laid out as declared here
//   context.c   schedulers: which of them is the model's
//   plan.c      which tensors of a graph are wanted, and that their memory is kept
//   step.c      what is read of a graph, before and after it is computed
//   staging.c   memory for what a device is asked for
//   batch.c     the sequence of each row, and whether it is an output
//   text.c      a step as lines of the log
//   log.c       the thread that writes
//   file.c      where it writes to
//   say.c       one line on standard error for each thing that can go wrong
//
// Its law: the program is never held up, stopped or changed. What cannot be done is left out, and said once.
#ifndef MOE_LIVE_TAP_H
#define MOE_LIVE_TAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

// A file system's name for a symbol is bound when the tap is compiled; a library that is compiled here may be
// preloaded where the C library is older, and a version that is missing there ends the program before it began.
// So the oldest version of every function is asked for that has got a new one since.
#if defined(__GLIBC__) && defined(__x86_64__)
#define OLDEST(name) __asm__(".symver " #name "," #name "@GLIBC_2.2.5")
#elif defined(__GLIBC__) && defined(__aarch64__)
#define OLDEST(name) __asm__(".symver " #name "," #name "@GLIBC_2.17")
#else
#define OLDEST(name) _Static_assert(1, #name)
#endif

enum { GGML_TYPE_F32 = 0, GGML_TYPE_I32 = 26 };  // numbers of the file format, which do not change

// The beginning of ggml's `struct ggml_tensor`; `ggml_examine` proves that a library has it.
struct tensor {
    int32_t type;
    void *buffer;
    int64_t ne[4];
    size_t nb[4];
    int32_t op;
    int32_t op_params[16];
    int32_t flags;
    struct tensor *src[10];
    struct tensor *view_src;
};

enum { FLAG_OUTPUT = 2 };

typedef bool (*eval_callback)(struct tensor *tensor, bool ask, void *data);

// One loaded copy of libggml-base: what a program calls, and what the tap calls.
struct ggml {
    struct ggml *next;
    bool usable;
    void (*set_eval_callback)(void *sched, eval_callback callback, void *data);
    int (*graph_compute_async)(void *sched, void *graph);
    void (*sched_free)(void *sched);
    const char *(*get_name)(const struct tensor *tensor);
    void *(*get_data)(const struct tensor *tensor);
    size_t (*nbytes)(const struct tensor *tensor);
    bool (*reserve)(void *sched, void *graph);
    bool (*alloc_graph)(void *sched, void *graph);
    void (*synchronize)(void *sched);
    void *(*backend_of)(void *sched, struct tensor *tensor);
    void *(*device_of)(void *backend);
    void *(*host_memory_of)(void *device);
    void *(*buffer_new)(void *memory, size_t size);
    void *(*buffer_base)(void *buffer);
    void (*buffer_free)(void *buffer);
    void (*tensor_get)(const struct tensor *tensor, void *data, size_t offset, size_t size);
    void (*tensor_get_async)(void *backend, const struct tensor *tensor, void *data, size_t offset, size_t size);
    int (*graph_n_nodes)(void *graph);
    struct tensor *(*graph_node)(void *graph, int index);
    struct tensor *(*graph_get_tensor)(void *graph, const char *name);
};

typedef void (*function)(void);

// Where a function is called from, and what would have been called there without the tap.
struct site {
    _Atomic(void *) address;
    _Atomic(void *) found;
};

enum { MAX_SITES = 32 };

struct ggml *ggml_called_from(void *address);
function function_called_from(struct site sites[MAX_SITES], void *address, const char *name);
function function_near(void *address, const char *name);

// What is read of a graph when it has been computed: a part of a block.
enum part { EXPERTS, WEIGHTS, INPUTS };

struct reading {
    struct tensor *of;
    struct tensor *at;  // the node by which it was found,
    int node;           // and its index in the graph
    int block;
    enum part part;
    bool marked, source_marked;  // as outputs by us: `of`, and what it is a view of
};

struct plan {
    void *graph;  // of which this is the plan; NULL: of none
    int nodes;
    int blocks;
    int readings;
    int capacity;  // of `reading`; `layer` has a third of it
    bool kept;       // the memory of what is read is used for nothing else
    bool generates;  // the graph ends in the scores of the next token
    struct reading *reading;
    int32_t *layer;  // by block
    uint64_t model;  // tells graphs of different models, and of a model and its draft heads, apart
    struct tensor *positions, *tokens, *outputs;
};

bool plan_holds(const struct plan *plan, const struct ggml *ggml, void *graph);
bool plan_graph(struct plan *plan, const struct ggml *ggml, void *graph);
void plan_mark(struct plan *plan);
void plan_unmark(struct plan *plan);
void plan_free(struct plan *plan);

// A tensor seen as rows of numbers of four bytes.
struct matrix {
    int64_t rows, columns;
    size_t row_stride, column_stride;
};

bool matrix_of(const struct reading *reading, const struct matrix *experts, struct matrix *matrix);

// What the batch that is being computed tells of the rows of a step.
struct row {
    int32_t sequence;
    bool output;
};

bool batch_rows(int32_t count, const int32_t *positions, const int32_t *tokens, struct row *rows);
bool batch_is_warmup(void);

// The rows of one layer in one step.
struct block {
    int32_t layer;
    int32_t rows, top_k, n_embd;
    int32_t *experts;  // (rows, top_k)
    float *weights;    // (rows, top_k), or NULL
    float *inputs;     // (rows, n_embd), or NULL
};

struct log;

// One computed graph. Its arrays lie behind it, in the same piece of memory.
struct step {
    struct step *next;
    size_t size;
    unsigned dropped;  // steps that could not be kept just before this one
    int generation;    // of models: those of one have the same
    bool first;        // of a model
    bool warmup;
    bool drafts;
    int32_t tokens;    // 0: not known
    int32_t *position, *sequence, *output;  // (tokens,) each, or NULL
    int blocks;
    struct block block[];
};

// Text that grows, and where in a step it has come to.
struct text {
    char *bytes;
    size_t length, capacity;
};

struct cursor {
    int block;  // -1: the lines before the first block
    int line;
};

bool text_of_step(struct text *text, const struct step *step, struct cursor *cursor, size_t limit);
bool text_of_header(struct text *text, bool weights);
bool text_of_dropped(struct text *text, unsigned steps);
size_t write_int(char *at, int64_t value);
size_t write_float(char *at, float value);

// Where a log is written.
struct file {
    const char *path;
    int descriptor;   // -1: not open
    bool is_regular;
    char name[4096];  // that is open: the path, or the path and the number of the process
};

bool file_open(struct file *file);
void file_close(struct file *file);
bool file_was_moved(const struct file *file);
long file_write(const struct file *file, const char *text, size_t length);

// Where rows go: the model's, and those of other models in the same program.
enum { MODEL, OTHERS, LOGS };

struct settings {
    bool on;
    bool weights;
    const char *path[LOGS];  // NULL: not logged
    uint64_t gate_layers[16];  // a bit each
};

extern struct settings settings;

void settings_read(void);
bool logs_inputs(int32_t layer);

struct log *log_of(int which);
void log_prepare(void);
bool log_start(void);
struct step *log_new_step(struct log *log, size_t arrays, int blocks);
void log_add(struct log *log, struct step *step);
void log_drop(struct log *log);
void log_finish(void);

// What can go wrong; each is told once.
enum trouble {
    CANNOT_FIND,
    CANNOT_START,
    LAYOUT,
    NOT_KEPT,
    SETTING,
    SHAPE,
    TWICE,
    OTHER_MODEL,
    LOG_OPEN,
    LOG_WRITE,
    LOG_READER,
    LOG_LOCKED,
    STEPS_DROPPED,
    STEP_TOO_LARGE,
    TROUBLES
};

void say(enum trouble trouble, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
