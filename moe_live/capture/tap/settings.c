// What the environment of the program tells the tap, read before the program begins.
#define _GNU_SOURCE
#include "tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct settings settings;

bool logs_inputs(int32_t layer) {
    return layer >= 0 && layer < 1024 && settings.gate_layers[layer / 64] >> (layer % 64) & 1;
}

// A list such as "20-24,30"; false if it is none.
static bool read_layers(const char *text) {
    while (*text) {
        char *end;
        long first = strtol(text, &end, 10), last = first;
        if (end == text)
            return false;
        if (*end == '-') {
            text = end + 1;
            last = strtol(text, &end, 10);
            if (end == text)
                return false;
        }
        if (first < 0 || last < first || last >= 1024 || (*end && *end != ','))
            return false;
        for (long layer = first; layer <= last; layer++)
            settings.gate_layers[layer / 64] |= UINT64_C(1) << (layer % 64);
        text = *end ? end + 1 : end;
    }
    return true;
}

// The path from the root, for programs that change their directory; kept for good. NULL if it is not set.
static const char *read_path(const char *variable) {
    const char *value = getenv(variable);
    char directory[4096], *path = NULL;
    if (!value || !*value)
        return NULL;
    if (*value == '/' || !getcwd(directory, sizeof directory))
        return strdup(value);
    return asprintf(&path, "%s/%s", directory, value) < 0 ? NULL : path;
}

void settings_read(void) {
    const char *weights = getenv("MOE_LIVE_WEIGHTS"), *layers = getenv("MOE_LIVE_GATE_LAYERS");
    settings.path[MODEL] = read_path("MOE_LIVE_LOG");
    settings.path[OTHERS] = read_path("MOE_LIVE_DRAFTS");
    settings.weights = weights && !strcmp(weights, "1");
    settings.on = settings.path[MODEL] != NULL;
    if (settings.on && layers && !read_layers(layers)) {
        say(SETTING, "MOE_LIVE_GATE_LAYERS=%s is not a list of layers such as 20-24,30: nothing is logged", layers);
        settings.on = false;
    }
}
