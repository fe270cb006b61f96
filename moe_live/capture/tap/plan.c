// Which tensors of a graph are wanted, and that their memory is kept.
//
// Memory of a tensor is used again when nothing in the graph needs it any more, but for outputs of the graph. So what
// is wanted is marked as an output while the graph is given its memory, and can all be read when the graph has been
// computed: stopping at each layer costs a GPU half as much again as the token. The marks are taken away before the
// graph is computed, since operations with outputs among them are not computed as one.
#define _GNU_SOURCE
#include "tap.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LAYERS = 1024, MOST = 1 << 24 };  // more rows or columns than that are no real ones

static const char MOE[] = "ffn_moe_";

// What is met of a layer while its graph is walked. Nodes are indices; -1: not met.
struct layer {
    int number;
    bool twice;
    struct tensor *experts, *weights, *logits;
    int experts_node, weights_node, logits_node;
    int64_t scores;  // experts of the layer, 0: not known
};

struct layers {
    struct layer layer[MAX_LAYERS];
    int count;
};

// The number that `text` consists of, below MAX_LAYERS; -1 if it is none.
static int layer_number(const char *text) {
    int number = 0;
    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        number = number * 10 + (*text - '0');
        if (number >= MAX_LAYERS)
            return -1;
    }
    return number;
}

// Layers come one after the other: nearly always it is the last one.
static struct layer *layer_of(struct layers *layers, int number) {
    for (int i = layers->count - 1; i >= 0; i--)
        if (layers->layer[i].number == number)
            return &layers->layer[i];
    if (layers->count == MAX_LAYERS)
        return NULL;
    struct layer *layer = &layers->layer[layers->count++];
    *layer = (struct layer){.number = number, .experts_node = -1, .weights_node = -1, .logits_node = -1};
    return layer;
}

static struct tensor *router_input(const struct layer *layer) {
    return layer->logits ? layer->logits->src[1] : NULL;
}

static bool one_of(const char *name, size_t length, const char *const names[], int count) {
    for (int i = 0; i < count; i++)
        if (strlen(names[i]) == length && !memcmp(name, names[i], length))
            return true;
    return false;
}

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

// Notes a node whose name is "ffn_moe_PART-LAYER".
static void note(struct layers *layers, struct tensor *node, int index, const char *part) {
    static const char *const weights[] = {"weights", "weights_softmax", "weights_norm", "weights_scaled"};
    const char *dash = strchr(part, '-');
    int number = dash ? layer_number(dash + 1) : -1;
    struct layer *layer = number < 0 ? NULL : layer_of(layers, number);
    if (!layer)
        return;
    size_t length = (size_t)(dash - part);
    if (length == 4 && !memcmp(part, "topk", 4)) {
        if (layer->experts) {
            layer->twice = true;
            return;
        }
        layer->experts = node;
        layer->experts_node = index;
    } else if (length == 6 && !memcmp(part, "logits", 6) && !layer->logits) {
        layer->logits = node;
        layer->logits_node = index;
        layer->scores = node->ne[0];
    } else if (one_of(part, length, weights, COUNT(weights)) && !layer->twice) {
        layer->weights = node;
        layer->weights_node = index;
    }
}

// The name of the plain product is what `plan_graph` goes by; with an adapter it is a sum, whose src[1] is another.
static bool takes_input(const struct layer *layer) {
    const struct tensor *input = router_input(layer);
    return input && layer->logits->src[0] && layer->logits->src[0]->ne[0] == input->ne[0] &&
           layer->logits->src[0]->ne[1] == layer->logits->ne[0];
}

static bool has_room(struct plan *plan, int layers) {
    if (layers * 3 <= plan->capacity)
        return true;
    plan_free(plan);
    plan->reading = malloc((size_t)layers * 3 * sizeof *plan->reading);
    plan->layer = malloc((size_t)layers * sizeof *plan->layer);
    if (!plan->reading || !plan->layer) {
        plan_free(plan);
        return false;
    }
    plan->capacity = layers * 3;
    return true;
}

static void add_layer(struct plan *plan, const struct layer *layer) {
    struct reading *reading = &plan->reading[plan->readings];
    int block = plan->blocks++;
    plan->layer[block] = layer->number;
    *reading++ = (struct reading){layer->experts, layer->experts, layer->experts_node, block, EXPERTS, false, false};
    if (settings.weights && layer->weights)
        *reading++ =
            (struct reading){layer->weights, layer->weights, layer->weights_node, block, WEIGHTS, false, false};
    if (logs_inputs(layer->number) && takes_input(layer))
        *reading++ = (struct reading){router_input(layer), layer->logits, layer->logits_node, block, INPUTS, false, false};
    plan->readings = (int)(reading - plan->reading);
}

static uint64_t mixed(uint64_t hash, uint64_t value) {
    return (hash ^ value) * UINT64_C(1099511628211);  // FNV
}

// All contexts of a loaded model multiply with the same router; other layers of it are a draft head.
static uint64_t model_of(const struct layers *layers) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (int i = 0; i < layers->count; i++) {
        const struct layer *layer = &layers->layer[i];
        if (!layer->experts)
            continue;
        hash = mixed(hash, (uint64_t)layer->number);
        hash = mixed(hash, (uint64_t)layer->scores);
        if (takes_input(layer))
            hash = mixed(hash, (uint64_t)(uintptr_t)layer->logits->src[0]);
    }
    return hash;
}

static void add_layers(struct plan *plan, const struct layers *layers) {
    for (int i = 0; i < layers->count; i++) {
        if (layers->layer[i].experts)
            add_layer(plan, &layers->layer[i]);
        if (layers->layer[i].twice)
            say(TWICE, "layer %d chooses experts twice: only the first choice is logged", layers->layer[i].number);
    }
    plan->model = model_of(layers);
}

static struct tensor *first_of(const struct ggml *ggml, void *graph, const char *name, const char *older) {
    struct tensor *tensor = ggml->graph_get_tensor(graph, name);
    return tensor ? tensor : ggml->graph_get_tensor(graph, older);
}

static void walk(struct layers *layers, struct plan *plan, const struct ggml *ggml, void *graph) {
    bool pooled = false;
    layers->count = 0;
    plan->generates = false;
    for (int i = 0; i < plan->nodes; i++) {
        struct tensor *node = ggml->graph_node(graph, i);
        const char *name = ggml->get_name(node);
        if (!memcmp(name, MOE, sizeof MOE - 1))  // names have room for more than this
            note(layers, node, i, name + sizeof MOE - 1);
        else if (!strcmp(name, "result_output"))
            plan->generates = true;
        else if (!strcmp(name, "result_embd_pooled"))
            pooled = true;
    }
    plan->generates = plan->generates && !pooled;
}

// Makes the plan of a graph, which has no blocks if nothing of it is wanted. False: no memory.
bool plan_graph(struct plan *plan, const struct ggml *ggml, void *graph) {
    struct layers *layers = malloc(sizeof *layers);
    plan->graph = NULL;
    plan->kept = false;
    plan->nodes = ggml->graph_n_nodes(graph);
    plan->blocks = plan->readings = 0;
    if (!layers)
        return false;
    walk(layers, plan, ggml, graph);
    if (has_room(plan, layers->count)) {
        add_layers(plan, layers);
        plan->graph = graph;
    }
    free(layers);
    if (!plan->graph || !plan->blocks)
        return plan->graph != NULL;
    plan->positions = ggml->graph_get_tensor(graph, "inp_pos");
    plan->tokens = ggml->graph_get_tensor(graph, "inp_tokens");
    plan->outputs = first_of(ggml, graph, "out_ids", "inp_out_ids");
    return true;
}

// Whether the plan is still that of this graph: graphs are computed again and again, and built anew in the same place.
bool plan_holds(const struct plan *plan, const struct ggml *ggml, void *graph) {
    if (!plan->graph || plan->graph != graph || ggml->graph_n_nodes(graph) != plan->nodes)
        return false;
    for (int i = 0; i < plan->readings; i++)
        if (ggml->graph_node(graph, plan->reading[i].node) != plan->reading[i].at)
            return false;
    return true;
}

static bool mark(struct tensor *tensor) {
    if (!tensor || tensor->flags & FLAG_OUTPUT)
        return false;
    tensor->flags |= FLAG_OUTPUT;
    return true;
}

// While the marks are there the graph can be given its memory, and must not be computed.
void plan_mark(struct plan *plan) {
    for (int i = 0; i < plan->readings; i++) {
        plan->reading[i].marked = mark(plan->reading[i].of);
        plan->reading[i].source_marked = mark(plan->reading[i].of->view_src);
    }
}

void plan_unmark(struct plan *plan) {
    for (int i = 0; i < plan->readings; i++) {
        struct tensor *of = plan->reading[i].of;
        if (plan->reading[i].marked)
            of->flags &= ~FLAG_OUTPUT;
        if (plan->reading[i].source_marked)
            of->view_src->flags &= ~FLAG_OUTPUT;
    }
}

void plan_free(struct plan *plan) {
    free(plan->reading);
    free(plan->layer);
    plan->reading = NULL;
    plan->layer = NULL;
    plan->capacity = 0;
    plan->graph = NULL;
}

static bool is_flat_from(const struct tensor *tensor, int dimension) {
    for (int i = dimension; i < 4; i++)
        if (tensor->ne[i] != 1)
            return false;
    return true;
}

static struct matrix seen_along(const struct tensor *tensor, int column) {
    return (struct matrix){tensor->ne[column + 1], tensor->ne[column], tensor->nb[column + 1], tensor->nb[column]};
}

// How a tensor is read; false if it is not what its name says. `experts` is how those of its block are, NULL for
// themselves. Weights are (1, top_k, T), or (top_k, T).
bool matrix_of(const struct reading *reading, const struct matrix *experts, struct matrix *matrix) {
    const struct tensor *tensor = reading->of;
    bool fits = true;
    *matrix = seen_along(tensor, 0);
    if (reading->part == WEIGHTS && matrix->rows == experts->columns && matrix->columns == 1 &&
        tensor->ne[2] == experts->rows) {
        *matrix = seen_along(tensor, 1);
        fits = tensor->ne[3] == 1;
    } else {
        fits = is_flat_from(tensor, 2);
    }
    if (experts)
        fits = fits && matrix->rows == experts->rows &&
               (reading->part == INPUTS || matrix->columns == experts->columns);
    return fits && tensor->type == (reading->part == EXPERTS ? GGML_TYPE_I32 : GGML_TYPE_F32) &&
           matrix->rows >= 0 && matrix->columns >= 0 && matrix->rows < MOST && matrix->columns < MOST &&
           matrix->row_stride % 4 == 0 && matrix->column_stride % 4 == 0;
}
