// Finding what a caller would have called without the tap, and proving that its tensors are laid out as declared.
//
// A call is bound to the first library of the program's that has the function, or else to one that the caller itself
// needs: hosts that load their libraries privately (Python's ctypes, Node's addons) hide them from all others, wheels
// rename them, and two copies may be loaded at once. So both are asked, in this order.
#define _GNU_SOURCE
#include "tap.h"

#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

OLDEST(dladdr);
OLDEST(dlclose);
OLDEST(dlopen);
OLDEST(dlsym);

static _Atomic(struct ggml *) copies;

// `dlsym` gives functions as `void *`; POSIX guarantees the conversion that ISO C leaves open.
static function as_function(void *address) {
    function result;
    _Static_assert(sizeof result == sizeof address, "functions and data have addresses of one size");
    memcpy(&result, &address, sizeof result);
    return result;
}

static bool is_ours(void *address) {
    Dl_info theirs, ours;
    static const int here;
    return dladdr(address, &theirs) && dladdr(&here, &ours) && theirs.dli_fbase == ours.dli_fbase;
}

static void *symbol_of(void *object, const char *name) {
    void *address = dlsym(object, name);
    return address && !is_ours(address) ? address : NULL;
}

struct search {
    const char *name;
    void *found;
};

static int look_into(struct dl_phdr_info *info, size_t size, void *data) {
    struct search *search = data;
    (void)size;
    void *object = info->dlpi_name ? dlopen(info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD) : NULL;
    if (object) {
        search->found = symbol_of(object, search->name);
        dlclose(object);
    }
    return search->found != NULL;
}

// The object with this code, kept loaded for good: what is remembered of it must not be unmapped. NULL if it
// is the program itself.
static void *object_at(void *address) {
    Dl_info info;
    if (!dladdr(address, &info) || !info.dli_fname)
        return NULL;
    return dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

static void *address_near(void *address, const char *name) {
    void *object = object_at(address), *found = symbol_of(RTLD_NEXT, name);
    if (!found && object)
        found = symbol_of(object, name);
    if (object)
        dlclose(object);
    if (!found) {  // the caller names no library that it needs, and who loaded it hid that
        struct search search = {.name = name};
        dl_iterate_phdr(look_into, &search);
        found = search.found;
    }
    if (found && (object = object_at(found)))
        dlclose(object);
    return found;
}

function function_near(void *address, const char *name) {
    return as_function(address_near(address, name));
}

// Call sites are few and their callers are never unloaded: what was found is remembered.
static void *found_from(struct site sites[MAX_SITES], void *address, const char *name) {
    for (int i = 0; i < MAX_SITES; i++)
        if (atomic_load(&sites[i].address) == address) {
            void *found = atomic_load(&sites[i].found);
            if (found)
                return found;
            break;  // another thread is about to note it
        }
    void *found = address_near(address, name);
    for (int i = 0; i < MAX_SITES && found; i++) {
        void *none = NULL;
        if (atomic_compare_exchange_strong(&sites[i].address, &none, address)) {
            atomic_store(&sites[i].found, found);
            break;
        }
    }
    return found;
}

function function_called_from(struct site sites[MAX_SITES], void *address, const char *name) {
    return as_function(found_from(sites, address, name));
}

// The functions with which tensors are made, to see how they are laid out.
struct init_params {
    size_t size;
    void *buffer;
    bool no_alloc;
};

struct maker {
    void *(*init)(struct init_params params);
    void (*free)(void *context);
    struct tensor *(*new_2d)(void *context, int type, int64_t columns, int64_t rows);
    struct tensor *(*view_2d)(void *context, struct tensor *of, int64_t columns, int64_t rows, size_t stride,
                              size_t offset);
    struct tensor *(*mul_mat)(void *context, struct tensor *a, struct tensor *b);
    struct tensor *(*set_name)(struct tensor *tensor, const char *name);
    void (*set_output)(struct tensor *tensor);
    int64_t (*nelements)(const struct tensor *tensor);
};

static bool is_matrix(const struct tensor *tensor, int type, int64_t columns, int64_t rows, size_t stride) {
    return tensor->type == type && tensor->ne[0] == columns && tensor->ne[1] == rows && tensor->ne[2] == 1 &&
           tensor->ne[3] == 1 && tensor->nb[0] == 4 && tensor->nb[1] == stride;
}

// What of the library's tensors is not as declared; NULL if nothing is.
static const char *difference(const struct ggml *ggml, const struct maker *make, void *context) {
    struct tensor *ranking = make->new_2d(context, GGML_TYPE_I32, 7, 5);
    struct tensor *chosen = make->view_2d(context, ranking, 3, 5, 28, 8);
    struct tensor *weight = make->new_2d(context, GGML_TYPE_F32, 6, 4);
    struct tensor *input = make->new_2d(context, GGML_TYPE_F32, 6, 2);
    struct tensor *product = make->mul_mat(context, weight, input);
    make->set_name(chosen, "probe-7");
    if (!is_matrix(ranking, GGML_TYPE_I32, 7, 5, 28) || !is_matrix(product, GGML_TYPE_F32, 4, 2, 16))
        return "types, shapes or strides";
    if (!is_matrix(chosen, GGML_TYPE_I32, 3, 5, 28) || ggml->nbytes(chosen) != 4 * 28 + 3 * 4 ||
        make->nelements(chosen) != 15 || chosen->view_src != ranking || ranking->view_src)
        return "views";
    if (product->src[0] != weight || product->src[1] != input || product->src[2])
        return "operands";
    if (strcmp(ggml->get_name(chosen), "probe-7") != 0)
        return "names";
    int32_t flags = ranking->flags;
    make->set_output(ranking);
    if (flags & FLAG_OUTPUT || ranking->flags != (flags | FLAG_OUTPUT))
        return "flags";
    char *data = ggml->get_data(ranking);
    if (!data || ranking->buffer || ggml->get_data(chosen) != data + 8)
        return "data";
    return NULL;
}

static const char *examine(const struct ggml *ggml, const struct maker *make) {
    void *context = make->init((struct init_params){.size = 1 << 16});
    if (!context)
        return "there is no memory to see how";
    const char *result = difference(ggml, make, context);
    make->free(context);
    return result;
}

// Assigns the function `symbol` that the caller at `near` would get; the name of a missing one goes to `lacking`.
#define FIND(member, symbol)                                          \
    do {                                                              \
        function near_by = function_near(near, symbol);               \
        if (near_by)                                                  \
            memcpy(&(member), &near_by, sizeof near_by);              \
        else                                                          \
            lacking = symbol;                                         \
    } while (0)

// `lacking`: the name of a function that is known to be missing, or NULL.
static bool is_usable(struct ggml *ggml, void *near, const char *lacking) {
    struct maker make = {0};
    FIND(ggml->get_name, "ggml_get_name");
    FIND(ggml->get_data, "ggml_get_data");
    FIND(ggml->nbytes, "ggml_nbytes");
    FIND(ggml->synchronize, "ggml_backend_sched_synchronize");
    FIND(ggml->backend_of, "ggml_backend_sched_get_tensor_backend");
    FIND(ggml->device_of, "ggml_backend_get_device");
    FIND(ggml->host_memory_of, "ggml_backend_dev_host_buffer_type");
    FIND(ggml->buffer_new, "ggml_backend_buft_alloc_buffer");
    FIND(ggml->buffer_base, "ggml_backend_buffer_get_base");
    FIND(ggml->buffer_free, "ggml_backend_buffer_free");
    FIND(ggml->tensor_get, "ggml_backend_tensor_get");
    FIND(ggml->tensor_get_async, "ggml_backend_tensor_get_async");
    FIND(ggml->graph_n_nodes, "ggml_graph_n_nodes");
    FIND(ggml->graph_node, "ggml_graph_node");
    FIND(ggml->graph_get_tensor, "ggml_graph_get_tensor");
    FIND(make.init, "ggml_init");
    FIND(make.free, "ggml_free");
    FIND(make.new_2d, "ggml_new_tensor_2d");
    FIND(make.view_2d, "ggml_view_2d");
    FIND(make.mul_mat, "ggml_mul_mat");
    FIND(make.set_name, "ggml_set_name");
    FIND(make.set_output, "ggml_set_output");
    FIND(make.nelements, "ggml_nelements");
    if (lacking) {
        say(LAYOUT, "this program's ggml has no %s: nothing is logged; use a newer build of it", lacking);
        return false;
    }
    const char *different = examine(ggml, &make);
    if (different)
        say(LAYOUT, "this program's ggml lays out its tensors differently (%s): nothing is logged; "
                    "use another build of it, or a newer moe-live", different);
    return !different;
}

// Two threads may come first at once: then a copy is noted twice, which does no harm.
static struct ggml *new_copy(void *near, void *compute) {
    struct ggml *ggml = calloc(1, sizeof *ggml);
    const char *lacking = NULL;
    if (!ggml)
        return NULL;
    function found = as_function(compute);
    memcpy(&ggml->graph_compute_async, &found, sizeof found);
    FIND(ggml->set_eval_callback, "ggml_backend_sched_set_eval_callback");
    FIND(ggml->sched_free, "ggml_backend_sched_free");
    if (lacking) {
        free(ggml);
        return NULL;
    }
    FIND(ggml->reserve, "ggml_backend_sched_reserve");
    FIND(ggml->alloc_graph, "ggml_backend_sched_alloc_graph");
    ggml->usable = settings.on && is_usable(ggml, near, lacking);
    ggml->next = atomic_load(&copies);
    while (!atomic_compare_exchange_weak(&copies, &ggml->next, ggml)) {
    }
    return ggml;
}

// The copy of ggml that the code at `address` calls; NULL only if there is none, or no memory.
struct ggml *ggml_called_from(void *address) {
    static struct site sites[MAX_SITES];
    void *compute = found_from(sites, address, "ggml_backend_sched_graph_compute_async");
    if (!compute)
        return NULL;
    function wanted = as_function(compute);
    for (struct ggml *ggml = atomic_load(&copies); ggml; ggml = ggml->next)
        if ((function)ggml->graph_compute_async == wanted)
            return ggml;
    return new_copy(address, compute);
}
