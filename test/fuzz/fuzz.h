/* fuzz.h: the entry that libFuzzer calls with one input. Threads: one. */
#ifndef DASSIE_TEST_FUZZ_H_
#define DASSIE_TEST_FUZZ_H_

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Not assert(): it has to hold in every build. */
#define MUST(condition)                                                     \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                        \
        }                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* fuzz_wire.c: a request and a reply of the admin socket. */
void fuzz_request(const uint8_t *p, size_t len);
void fuzz_reply(const uint8_t *p, size_t len);

#endif /* DASSIE_TEST_FUZZ_H_ */
