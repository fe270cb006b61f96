/* Lines of floats to numbers: see formats/float_text.py for what is one. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "words.h"

/* A word holds any number of so many digits. */
enum { WORD = 8, WINDOW = 2 * WORD, MOST_PLACES = 22, MOST_DIGITS = 19 };

/* Powers of ten that a double holds exactly. */
static const double TENS[MOST_PLACES + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                             1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
static const double SIGN[2] = {1.0, -1.0};

/* Which bytes less '0' are no digits, as 1 or 0 each. */
static uint64_t no_digits(uint64_t word) {
    /* From 10 on the sum reaches the highest bit. */
    return (((word & 0x7f * EACH) + 0x76 * EACH) | word) >> 7 & EACH;
}

/* Eight digits, the first in the lowest byte, to four numbers of two digits, to two of four, to one. */
static uint64_t add_up(uint64_t digits) {
    digits = (digits * (10 << 8 | 1)) >> 8 & 0x00ff00ff00ff00ff;
    digits = (digits * (100 << 16 | 1)) >> 16 & 0x0000ffff0000ffff;
    return (digits * ((uint64_t)10000 << 32 | 1)) >> 32;
}

/* Read a number as most are, of which a window of bytes is seen: digits and a dot, and nothing but zeros before the
 * last eight bytes. Returns how long it is, 0 if it is not like that. What is done does not depend on its digits and
 * its length, which no processor can guess. */
static int64_t read_usual(const char *text, double *value) {
    uint64_t low, high;
    memcpy(&low, text, WORD);
    memcpy(&high, text + WORD, WORD);
    low ^= '0' * EACH, high ^= '0' * EACH;
    uint64_t not_low = no_digits(low), not_high = no_digits(high);
    low &= ~(not_low * 0xff), high &= ~(not_high * 0xff);
    uint32_t no_digit = lowest_bits(not_low) | (uint32_t)lowest_bits(not_high) << WORD | 3 << WINDOW;
    int64_t is_negative = *text == '-';
    no_digit &= ~(uint32_t)is_negative;
    int64_t dot = __builtin_ctz(no_digit), end = __builtin_ctz(no_digit & (no_digit - 1)), places = end - dot - 1;
    if (end >= WINDOW || text[dot] != '.' || dot == is_negative || !places || (text[end] != ' ' && text[end] != '\n'))
        return 0;
    /* The eight bytes before the end, and what is before these. */
    uint64_t is_long = (uint64_t)0 - (uint64_t)(end > WORD), shift = 8 * (uint64_t)(end - WORD) & 63;
    uint64_t moved = low << (-shift & 63), digits = low >> shift | high << (-shift & 63);
    digits = (digits & is_long) | (moved & ~is_long);
    if (moved & is_long)
        return 0;
    uint64_t decimals = digits & ~(uint64_t)0 << 8 * (places < WORD ? WORD - places : 0);
    digits = (digits ^ decimals) << 8 | decimals;
    *value = SIGN[is_negative] * (double)(int64_t)add_up(digits) / TENS[places];
    return end;
}

static const char *read_digits(const char *at, uint64_t *digits) {
    for (; (unsigned char)(*at - '0') < 10; at++)
        *digits = 10 * *digits + (uint64_t)(*at - '0');
    return at;
}

/* Read any number: where it ends, NULL if it is none. Behind it is a byte that is of no number. */
static const char *read_any(const char *text, double *value, int *failed) {
    uint64_t digits = 0, power = 0;
    int is_exact = 1;
    int64_t places = 0, exponent = 0, is_negative = *text == '-';
    const char *first = text + is_negative, *at = read_digits(first, &digits);
    if (at == first) {
        int is_inf = at[0] == 'i' && at[1] == 'n' && at[2] == 'f';
        int is_nan = at[0] == 'n' && at[1] == 'a' && at[2] == 'n';
        *value = copysign(is_inf ? (double)INFINITY : (double)NAN, SIGN[is_negative]);
        return is_inf || is_nan ? at + 3 : NULL;
    }
    int64_t n = at - first;
    if (*at == '.') {
        first = at + 1;
        at = read_digits(first, &digits);
        places = at - first;
        if (!places)
            return NULL;
    }
    if (*at == 'e') {
        int64_t is_small = at[1] == '-';
        first = at + 1 + (is_small || at[1] == '+');
        at = read_digits(first, &power);
        if (at == first)
            return NULL;
        is_exact = at - first < MOST_DIGITS;
        exponent = is_small ? -(int64_t)power : (int64_t)power;
    }
    exponent -= places;
    is_exact = is_exact && n + places <= MOST_DIGITS && digits <= (uint64_t)1 << 53; /* that a double holds */
    if (is_exact && exponent >= -MOST_PLACES && exponent <= MOST_PLACES) {
        double is = SIGN[is_negative] * (double)(int64_t)digits; /* and so is the power of ten: it is rounded once */
        *value = exponent < 0 ? is / TENS[-exponent] : is * TENS[exponent];
        return at;
    }
    char *end;
    *value = strtod(text, &end);
    *failed |= end < at; /* where a comma stands for the dot */
    return at;
}

/* Read lines (n) of a text (size), of which each begins and ends there, before a newline: none is read past that.
 *
 * `width` (n) is how many floats each has, 0 if anything else is in it. `value` are those of the others: it has room
 * for half as many as there are bytes, newlines included, and one. Returns 0, or -1 if it cannot be done. */
int read_floats(const char *text, int64_t size, int64_t n, const int64_t *bounds, int64_t *width, double *value) {
    const char *limit = text + size;
    int failed = 0;
    for (int64_t line = 0; line < n; line++) {
        const char *at = text + bounds[2 * line], *end = text + bounds[2 * line + 1];
        int64_t found = 0;
        while (at && at <= end) {
            int64_t length = IS_LITTLE && limit - at >= WINDOW ? read_usual(at, value + found) : 0;
            at = length ? at + length : read_any(at, value + found, &failed);
            if (!at || (*at != ' ' && at != end))
                break;
            found++;
            at++;
        }
        width[line] = at == end + 1 ? found : 0;
        value += width[line];
    }
    return failed ? -1 : 0;
}
