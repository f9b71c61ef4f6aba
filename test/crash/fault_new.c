/* fault_new.c: a library for LD_PRELOAD that lets C++ run out of memory.
 *
 * The n-th call of operator new in the process, NEW_AT="N", throws
 * std::bad_alloc. Of all that the test programs load only RocksDB is C++. A
 * process that ends by itself leaves the number of its calls in the file
 * NEW_COUNT. Threads: any. */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static long new_call;
static atomic_long calls;

static void __attribute__((constructor)) begin(void)
{
    const char *text = getenv("NEW_AT");
    new_call = text != NULL ? strtol(text, NULL, 10) : 0;
}

static void __attribute__((destructor)) end(void)
{
    const char *path = getenv("NEW_COUNT");
    FILE *file = path != NULL ? fopen(path, "w") : NULL;
    if (file != NULL) {
        fprintf(file, "%ld\n", atomic_load(&calls));
        fclose(file);
    }
}

/* The names are those of C++: operator new(size_t), new[](size_t), and both
 * with an alignment. */
#define NEW(name, params, args)                                             \
    void *name params;                                                      \
    void *name params                                                       \
    {                                                                       \
        if (atomic_fetch_add(&calls, 1) + 1 == new_call) {                  \
            void (*bad_alloc)(void) = (void (*)(void))dlsym(                \
                RTLD_DEFAULT, "_ZSt17__throw_bad_allocv");                  \
            bad_alloc();                                                    \
        }                                                                   \
        __typeof__(&name) real = (__typeof__(real))dlsym(RTLD_NEXT, #name); \
        return real args;                                                   \
    }

NEW(_Znwm, (size_t n), (n))
NEW(_Znam, (size_t n), (n))
NEW(_ZnwmSt11align_val_t, (size_t n, size_t alignment), (n, alignment))
NEW(_ZnamSt11align_val_t, (size_t n, size_t alignment), (n, alignment))
