/* remote.h: the owner of a store, asked over its admin socket; dassie_admin(7).
 *
 * The happy path is: remote_connect() where the store is owned, then one call
 * after the other, each of which waits for its reply.
 *
 * Possible failure modes are: nobody listens (UV_ECONNREFUSED, UV_ENOENT); the
 * owner ends in the middle (UV_ECONNRESET); a reply that makes no sense
 * (UV_EPROTO).
 *
 * A signal ends the process at once: there is nothing to be closed. */
#ifndef DASSIE_TOOLS_REMOTE_H_
#define DASSIE_TOOLS_REMOTE_H_

#include "look.h"

#include <stdbool.h>

/* 0 if the owner of the store listens. */
int remote_connect(const char *dir);

/* Whether it was, and nothing has ended that. */
bool remote_is(void);
void remote_disconnect(void);

/* From the next remote_connect() on, what takes longer is UV_ETIMEDOUT, and the
 * connection of no more use. */
void remote_patience(unsigned ms);

/* As what they are called after in dassie.h, one page or piece at a time. */
int remote_queues(void (*cb)(const dassie_queue_info_t *queues, size_t n));
int remote_get(uint64_t id, look_cb cb);
int remote_metrics(void (*cb)(const char *text, size_t len));
int remote_list(dassie_list_t *req, const dassie_list_options_t *options,
                dassie_list_cb cb);
/* Tells cb of events until that returns false, or the owner ends. */
int remote_tail(const char *queue, unsigned states,
                bool (*cb)(const dassie_event_t *event, uint64_t missed));
int remote_change(dassie_action_t action, const dassie_filter_t *filter,
                  uint64_t *n);
int remote_pause(const char *queue, int paused);
/* *result is 0 or DASSIE_ECORRUPT: as far as it could be read. */
int remote_check(int *result, dassie_verify_report_t *report,
                 dassie_verify_cb cb);
int remote_backup(const char *path);
/* What a job of this spec takes in a request, without its payload. */
size_t remote_job_bytes(const dassie_spec_t *spec);
int remote_enqueue(const dassie_spec_t *specs, size_t n, uint64_t *first_id,
                   uint64_t *count);

#endif /* DASSIE_TOOLS_REMOTE_H_ */
