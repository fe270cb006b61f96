// Memory for what a device is asked for.
#include "context.h"

#include <stdlib.h>

void staging_free(struct staging *staging, const struct ggml *ggml) {
    if (staging->buffer)
        ggml->buffer_free(staging->buffer);
    else
        free(staging->bytes);
    *staging = (struct staging){0};
}

// False: no memory. What was in it is lost.
bool staging_has_room(struct staging *staging, const struct ggml *ggml, void *backend, size_t size) {
    if (size <= staging->size)
        return true;
    staging_free(staging, ggml);
    size += size / 2;  // a context that is in use gets somewhat larger steps
    void *device = backend ? ggml->device_of(backend) : NULL;
    void *memory = device ? ggml->host_memory_of(device) : NULL;
    staging->buffer = memory ? ggml->buffer_new(memory, size) : NULL;
    staging->bytes = staging->buffer ? ggml->buffer_base(staging->buffer) : malloc(size);
    staging->size = staging->bytes ? size : 0;
    return staging->bytes != NULL;
}
