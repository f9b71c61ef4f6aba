/* freeze.h: a disk that stands still on purpose.
 *
 * As root it is a file system of its own, mounted where nobody else sees it and
 * frozen as a whole: whoever writes waits, a store to a mapped page too. Where
 * that cannot be had, fdatasync() waits: the bench's own stands before that of
 * the C library. */
#ifndef FREEZE_H_
#define FREEZE_H_

#include <stdbool.h>

/* Makes dir the place to freeze. True: it is a file system. To be called before
 * the process has threads. */
bool freeze_prepare(const char *dir);

/* Freezes it for so long. Returns at once, with the disk frozen; thaws by
 * itself. */
void freeze_begin(unsigned ms);

/* Waits until it has thawed. */
void freeze_end(void);

#endif /* FREEZE_H_ */
