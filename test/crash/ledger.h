/* ledger.h: what a store has promised, kept outside of it.
 *
 * The ledger is a mapped file, which a kill of the process leaves as it is.
 * Each job that the programs here enqueue has a number, its token, and
 * everything about the job follows from that (plan_of()): so a job that comes
 * back from the store can be compared with what it should be. The ledger has an
 * entry a token: what was asked for, acknowledged, begun and told.
 *
 * A job's entry is written before the library gets to know (asked, returned) or
 * after it has told (acknowledged, begun, ended). So what the ledger says is
 * certain; in between lie the jobs that a killed process had on its threads:
 * each kill may leave as many of them as there are slots.
 *
 * Threads: any; what is not atomic is constant. */
#ifndef DASSIE_TEST_CRASH_LEDGER_H_
#define DASSIE_TEST_CRASH_LEDGER_H_

#include "plan.h"

#include <dassie.h>

#include <stdatomic.h>
#include <stdbool.h>

#define TOKENS_MAX 16376 /* whole rounds */
#define NO_TOKEN TOKENS_MAX
#define FAULT_BYTES 160

/* How many jobs of each kind run at a time. */
#define WORK_SLOTS 2
#define ASYNC_SLOTS 2

struct entry {
    _Atomic uint64_t id;        /* it was acknowledged with; 0: it was not */
    _Atomic uint32_t attempt;   /* the last run that began */
    _Atomic uint32_t executing; /* by which process; 0: it has returned */
    _Atomic uint32_t asked_by;  /* which process called dassie_enqueue(), */
    _Atomic uint32_t asked_at;  /* after so many ends were told in all; */
    _Atomic uint32_t ended_at;  /* its own was told as this one */
    _Atomic uint8_t asked;      /* dassie_enqueue() was called */
    _Atomic uint8_t refused;    /* and told that it is not in the queue */
    _Atomic uint8_t ended;      /* the state that was told; 0: none */
    _Atomic uint8_t change;     /* what dassie_change() was called for, ... */
    _Atomic uint8_t changed;    /* ... and told that it is so, durably */
    _Atomic uint8_t gave_up;    /* the run that did, as it was cancelled */
    _Atomic uint16_t saving;    /* the last number that a run saves, ... */
    _Atomic uint16_t saved;     /* ... that it has saved, ... */
    _Atomic uint16_t kept;      /* ... and that is as durable as what is */
};

struct ledger {
    _Atomic uint32_t tokens;   /* how many were used */
    _Atomic uint32_t opened;   /* the store was open once */
    _Atomic uint32_t begun;    /* processes that began, and those ... */
    _Atomic uint32_t ended;    /* ... that ended by themselves */
    _Atomic uint32_t unheard;  /* runs that were counted, but not seen here */
    _Atomic uint32_t excused;  /* of them: the log told of so many */
    _Atomic uint32_t cuts;     /* how often the power was cut, and how ... */
    _Atomic uint32_t healed;   /* ... often it was recovered from that */
    _Atomic uint32_t cut_at;   /* how many had begun at the last one */
    _Atomic uint32_t unsynced; /* its durability is DASSIE_OFF */
    _Atomic uint32_t closed;   /* the store was closed properly */
    _Atomic uint32_t lossy;    /* what was acknowledged may be gone, ... */
    _Atomic uint32_t lost;     /* ... and so often it is */
    _Atomic uint32_t keeps;    /* QUEUE_BRIEF keeps BRIEF_KEPT jobs */
    _Atomic uint32_t pause;    /* whether it was asked to be paused, ... */
    _Atomic uint32_t paused;   /* ... and was told to be */
    _Atomic uint32_t revives;  /* a salvage knows of no deletions, ... */
    _Atomic uint32_t revived;  /* ... and so many jobs are there again */
    _Atomic uint32_t told;     /* ends that were */
    _Atomic uint32_t held;     /* jobs refused, as another has their key */
    _Atomic uint32_t faults;   /* promises that were broken */
    char fault[FAULT_BYTES];   /* the first of them */
    struct entry entry[TOKENS_MAX];
};

extern struct ledger *ledger;

/* Maps the file, made if need be, and begins a process. */
void ledger_open(const char *path);

/* The process ends by itself. */
void ledger_close(void);

/* Notes a power cut, in the ledger of another process or in a file. */
void ledger_cut_in(struct ledger *told);
void ledger_cut_now(const char *path);

/* The last process ended by a power cut, and nobody has recovered from it. */
bool ledger_cut(void);

/* The names of queues may be lost. */
bool ledger_renamed(void);

/* Nobody else has tried to recover, either. */
bool ledger_first_since_cut(void);

/* The store was opened: whatever the last owner left is recovered. Nothing that
 * a power cut has ended is executing any more. */
void ledger_opened(void);

/* How many processes were killed so far. */
uint32_t ledger_kills(void);

/* The next n tokens of a new round. */
uint32_t ledger_round(uint32_t n);

/* Tells of a promise that was broken; NO_TOKEN: to no job in particular. */
void ledger_fault(uint32_t token, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Whether SUBJECT_LIE names this: a mistake made on purpose, which the checker
 * has to notice. */
bool ledger_lies(const char *what);

/* All times come soon, from now on. */
void ledger_hasten(void);

/* The same of what an acknowledgement promised: no fault in a lossy store. */
void ledger_loss(uint32_t token, const char *text);

/* The token in a job's name; NO_TOKEN: nobody asked for such a job. */
uint32_t ledger_token(const char *name, size_t len);

/* It is asked for; and it has this id, or, as that job has its key, no job of
 * its own. */
void ledger_asked(uint32_t token);
void ledger_acknowledged(uint32_t token, uint64_t id, bool existing);

/* A run begins (the job's token), and saves something if it is to; and
 * returns. */
uint32_t ledger_begin(dassie_job_t *job);
void ledger_return(uint32_t token);

/* The number that a run has saved is handed to the next one, or that of a later
 * save, once what was asked for after it is acknowledged: look before that, and
 * tell then. */
void ledger_saves_look(uint32_t first, uint16_t said[ROUND_JOBS]);
void ledger_saves_kept(uint32_t first, const uint16_t said[ROUND_JOBS]);

/* Whether the run is asked to end, as the job was cancelled; it does. */
bool ledger_gives_up(uint32_t token, const dassie_job_t *job);

/* Settings of QUEUE_BRIEF: NULL if there is no such queue. */
void ledger_settings(const dassie_settings_t *settings);

/* What a run leaves behind, as planned; then it returns so. Pool thread. */
int ledger_end(dassie_job_t *job, uint32_t token);

/* The attempts that the store has counted for a job. */
void ledger_attempts(uint32_t token, uint32_t attempts);

/* The job's end was told. */
void ledger_told(uint32_t token, const dassie_info_t *job);

#endif /* DASSIE_TEST_CRASH_LEDGER_H_ */
