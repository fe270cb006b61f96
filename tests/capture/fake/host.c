// A program that computes with the fake libraries what its arguments say, one after the other:
//
//     context:M[:U[:g]]  a context of model M, ubatch U, rows grouped by sequence
//     use:I              the context that comes next is the I-th made
//     step:T             T tokens of sequence 0, output of the last
//     steps:N            N steps of one token
//     both:S             a token of each of S sequences
//     prompts:S:T        T tokens of each of S sequences
//     back:N             the next position of sequence 0 goes back by N
//     warmup             what a server computes before it has anything to do
//     free               the context ends
//     own[:N]            contexts made from here on have a callback of the program's own, which ends the N-th graph
//     threads:N          all contexts compute N steps of one token at once, each in a thread
//     fork               a child computes ten steps, and is waited for
//     say                a line "ready" on standard output; goes on when a line comes in
//     pause:MS           waits
//     reload             unloads the libraries and loads them again, or SECOND_LIBRARY (if they are loaded privately)
#define _GNU_SOURCE
#include "fake.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef PRIVATE  // loaded as Python's ctypes and Node's addons do it
static void *(*init)(int, int, bool, eval_callback, void *);
static void (*end)(void *);
static int32_t (*decode)(void *, struct llama_batch);
static void *library;

static void load(void) {
    const char *second = library ? getenv("SECOND_LIBRARY") : NULL;
    library = dlopen(second ? second : PRIVATE, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(3);
    }
    *(void **)&init = dlsym(library, "llama_init");
    *(void **)&end = dlsym(library, "llama_free");
    *(void **)&decode = dlsym(library, "llama_decode");
}
#else
#define init llama_init
#define end llama_free
#define decode llama_decode
static void load(void) {}
#endif

enum { MOST = 4096 };

static struct {
    void *context;
    int32_t position[16];
    int model, ubatch, grouped;
} contexts[16];
static int made, own;
static _Thread_local int now, graphs, asked;
static _Thread_local struct tensor *awaited;

// Wants the weights' sum of each layer; fails if it gets what it did not ask for.
static bool own_callback(struct tensor *tensor, bool ask, void *data) {
    if (data != &own)
        abort();
    if (ask) {
        bool wanted = !strncmp(tensor->name, "ffn_moe_weights_sum-", 20) || !strncmp(tensor->name, "ffn_moe_topk-", 13);
        awaited = wanted ? tensor : NULL;
        return wanted;
    }
    if (tensor != awaited)
        abort();
    asked++;
    return !(own > 1 && graphs + 1 == own);
}

static void compute(int count, const int32_t *sequence, const int32_t *token, const int8_t *output) {
    static _Thread_local int32_t pos[MOST], tok[MOST], one[MOST], ids[MOST];
    static _Thread_local int32_t *sequences[MOST];
    static _Thread_local int8_t logits[MOST];
    for (int i = 0; i < count; i++) {
        pos[i] = contexts[now].position[sequence[i]]++;
        tok[i] = token ? token[i] : 3 + pos[i] % 97;
        one[i] = 1;
        ids[i] = sequence[i];
        sequences[i] = &ids[i];
        logits[i] = output[i];
    }
    struct llama_batch batch = {count, tok, NULL, pos, one, sequences, logits};
    if (decode(contexts[now].context, batch)) {
        fprintf(stderr, "decode failed\n");
        exit(4);
    }
    graphs++;
}

static void prompts(int sequences, int tokens) {
    static _Thread_local int32_t sequence[MOST];
    static _Thread_local int8_t output[MOST];
    int n = 0;
    for (int s = 0; s < sequences; s++)
        for (int i = 0; i < tokens; i++, n++) {
            sequence[n] = s;
            output[n] = i == tokens - 1;
        }
    compute(n, sequence, NULL, output);
}

static void warmup(void) {
    static const int32_t sequence[2], ends[2] = {1, 2}, trial[2];
    static const int8_t output[2] = {0, 1};
    for (int i = 0; i < 2; i++) {
        contexts[now].position[0] = 0;
        compute(2, sequence, i ? trial : ends, output);
    }
    contexts[now].position[0] = 0;
}

static void open_context(int i) {
    contexts[i].context = init(contexts[i].model, contexts[i].ubatch, contexts[i].grouped, own ? own_callback : NULL,
                               own ? &own : NULL);
    memset(contexts[i].position, 0, sizeof contexts[i].position);
}

static void reload(void) {
#ifdef PRIVATE
    for (int i = 0; i < made; i++)
        if (contexts[i].context)
            end(contexts[i].context);
    dlclose(library);
    load();
    for (int i = 0; i < made; i++)
        open_context(i);
#endif
}

static struct work {
    int context, steps;
} works[16];

static void *in_thread(void *data) {
    const struct work *work = data;
    now = work->context;
    for (int i = 0; i < work->steps; i++)
        prompts(1, 1);
    return NULL;
}

static void in_threads(int steps) {
    pthread_t threads[16];
    for (int i = 0; i < made; i++) {
        works[i] = (struct work){i, steps};
        pthread_create(&threads[i], NULL, in_thread, &works[i]);
    }
    for (int i = 0; i < made; i++)
        pthread_join(threads[i], NULL);
}

static void in_child(void) {
    pid_t child = fork();
    if (!child) {
        for (int i = 0; i < 10; i++)
            prompts(1, 1);
        exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    if (status)
        exit(5);
}

static void run(const char *operation) {
    char name[16] = "";
    int a = 0, b = 0;
    char letter = 0;
    sscanf(operation, "%15[a-z]:%d:%d:%c", name, &a, &b, &letter);
    if (!strcmp(name, "context")) {
        now = made++;
        contexts[now].model = a;
        contexts[now].ubatch = b ? b : 512;
        contexts[now].grouped = letter == 'g';
        open_context(now);
    } else if (!strcmp(name, "use")) {
        now = a;
    } else if (!strcmp(name, "step")) {
        prompts(1, a);
    } else if (!strcmp(name, "steps")) {
        for (int i = 0; i < a; i++)
            prompts(1, 1);
    } else if (!strcmp(name, "both")) {
        prompts(a, 1);
    } else if (!strcmp(name, "prompts")) {
        prompts(a, b);
    } else if (!strcmp(name, "back")) {
        contexts[now].position[0] -= a;
    } else if (!strcmp(name, "warmup")) {
        warmup();
    } else if (!strcmp(name, "free")) {
        end(contexts[now].context);
        contexts[now].context = NULL;
    } else if (!strcmp(name, "own")) {
        own = a ? a : 1;
    } else if (!strcmp(name, "threads")) {
        in_threads(a);
    } else if (!strcmp(name, "fork")) {
        in_child();
    } else if (!strcmp(name, "say")) {
        char line[16];
        puts("ready");
        fflush(stdout);
        if (!fgets(line, sizeof line, stdin))
            exit(6);
    } else if (!strcmp(name, "pause")) {
        usleep((useconds_t)a * 1000);
    } else if (!strcmp(name, "reload")) {
        reload();
    } else {
        fprintf(stderr, "what is %s?\n", operation);
        exit(7);
    }
}

int main(int argc, char **argv) {
    load();
    for (int i = 1; i < argc; i++)
        run(argv[i]);
    printf("graphs %d asked %d\n", graphs, asked);
    for (int i = 0; i < made; i++)
        if (contexts[i].context)
            end(contexts[i].context);
    return 0;
}
