// A fake libggml-base.
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char this_copy;

struct sched {
    const char *made_by;  // another copy must not be asked to use it
    eval_callback callback;
    void *data;
};

static struct sched *ours(void *sched) {
    struct sched *it = sched;
    if (it->made_by != &this_copy)
        abort();
    return it;
}

static struct tensor *filled(int type, int64_t a, int64_t b, int64_t c, const char *name) {
    struct tensor *tensor = calloc(1, sizeof *tensor);
    tensor->type = type;
    int64_t ne[] = {a, b, c, 1};
    size_t stride = 4;
    for (int i = 0; i < 4; i++) {
        tensor->ne[i] = ne[i];
        tensor->nb[i] = stride;
        stride *= (size_t)ne[i];
    }
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    return tensor;
}

struct tensor *new_tensor(int type, int64_t a, int64_t b, int64_t c, const char *name) {
    struct tensor *tensor = filled(type, a, b, c, name);
    tensor->data = calloc(1, (size_t)(a * b * c) * 4 + 4);
    tensor->buffer = tensor->data;
    return tensor;
}

struct tensor *new_view(struct tensor *of, int64_t a, int64_t b, size_t stride, size_t offset, const char *name) {
    struct tensor *tensor = filled(of->type, a, b, 1, name);
    tensor->nb[1] = stride;
    tensor->nb[2] = tensor->nb[3] = stride * (size_t)b;
    tensor->view_src = of;
    tensor->view_offs = offset;
    tensor->data = of->data + offset;
    tensor->src[0] = of;
    return tensor;
}

void free_tensor(struct tensor *tensor) {
    if (!tensor->view_src)
        free(tensor->data);
    free(tensor->rows);
    free(tensor);
}

// The context in which the tap makes tensors to look at.
static _Thread_local struct tensor *made[64];
static _Thread_local int n_made;

struct init_params {
    size_t size;
    void *buffer;
    bool no_alloc;
};

void *ggml_init(struct init_params params) {
    n_made = 0;
    return params.size ? made : NULL;
}

void ggml_free(void *context) {
    (void)context;
    for (int i = n_made - 1; i >= 0; i--)
        free_tensor(made[i]);
    n_made = 0;
}

static struct tensor *keep(struct tensor *tensor) {
    tensor->buffer = NULL;
    return made[n_made++] = tensor;
}

struct tensor *ggml_new_tensor_2d(void *context, int type, int64_t a, int64_t b) {
    (void)context;
    return keep(new_tensor(type, a, b, 1, ""));
}

struct tensor *ggml_view_2d(void *context, struct tensor *of, int64_t a, int64_t b, size_t stride, size_t offset) {
    (void)context;
    return keep(new_view(of, a, b, stride, offset, ""));
}

struct tensor *ggml_mul_mat(void *context, struct tensor *a, struct tensor *b) {
    (void)context;
    struct tensor *product = keep(new_tensor(0, a->ne[1], b->ne[1], 1, ""));
    product->src[0] = a;
    product->src[1] = b;
    return product;
}

enum { OUTPUT = 2 };

void ggml_set_output(struct tensor *tensor) {
    tensor->flags |= OUTPUT;
}

struct tensor *ggml_set_name(struct tensor *tensor, const char *name) {
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    return tensor;
}

#ifndef LACKS_GET_NAME
const char *ggml_get_name(const struct tensor *tensor) {
    return tensor->name;
}
#endif

void *ggml_get_data(const struct tensor *tensor) {
    return tensor->data;
}

int64_t ggml_nelements(const struct tensor *tensor) {
    return tensor->ne[0] * tensor->ne[1] * tensor->ne[2] * tensor->ne[3];
}

size_t ggml_nbytes(const struct tensor *tensor) {
    size_t bytes = 4;
    for (int i = 0; i < 4; i++) {
        if (tensor->ne[i] <= 0)
            return 0;
        bytes += (size_t)(tensor->ne[i] - 1) * tensor->nb[i];
    }
    return bytes;
}

void ggml_backend_tensor_get(const struct tensor *tensor, void *data, size_t offset, size_t size) {
    if (offset + size > ggml_nbytes(tensor))
        abort();
    memcpy(data, tensor->data + offset, size);
}

// What was asked for and has not been copied yet: that is done when somebody waits for it.
static _Thread_local struct {
    const struct tensor *tensor;
    char *data;
    size_t offset, size;
} asked[256];
static _Thread_local int n_asked;

void ggml_backend_tensor_get_async(void *backend, const struct tensor *tensor, void *data, size_t offset, size_t size) {
    (void)ours(backend);
    if (offset + size > ggml_nbytes(tensor) || n_asked == sizeof asked / sizeof *asked)
        abort();
    memset(data, 0x55, size);
    asked[n_asked].tensor = tensor;
    asked[n_asked].data = data;
    asked[n_asked].offset = offset;
    asked[n_asked++].size = size;
}

void ggml_backend_sched_synchronize(void *sched) {
    (void)ours(sched);
    for (int i = 0; i < n_asked; i++)
        ggml_backend_tensor_get(asked[i].tensor, asked[i].data, asked[i].offset, asked[i].size);
    n_asked = 0;
}

// A scheduler has one backend, which is itself, and so is its device; HOST_MEMORY has memory of its own kind.
void *ggml_backend_sched_get_tensor_backend(void *sched, struct tensor *tensor) {
    (void)tensor;
    return ours(sched);
}

void *ggml_backend_get_device(void *backend) {
    return ours(backend);
}

void *ggml_backend_dev_host_buffer_type(void *device) {
    return getenv("HOST_MEMORY") ? ours(device) : NULL;
}

void *ggml_backend_buft_alloc_buffer(void *type, size_t size) {
    (void)ours(type);
    return malloc(size);
}

void *ggml_backend_buffer_get_base(void *buffer) {
    return buffer;
}

void ggml_backend_buffer_free(void *buffer) {
    free(buffer);
}

int ggml_graph_n_nodes(struct graph *graph) {
    return graph->n_nodes;
}

struct tensor *ggml_graph_node(struct graph *graph, int i) {
    return graph->nodes[i];
}

struct tensor *ggml_graph_get_tensor(struct graph *graph, const char *name) {
    for (int i = 0; i < graph->n_leafs; i++)
        if (!strcmp(graph->leafs[i]->name, name))
            return graph->leafs[i];
    return NULL;
}

void *ggml_backend_sched_new(void) {
    struct sched *sched = calloc(1, sizeof *sched);
    sched->made_by = &this_copy;
    return sched;
}

void ggml_backend_sched_free(void *sched) {
    free(ours(sched));
}

void ggml_backend_sched_set_eval_callback(void *sched, eval_callback callback, void *data) {
    struct sched *it = ours(sched);
    it->callback = callback;
    it->data = data;
}

static void compute(struct tensor *node) {
    for (int i = 0; i < 2; i++)
        if (node->spoils[i] && !node->spoils[i]->kept)
            memset(node->spoils[i]->data, 0x55, ggml_nbytes(node->spoils[i]));
    if (node->compute)
        node->compute(node);
}

bool ggml_backend_sched_reserve(void *sched, struct graph *graph) {
    (void)ours(sched);
    return graph->n_nodes > 0;
}

bool ggml_backend_sched_alloc_graph(void *sched, struct graph *graph) {
    (void)ours(sched);
    for (int i = 0; i < graph->n_nodes; i++)
        graph->nodes[i]->kept = graph->nodes[i]->flags & OUTPUT;
    return true;
}

// As the library does it: nodes are computed together up to one that the callback wants.
int ggml_backend_sched_graph_compute_async(void *sched, struct graph *graph) {
    struct sched *it = ours(sched);
    for (int i = 0; i < graph->n_nodes; i++)
        if (graph->nodes[i]->flags & OUTPUT)  // would not be computed as one with others
            abort();
    for (int first = 0; first < graph->n_nodes; first++) {
        int last = first;
        bool need = false;
        if (it->callback) {
            need = it->callback(graph->nodes[first], true, it->data);
            while (!need && last < graph->n_nodes - 1)
                need = it->callback(graph->nodes[++last], true, it->data);
        } else {
            last = graph->n_nodes - 1;
        }
        for (int i = first; i <= last; i++)
            compute(graph->nodes[i]);
        if (need && !it->callback(graph->nodes[last], false, it->data))
            break;
        first = last;
    }
    return 0;
}

int ggml_backend_sched_graph_compute(void *sched, struct graph *graph) {
    return ggml_backend_sched_graph_compute_async(sched, graph);
}
