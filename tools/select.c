#include "config.h"

#include "select.h"

#include "out.h"
#include "terminal.h"

#include <inttypes.h>
#include <stdio.h>

#define PREVIEW_BYTES 40

struct selection selection;

void select_print_heading(void)
{
    printf("%10s  %-9s %5s %3s  %s\n", "ID", "STATE", "AGE", "RUN",
           "QUEUE  NAME  PAYLOAD");
}

void select_print(const dassie_info_t *job)
{
    char age[OUT_TIME_BYTES];
    uint64_t since = job->ended_ms != 0 ? job->ended_ms : job->enqueued_ms;
    printf("%10" PRIu64 "  ", job->id);
    out_state((int)job->state, 9);
    printf(" %5s %3" PRIu32 "  ", format_age(age_of(since), age),
           job->attempts);
    out_text(job->queue, job->queue_len, 0);
    printf("  ");
    if (job->name_len > 0) {
        out_text(job->name, job->name_len, 0);
    } else {
        putchar('-');
    }
    printf("  ");
    out_text(job->data, job->data_len, PREVIEW_BYTES);
    putchar('\n');
}
