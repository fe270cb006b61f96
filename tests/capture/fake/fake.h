// What the fake libraries share: just enough of ggml and llama.cpp for the tap to stand before, with experts that
// follow from position and layer, and memory that is used again as soon as nothing needs it any more.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tensor {
    int32_t type;
#ifdef OTHER_LAYOUT
    int64_t added;
#endif
    void *buffer;
    int64_t ne[4];
    size_t nb[4];
    int32_t op;
    int32_t op_params[16];
    int32_t flags;
    struct tensor *src[10];
    struct tensor *view_src;
    size_t view_offs;
    char *data;
    char name[64];
    void (*compute)(struct tensor *tensor);
    struct tensor *spoils[2];  // whose memory this one is given
    int32_t *rows;             // positions of its rows
    int layer;
    bool kept;                 // was an output when the graph got its memory
};

typedef bool (*eval_callback)(struct tensor *tensor, bool ask, void *data);

struct graph {
    int n_nodes, n_leafs;
    struct tensor *nodes[256], *leafs[256];
};

struct tensor *new_tensor(int type, int64_t a, int64_t b, int64_t c, const char *name);
struct tensor *new_view(struct tensor *of, int64_t a, int64_t b, size_t stride, size_t offset, const char *name);
void free_tensor(struct tensor *tensor);
void *ggml_backend_sched_new(void);
void ggml_backend_sched_free(void *sched);
void ggml_backend_sched_set_eval_callback(void *sched, eval_callback callback, void *data);
bool ggml_backend_sched_reserve(void *sched, struct graph *graph);
bool ggml_backend_sched_alloc_graph(void *sched, struct graph *graph);
void ggml_backend_sched_synchronize(void *sched);
int ggml_backend_sched_graph_compute_async(void *sched, struct graph *graph);

struct llama_batch {
    int32_t n_tokens;
    int32_t *token;
    float *embd;
    int32_t *pos;
    int32_t *n_seq_id;
    int32_t **seq_id;
    int8_t *logits;
};

void *llama_init(int model, int ubatch, bool grouped, eval_callback callback, void *data);
void llama_free(void *context);
int32_t llama_decode(void *context, struct llama_batch batch);
const void *llama_get_model(const void *context);
const void *llama_model_get_vocab(const void *model);
int32_t llama_vocab_bos(const void *vocabulary);
int32_t llama_vocab_eos(const void *vocabulary);
