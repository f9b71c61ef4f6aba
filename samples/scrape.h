/* scrape.h: GET /metrics on a port of 127.0.0.1, for Prometheus. It makes do
 * with what libuv and dassie_metrics() have, so take it along. */
#ifndef SCRAPE_H_
#define SCRAPE_H_

#include <dassie.h>

/* Answers with the metrics of q, until scrape_stop(). *port: the one to listen
 * at, or 0; then the one that was given. Errors are those of the system. */
int scrape_listen(dassie_t *q, int *port);

/* Before or after dassie_close(); any number of times. */
void scrape_stop(void);

#endif /* SCRAPE_H_ */
