// What a program hands over to be computed: the only place that tells the sequence of a token.
//
// The library splits a batch into steps: some of its tokens in their order, or grouped by sequence with as many of
// each. Which it was shows by positions and tokens; where that does not tell, sequences are left out.
#define _GNU_SOURCE
#include "tap.h"

#include <stdlib.h>
#include <string.h>

enum { ANY = -1, SEVERAL = -1, MAX_SEQUENCES = 256 };  // as in the library

struct entry {
    int32_t token;     // ANY: not known
    int32_t position;  // ANY: not known
    int32_t sequence;  // SEVERAL: of more than one, or not known
    bool output;
    bool computed;     // in a step that is over
};

struct batch {
    struct entry *entry;
    int count, capacity;
};

// The batch that this thread is computing, and who asked for it.
static _Thread_local struct {
    struct batch *batch;
    void *context;
    void *caller;
} current;

static bool has_room(struct batch *batch, int count) {
    if (count <= batch->capacity)
        return true;
    int capacity = count + count / 2 + 16;
    struct entry *entry = realloc(batch->entry, (size_t)capacity * sizeof *entry);
    if (!entry)
        return false;
    batch->entry = entry;
    batch->capacity = capacity;
    return true;
}

// The entry of a given index, made with all before it if need be; NULL without memory.
static struct entry *entry_at(struct batch *batch, int32_t index) {
    if (index < 0 || index > INT32_MAX / 4 || !has_room(batch, index + 1))
        return NULL;
    for (; batch->count <= index; batch->count++)
        batch->entry[batch->count] = (struct entry){.token = ANY, .position = ANY, .sequence = SEVERAL};
    return &batch->entry[index];
}

// A candidate for the entries that the rows of a step are: the next of them must fit the next row.
struct match {
    const struct batch *batch;
    const int32_t *positions, *tokens;
    int *chosen;
    int32_t count;
};

static bool fits(const struct match *match, int row, int entry) {
    const struct entry *candidate = &match->batch->entry[entry];
    return (candidate->position == ANY || candidate->position == match->positions[row]) &&
           (candidate->token == ANY || !match->tokens || candidate->token == match->tokens[row]);
}

static bool in_order(struct match *match) {
    int row = 0;
    for (int i = 0; i < match->batch->count && row < match->count; i++)
        if (!match->batch->entry[i].computed) {
            if (!fits(match, row, i))
                return false;
            match->chosen[row++] = i;
        }
    return row == match->count;
}

// The sequences of what is left, by first appearance; only while each is the one after it, if `ascending`.
static int sequences_left(const struct batch *batch, bool ascending, int32_t sequence[MAX_SEQUENCES]) {
    bool seen[MAX_SEQUENCES] = {false};
    int count = 0;
    for (int i = 0; i < batch->count; i++) {
        int32_t one = batch->entry[i].sequence;
        if (batch->entry[i].computed || one < 0 || one >= MAX_SEQUENCES || seen[one])
            continue;
        if (ascending && count && one != sequence[count - 1] + 1)
            continue;
        seen[one] = true;
        sequence[count++] = one;
    }
    return count;
}

// The first `groups` of these sequences, with as many rows each.
static bool grouped(struct match *match, const int32_t *sequence, int groups) {
    int each = match->count / groups, row = 0;
    for (int group = 0; group < groups; group++) {
        int end = row + each;
        for (int i = 0; i < match->batch->count && row < end; i++)
            if (!match->batch->entry[i].computed && match->batch->entry[i].sequence == sequence[group]) {
                if (!fits(match, row, i))
                    return false;
                match->chosen[row++] = i;
            }
        if (row < end)
            return false;
    }
    return true;
}

// Whether two candidates say the same of each row; if so, either will do.
static bool agree(const struct batch *batch, const int *one, const int *other, int count) {
    for (int i = 0; i < count; i++) {
        const struct entry *a = &batch->entry[one[i]], *b = &batch->entry[other[i]];
        if (a->sequence != b->sequence || a->output != b->output)
            return false;
    }
    return true;
}

// Finds the entries of the rows. False if none fit, or several that differ.
static bool find_rows(struct match *match, int *found) {
    int matches = 0;
    match->chosen = found + match->count;
    if (in_order(match)) {
        memcpy(found, match->chosen, (size_t)match->count * sizeof *found);
        matches = 1;
    }
    for (int ascending = 0; ascending < 2; ascending++) {
        int32_t sequence[MAX_SEQUENCES];
        int groups = sequences_left(match->batch, ascending, sequence);
        for (; groups > 0; groups--) {
            if (match->count % groups || !grouped(match, sequence, groups))
                continue;
            if (matches && !agree(match->batch, found, match->chosen, match->count))
                return false;
            memcpy(found, match->chosen, (size_t)match->count * sizeof *found);
            matches = 1;
        }
    }
    return matches;
}

// What the batch being computed by this thread tells of the rows of a step. `tokens` may be NULL.
bool batch_rows(int32_t count, const int32_t *positions, const int32_t *tokens, struct row *rows) {
    struct match match = {.batch = current.batch, .positions = positions, .tokens = tokens, .count = count};
    if (!current.batch || count <= 0 || count > current.batch->count)
        return false;
    int *found = malloc((size_t)count * 2 * sizeof *found);
    bool known = found && find_rows(&match, found);
    for (int i = 0; i < count && known; i++) {
        struct entry *entry = &current.batch->entry[found[i]];
        rows[i] = (struct row){entry->sequence, entry->output};
        entry->computed = true;
    }
    free(found);
    return known;
}

// The tokens with which llama.cpp warms a model up: those that begin and end a text. False if they can't be asked for.
static bool warmup_tokens(int32_t tokens[2], int *count) {
    const void *(*model_of)(const void *), *(*vocabulary_of)(const void *);
    int32_t (*token_of)(const void *);
    function get_model = function_near(current.caller, "llama_get_model");
    function get_vocabulary = function_near(current.caller, "llama_model_get_vocab");
    function get_token[] = {function_near(current.caller, "llama_vocab_bos"),
                            function_near(current.caller, "llama_vocab_eos")};
    if (!get_model || !get_vocabulary || !get_token[0] || !get_token[1])
        return false;
    memcpy(&model_of, &get_model, sizeof get_model);
    memcpy(&vocabulary_of, &get_vocabulary, sizeof get_vocabulary);
    const void *vocabulary = vocabulary_of(model_of(current.context));
    *count = 0;
    for (int i = 0; i < 2; i++) {
        memcpy(&token_of, &get_token[i], sizeof get_token[i]);
        int32_t token = token_of(vocabulary);
        if (token >= 0)
            tokens[(*count)++] = token;
    }
    return *count > 0;
}

static bool begins_with(const struct batch *batch, const int32_t *tokens, int count) {
    if (batch->count != count)
        return false;
    for (int i = 0; i < count; i++)
        if (batch->entry[i].token != tokens[i] || (batch->entry[i].position != i && batch->entry[i].position != ANY))
            return false;
    return true;
}

// Whether the batch is one that a server computes before it has anything to do: the warm-up, or two tokens of number 0
// with which it tries what the memory of the context can do.
bool batch_is_warmup(void) {
    static const int32_t trial[2] = {0, 0};
    int32_t tokens[2];
    int count;
    if (!current.batch || current.batch->count > 2)
        return false;
    return begins_with(current.batch, trial, 2) ||
           (warmup_tokens(tokens, &count) && begins_with(current.batch, tokens, count));
}

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
    if (count <= 0 || !has_room(batch, count))
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
    return batch ? entry_at(batch, index) : NULL;
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
    return added(opaque, ((int32_t(*)(void *, int32_t, struct llama_embd))found)(opaque, sequence, embd), sequence, ANY);
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
