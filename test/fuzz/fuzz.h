/* fuzz.h: the entry that libFuzzer calls with one input. Threads: one. */
#ifndef DASSIE_TEST_FUZZ_H_
#define DASSIE_TEST_FUZZ_H_

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif /* DASSIE_TEST_FUZZ_H_ */
