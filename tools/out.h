/* out.h: what is printed, for people and for programs.
 *
 * Bytes are not shown as they are: what a terminal would obey, and what is no
 * UTF-8, is escaped. In JSON bytes that are no UTF-8 are in base64, under the
 * key with "_base64" behind it. */
#ifndef DASSIE_TOOLS_OUT_H_
#define DASSIE_TOOLS_OUT_H_

#include <dassie.h>

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Flushes stdout. Returns code, or TOOL_PIPE or TOOL_ERROR if it could not be
 * written. */
int out_end(int code);

/* Whether stdout can still be written. */
bool out_good(void);

/* One line of JSON; the object is gone. */
void out_json(json_t *object);

/* Adds bytes, a count, or a time (0: null) to an object. */
void json_bytes(json_t *object, const char *key, const void *p, size_t len);
void json_count(json_t *object, const char *key, uint64_t n);
void json_time(json_t *object, const char *key, uint64_t ms);

/* How many jobs are in each state, as an object. */
json_t *json_counts(const dassie_count_t *count);

/* All of a job; payload and result too if data is set. */
json_t *json_job(const dassie_info_t *job, bool data);

/* Bytes, escaped: up to max of them (0: all), then "...". */
void out_text(const void *p, size_t len, size_t max);
void text_write(FILE *file, const void *p, size_t len, size_t max);

/* All of them in a string, which is the caller's to free. */
char *text_escaped(const void *p, size_t len);

/* Whether bytes are text that needs no escaping; newlines and tabs are
 * allowed. */
bool out_is_text(const void *p, size_t len);

/* Bytes in hex, 16 a line, each line with its offset. */
void out_hex(const void *p, size_t len);

#define OUT_TIME_BYTES 32

/* 2026-11-25T04:05:06.789Z */
const char *format_time(uint64_t ms, char text[OUT_TIME_BYTES]);

/* Up to two digits and a unit: 5s, 12m, 3h, 9d. */
const char *format_age(uint64_t ms, char text[OUT_TIME_BYTES]);

/* Up to five characters: 0.5, 120, 34k. */
const char *format_rate(double per_second, char text[OUT_TIME_BYTES]);

/* How long ago a time was; 0 in the future. */
uint64_t age_of(uint64_t ms);

#endif /* DASSIE_TOOLS_OUT_H_ */
