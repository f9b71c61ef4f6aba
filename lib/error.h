/* error.h: the text that goes with a code.
 *
 * An operation that can fail in more than one way fills a struct errmsg with
 * its cause and place, outermost first: "open /var/q: lock: held by pid 7".
 * Threads: each struct errmsg belongs to one. */
#ifndef DASSIE_ERROR_H_
#define DASSIE_ERROR_H_

#include <stddef.h>

#define ERRMSG_BYTES 256

struct errmsg {
    char text[ERRMSG_BYTES];
};

/* The code for an errno: libuv's; a used up quota is UV_ENOSPC, and what libuv
 * has no name for is UV_EIO. */
int dassie__sys_code(int error);

/* Sets the text as by printf; returns code, so that a caller can say
 * "return dassie__errmsg_set(e, UV_EIO, ...)". Too long a text is cut at its
 * end. */
int dassie__errmsg_set(struct errmsg *e, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the text; returns code. */
int dassie__errmsg_wrap(struct errmsg *e, int code, const char *prefix);

#endif /* DASSIE_ERROR_H_ */
