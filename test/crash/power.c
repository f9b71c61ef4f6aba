/* power.c: makes the images of a trace and judges them.
 *
 *     power images TRACE DIR [-v VARIANTS] [-s SEEDS] [-n STRIDE] [-e]
 *         at every STRIDE-th point; -e: only from the first injected error on
 *     power one TRACE DIR POINT VARIANT SEED     one image; it stays in DIR
 *     power make TRACE DIR POINT VARIANT SEED    the same, without judging it
 *     power judge DIR     what a power cut has left: DIR/store and DIR/ledger
 *     power base DIR TRACE      begins a trace with a directory, all durable
 *     power compare TRACE DIR   is DIR what the trace says it is at its end?
 *     power points TRACE        the number of records
 *
 * Exit status: 0 all was well, 1 a promise was broken (or DIR differs), 2 it
 * could not be done.
 *
 * The happy path is: each worker replays the whole trace and takes the next few
 * points that no other has taken. Every image that was not judged before is
 * written, and judged (checker.c) in a child of its own. RocksDB is never
 * opened in a worker: its threads would not survive the fork, and so the child
 * needs no exec.
 *
 * A kill's images are judged with the boot id that its process read, those of a
 * power cut with another one.
 *
 * Possible failure modes are: a child that finds a promise broken, says that a
 * call failed, dies, or takes too long (SIGALRM) is a violation; the image is
 * made once more and kept beside, and the command is printed that does all this
 * for this one image.
 *
 * Threads: one a process. */
#define _GNU_SOURCE

#include "base.h"
#include "image.h"
#include "ledger.h"
#include "subject.h"

#include "env.h"

#include <rocksdb/c.h>

#include <ctype.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK 8           /* points taken at a time */
#define WORKERS_PER_CPU 3 /* a judge often waits for its own threads */
#define SHOWN_MAX 100     /* violations that are shown */
#define KEPT_MAX 5        /* images of them that are kept */
#define SEEN_SLOTS (1u << 19)

static struct options {
    const char *self;
    const char *trace;
    const char *dir;
    const char *variants;
    unsigned seeds;
    long stride;
    bool after_error;
} options = {.variants = "k" VARIANTS_POWER, .seeds = 2, .stride = 1};

/* Shared by all workers. */
static struct report {
    atomic_long next; /* chunk of points */
    atomic_long images[128];
    atomic_long violations[128];
    atomic_long same;
    atomic_int shown;
    atomic_long seen_n;
    _Atomic uint64_t seen[SEEN_SLOTS]; /* hashes of images */
} * report;

/* ---- RocksDB ---- */

/* Hundreds of threads that open a few small files take more time than all the
 * rest. */
void rocksdb_options_set_max_open_files(rocksdb_options_t *o, int n)
{
    __typeof__(&rocksdb_options_set_max_open_files) real =
        dlsym(RTLD_NEXT, "rocksdb_options_set_max_open_files");
    rocksdb_options_set_max_file_opening_threads(o, 1);
    real(o, n);
}

/* ---- One image ---- */

static uint8_t boot_id_now[BOOT_ID_BYTES];

static void boot_id(uint8_t id[BOOT_ID_BYTES])
{
    memcpy(id, boot_id_now, BOOT_ID_BYTES);
}

/* A UUID as text. */
static void boot_id_set(const char *text)
{
    unsigned digits = 0;
    for (; *text != '\0' && digits < 2 * BOOT_ID_BYTES; text++) {
        char digit[2] = {*text, '\0'};
        if (isxdigit((unsigned char)*text)) {
            uint8_t *byte = &boot_id_now[digits++ / 2];
            *byte = (uint8_t)(*byte << 4 | strtoul(digit, NULL, 16));
        }
    }
}

static bool is_cut(char variant)
{
    return strchr(VARIANTS_POWER, variant) != NULL;
}

/* In a process of its own. After a cut the machine was booted. */
static int judge(const char *dir, char variant)
{
    bool cut = is_cut(variant);
    subject_torn = variant == 'r';
    for (int i = 0; cut && i < BOOT_ID_BYTES; i++) {
        boot_id_now[i] ^= 0xff;
    }
    dassie__env.boot_id = boot_id;
    return subject_do("check", dir, false);
}

/* The status of the child, and what it wrote in dir.out. */
static int judge_apart(const struct replay *r, const char *dir, char variant)
{
    char path[PATH_MAX];
    int status;
    snprintf(path, sizeof path, "%s.out", dir);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        boot_id_set(r->boot_id);
        int rc = judge(dir, variant);
        fflush(stdout);
        _exit(rc);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        replay_fail("no process for a judge");
    }
    return status;
}

/* The first line that was written. */
static void show_output(const char *dir)
{
    char path[PATH_MAX];
    char line[256] = "nothing was said";
    snprintf(path, sizeof path, "%s.out", dir);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL &&
           (strncmp(line, "acknowledged", 12) == 0 ||
            strncmp(line, "cannot be verified before", 25) == 0)) {
    }
    if (file != NULL) {
        fclose(file);
    }
    line[strcspn(line, "\n")] = '\0';
    printf("%s", line);
}

static void show(const struct replay *r, struct image *image, unsigned seed,
                 const char *dir, int status)
{
    char kept[PATH_MAX];
    int before = atomic_fetch_add(&report->shown, 1);
    if (before >= SHOWN_MAX) {
        return;
    }
    snprintf(kept, sizeof kept, "%s.%ld%c%u", options.dir, r->point,
             image->variant, seed);
    printf("point %ld variant %c seed %u status %x: ", r->point, image->variant,
           seed, (unsigned)status);
    show_output(dir);
    printf("\n");
    if (before >= KEPT_MAX) {
        return;
    }
    printf("  again: %s one %s %s %ld %c %u\n", options.self, options.trace,
           kept, r->point, image->variant, seed);
    image_write(image, kept);
}

/* ---- All images ---- */

/* False, and true from now on. */
static bool seen_before(uint64_t hash)
{
    hash |= 1;
    for (size_t at = hash % SEEN_SLOTS;; at = (at + 1) % SEEN_SLOTS) {
        uint64_t there = 0;
        if (atomic_compare_exchange_strong(&report->seen[at], &there, hash)) {
            break;
        }
        if (there == hash) {
            return true;
        }
    }
    if (atomic_fetch_add(&report->seen_n, 1) > SEEN_SLOTS / 2) {
        replay_fail("too many images");
    }
    return false;
}

static void try_image(const struct replay *r, char variant, unsigned seed,
                      const char *dir)
{
    static struct image image;
    image_make(&image, r, variant, seed);
    if (seen_before(image_hash(&image))) {
        report->same++;
        return;
    }
    image_write(&image, dir);
    int status = judge_apart(r, dir, variant);
    report->images[(int)variant]++;
    if (status != 0) {
        report->violations[(int)variant]++;
        show(r, &image, seed, dir, status);
    }
}

static void try_point(const struct replay *r, const char *dir)
{
    for (const char *v = options.variants; *v != '\0'; v++) {
        unsigned seeds = *v == 'r' ? options.seeds : 1;
        for (unsigned seed = 0; seed < seeds; seed++) {
            try_image(r, *v, seed, dir);
        }
    }
}

static void work(int number)
{
    struct replay r;
    char dir[PATH_MAX];
    long chunk = -1;
    long points = 0;
    bool counts = !options.after_error;
    snprintf(dir, sizeof dir, "%s.w%d", options.dir, number);
    replay_open(&r, options.trace);
    while (replay_step(&r)) {
        counts = counts || r.last->op == TRACE_ERROR;
        if (!counts || !replay_is_point(&r) || points++ % options.stride != 0) {
            continue;
        }
        long mine = points / options.stride / CHUNK;
        if (chunk < mine) {
            chunk = atomic_fetch_add(&report->next, 1);
        }
        if (chunk == mine) {
            try_point(&r, dir);
        }
    }
    exit(0);
}

static int print_report(void)
{
    long images = 0;
    long violations = 0;
    for (const char *v = options.variants; *v != '\0'; v++) {
        long n = report->images[(int)*v];
        printf("%c %ld/%ld  ", *v, n, report->violations[(int)*v]);
        images += n;
        violations += report->violations[(int)*v];
    }
    printf(" images %ld violations %ld same %ld\n", images, violations,
           report->same);
    if (images == 0) {
        return 2;
    }
    return violations > 0;
}

static int try_all(void)
{
    long workers = WORKERS_PER_CPU * sysconf(_SC_NPROCESSORS_ONLN);
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED) {
        replay_fail("no memory");
    }
    fflush(stdout);
    for (int i = 0; i < workers; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            work(i);
        }
        if (pid < 0) {
            replay_fail("no process for a worker");
        }
    }
    int worst = 0;
    for (int status; wait(&status) > 0;) {
        worst = status != 0 ? 2 : worst;
    }
    int rc = print_report();
    return worst != 0 ? worst : rc;
}

/* ---- One thing at a time ---- */

static void replay_to(struct replay *r, const char *trace, long point)
{
    replay_open(r, trace);
    while ((point == 0 || r->point < point || !replay_is_point(r)) &&
           replay_step(r)) {
    }
    if (r->point < point) {
        replay_fail("there is no such point");
    }
}

/* TRACE DIR POINT VARIANT SEED */
static int make_one(char **argv)
{
    struct replay r;
    struct image image = {0};
    replay_to(&r, argv[0], strtol(argv[2], NULL, 10));
    image_make(&image, &r, argv[3][0], (unsigned)strtoul(argv[4], NULL, 10));
    image_write(&image, argv[1]);
    boot_id_set(r.boot_id);
    return 0;
}

static int judge_one(char **argv)
{
    make_one(argv);
    return judge(argv[1], argv[3][0]);
}

static int compare(char **argv)
{
    struct replay r;
    struct image image = {0};
    replay_to(&r, argv[0], 0);
    image_make(&image, &r, 'k', 0);
    return !image_compare(&image, argv[1]);
}

static int count_points(char **argv)
{
    struct replay r;
    replay_to(&r, argv[0], 0);
    printf("%ld\n", r.point);
    return 0;
}

/* A power cut outside of this program left it. */
static int judge_dir(char **argv)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/" LEDGER_NAME, argv[0]);
    ledger_cut_now(path);
    dassie__env.boot_id(boot_id_now);
    return judge(argv[0], 'r');
}

static int make_base(char **argv)
{
    base_write(argv[0], argv[1]);
    return 0;
}

static int images(int argc, char **argv)
{
    int option;
    options.trace = argv[0];
    options.dir = argv[1];
    optind = 2;
    while ((option = getopt(argc, argv, "ev:s:n:")) != -1) {
        switch (option) {
            case 'e':
                options.after_error = true;
                break;
            case 'v':
                options.variants = optarg;
                break;
            case 's':
                options.seeds = (unsigned)strtoul(optarg, NULL, 10);
                break;
            case 'n':
                options.stride = strtol(optarg, NULL, 10);
                break;
            default:
                return 2;
        }
    }
    return optind == argc && options.stride > 0 ? try_all() : 2;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int args;
        int (*function)(char **argv);
    } commands[] = {{"one", 5, judge_one},   {"make", 5, make_one},
                    {"judge", 1, judge_dir}, {"base", 2, make_base},
                    {"compare", 2, compare}, {"points", 1, count_points}};
    options.self = argv[0];
    if (argc >= 4 && strcmp(argv[1], "images") == 0) {
        return images(argc - 2, argv + 2);
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (argc == commands[i].args + 2 &&
            strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].function(argv + 2);
        }
    }
    fprintf(stderr, "usage: see power.c\n");
    return 2;
}
