/* sim.c: many schedules, or one; see sim.h.
 *
 *     sim [--seeds=FROM-TO] [--jobs=N]       prints what was reached
 *     sim --seed=N [--steps=K] [--verbose]   one; K: ends it after so many
 *
 * Each schedule has a plan of its own, drawn from its seed: which faults there
 * are, and how often; how many queues, slots and jobs; how long things take. In
 * the end faults stop, everything is served, and must drain and close.
 *
 * Exit status: 0 all was well, 1 something was wrong or nothing was reached,
 * 2 the arguments. */
#include "sim.h"

#include "disk.h"
#include "env.h"
#include "kept.h"
#include "memory.h"
#include "model.h"
#include "task.h"
#include "users.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOBS_MAX 64
#define STEPS_MIN 100
#define STEPS_MORE 700
#define DRAIN_STEPS_MAX 100000  /* or something starves */
#define CLOCK_AHEAD_MS 43200000 /* less than ended jobs are kept */
#define TWICE 64        /* one of so many is run again, to the same end */
#define SECONDS_MAX 120 /* a schedule takes some milliseconds */

bool sim_verbose;

/* What a child tells its parent. */
static struct report {
    struct reached reached;
    uint64_t seed; /* under way; 0: none */
} * report;
struct reached *reached;

static uint64_t state; /* of the dice */
static unsigned steps_max;
static unsigned step;

static char dir[PATH_MAX]; /* that of the flight recorder */

/* What befalls the process, in a thousand steps. */
static struct {
    unsigned kill;
    unsigned power;
    bool no_boot_id;
    uint8_t boot;
} fate;

/* ---- Chance, judgment ---- */

uint64_t sim_random(void)
{
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

unsigned sim_below(unsigned n)
{
    return n > 1 ? (unsigned)(sim_random() % n) : 0;
}

bool sim_chance(unsigned of_thousand)
{
    return of_thousand > 0 && sim_below(1000) < of_thousand;
}

__attribute__((format(printf, 2, 0))) static void say(FILE *file,
                                                      const char *format,
                                                      va_list args)
{
    fprintf(file, "%5u %10.3f ms %-8s ", step, (double)task_now / 1e6,
            task_name());
    vfprintf(file, format, args);
    fputc('\n', file);
}

void sim_say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(stdout, format, args);
    va_end(args);
}

static void dir_remove(void)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/inflight", dir);
    unlink(path);
    rmdir(dir);
}

void sim_fail(const char *format, ...)
{
    va_list args;
    fflush(stdout);
    va_start(args, format);
    say(stderr, format, args);
    va_end(args);
    fprintf(stderr, "to see it: test/sim/sim --seed=%" PRIu64 " --verbose\n",
            report->seed);
    report->seed = 0;
    dir_remove();
    _exit(1);
}

/* ---- The plan of a schedule ---- */

static unsigned any(unsigned n, const unsigned *of)
{
    return of[sim_below(n)];
}
#define ANY(...)                                                    \
    any(sizeof((const unsigned[]){__VA_ARGS__}) / sizeof(unsigned), \
        (const unsigned[]){__VA_ARGS__})

static void boot_id(uint8_t id[BOOT_ID_BYTES])
{
    memset(id, fate.no_boot_id ? 0 : fate.boot, BOOT_ID_BYTES);
}

static void plan_users(void)
{
    static const dassie_options_t defaults = DASSIE_OPTIONS_INIT;
    dassie_options_t *o = &users_plan.options;
    *o = defaults;
    o->durability = sim_chance(300) ? DASSIE_OFF : DASSIE_FULL;
    o->max_crashes = sim_chance(200) ? -1 : (int)ANY(1, 2, 3);
    o->suspect_ms = ANY(10, 100, 1000);
    o->grace_ms = ANY(10, 100, 1000);
    o->commit_delay_ms = ANY(0, 0, 0, 2);
    o->memory_bytes = ANY(4000, 8000, 1 << 20);
    o->inbox_jobs_max = ANY(0, 0, 0, 4);
    users_plan.jobs_max = ANY(30, 70, TOKENS_MAX - 1);
    users_plan.queues = ANY(1, 2, 3, 3, DASSIE_QUEUES_MAX + 2);
    users_plan.at_most_once = ANY(0, 100, 300);
    users_plan.failing = ANY(0, 200);
    users_plan.delayed = ANY(0, 0, 100, 300);
    users_plan.timed = ANY(0, 0, 300);
    users_plan.expiring = ANY(0, 0, 0, 200);
    users_plan.verdicts = ANY(0, 0, 200);
    users_plan.endless = ANY(0, 0, 50, 200);
    users_plan.run_ns = ANY(1, 100000, 5000000, 200000000);
    users_plan.pace_ns = ANY(50000, 1000000, 20000000);
    users_plan.no_memory = ANY(0, 0, 3, 10);
    users_plan.close = ANY(0, 0, 1, 3);
    users_plan.breaks = ANY(0, 0, 0, 3);
}

static void plan_faults(void)
{
    disk_faults.commit_absent = ANY(0, 0, 10, 60);
    disk_faults.commit_present = ANY(0, 0, 10, 60);
    disk_faults.reopen = ANY(0, 300, 700);
    disk_faults.read = ANY(0, 0, 20, 100);
    disk_faults.open = ANY(0, 0, 200);
    disk_commit_ns = ANY(0, 200000, 3000000);
    task_preempt = ANY(0, 50, 300);
    task_spurious = ANY(0, 20);
    fate.kill = ANY(0, 3, 10, 30);
    fate.power = ANY(0, 0, 2, 8);
    fate.no_boot_id = sim_chance(50);
    fate.boot = 1;
}

static void plan_no_faults(void)
{
    memset(&disk_faults, 0, sizeof disk_faults);
    memory_fail(0);
    disk_free_bytes = UINT64_MAX;
    task_wall_ms += CLOCK_AHEAD_MS; /* what is due has not to be waited for */
    fate.kill = fate.power = task_spurious = 0;
    users_finish(true);
}

/* ---- What befalls a process ---- */

static void count_kill(void)
{
    enum disk_place place = disk_place();
    reached->kills++;
    reached->kills_in_commit += place == DISK_WRITING;
    reached->kills_untold += place == DISK_WRITTEN;
    reached->kills_in_doubt += place == DISK_DOUBT;
    reached->kills_recovering += !model.live;
}

static void process_kill(bool power)
{
    struct dassie__impl *impl = model_impl();
    count_kill();
    SIM_SAY("%s", power ? "POWER CUT" : "KILL");
    model_killing();
    if (impl != NULL && impl->recorder.page != NULL) {
        munmap(impl->recorder.page, impl->recorder.bytes);
        close(impl->recorder.fd);
    }
    tasks_kill();
    kept_drop();
    disk_kill();
    unsigned lost = 0;
    if (power) {
        reached->power_cuts++;
        fate.boot++;
        lost = disk_power_cut();
        reached->commits_lost += lost;
        SIM_SAY("%u commits lost", lost);
    }
    model_killed(power, power || fate.no_boot_id, lost);
    users_killed();
    memory_drop();
}

static void process_begin(void)
{
    SIM_SAY("process %u", model.session + 1);
    if (fate.kill > 0 && users_plan.no_memory > 0 && sim_chance(200)) {
        memory_fail(1 + sim_below(60));
    }
    model_process();
    users_process();
}

/* One step of the process, or the next process. */
static void step_on(void)
{
    step++;
    reached->steps++;
    if (!tasks_step()) {
        memory_check_empty();
        model_closed(fate.no_boot_id);
        process_begin();
        return;
    }
    model_step();
    if (sim_chance(fate.power)) {
        process_kill(true);
        process_begin();
    } else if (sim_chance(fate.kill)) {
        process_kill(false);
        process_begin();
    }
}

/* Faults are over: all that can end does, and the process closes. */
static void drain(void)
{
    unsigned before = step;
    plan_no_faults();
    while (tasks_step()) {
        step++;
        reached->steps++;
        model_step();
        SIM_CHECK(step - before < DRAIN_STEPS_MAX,
                  "does not drain: %u pending, %u running",
                  model.facts.n[DASSIE_PENDING], model.facts.n[DASSIE_RUNNING]);
    }
    memory_check_empty();
    model_closed(fate.no_boot_id);
}

static void schedule(uint64_t seed)
{
    state = seed * UINT64_C(0x2545f4914f6cdd1d);
    report->seed = seed;
    step = 0;
    tasks_begin();
    disk_begin(dir);
    memset(&users_plan, 0, sizeof users_plan);
    users_plan.path = dir;
    plan_users();
    plan_faults();
    model_begin(users_plan.options.durability == DASSIE_OFF);
    model.crashes_max = users_plan.options.max_crashes < 0
                            ? 0
                            : (uint32_t)users_plan.options.max_crashes;
    model.suspect_ns = (uint64_t)users_plan.options.suspect_ms * MS;
    users_begin();
    unsigned steps = STEPS_MIN + sim_below(STEPS_MORE);
    process_begin();
    while (step < steps && step < steps_max) {
        step_on();
    }
    drain();
    process_begin(); /* the last one may have been closing already */
    drain();
    model_end();
    disk_end();
    reached->schedules++;
    report->seed = 0;
}

/* ---- Many of them ---- */

static void run(uint64_t from, uint64_t to, uint64_t by)
{
    const char *top = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/sim-XXXXXX", top != NULL ? top : "/tmp");
    if (mkdtemp(dir) == NULL) {
        perror(dir);
        _exit(3);
    }
    memory_begin();
    dassie__env.boot_id = boot_id;
    for (uint64_t seed = from; seed <= to; seed += by) {
        alarm(SECONDS_MAX);
        schedule(seed);
        if (seed % TWICE == 0) {
            uint64_t end = state;
            schedule(seed);
            report->seed = seed;
            SIM_CHECK(state == end, "the same seed is another schedule");
            report->seed = 0;
        }
    }
    alarm(0);
    dir_remove();
}

static bool run_all(uint64_t from, uint64_t to, unsigned jobs)
{
    pid_t pid[JOBS_MAX];
    bool well = true;
    for (unsigned i = 0; i < jobs; i++) {
        pid[i] = fork();
        if (pid[i] == 0) {
            report += i;
            reached = &report->reached;
            run(from + i, to, jobs);
            exit(0);
        }
    }
    for (unsigned i = 0; i < jobs; i++) {
        int status = 0;
        waitpid(pid[i], &status, 0);
        if (status == 0) {
            continue;
        }
        well = false;
        if (report[i].seed != 0) {
            fprintf(stderr,
                    "died with status %#x; to see it: "
                    "test/sim/sim --seed=%" PRIu64 " --verbose\n",
                    (unsigned)status, report[i].seed);
        }
    }
    return well;
}

/* Prints the sums; false: something was never reached. */
static bool print_reached(unsigned jobs)
{
    bool all = true;
    unsigned column = 0;
    for (unsigned i = 1; i < jobs; i++) {
#define XX(name) report[0].reached.name += report[i].reached.name;
        REACHED(XX)
#undef XX
    }
#define XX(name)                                                   \
    printf("%-16s %11" PRIu64 "%s", #name, report[0].reached.name, \
           ++column % 3 == 0 ? "\n" : "   ");                      \
    if (report[0].reached.name == 0) {                             \
        all = false;                                               \
    }
    REACHED(XX)
#undef XX
    printf("%s", column % 3 == 0 ? "" : "\n");
    return all;
}

int main(int argc, char **argv)
{
    uint64_t from = 1;
    uint64_t to = 3000;
    unsigned jobs = 1;
    bool one = false;
    steps_max = UINT_MAX;
    for (int i = 1; i < argc; i++) {
        if (sscanf(argv[i], "--seed=%" SCNu64, &from) == 1) {
            one = true;
        } else if (sscanf(argv[i], "--seeds=%" SCNu64 "-%" SCNu64, &from,
                          &to) != 2 &&
                   sscanf(argv[i], "--jobs=%u", &jobs) != 1 &&
                   sscanf(argv[i], "--steps=%u", &steps_max) != 1 &&
                   strcmp(argv[i], "--verbose") != 0) {
            fprintf(stderr, "sim: not understood: %s\n", argv[i]);
            return 2;
        }
        sim_verbose |= strcmp(argv[i], "--verbose") == 0;
    }
    jobs = jobs < 1 ? 1 : jobs > JOBS_MAX ? JOBS_MAX : jobs;
    report = mmap(NULL, JOBS_MAX * sizeof *report, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED) {
        perror("memory");
        return 3;
    }
    reached = &report->reached;
    if (!tasks_possible()) {
        printf("not with ThreadSanitizer\n");
        return 77;
    }
    if (one) {
        run(from, from, 1);
        return 0;
    }
    bool well = run_all(from, to, jobs);
    if (!print_reached(jobs)) {
        fprintf(stderr, "something was never reached\n");
        well = false;
    }
    return well ? 0 : 1;
}
