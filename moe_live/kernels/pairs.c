/* Counts of experts that are chosen together, in a row and from one layer to the next.
 *
 * Rows are of k experts each, those of a layer between two `bounds`; `by_rank` has the first ones of all rows (n), the
 * second ones, ... Tables begin at `base`, with counts of 8, 16 or 32 bits each. Returns 0, or -1 at the first row with
 * a cell beyond all of them (size). */

#include <stdint.h>

enum { MOST = 64, TOGETHER = 8, WIDEST = 1 << 15 };

/* Pairs in a row, each expert with itself too: see statistics/coactivation.py. Of b's line + a and a's line + b, the
 * cell of a pair is the larger one. */
#define PAIRS(NAME, COUNT)                                                                                            \
    int NAME(COUNT *restrict counts, int64_t size, int64_t layers, const int64_t *base, const int64_t *bounds,        \
             int64_t k, const uint16_t *by_rank, int64_t n) {                                                         \
        int32_t expert[MOST] = {0}, line[MOST] = {0}, cell[MOST * (MOST + 1) / 2 + TOGETHER];                         \
        for (int64_t layer = 0; layer < layers; layer++)                                                              \
            for (int64_t row = bounds[layer]; row < bounds[layer + 1]; row++) {                                       \
                int64_t highest = 0;                                                                                  \
                for (int64_t i = 0; i < k; i++) {                                                                     \
                    expert[i] = by_rank[i * n + row];                                                                 \
                    line[i] = expert[i] * (expert[i] + 1) / 2;                                                        \
                    highest = expert[i] > highest ? expert[i] : highest;                                              \
                }                                                                                                     \
                if (base[layer] < 0 || highest >= WIDEST || base[layer] + highest * (highest + 3) / 2 >= size)        \
                    return -1;                                                                                        \
                COUNT *table = counts + base[layer];                                                                  \
                int64_t pairs = 0;                                                                                    \
                for (int64_t i = 0; i < k; pairs += ++i)                                                              \
                    for (int64_t from = 0; from <= i; from += TOGETHER)                                               \
                        for (int64_t j = from; j < from + TOGETHER; j++) { /* those beyond i are overwritten */       \
                            int32_t one = line[i] + expert[j], other = line[j] + expert[i];                           \
                            cell[pairs + j] = one > other ? one : other;                                              \
                        }                                                                                             \
                for (int64_t pair = 0; pair < pairs; pair++)                                                          \
                    table[cell[pair]]++;                                                                              \
            }                                                                                                         \
        return 0;                                                                                                     \
    }

/* From each layer with a table, of so many columns (width), to the next, which has the same tokens: see
 * statistics/transitions.py. The base is -1 for a layer without one. */
#define TRANSITIONS(NAME, COUNT)                                                                                      \
    int NAME(COUNT *restrict counts, int64_t size, int64_t layers, const int64_t *base, const int64_t *width,         \
             const int64_t *bounds, int64_t k, const uint16_t *by_rank, int64_t n) {                                  \
        for (int64_t layer = 0; layer + 1 < layers; layer++)                                                          \
            for (int64_t row = bounds[layer]; base[layer] >= 0 && row < bounds[layer + 1]; row++) {                   \
                const uint16_t *lower = by_rank + row, *upper = lower + bounds[layer + 1] - bounds[layer];            \
                int64_t line[MOST], highest = 0, last = 0;                                                            \
                uint16_t above[MOST];                                                                                 \
                for (int64_t i = 0; i < k; i++) {                                                                     \
                    line[i] = lower[i * n] * width[layer];                                                            \
                    above[i] = upper[i * n];                                                                          \
                    highest = line[i] > highest ? line[i] : highest;                                                  \
                    last = above[i] > last ? above[i] : last;                                                         \
                }                                                                                                     \
                if (last >= width[layer] || base[layer] + highest + width[layer] > size)                              \
                    return -1;                                                                                        \
                for (int64_t i = 0; i < k; i++)                                                                       \
                    for (int64_t j = 0; j < k; j++)                                                                   \
                        counts[base[layer] + line[i] + above[j]]++;                                                   \
            }                                                                                                         \
        return 0;                                                                                                     \
    }

PAIRS(pairs_8, uint8_t)
PAIRS(pairs_16, uint16_t)
PAIRS(pairs_32, uint32_t)
TRANSITIONS(transitions_8, uint8_t)
TRANSITIONS(transitions_16, uint16_t)
TRANSITIONS(transitions_32, uint32_t)
