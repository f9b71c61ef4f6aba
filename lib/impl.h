/* impl.h: what the files of the public interface share.
 *
 * dassie.c has the handle's life and what is delivered to the loop, enqueue.c
 * and process.c and query.c the calls. Threads: the loop, where nothing else
 * is said. */
#ifndef DASSIE_IMPL_H_
#define DASSIE_IMPL_H_

#include "engine.h"
#include "runner.h"

/* 0, or what a call on q returns at once: UV_EINVAL, UV_EPERM, UV_ECANCELED. */
int dassie__impl_check(const dassie_t *q);

/* The same, whether it is closed or not: without UV_ECANCELED. */
int dassie__impl_check_place(const dassie_t *q);

/* 0, if one more look-up may be under way; counting it is left to the caller.
 */
int dassie__lookup_take(dassie_t *q);

/* Does what there is to do on the loop. */
void dassie__impl_turn(struct dassie__impl *impl);

/* A name with its length (0: a C string), within limits; NULL: fallback. 0 or
 * UV_EINVAL. */
int dassie__name_check(const char **name, size_t *len, const char *fallback);

/* Copies a struct that may be of another version, shorter or longer. UV_EINVAL:
 * it is too short for its own size, or what is not known here is not 0. */
int dassie__options_copy(void *to, size_t size, const void *from,
                         size_t from_size);

/* An absolute copy: the host may change its directory meanwhile. Errors:
 * UV_ENAMETOOLONG, UV_ENOMEM, or why there is no directory. */
int dassie__path_copy(const char *path, char **out);

/* Ends what is over of a processor: tells the user and frees it. */
void dassie__processor_settle(struct dassie__processor *p);
void dassie__processor_free(struct dassie__processor *p);

/* Hands answers to the user. */
void dassie__query_deliver(struct dassie__impl *impl, struct op *op);
void dassie__survey_deliver(struct dassie__impl *impl, struct survey *survey);
void dassie__operate_deliver(struct dassie__impl *impl, struct op *op);
void dassie__processor_deliver(struct dassie__impl *impl, struct op *op);
void dassie__subscribe_deliver(struct dassie__impl *impl, struct op *op);
void dassie__subscribe_end(struct dassie__impl *impl);
void dassie__enqueue_deliver(struct dassie__impl *impl, struct op *op);
/* Tells one who waits for an end of it; info may be NULL. */
void dassie__waiter_tell(struct waiter *w, int status,
                         const dassie_info_t *info);
void dassie__enqueue_deliver_gone(struct dassie__impl *impl,
                                  struct waiter *list, int status);

#endif /* DASSIE_IMPL_H_ */
