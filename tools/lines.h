/* lines.h: a file of which each line becomes a job.
 *
 * The file is kept whole in memory until its jobs are in the queue, as specs
 * point into it. */
#ifndef DASSIE_TOOLS_LINES_H_
#define DASSIE_TOOLS_LINES_H_

#include <dassie.h>

struct lines {
    char *text;
    size_t len;
    size_t at; /* where the next line begins */
};

/* Reads all of a file ("-": stdin). 0 or an error of libuv. */
int lines_read(struct lines *lines, const char *path);
void lines_free(struct lines *lines);

/* How much is put into the queue in one piece: at least a line, */
struct piece {
    size_t jobs;
    size_t bytes;
    size_t each; /* of which a job has so many beside its line */
};

/* Makes a spec like *spec of each of the next lines, a piece of them. Returns
 * an array to be freed, and *n; NULL: no memory. Empty lines are passed over.
 */
dassie_spec_t *lines_specs(struct lines *lines, const dassie_spec_t *spec,
                           const struct piece *most, size_t *n);

/* Puts n jobs into the queue in one piece; *count of them are new. */
int lines_enqueue(const dassie_spec_t *specs, size_t n, uint64_t *first_id,
                  uint64_t *count);

#endif /* DASSIE_TOOLS_LINES_H_ */
