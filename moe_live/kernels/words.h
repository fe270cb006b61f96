/* For loops that look at the eight bytes of a word together. They are made for the order of bytes that is usual. */

#include <stdint.h>

#define IS_LITTLE (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
#define EACH 0x0101010101010101u /* the same for each byte, as a factor */

/* The lowest bits of the bytes of a word: that of the first one lowest. */
static inline uint8_t lowest_bits(uint64_t word) {
    return (uint8_t)((word & EACH) * 0x0102040810204080u >> 56);
}
