/* Expert lines to numbers: see formats/expert_lines.py for what is one. */

#include <stdint.h>
#include <string.h>

#include "wide.h"
#include "words.h"

enum { CHUNK = 255 * 16, LONGEST = 32, LINE = 64, BITS = 8, DIGITS = 4 };

/* Complete lines (size): so many that a byte can count their vectors. Before them stand newlines, behind them digits,
 * as many as are looked at together. */
typedef struct {
    _Alignas(LINE) uint8_t room[LINE + CHUNK + LONGEST];
    _Alignas(LINE) uint8_t is_separator[CHUNK + LONGEST]; /* 255 or 0 */
    _Alignas(LINE) uint8_t low[CHUNK + LONGEST];          /* 100 high + low ends before each byte, were it one */
    _Alignas(LINE) uint8_t high[CHUNK + LONGEST];
    _Alignas(LINE) int16_t at[CHUNK + LONGEST];           /* where separators are */
    const uint8_t *text;
    int64_t size;
} chunk;

/* How many blanks there are, and whether a number is empty or too long. */
typedef struct {
    int64_t blanks;
    int odd;
} sight;

/* Where each byte has bits, and how many; hundreds, which are faster looked up than multiplied. */
typedef struct {
    int16_t place[256][BITS];
    uint8_t bits[256];
    uint16_t hundred[100];
} tables;

static void fill(tables *all) {
    memset(all, 0, sizeof *all);
    for (int64_t byte = 0; byte < 256; byte++)
        for (int64_t bit = 0; bit < BITS; bit++)
            if (byte >> bit & 1)
                all->place[byte][all->bits[byte]++] = (int16_t)bit;
    for (int64_t n = 0; n < 100; n++)
        all->hundred[n] = (uint16_t)(100 * n);
}

static void take_in(chunk *of, const uint8_t *text, int64_t size) {
    memset(of->room, '\n', LINE);
    memcpy(of->room + LINE, text, (size_t)size);
    memset(of->room + LINE + size, '0', LONGEST);
    of->text = of->room + LINE;
    of->size = size;
}

/* Look at so many bytes (LANES) at a time. What is true is 255 there, what is false 0. */
#define LOOK(FOR, NAME, VECTOR, LANES)                                                                                \
    typedef uint8_t VECTOR __attribute__((vector_size(LANES), aligned(1), may_alias));                                \
    FOR static sight NAME(chunk *restrict of) {                                                                       \
        VECTOR odd = {0}, blanks = {0};                                                                               \
        sight all = {0, 0};                                                                                           \
        for (int64_t i = 0; i < of->size; i += LANES) {                                                               \
            const uint8_t *text = of->room + LINE + i;                                                                \
            VECTOR here = *(const VECTOR *)text - '0', a = *(const VECTOR *)(text - 1) - '0';                         \
            VECTOR b = *(const VECTOR *)(text - 2) - '0', c = *(const VECTOR *)(text - 3) - '0';                      \
            VECTOR d = *(const VECTOR *)(text - 4) - '0', e = *(const VECTOR *)(text - 5) - '0';                      \
            /* whether a separator is among as many bytes before */                                                   \
            VECTOR one = (VECTOR)(a > 9), two = one | (VECTOR)(b > 9), three = two | (VECTOR)(c > 9);                 \
            VECTOR four = three | (VECTOR)(d > 9), five = four | (VECTOR)(e > 9), is = (VECTOR)(here > 9);            \
            b &= ~two, c &= ~three, d &= ~four;                                                                       \
            b += b, b += b + b + b + b, d += d, d += d + d + d + d; /* ten times as much */                           \
            *(VECTOR *)(of->low + i) = b + a;                                                                         \
            *(VECTOR *)(of->high + i) = d + c;                                                                        \
            *(VECTOR *)(of->is_separator + i) = is;                                                                   \
            odd |= is & (one | ~five);                                                                                \
            blanks -= (VECTOR)(*(const VECTOR *)text == ' ');                                                         \
        }                                                                                                             \
        for (int64_t lane = 0; lane < LANES; lane++)                                                                  \
            all.blanks += blanks[lane], all.odd |= odd[lane];                                                         \
        return all;                                                                                                   \
    }

LOOK(, look_any, any, 16)
#if HAS_WIDE
LOOK(WIDE, look_wide, wide, LONGEST)
#else
#define look_wide look_any
#endif

/* Find where separators are: how many. */
static int64_t find_separators(chunk *restrict of, const tables *restrict all) {
    int64_t n = 0;
    for (int64_t i = 0; i < of->size; i += BITS) {
        uint64_t eight;
        memcpy(&eight, of->is_separator + i, BITS);
        uint8_t byte = lowest_bits(eight);
        int16_t *restrict at = of->at + n;
        for (int64_t j = 0; j < BITS; j++)
            at[j] = (int16_t)(all->place[byte][j] + i);
        n += all->bits[byte];
    }
    return n;
}

/* The numbers (n) before separators; returns one that none is above. */
static uint16_t pick(const chunk *restrict of, int64_t n, const tables *restrict all, uint16_t *restrict number) {
    uint16_t bound = 0;
    for (int64_t i = 0; i < n; i++) {
        number[i] = (uint16_t)(of->low[of->at[i]] + all->hundred[of->high[of->at[i]]]);
        bound |= number[i];
    }
    return bound;
}

/* What lines are read to: see below. */
typedef struct {
    int64_t layers, experts, k; /* bounds */
    uint16_t *number, *width;
    int64_t *end;
    int64_t numbers, lines;
} result;

/* Take the lines of a chunk that begins there, if all are well-formed and have the same k: whether they are. Its
 * numbers (n) are behind those that were taken, and none is above `bound`. */
static int take_table(result *to, const chunk *of, int64_t begin, int64_t n, sight is, uint16_t bound) {
    const uint16_t *number = to->number + to->numbers;
    int64_t width = 1;
    while (of->text[of->at[width - 1]] != '\n')
        width++;
    int64_t rows = n / width;
    /* All other separators are blanks if the first of each line is a comma and the last a newline. */
    int odd = is.odd || n % width || width < 2 || width > to->k + 1 || bound >= to->experts;
    odd = odd || is.blanks != n - 2 * rows;
    for (int64_t row = 0; !odd && row < rows; row++) {
        int64_t first = row * width, last = first + width - 1;
        odd = number[first] >= to->layers || of->text[of->at[first]] != ',' || of->text[of->at[last]] != '\n';
        to->width[to->lines + row] = (uint16_t)(width - 1);
        to->end[to->lines + row] = begin + of->at[last];
    }
    if (odd)
        return 0;
    to->lines += rows;
    to->numbers += n;
    return 1;
}

/* Take lines one by one, whatever they are. */
static void take_each(result *to, const chunk *of, int64_t begin, int64_t n) {
    uint16_t *number = to->number + to->numbers, *kept = number;
    int64_t before = -1;
    for (int64_t i = 0, first = 0, odd = 0; i < n; i++) {
        int64_t at = of->at[i], k = i - first;
        uint8_t is = of->text[at];
        odd |= at - before < 2 || at - before > DIGITS + 1 || number[i] >= (k ? to->experts : to->layers);
        odd |= k ? is != ' ' && is != '\n' : is != ',';
        before = at;
        if (is != '\n')
            continue;
        odd |= k > to->k;
        to->width[to->lines] = (uint16_t)(odd ? 0 : k);
        to->end[to->lines++] = begin + at;
        if (!odd) {
            memmove(kept, number + first, (size_t)(k + 1) * sizeof *number);
            kept += k + 1;
        }
        first = i + 1;
        odd = 0;
    }
    to->numbers += kept - number;
}

/* Read the lines of a text (size) that ends in a newline, as many as there is room for (most).
 *
 * `width` (most) is how many experts each line has, 0 if it is not well-formed; `end` (most) is where its newline is.
 * `number` (size / 2 + CHUNK) has the layers and experts of those that are. `read` is how many bytes, lines and numbers
 * that are. Returns 0, or -1 if it cannot be done. */
int read_lines(const uint8_t *text, int64_t size, int64_t most, int64_t layers, int64_t experts, int64_t k,
               uint16_t *number, uint16_t *width, int64_t *end, int64_t *read) {
    result to = {layers, experts, k, number, width, end, 0, 0};
    chunk of;
    tables all;
    int64_t begin = 0;
    if (!IS_LITTLE || (k + 1) * (DIGITS + 1) > CHUNK || most < CHUNK)
        return -1;
    if (size < 1 || text[size - 1] != '\n')
        return -1;
    fill(&all);
    while (begin < size && to.lines + CHUNK <= most) {
        int64_t stop = size - begin < CHUNK ? size : begin + CHUNK;
        while (stop > begin && text[stop - 1] != '\n')
            stop--;
        if (stop > begin) {
            take_in(&of, text + begin, stop - begin);
            sight is = (IS_WIDE ? look_wide : look_any)(&of);
            int64_t n = find_separators(&of, &all);
            uint16_t bound = pick(&of, n, &all, number + to.numbers);
            if (!take_table(&to, &of, begin, n, is, bound))
                take_each(&to, &of, begin, n);
            begin = stop;
        } else { /* a line longer than any that is well-formed */
            const uint8_t *newline = memchr(text + begin, '\n', (size_t)(size - begin));
            width[to.lines] = 0;
            end[to.lines++] = newline - text;
            begin = newline - text + 1;
        }
    }
    read[0] = begin, read[1] = to.lines, read[2] = to.numbers;
    return 0;
}
