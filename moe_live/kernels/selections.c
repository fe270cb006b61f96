/* How often experts are chosen: see statistics/frequency.py. */

#include <stdint.h>

/* Add the experts of rows (n) of k each to `counts` (size); of each row, expert 0 is counted at its `place`, where there
 * is room for so many (experts). `by_rank` has the first ones of all rows, the second ones, ... Returns 0, or -1 at the
 * first row that is beyond all that. */
int selections(int64_t *restrict counts, int64_t size, int64_t experts, const int64_t *place, int64_t k,
               const uint16_t *by_rank, int64_t n) {
    for (int64_t row = 0; row < n; row++) {
        if (place[row] < 0 || place[row] + experts > size)
            return -1;
        for (int64_t i = 0; i < k; i++) {
            if (by_rank[i * n + row] >= experts)
                return -1;
            counts[place[row] + by_rank[i * n + row]]++;
        }
    }
    return 0;
}
