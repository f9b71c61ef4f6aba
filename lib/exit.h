/* exit.h: an exit of the process waits for opens that are under way.
 *
 * exit() takes RocksDB's own objects apart, and those that an open in another
 * thread has just made come first: that open would go on among ruins. No
 * handler of atexit() can be in time, as the newest object goes first. Objects
 * of a thread go before all others, so the wait is one of those.
 *
 * The happy path is: a thread that opens watches, an open holds and releases,
 * an exit by that thread finds nobody. Possible failure modes are: an open that
 * takes longer than EXIT_WAIT_MS is not waited for any longer, and one is not
 * waited for at all when a thread exits that has never opened. A thread that
 * ends waits as well, and until then the library cannot be unloaded. A child
 * that was forked in the meantime has no open, and waits for none. On close:
 * nothing. Threads: any. */
#ifndef DASSIE_EXIT_H_
#define DASSIE_EXIT_H_

#define EXIT_WAIT_MS 10000

/* An exit by this thread waits; any number of times. */
void dassie__exit_watch(void);

/* Between these an exit waits. */
void dassie__exit_hold(void);
void dassie__exit_release(void);

#endif /* DASSIE_EXIT_H_ */
