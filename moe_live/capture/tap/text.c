// A step as lines of the log.
//
//     # step pos=17 104 5 seq=0 2 1 out=1 1 0
//     gate_input,LAYER,ROW,F F ...
//     LAYER,ID ID ...[,WEIGHT WEIGHT ...]
#define _GNU_SOURCE
#include "tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER = 24 };  // bytes that a number and what separates it take at most

#ifndef TAP_VERSION
#define TAP_VERSION "unknown"
#endif

static char *room_for(struct text *text, size_t more) {
    if (text->capacity - text->length < more) {
        size_t capacity = text->capacity + text->capacity / 2 + more + 4096;
        char *bytes = realloc(text->bytes, capacity);
        if (!bytes)
            return NULL;
        text->bytes = bytes;
        text->capacity = capacity;
    }
    return text->bytes + text->length;
}

// Writes a whole number; returns how many bytes it took.
size_t write_int(char *at, int64_t value) {
    char digits[NUMBER];
    int count = 0;
    size_t length = 0;
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do
        digits[count++] = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0)
        at[length++] = '-';
    while (count)
        at[length++] = digits[--count];
    return length;
}

// Six significant digits as a whole number from 100000 to 999999, and which power of ten the first of them has.
// False if double precision cannot tell how the exact value is rounded.
static bool six_digits(double value, int32_t *digits, int *exponent) {
    static const double power[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10};
    int first = value >= 1e5 ? 5 : value >= 1e4 ? 4 : value >= 1e3 ? 3 : value >= 1e2 ? 2 : value >= 1e1 ? 1 :
                value >= 1e0 ? 0 : value >= 1e-1 ? -1 : value >= 1e-2 ? -2 : value >= 1e-3 ? -3 : -4;
    double scaled = value * power[5 - first];
    int32_t whole = (int32_t)scaled;
    double rest = scaled - whole;
    if (rest > 0.499999 && rest < 0.500001)
        return false;
    *digits = whole + (rest > 0.5);
    *exponent = first;
    if (*digits == 1000000) {
        *digits = 100000;
        ++*exponent;
    }
    return *digits >= 100000;
}

// Writes six digits with their point, without zeros at the end, as %g does from 0.0001 up to a million.
static size_t write_fixed(char *at, int32_t digits, int exponent) {
    char text[6];
    int kept = 6;
    size_t length = 0;
    for (int i = 5; i >= 0; i--, digits /= 10)
        text[i] = (char)('0' + digits % 10);
    while (kept > 1 && kept > exponent + 1 && text[kept - 1] == '0')
        kept--;
    if (exponent < 0) {
        at[length++] = '0';
        at[length++] = '.';
        for (int i = -1; i > exponent; i--)
            at[length++] = '0';
    }
    for (int i = 0; i < kept; i++) {
        at[length++] = text[i];
        if (i == exponent && i + 1 < kept)
            at[length++] = '.';
    }
    return length;
}

// Writes a number as printf's %g does; returns how many bytes it took. Five times as fast, which matters: gate inputs
// are five thousand numbers a row and layer. What is left to printf is rare.
size_t write_float(char *at, float value) {
    double size = value < 0 ? -(double)value : (double)value;
    int32_t digits;
    int exponent;
    if (size >= 1e-4 && size < 999999.0 && six_digits(size, &digits, &exponent)) {
        if (value < 0)
            *at = '-';
        return (value < 0) + write_fixed(at + (value < 0), digits, exponent);
    }
    return (size_t)snprintf(at, NUMBER, "%g", (double)value);
}

static bool add(struct text *text, const char *bytes, size_t length) {
    char *at = room_for(text, length);
    if (!at)
        return false;
    memcpy(at, bytes, length);
    text->length += length;
    return true;
}

static bool add_ints(struct text *text, const char *name, const int32_t *values, int32_t count) {
    char *at = add(text, name, strlen(name)) ? room_for(text, (size_t)count * NUMBER) : NULL;
    if (!at)
        return false;
    for (int32_t i = 0; i < count; i++) {
        if (i)
            *at++ = ' ';
        at += write_int(at, values[i]);
    }
    text->length = (size_t)(at - text->bytes);
    return true;
}

static bool add_floats(struct text *text, const float *values, int32_t count) {
    char *at = room_for(text, (size_t)count * NUMBER);
    if (!at)
        return false;
    for (int32_t i = 0; i < count; i++) {
        if (i)
            *at++ = ' ';
        at += write_float(at, values[i]);
    }
    text->length = (size_t)(at - text->bytes);
    return true;
}

bool text_of_header(struct text *text, bool weights) {
    static const char version[] = "# moe-live tap " TAP_VERSION "\n";
    const char *columns = weights ? "layer_id,expert_ids,weights\n" : "layer_id,expert_ids\n";
    return add(text, version, sizeof version - 1) && add(text, columns, strlen(columns));
}

bool text_of_dropped(struct text *text, unsigned steps) {
    char line[64];
    return add(text, line, (size_t)snprintf(line, sizeof line, "# dropped %u\n", steps));
}

// The line that begins a step, if there is anything to be told.
static bool add_beginning(struct text *text, const struct step *step) {
    size_t before = text->length;
    if (!step->position && !step->warmup)
        return true;
    bool done = add(text, "# step", 6);
    if (step->position)
        done = done && add_ints(text, " pos=", step->position, step->tokens);
    if (step->sequence)
        done = done && add_ints(text, " seq=", step->sequence, step->tokens);
    if (step->output)
        done = done && add_ints(text, " out=", step->output, step->tokens);
    if (step->warmup)
        done = done && add(text, " warmup=1", 9);
    done = done && add(text, "\n", 1);
    if (!done)
        text->length = before;
    return done;
}

static bool add_draft_layers(struct text *text, const struct step *step) {
    char line[64] = "# draft ";
    for (int i = 0; i < step->blocks; i++) {
        size_t length = 8 + write_int(line + 8, step->block[i].layer);
        line[length++] = '\n';
        if (!add(text, line, length))
            return false;
    }
    return true;
}

static bool add_inputs(struct text *text, const struct block *block, int32_t row) {
    const float *input = block->inputs + (size_t)row * (size_t)block->n_embd;
    const int32_t numbers[] = {block->layer, row};
    return add_ints(text, "gate_input,", &numbers[0], 1) && add_ints(text, ",", &numbers[1], 1) && add(text, ",", 1) &&
           add_floats(text, input, block->n_embd) && add(text, "\n", 1);
}

static bool add_row(struct text *text, const struct block *block, int32_t row) {
    size_t first = (size_t)row * (size_t)block->top_k;
    if (!add_ints(text, "", &block->layer, 1) || !add_ints(text, ",", block->experts + first, block->top_k))
        return false;
    if (block->weights && (!add(text, ",", 1) || !add_floats(text, block->weights + first, block->top_k)))
        return false;
    return add(text, "\n", 1);
}

// Adds a line of a block, or nothing of it: the inputs of all rows come first, then the rows.
static bool add_line(struct text *text, const struct block *block, int line) {
    int inputs = block->inputs ? block->rows : 0;
    size_t before = text->length;
    bool done = line < inputs ? add_inputs(text, block, line) : add_row(text, block, line - inputs);
    if (!done)
        text->length = before;
    return done;
}

static int lines_of(const struct block *block) {
    return block->rows * (block->inputs ? 2 : 1);
}

// Adds lines from where `cursor` is until there are `limit` bytes, or no more. False: no memory.
bool text_of_step(struct text *text, const struct step *step, struct cursor *cursor, size_t limit) {
    if (cursor->block < 0) {
        if ((step->drafts && step->first && !add_draft_layers(text, step)) || !add_beginning(text, step))
            return false;
        *cursor = (struct cursor){0, 0};
    }
    for (; cursor->block < step->blocks; cursor->block++, cursor->line = 0)
        for (const struct block *block = &step->block[cursor->block]; cursor->line < lines_of(block); cursor->line++) {
            if (text->length >= limit)
                return true;
            if (!add_line(text, block, cursor->line))
                return false;
        }
    return true;
}
