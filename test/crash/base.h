/* base.h: begins a trace with what a directory holds, all of it durable, as
 * after a boot. A failure ends the program. Threads: one. */
#ifndef DASSIE_TEST_CRASH_BASE_H_
#define DASSIE_TEST_CRASH_BASE_H_

void base_write(const char *dir, const char *trace);

#endif /* DASSIE_TEST_CRASH_BASE_H_ */
