// What a program hands over to be computed: the only place that tells the sequence of a token.
//
// The library splits a batch into steps: some of its tokens in their order, or grouped by sequence with as many of
// each. Which it was shows by positions and tokens; where that does not tell, sequences are left out.
#define _GNU_SOURCE
#include "batch.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SEQUENCES = 256 };  // as in the library

_Thread_local struct computing current;

bool batch_has_room(struct batch *batch, int count) {
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
struct entry *batch_entry(struct batch *batch, int32_t index) {
    if (index < 0 || index > INT32_MAX / 4 || !batch_has_room(batch, index + 1))
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
