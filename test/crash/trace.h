/* trace.h: what record.c writes and replay.c reads.
 *
 * A trace is a row of records in the order in which things happened: each is
 * the head below and len bytes of data. Paths are relative to the directory
 * that was recorded, "" is the directory itself. A file is named by a number
 * that is given when it is opened, and is good until the next process begins.
 *
 * A record is a point: the process may be killed, or the power be cut, right
 * after it. Not so one that is only a part: what a directory held at the
 * beginning, and what was stored to mapped memory. That is seen only when
 * something else happens; then it is written as it was at one moment, in
 * several records that end with TRACE_MOMENT.
 *
 * It never leaves the machine, so the heads are written as they are. */
#ifndef DASSIE_TEST_CRASH_TRACE_H_
#define DASSIE_TEST_CRASH_TRACE_H_

#include <stdint.h>

enum trace_op {
    TRACE_PROCESS = 'P', /* a process begins, numbers of files are void; data:
                            the boot id that it reads */
    TRACE_OPEN = 'O',    /* file; at: the flags of open(2); data: the path */
    TRACE_WRITE = 'W',   /* file, at; data: the bytes */
    TRACE_STORE = 'X',   /* the same, by a store to mapped memory */
    TRACE_MOMENT = 'M',  /* so the mapped memory was, all of it */
    TRACE_SIZE = 'T',    /* file; at: its size now */
    TRACE_GROW = 'G',    /* file; at: its size is at least this */
    TRACE_SYNC = 'S',    /* file: is durable as it is */
    TRACE_ERROR = 'E',   /* file: an error was injected; at: 1 for a sync */
    TRACE_RENAME = 'R',  /* data: two paths, a zero byte after the first */
    TRACE_LINK = 'L',    /* the same */
    TRACE_UNLINK = 'U',  /* data: the path; of a directory as well */
    TRACE_MKDIR = 'D'    /* data: the path */
};

struct trace_record {
    uint32_t op;
    uint32_t file;
    uint64_t at;
    uint32_t len;
    uint32_t part; /* 1: no point, more belongs to it */
};

#endif /* DASSIE_TEST_CRASH_TRACE_H_ */
