// A fake libllama: a few models, whose choices of experts follow from position and layer.
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { F32 = 0, I32 = 26, N_EMBD = 5, MAX_TOKENS = 4096 };

static const struct model {
    int first_layer, layers, experts, top_k;
    bool late_weights;  // as in older versions: after the experts' matrices
    bool pooled;
    bool twice;
    int n_embd;
} models[] = {
    {2, 3, 16, 3, false, false, false, N_EMBD},    // the model
    {0, 2, 8, 2, false, false, false, N_EMBD},     // a draft
    {5, 2, 16, 3, true, false, false, N_EMBD},     // an older version's order
    {0, 2, 8, 2, false, true, false, N_EMBD},      // embeddings
    {5, 1, 16, 3, false, false, false, N_EMBD},    // a draft head
    {2, 1, 16, 3, false, false, true, N_EMBD},     // chooses twice
    {2, 1, 4096, 2, false, false, false, 250000},  // a large one
};

static struct tensor router[sizeof models / sizeof *models][4];  // of each model's layers

__attribute__((constructor)) static void prepare(void) {
    for (size_t m = 0; m < sizeof models / sizeof *models; m++)
        for (int layer = 0; layer < models[m].layers; layer++)
            router[m][layer] = (struct tensor){.ne = {models[m].n_embd, models[m].experts, 1, 1}};
}

struct llama_context {
    const struct model *model;
    int ubatch;
    bool grouped;
    eval_callback callback;
    void *data;
    void *sched;
    struct graph graph;
    int graph_rows, graph_outputs;
    struct tensor *input[3];  // positions, tokens, outputs
};

static void set_name(struct tensor *tensor, const char *name, int layer) {
    snprintf(tensor->name, sizeof tensor->name, "%s-%d", name, layer);
    tensor->layer = layer;
}

static int32_t *numbers(struct tensor *tensor) {
    return (int32_t *)(void *)tensor->data;
}

static void rank(struct tensor *ranking) {
    int64_t experts = ranking->ne[0];
    for (int64_t row = 0; row < ranking->ne[1]; row++)
        for (int64_t i = 0; i < experts; i++)
            numbers(ranking)[row * experts + i] =
                (int32_t)((7 * ranking->rows[row] + 3 * ranking->layer + 5 * i) % experts);
}

static void weigh(struct tensor *weights) {
    int64_t k = weights->ne[1];
    for (int64_t row = 0; row < weights->ne[2]; row++)
        for (int64_t i = 0; i < k; i++)
            ((float *)(void *)weights->data)[row * k + i] = 1.0f / (float)(2 + i + weights->rows[row] % 5);
}

static void norm(struct tensor *input) {
    int64_t n = input->ne[0];
    for (int64_t row = 0; row < input->ne[1]; row++)
        for (int64_t i = 0; i < n; i++)
            ((float *)(void *)input->data)[row * n + i] =
                (float)input->rows[row] + 0.25f * (float)i - (float)input->layer;
}

static struct tensor *add_node(struct llama_context *it, struct tensor *node, const char *name, int layer) {
    if (layer >= 0)
        set_name(node, name, layer);
    else
        snprintf(node->name, sizeof node->name, "%s", name);
    it->graph.nodes[it->graph.n_nodes++] = node;
    return node;
}

static struct tensor *with_rows(struct tensor *node, int64_t rows) {
    node->rows = calloc((size_t)rows + 1, sizeof *node->rows);
    return node;
}

static void add_layer(struct llama_context *it, int layer, int64_t rows) {
    const struct model *m = it->model;
    struct tensor *input = add_node(it, with_rows(new_tensor(F32, m->n_embd, rows, 1, ""), rows), "ffn_norm", layer);
    input->compute = norm;
    struct tensor *logits = add_node(it, new_tensor(F32, m->experts, rows, 1, ""), "ffn_moe_logits", layer);
    logits->src[0] = &router[m - models][layer - m->first_layer];
    logits->src[1] = input;
    struct tensor *ranking = with_rows(new_tensor(I32, m->experts, rows, 1, ""), rows);
    add_node(it, ranking, "ffn_moe_argsort", layer);
    ranking->compute = rank;
    struct tensor *chosen = new_view(ranking, m->top_k, rows, 4 * (size_t)m->experts, 0, "");
    add_node(it, chosen, "ffn_moe_topk", layer);
    if (m->twice)
        add_node(it, new_view(ranking, m->top_k, rows, 4 * (size_t)m->experts, 4, ""), "ffn_moe_topk", layer);
    static const char *const names[] = {"ffn_moe_weights", "ffn_moe_weights_sum", "ffn_moe_weights_norm"};
    static const char *const matrices[] = {"ffn_moe_up", "ffn_moe_down"};
    for (int part = 0; part < 2; part++)
        if ((part == 0) != m->late_weights)
            for (int i = 0; i < 3; i++) {
                struct tensor *weights = with_rows(new_tensor(F32, 1, m->top_k, rows, ""), rows);
                add_node(it, weights, names[i], layer);
                weights->src[1] = chosen;
                if (i == 2)
                    weights->compute = weigh;
                if (i == 2 && m->late_weights)
                    weights->spoils[0] = ranking;
            }
        else
            for (int i = 0; i < 2; i++) {
                struct tensor *matrix = add_node(it, new_tensor(F32, 1, 1, 1, ""), matrices[i], layer);
                matrix->src[1] = i ? NULL : input;
                matrix->src[2] = chosen;
            }
    struct tensor *out = add_node(it, new_tensor(F32, 1, 1, 1, ""), "ffn_moe_out", layer);
    out->spoils[0] = ranking;
    out->spoils[1] = input;
}

static void free_graph(struct llama_context *it) {
    for (int i = 0; i < it->graph.n_nodes; i++)
        free_tensor(it->graph.nodes[i]);
    for (int i = 0; i < it->graph.n_leafs; i++)
        free_tensor(it->graph.leafs[i]);
    it->graph.n_nodes = it->graph.n_leafs = 0;
}

// A graph is kept as long as the same shape comes.
static void build(struct llama_context *it, int rows, int outputs) {
    static const char *const names[] = {"inp_pos", "inp_tokens", "out_ids"};
    if (it->graph.n_nodes && it->graph_rows == rows && it->graph_outputs == outputs)
        return;
    free_graph(it);
    ggml_backend_sched_set_eval_callback(it->sched, it->callback, it->data);
    for (int i = 0; i < 3; i++)
        it->input[i] = it->graph.leafs[it->graph.n_leafs++] = new_tensor(I32, i < 2 ? rows : outputs, 1, 1, names[i]);
    struct tensor *first = add_node(it, new_tensor(F32, 1, 1, 1, ""), "embd", -1);
    first->spoils[0] = it->input[0];
    first->spoils[1] = it->input[1];
    for (int i = 0; i < it->model->layers; i++)
        add_layer(it, it->model->first_layer + i, i + 1 < it->model->layers || i == 0 ? rows : outputs);
    add_node(it, new_tensor(F32, 1, 1, 1, ""), "result_output", -1);
    if (it->model->pooled)
        add_node(it, new_tensor(F32, 1, 1, 1, ""), "result_embd_pooled", -1);
    it->graph_rows = rows;
    it->graph_outputs = outputs;
#ifndef KEEPS_NOTHING
    if (!ggml_backend_sched_reserve(it->sched, &it->graph) || !ggml_backend_sched_alloc_graph(it->sched, &it->graph))
        abort();
#endif
}

// Computes some entries of a batch, in this order.
static int compute_rows(struct llama_context *it, const struct llama_batch *batch, const int *entry, int rows) {
    int outputs = 0, out[MAX_TOKENS];
    for (int i = 0; i < rows; i++)
        if (batch->logits[entry[i]])
            out[outputs++] = i;
    build(it, rows, outputs);
    for (int i = 0; i < rows; i++) {
        numbers(it->input[0])[i] = batch->pos[entry[i]];
        numbers(it->input[1])[i] = batch->token[entry[i]];
    }
    memcpy(it->input[2]->data, out, (size_t)outputs * sizeof *out);
    for (int i = 0; i < it->graph.n_nodes; i++) {
        struct tensor *node = it->graph.nodes[i];
        if (!node->rows)
            continue;
        int64_t count = node->ne[node->compute == weigh || node->ne[0] == 1 ? 2 : 1];
        for (int64_t row = 0; row < count; row++)
            node->rows[row] = batch->pos[entry[count == rows ? (int)row : out[row]]];
    }
    return ggml_backend_sched_graph_compute_async(it->sched, &it->graph);
}

void *llama_init(int model, int ubatch, bool grouped, eval_callback callback, void *data) {
    struct llama_context *it = calloc(1, sizeof *it);
    *it = (struct llama_context){.model = &models[model], .ubatch = ubatch, .grouped = grouped, .callback = callback,
                                 .data = data, .sched = ggml_backend_sched_new()};
    return it;
}

void llama_free(void *context) {
    struct llama_context *it = context;
    free_graph(it);
    ggml_backend_sched_free(it->sched);
    free(it);
}

// Takes entries in their order, or as many of each sequence, sequence by sequence.
int32_t llama_decode(void *context, struct llama_batch batch) {
    struct llama_context *it = context;
    bool done[MAX_TOKENS] = {false};
    int order[MAX_TOKENS], left = batch.n_tokens;
    while (left) {
        int rows = 0, sequences = 0, each = MAX_TOKENS;
        for (int s = 0; it->grouped && s < 16; s++) {
            int count = 0;
            for (int i = 0; i < batch.n_tokens; i++)
                count += !done[i] && batch.seq_id[i][0] == s;
            if (count) {
                sequences++;
                each = count < each ? count : each;
            }
        }
        if (sequences && each * sequences > it->ubatch)
            each = it->ubatch / sequences;
        for (int s = 0; s < (it->grouped ? 16 : 1); s++)
            for (int i = 0, mine = 0; i < batch.n_tokens && rows < it->ubatch && mine < each; i++)
                if (!done[i] && (!it->grouped || batch.seq_id[i][0] == s)) {
                    done[i] = true;
                    order[rows++] = i;
                    mine++;
                }
        left -= rows;
        if (compute_rows(it, &batch, order, rows))
            return -2;
    }
    return 0;
}

const void *llama_get_model(const void *context) {
    return context;
}

const void *llama_model_get_vocab(const void *model) {
    return model;
}

int32_t llama_vocab_bos(const void *vocabulary) {
    (void)vocabulary;
    return 1;
}

int32_t llama_vocab_eos(const void *vocabulary) {
    (void)vocabulary;
    return 2;
}
