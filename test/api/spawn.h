/* spawn.h: a test program that starts itself to be another process.
 *
 * RocksDB must not be opened before a fork, so the other process is this
 * program with arguments: the name of a scenario and the path of a store. It
 * runs the scenario as the only test, without a fork of Check's. How it ends is
 * the test's to judge. Threads: one. */
#ifndef DASSIE_TEST_API_SPAWN_H_
#define DASSIE_TEST_API_SPAWN_H_

#include "../queue_rig.h"

#include <spawn.h>
#include <sys/wait.h>

struct scenario {
    const char *name;
    void (*run)(void);
};

struct spawned {
    pid_t pid;
    int from; /* what it writes to its standard output */
    int to;   /* its standard input */
};

/* Starts scenario name on the store that the rig stands for. */
static inline void spawn(struct spawned *s, const char *name)
{
    static char exe[] = "/proc/self/exe";
    char *argv[] = {exe, (char *)(uintptr_t)name, rig.path, NULL};
    posix_spawn_file_actions_t actions;
    int in[2];
    int out[2];
    ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    ck_assert_int_eq(posix_spawn(&s->pid, exe, &actions, NULL, argv, environ),
                     0);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    s->to = in[1];
    s->from = out[0];
}

/* Waits for its end: the status that waitpid() gives. */
static inline int spawn_end(struct spawned *s)
{
    int status;
    ck_assert_int_eq(waitpid(s->pid, &status, 0), s->pid);
    close(s->to);
    close(s->from);
    return status;
}

/* The other process says that it has come so far, and waits for the word. */
static inline void spawned_tell(void)
{
    ck_assert_int_eq(write(STDOUT_FILENO, ">", 1), 1);
}

static inline void spawned_wait(void)
{
    char byte;
    ck_assert_int_eq(read(STDIN_FILENO, &byte, 1), 1);
}

/* Check writes to the same pipe; what counts is '>'. */
static inline void spawn_hear(struct spawned *s)
{
    char byte = 0;
    while (byte != '>') {
        ck_assert_int_eq(read(s->from, &byte, 1), 1);
    }
}

static inline void spawn_let_go(struct spawned *s)
{
    ck_assert_int_eq(write(s->to, "<", 1), 1);
}

/* ---- The program ---- */

static const struct scenario *spawned_scenario;

START_TEST(spawned_run)
{
    spawned_scenario->run();
}
END_TEST

/* What main() does when it has arguments: its exit status. */
static inline int spawned_main(char **argv, const struct scenario *scenarios,
                               int n)
{
    Suite *suite = suite_create("spawned");
    TCase *tc = tcase_create(argv[1]);
    for (int i = 0; i < n; i++) {
        if (strcmp(scenarios[i].name, argv[1]) == 0) {
            spawned_scenario = &scenarios[i];
        }
    }
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, spawned_run);
    memset(&rig, 0, sizeof rig);
    snprintf(rig.path, sizeof rig.path, "%s", argv[2]);
    rig.options = (dassie_options_t)DASSIE_OPTIONS_INIT;
    rig.options.free_bytes_min = 1;
    uv_loop_init(&rig.loop);
    uv_timer_init(&rig.loop, &rig.cap);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_SILENT);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}

static inline int spawn_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif /* DASSIE_TEST_API_SPAWN_H_ */
