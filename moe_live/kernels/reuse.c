/* Uses of experts, one after the other: see statistics/reuse.py for what is counted. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wide.h"

enum { TOGETHER = 4, LAGS = 4, KEPT = 8, BITS = 32 };

/* The arrays of `Reuse`. What is of experts has `experts` columns, a multiple of 32. */
typedef struct {
    int64_t layers, experts, passed, early_steps, far, never;
    int64_t *steps, *uses, *depths, *distances, *shared, *first;
    int16_t *age;
    int64_t *depth;
    uint32_t *head, *tail;
    uint16_t *early;
    int64_t *early_uses;
    int16_t *early_first;
} uses;

/* What a layer is kept as while its steps are counted. The higher the stamp, the later the expert was used. */
typedef struct {
    int16_t *stamp;   /* (experts) */
    int32_t *last;    /* (experts) step of the last use, counted from the first one here; -never for none */
    uint8_t *recent;  /* (experts) which of the latest steps used it, as bits, the last step lowest */
    int64_t steps;    /* so far; -1 for a layer without rows yet */
    int32_t next;     /* stamp */
} layer;

#if HAS_WIDE
enum { LANES = 16 };
typedef int16_t lanes __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

/* How many stamps (experts) are higher than each of four. */
WIDE static void higher_wide(const int16_t *stamp, int64_t experts, const int16_t *mine, int16_t *found) {
    lanes sums[TOGETHER], w = {0}, x = {0}, y = {0}, z = {0}, none = {0};
    lanes a = mine[0] - none, b = mine[1] - none, c = mine[2] - none, d = mine[3] - none;
    for (int64_t e = 0; e < experts; e += LANES) {
        lanes s = *(const lanes *)(stamp + e);
        w -= s > a, x -= s > b, y -= s > c, z -= s > d; /* what is true is -1 */
    }
    sums[0] = w, sums[1] = x, sums[2] = y, sums[3] = z;
    for (int64_t i = 0; i < TOGETHER; i++) {
        int16_t sum = 0;
        for (int64_t lane = 0; lane < LANES; lane++)
            sum = (int16_t)(sum + ((const int16_t *)(sums + i))[lane]);
        found[i] = sum;
    }
}
#endif

/* How many experts were used after each of some (n), at most `TOGETHER`. */
static void used_since(const int16_t *restrict stamp, int64_t experts, const uint16_t *used, int64_t n,
                       int16_t *restrict since) {
    int16_t mine[TOGETHER];
    for (int64_t i = 0; i < TOGETHER; i++)
        mine[i] = stamp[used[i < n ? i : 0]];
#if HAS_WIDE
    if (IS_WIDE) {
        higher_wide(stamp, experts, mine, since);
        return;
    }
#endif
    int16_t a = mine[0], b = mine[1], c = mine[2], d = mine[3], w = 0, x = 0, y = 0, z = 0;
    for (int64_t e = 0; e < experts; e++) {
        int16_t s = stamp[e];
        w = (int16_t)(w + (s > a));
        x = (int16_t)(x + (s > b));
        y = (int16_t)(y + (s > c));
        z = (int16_t)(z + (s > d));
    }
    since[0] = w, since[1] = x, since[2] = y, since[3] = z;
}

/* Where the head or the tail of a layer has its experts 32 w to 32 w + 31 in step t. */
static uint32_t *word(uint32_t *steps, const uses *all, int64_t slot, int64_t w, int64_t t) {
    return steps + (w * KEPT + t) * all->layers + slot;
}

static void begin(layer *of, const uses *all, int64_t slot) {
    of->steps = 0;
    of->next = (int32_t)all->experts;
    for (int64_t e = 0; e < all->experts; e++) {
        of->stamp[e] = (int16_t)(all->experts - 1 - all->depth[slot * all->experts + e]);
        of->last[e] = -all->age[slot * all->experts + e];
        of->recent[e] = 0;
    }
    for (int64_t w = 0; w < all->experts / BITS; w++)
        for (int64_t t = 0; t < KEPT; t++) {
            uint32_t used = *word(all->tail, all, slot, w, t);
            uint8_t *recent = of->recent + w * BITS;
            for (int64_t bit = 0; bit < BITS; bit++)
                recent[bit] = (uint8_t)(recent[bit] << 1 | (used >> bit & 1));
        }
}

/* Lower the stamps to those of the first step. `depth` (experts) is overwritten with places in the order of use. */
static void lower(layer *of, int64_t experts, int64_t *depth) {
    for (int64_t e = 0; e < experts; e += TOGETHER) {
        uint16_t some[TOGETHER];
        int16_t since[TOGETHER];
        for (int64_t i = 0; i < TOGETHER; i++)
            some[i] = (uint16_t)(e + i);
        used_since(of->stamp, experts, some, TOGETHER, since);
        for (int64_t i = 0; i < TOGETHER; i++)
            depth[e + i] = since[i];
    }
    for (int64_t e = 0; e < experts; e++)
        of->stamp[e] = (int16_t)(experts - 1 - depth[e]);
    of->next = (int32_t)experts;
}

static void end(layer *of, const uses *all, int64_t slot) {
    int16_t *age = all->age + slot * all->experts;
    lower(of, all->experts, all->depth + slot * all->experts);
    for (int64_t e = 0; e < all->experts; e++) {
        int64_t since = of->steps - of->last[e];
        if (of->last[e] > -all->never)
            age[e] = (int16_t)(since < all->far ? since : all->far);
    }
    for (int64_t w = 0; w < all->experts / BITS; w++)
        for (int64_t t = 0; t < KEPT; t++) {
            uint32_t used = 0;
            for (int64_t bit = 0; bit < BITS; bit++)
                used |= (uint32_t)(of->recent[w * BITS + bit] >> (KEPT - 1 - t) & 1) << bit;
            *word(all->tail, all, slot, w, t) = used;
        }
    all->steps[slot] += of->steps;
}

/* One step of one layer, which uses these experts, all different, the last ones first. */
static void count(layer *of, const uses *all, int64_t slot, int64_t step, const uint16_t *used, int64_t n,
                  int64_t *scratch) {
    int64_t experts = all->experts, time = of->steps, width = experts + 1;
    int measured = step < all->early_steps;
    if (of->next + n > INT16_MAX)
        lower(of, experts, scratch);
    int16_t since[TOGETHER];
    for (int64_t i = 0; i < n; i++) {
        if (i % TOGETHER == 0)
            used_since(of->stamp, experts, used + i, n - i, since);
        int64_t e = used[i], cell = slot * experts + e;
        int64_t *depths = all->depths + slot * width, *distances = all->distances + slot * (all->far + 1);
        all->uses[cell]++;
        if (of->last[e] <= -all->never) {
            depths[0]++;
            distances[all->far]++;
            all->first[cell] = all->steps[slot] + time;
            if (measured)
                all->early_first[cell] = (int16_t)step;
            continue;
        }
        int64_t depth = since[i % TOGETHER], distance = time - of->last[e];
        depths[1 + depth]++;
        distances[distance < all->far ? distance : all->far]++;
        if (measured)
            all->early[step * experts + depth]++;
    }
    if (measured)
        all->early_uses[step] += n;
    uint8_t *restrict recent = of->recent;
    uint64_t shared = 0; /* with the steps 1, 2, 4, 8 before, in 16 bits each */
    for (int64_t i = 0; i < n; i++) {
        uint64_t steps = recent[used[i]];
        shared += (steps & 1) | (steps & 2) << 15 | (steps & 8) << 29 | (steps & 128) << 41;
    }
    for (int64_t l = 0; l < LAGS; l++)
        all->shared[(l * all->layers + slot) * width + n] += (int64_t)(shared >> 16 * l & 0xFFFF);
    for (int64_t e = 0; e < experts; e++)
        recent[e] = (uint8_t)(recent[e] + recent[e]);
    for (int64_t i = n - 1; i >= 0; i--) {
        recent[used[i]] |= 1;
        of->stamp[used[i]] = (int16_t)of->next++;
        of->last[used[i]] = (int32_t)time;
    }
    if (all->steps[slot] + time < KEPT)
        for (int64_t i = 0; i < n; i++)
            *word(all->head, all, slot, used[i] / BITS, all->steps[slot] + time) |= (uint32_t)1 << used[i] % BITS;
    of->steps++;
}

/* Count rows (n) of k experts each. Those of a step and layer follow each other, the later ones last.
 *
 * `step` is the number of each row's step among these, `slot` the index of its layer; `experts` are the first ones of
 * all rows, the second ones, ... Returns 0, or -1 without having changed anything: there is no memory, or a number is
 * out of bounds. */
int count_uses(const uses *all, int64_t n, int64_t k, const int64_t *step, const int64_t *slot,
               const uint16_t *experts) {
    for (int64_t row = 0; row < n; row++)
        if (slot[row] < 0 || slot[row] >= all->layers || step[row] < 0)
            return -1;
    for (int64_t i = 0; i < k; i++)
        for (int64_t row = 0; row < n; row++)
            if (experts[i * n + row] >= all->experts)
                return -1;
    layer *layers = calloc((size_t)all->layers, sizeof *layers);
    int16_t *stamps = malloc((size_t)(all->layers * all->experts) * sizeof *stamps);
    int32_t *lasts = malloc((size_t)(all->layers * all->experts) * sizeof *lasts);
    uint8_t *recents = malloc((size_t)(all->layers * all->experts));
    int64_t *scratch = malloc((size_t)all->experts * sizeof *scratch);
    uint16_t *used = malloc((size_t)all->experts * sizeof *used);
    uint8_t *is_used = calloc((size_t)all->experts, 1);
    int failed = !(layers && stamps && lasts && recents && scratch && used && is_used);
    for (int64_t s = 0; !failed && s < all->layers; s++)
        layers[s] = (layer){stamps + s * all->experts, lasts + s * all->experts, recents + s * all->experts, -1, 0};
    for (int64_t row = 0, following; !failed && row < n; row = following) {
        layer *of = layers + slot[row];
        if (of->steps < 0)
            begin(of, all, slot[row]);
        for (following = row + 1; following < n; following++)
            if (step[following] != step[row] || slot[following] != slot[row])
                break;
        int64_t found = 0;
        for (int64_t r = following - 1; r >= row; r--)
            for (int64_t i = k - 1; i >= 0; i--) {
                uint16_t e = experts[i * n + r];
                if (!is_used[e]) {
                    is_used[e] = 1;
                    used[found++] = e;
                }
            }
        for (int64_t i = 0; i < found; i++)
            is_used[used[i]] = 0;
        count(of, all, slot[row], all->passed + step[row], used, found, scratch);
    }
    for (int64_t s = 0; !failed && s < all->layers; s++)
        if (layers[s].steps > 0)
            end(layers + s, all, s);
    free(layers), free(stamps), free(lasts), free(recents), free(scratch), free(used), free(is_used);
    return failed ? -1 : 0;
}
