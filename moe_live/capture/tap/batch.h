// Batches: what is handed over to be computed, as far as it tells of the rows of a step.
#ifndef MOE_LIVE_BATCH_H
#define MOE_LIVE_BATCH_H

#include "tap.h"

enum { ANY = -1, SEVERAL = -1 };

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

// The batch that a thread is computing, and who asked for it.
struct computing {
    struct batch *batch;
    void *context;
    void *caller;
};

extern _Thread_local struct computing current;

bool batch_has_room(struct batch *batch, int count);
struct entry *batch_entry(struct batch *batch, int32_t index);

#endif
