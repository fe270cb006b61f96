// The functions of libllama that the tap stands before: they tell what is in a batch, and when it is computed.
#define _GNU_SOURCE
#include "batch.h"

#include <stdlib.h>

// A batch as `llama_decode` gets it, by value. Older versions of the struct are longer: what a caller put behind the
// fields is handed on as it is. Reading that much of the caller's stack is harmless.
struct llama_batch {
    int32_t n_tokens;
    int32_t *token;
    float *embd;
    int32_t *pos;
    int32_t *n_seq_id;
    int32_t **seq_id;
    int8_t *logits;
    char older[16];
};

static int32_t sequence_of(const struct llama_batch *given, int i) {
    if (!given->n_seq_id || !given->seq_id)
        return 0;
    return given->n_seq_id[i] == 1 && given->seq_id[i] ? given->seq_id[i][0] : SEVERAL;
}

// NULL for an array means consecutive positions, which are not told here, sequence 0, and output of the last.
static bool copy_batch(struct batch *batch, const struct llama_batch *given) {
    int count = given->n_tokens;
    if (count <= 0 || !batch_has_room(batch, count))
        return false;
    for (int i = 0; i < count; i++)
        batch->entry[i] = (struct entry){
            .token = given->token ? given->token[i] : ANY,
            .position = given->pos ? given->pos[i] : ANY,
            .sequence = sequence_of(given, i),
            .output = given->logits ? given->logits[i] != 0 : i == count - 1,
        };
    batch->count = count;
    return true;
}

typedef int32_t compute_function(void *context, struct llama_batch batch);

static int32_t compute(compute_function *original, void *context, struct llama_batch given, void *caller) {
    struct batch batch = {0};
    int32_t result;
    if (settings.on && copy_batch(&batch, &given)) {
        current.batch = &batch;
        current.context = context;
        current.caller = caller;
    }
    result = original(context, given);
    current.batch = NULL;
    free(batch.entry);
    return result;
}

// The original of the function this stands in, as its caller would have found it.
#define ORIGINAL(name)                                                                             \
    static struct site sites[MAX_SITES];                                                           \
    function found = function_called_from(sites, __builtin_return_address(0), #name);              \
    if (!found)                                                                                    \
        say(CANNOT_FIND, "%s is not to be found in this program; start it without the tap", #name)

EXPORT int32_t llama_decode(void *context, struct llama_batch batch) {
    ORIGINAL(llama_decode);
    return found ? compute((compute_function *)found, context, batch, __builtin_return_address(0)) : -1;
}

EXPORT int32_t llama_encode(void *context, struct llama_batch batch) {
    ORIGINAL(llama_encode);
    return found ? compute((compute_function *)found, context, batch, __builtin_return_address(0)) : -1;
}

// An opaque batch (`llama_batch_ext`), and what was put into it. A record whose batch is gone is used again.
struct record {
    struct record *next;
    _Atomic(void *) of;
    struct batch batch;
};

static _Atomic(struct record *) records;

static struct batch *batch_of(const void *opaque) {
    for (struct record *record = atomic_load(&records); record && opaque && settings.on; record = record->next)
        if (atomic_load(&record->of) == opaque)
            return &record->batch;
    return NULL;
}

static void remember(void *opaque) {
    if (!opaque || !settings.on || batch_of(opaque))
        return;
    for (struct record *record = atomic_load(&records); record; record = record->next) {
        void *none = NULL;
        if (atomic_compare_exchange_strong(&record->of, &none, opaque)) {
            record->batch.count = 0;
            return;
        }
    }
    struct record *record = calloc(1, sizeof *record);
    if (!record)
        return;
    atomic_store(&record->of, opaque);
    record->next = atomic_load(&records);
    while (!atomic_compare_exchange_weak(&records, &record->next, record)) {
    }
}

static void forget(void *opaque) {
    for (struct record *record = atomic_load(&records); record; record = record->next) {
        if (atomic_load(&record->of) != opaque)
            continue;
        free(record->batch.entry);
        record->batch = (struct batch){0};
        atomic_store(&record->of, NULL);
    }
}

static struct entry *entry_of(const void *opaque, int32_t index) {
    struct batch *batch = batch_of(opaque);
    return batch ? batch_entry(batch, index) : NULL;
}

static int32_t added(const void *opaque, int32_t index, int32_t sequence, int32_t token) {
    struct entry *entry = entry_of(opaque, index);
    if (entry)
        *entry = (struct entry){.token = token, .position = ANY, .sequence = sequence};
    return index;
}

EXPORT void *llama_batch_ext_init(void *context) {
    ORIGINAL(llama_batch_ext_init);
    void *opaque = found ? ((void *(*)(void *))found)(context) : NULL;
    remember(opaque);
    return opaque;
}

EXPORT void llama_batch_ext_free(void *opaque) {
    ORIGINAL(llama_batch_ext_free);
    if (opaque)
        forget(opaque);
    if (found)
        ((void (*)(void *))found)(opaque);
}

EXPORT void llama_batch_ext_clear(void *opaque) {
    ORIGINAL(llama_batch_ext_clear);
    struct batch *batch = batch_of(opaque);
    if (batch)
        batch->count = 0;
    if (found)
        ((void (*)(void *))found)(opaque);
}

EXPORT int32_t llama_batch_ext_add(void *opaque, int32_t sequence) {
    ORIGINAL(llama_batch_ext_add);
    return found ? added(opaque, ((int32_t(*)(void *, int32_t))found)(opaque, sequence), sequence, ANY) : -1;
}

EXPORT int32_t llama_batch_ext_add_token(void *opaque, int32_t sequence, int32_t token) {
    ORIGINAL(llama_batch_ext_add_token);
    if (!found)
        return -1;
    return added(opaque, ((int32_t(*)(void *, int32_t, int32_t))found)(opaque, sequence, token), sequence, token);
}

// By value, and longer than it is today, for the reason given at `struct llama_batch`.
struct llama_embd {
    char bytes[48];
};

EXPORT int32_t llama_batch_ext_add_embd(void *opaque, int32_t sequence, struct llama_embd embd) {
    ORIGINAL(llama_batch_ext_add_embd);
    if (!found)
        return -1;
    int32_t index = ((int32_t(*)(void *, int32_t, struct llama_embd))found)(opaque, sequence, embd);
    return added(opaque, index, sequence, ANY);
}

EXPORT bool llama_batch_ext_add_seq(void *opaque, int32_t index, int32_t sequence) {
    ORIGINAL(llama_batch_ext_add_seq);
    struct entry *entry = entry_of(opaque, index);
    if (entry)
        entry->sequence = SEVERAL;
    return found && ((bool (*)(void *, int32_t, int32_t))found)(opaque, index, sequence);
}

EXPORT bool llama_batch_ext_set_pos(void *opaque, int32_t index, const int32_t *position) {
    ORIGINAL(llama_batch_ext_set_pos);
    struct entry *entry = entry_of(opaque, index);
    if (entry && position)
        entry->position = *position;
    return found && ((bool (*)(void *, int32_t, const int32_t *))found)(opaque, index, position);
}

static void set_output(const void *opaque, int32_t index, bool value) {
    struct entry *entry = entry_of(opaque, index);
    if (entry)
        entry->output = value;
}

EXPORT bool llama_batch_ext_set_output_logits(void *opaque, int32_t index, bool value) {
    ORIGINAL(llama_batch_ext_set_output_logits);
    set_output(opaque, index, value);
    return found && ((bool (*)(void *, int32_t, bool))found)(opaque, index, value);
}

EXPORT bool llama_batch_ext_set_output_embd(void *opaque, int32_t index, bool value) {
    ORIGINAL(llama_batch_ext_set_output_embd);
    set_output(opaque, index, value);
    return found && ((bool (*)(void *, int32_t, bool))found)(opaque, index, value);
}

EXPORT int32_t llama_process(void *context, int type, void *opaque) {
    ORIGINAL(llama_process);
    struct batch *batch = batch_of(opaque);
    if (!found)
        return -1;
    for (int i = 0; batch && i < batch->count; i++)
        batch->entry[i].computed = false;
    current.batch = batch;
    current.context = context;
    current.caller = __builtin_return_address(0);
    int32_t result = ((int32_t(*)(void *, int, void *))found)(context, type, opaque);
    current.batch = NULL;
    return result;
}
