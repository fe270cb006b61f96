/* Pairs of experts that are expected in enough rows: see statistics/pairs.py for what is expected. */

#include <stdint.h>

/* Pairs of experts `begin` to `end` - 1 with later ones of all (experts), into `pair` and `expected`, which have room
 * for all of them: how many there are. `single` is how many rows have an expert, `share` that of `rows`, `factor` what
 * being distinct takes. */
int64_t supported(int64_t experts, int64_t begin, int64_t end, double rows, double enough, const double *single,
                  const double *share, const double *factor, int64_t *restrict pair, double *restrict expected) {
    int64_t found = 0;
    for (int64_t a = begin; a < end; a++)
        for (int64_t b = a + 1; b < experts; b++) {
            double together = (share[a] * share[b] - factor[a] * factor[b]) * rows;
            double most = single[a] < single[b] ? single[a] : single[b];
            together = together > most ? most : together;
            pair[found] = a * experts + b;
            expected[found] = together;
            found += together >= enough;
        }
    return found;
}
