/* How much of what tokens choose in one layer is foretold by their experts in the layer below: see
 * statistics/prediction.py for what is computed, which is added up here in the same order.
 *
 * Tokens (n) are those of one pair of layers after the other (pair, ascending), with k experts each in the lower layer
 * and in the upper. Functions return 0, or -1: there is no memory, or a number is out of bounds. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wide.h"

enum { TOGETHER = 4, MOST = 64 };

typedef struct {
    int64_t pairs, experts, n, k;
    const uint16_t *pair, *lower, *upper;
} tokens;

/* What a pair of layers is worked on with. */
typedef struct {
    double *share;   /* (experts, experts) of lower experts, as far as they are `made` */
    uint8_t *made;   /* (experts) */
    double *usage;   /* (experts) */
    double *score;   /* (experts) */
    int64_t *others; /* (experts) */
    int64_t *used;   /* (experts) as `usage`, in whole numbers */
    int32_t *counts; /* (experts, experts) */
} desk;

static int open_desk(desk *on, const tokens *all) {
    size_t experts = (size_t)all->experts;
    *on = (desk){malloc(experts * experts * sizeof(double)), malloc(experts),
                 malloc(experts * sizeof(double)),           malloc(experts * sizeof(double)),
                 malloc(experts * sizeof(int64_t)),          malloc(experts * sizeof(int64_t)),
                 malloc(experts * experts * sizeof(int32_t))};
    if (!(on->share && on->made && on->usage && on->score && on->others && on->used && on->counts) || all->k > MOST)
        return -1;
    for (int64_t token = 0; token < all->n; token++)
        if (all->pair[token] >= all->pairs || (token && all->pair[token] < all->pair[token - 1]))
            return -1;
    for (int64_t i = 0; i < all->n * all->k; i++)
        if (all->lower[i] >= all->experts || all->upper[i] >= all->experts)
            return -1;
    return 0;
}

static void close_desk(desk *on) {
    free(on->share), free(on->made), free(on->usage), free(on->score);
    free(on->others), free(on->used), free(on->counts);
}

/* The end of the tokens of the same pair. */
static int64_t end_of_pair(const tokens *all, int64_t begin) {
    int64_t end = begin;
    while (end < all->n && all->pair[end] == all->pair[begin])
        end++;
    return end;
}

/* A score among all: how many are better, and how many (alike) equal it. */
typedef struct {
    double score;
    int64_t better, alike;
} border;

/* The loops that take the time, compiled for any processor, and for those that take four numbers at once. */
#define LOOPS(FOR, ADD_UP, REACHED, PLACE, SHARES, WHOLE_SHARES)                                                      \
    /* Into `score` (experts) the sum of the lines of a token's lower experts, several at a time: they come from      \
     * further away. */                                                                                               \
    FOR static void ADD_UP(double *restrict score, const double *share, int64_t experts, const uint16_t *lower,       \
                           int64_t k) {                                                                               \
        int64_t i = 0;                                                                                                \
        for (int64_t e = 0; e < experts; e++)                                                                         \
            score[e] = 0.0;                                                                                           \
        for (; i + TOGETHER <= k; i += TOGETHER) {                                                                    \
            const double *a = share + lower[i] * experts, *b = share + lower[i + 1] * experts;                        \
            const double *c = share + lower[i + 2] * experts, *d = share + lower[i + 3] * experts;                    \
            for (int64_t e = 0; e < experts; e++)                                                                     \
                score[e] = score[e] + a[e] + b[e] + c[e] + d[e];                                                      \
        }                                                                                                             \
        for (; i < k; i++)                                                                                            \
            for (int64_t e = 0; e < experts; e++)                                                                     \
                score[e] += share[lower[i] * experts + e];                                                            \
    }                                                                                                                 \
    /* How many scores reach each of four. */                                                                         \
    FOR static void REACHED(const double *score, int64_t experts, const double *own, int64_t *reached) {              \
        double a = own[0], b = own[1], c = own[2], d = own[3];                                                        \
        int64_t w = 0, x = 0, y = 0, z = 0;                                                                           \
        for (int64_t e = 0; e < experts; e++) {                                                                       \
            double other = score[e];                                                                                  \
            w += other >= a, x += other >= b, y += other >= c, z += other >= d;                                       \
        }                                                                                                             \
        reached[0] = w, reached[1] = x, reached[2] = y, reached[3] = z;                                               \
    }                                                                                                                 \
    /* How many scores are above one, and how many equal it. */                                                       \
    FOR static border PLACE(const double *score, int64_t experts, double own) {                                       \
        int64_t above = 0, level = 0;                                                                                 \
        for (int64_t e = 0; e < experts; e++)                                                                         \
            above += score[e] > own, level += score[e] == own;                                                        \
        return (border){own, above, level};                                                                           \
    }                                                                                                                 \
    /* Into `line` (experts) the share of each upper expert in `weight` tokens, of which it had so many and a part of \
     * `prior`. */                                                                                                    \
    FOR static void SHARES(double *restrict line, const int32_t *counts, int64_t experts, double prior,               \
                           const double *usage, double weight) {                                                      \
        for (int64_t e = 0; e < experts; e++)                                                                         \
            line[e] = ((double)counts[e] + prior * usage[e]) / weight;                                                \
    }                                                                                                                 \
    /* Likewise without `prior`, of counts that 32 bits hold. */                                                      \
    FOR static void WHOLE_SHARES(double *restrict line, const int64_t *counts, int64_t experts, double weight) {      \
        for (int64_t e = 0; e < experts; e++)                                                                         \
            line[e] = (double)(int32_t)counts[e] / weight;                                                            \
    }

LOOPS(, add_up_any, reached_any, place_any, shares_any, whole_shares_any)
LOOPS(WIDE, add_up_wide, reached_wide, place_wide, shares_wide, whole_shares_wide)

#define CHOSEN(NAME) (IS_WIDE ? NAME##_wide : NAME##_any)

/* The last of the k best of all. */
static border border_of(const double *score, int64_t experts, int64_t k) {
    border last = {0.0, 0, 1};
    int found = 0;
    for (int64_t e = 0; e < experts; e++)
        if (!found || score[e] > last.score) {
            border own = CHOSEN(place)(score, experts, score[e]);
            if (own.better + own.alike >= k)
                last = own, found = 1;
        }
    return last;
}

/* How many of k experts are expected among the k best of all, of which the last is known; ties are broken at random. */
static double within(border last, int64_t k, const double *score, const uint16_t *chosen) {
    int64_t sure = 0, tied = 0;
    for (int64_t i = 0; i < k; i++) {
        sure += score[chosen[i]] > last.score;
        tied += score[chosen[i]] == last.score;
    }
    return (double)sure + (double)(tied * (k - last.better)) / (double)last.alike;
}

/* As `within`, of scores whose border is not known. */
static double among_best(const double *score, int64_t experts, const uint16_t *chosen, int64_t k) {
    int64_t sure = 0;
    int others = 0;
    double best = 0.0; /* of the others: none of them but what equals it may be at the border */
    for (int64_t from = 0; from < k; from += TOGETHER) {
        double own[TOGETHER];
        int64_t reached[TOGETHER];
        for (int64_t i = 0; i < TOGETHER; i++)
            own[i] = score[chosen[from + i < k ? from + i : from]];
        CHOSEN(reached)(score, experts, own, reached);
        for (int64_t i = 0; i < TOGETHER && from + i < k; i++)
            if (reached[i] <= k)
                sure++;
            else if (!others || own[i] > best)
                best = own[i], others = 1;
    }
    if (others) {
        border last = CHOSEN(place)(score, experts, best);
        if (last.better < k)
            return within(last, k, score, chosen);
    }
    return (double)sure;
}

/* Each half of a pair's tokens by what the other teaches: how many more of a token's experts the lower layer foretells
 * than are among the most used ones, into `gained` (n). */
int gains(const tokens *all, double prior, double *gained) {
    int64_t experts = all->experts, k = all->k;
    desk on;
    int failed = open_desk(&on, all);
    for (int64_t begin = 0, end; !failed && begin < all->n; begin = end) {
        end = end_of_pair(all, begin);
        int64_t middle = begin + (end - begin) / 2;
        for (int half = 0; half < 2; half++) {
            int64_t learned = half ? begin : middle, unlearned = half ? middle : end;
            int64_t tested = half ? middle : begin, untested = half ? end : middle;
            double number = unlearned > learned ? (double)(unlearned - learned) : 1.0;
            memset(on.counts, 0, (size_t)(experts * experts) * sizeof *on.counts);
            memset(on.others, 0, (size_t)experts * sizeof *on.others);
            memset(on.made, 0, (size_t)experts);
            for (int64_t e = 0; e < experts; e++)
                on.usage[e] = 0.0;
            for (int64_t token = learned; token < unlearned; token++)
                for (int64_t i = 0; i < k; i++) {
                    int64_t from = all->lower[token * k + i];
                    on.others[from]++;
                    on.usage[all->upper[token * k + i]] += 1.0;
                    for (int64_t j = 0; j < k; j++)
                        on.counts[from * experts + all->upper[token * k + j]]++;
                }
            for (int64_t e = 0; e < experts; e++)
                on.usage[e] /= number;
            border used = border_of(on.usage, experts, k);
            for (int64_t token = tested; token < untested; token++) {
                const uint16_t *lower = all->lower + token * k, *upper = all->upper + token * k;
                for (int64_t i = 0; i < k; i++) {
                    int64_t from = lower[i];
                    if (on.made[from])
                        continue;
                    on.made[from] = 1;
                    CHOSEN(shares)(on.share + from * experts, on.counts + from * experts, experts, prior, on.usage,
                                   (double)on.others[from] + prior);
                }
                CHOSEN(add_up)(on.score, on.share, experts, lower, k);
                gained[token] = among_best(on.score, experts, upper, k) - within(used, k, on.usage, upper);
            }
        }
    }
    close_desk(&on);
    return failed;
}

/* Each token by what all others of its pair teach, of which `counts` (pairs, experts, experts) tell, itself included:
 * how many of its experts are foretold, and how many are among the most used ones, into `found` (2, n). */
int hits(const tokens *all, const int64_t *counts, double *found) {
    int64_t experts = all->experts, k = all->k;
    desk on;
    int failed = open_desk(&on, all);
    for (int64_t begin = 0, end; !failed && begin < all->n; begin = end) {
        end = end_of_pair(all, begin);
        const int64_t *table = counts + all->pair[begin] * experts * experts;
        int64_t bits = 0; /* of all counts */
        memset(on.made, 0, (size_t)experts);
        memset(on.used, 0, (size_t)experts * sizeof *on.used);
        for (int64_t from = 0; from < experts; from++) {
            const int64_t *line = table + from * experts;
            int64_t followed = 0;
            for (int64_t e = 0; e < experts; e++)
                followed += line[e], on.used[e] += line[e], bits |= line[e];
            on.others[from] = followed - k > 1 ? followed - k : 1;
        }
        for (int64_t e = 0; e < experts; e++)
            on.usage[e] = (double)on.used[e];
        border used = border_of(on.usage, experts, k);
        for (int64_t token = begin; token < end; token++) {
            const uint16_t *lower = all->lower + token * k, *upper = all->upper + token * k;
            for (int64_t i = 0; i < k; i++) {
                int64_t from = lower[i];
                const int64_t *counted = table + from * experts;
                double *line = on.share + from * experts, weight = (double)on.others[from];
                if (on.made[from])
                    continue;
                on.made[from] = 1;
                if (bits >> 31 == 0)
                    CHOSEN(whole_shares)(line, counted, experts, weight);
                else
                    for (int64_t e = 0; e < experts; e++)
                        line[e] = (double)counted[e] / weight;
            }
            CHOSEN(add_up)(on.score, on.share, experts, lower, k);
            for (int64_t j = 0; j < k; j++) {
                double own = 0.0;
                for (int64_t i = 0; i < k; i++)
                    own += (double)(table[lower[i] * experts + upper[j]] - 1) / (double)on.others[lower[i]];
                on.score[upper[j]] = own;
            }
            found[token] = among_best(on.score, experts, upper, k);
            found[all->n + token] = within(used, k, on.usage, upper);
        }
    }
    close_desk(&on);
    return failed;
}
