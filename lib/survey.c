#include "config.h"

#include "survey.h"

#include "alloc.h"
#include "verify.h"

#include <string.h>

struct survey *dassie__survey_new(enum survey_type type, void *req,
                                  const char *path)
{
    size_t len = path != NULL ? strlen(path) : 0;
    struct survey *survey = dassie__calloc(1, sizeof *survey + len + 1);
    if (survey != NULL) {
        survey->type = type;
        survey->req = req;
        if (path != NULL) {
            memcpy(survey->path, path, len);
        }
    }
    return survey;
}

void dassie__survey_free(struct survey *survey)
{
    for (size_t i = 0; i < survey->problems_n; i++) {
        dassie__free((void *)(uintptr_t)survey->problems[i].line);
    }
    dassie__free(survey->problems);
    dassie__free(survey);
}

static bool problems_grow(struct survey *survey)
{
    if (survey->problems_n < survey->problems_room) {
        return true;
    }
    size_t room = survey->problems_room == 0 ? 16 : 2 * survey->problems_room;
    dassie_problem_t *grown =
        dassie__realloc(survey->problems, room * sizeof grown[0]);
    if (grown != NULL) {
        survey->problems = grown;
        survey->problems_room = room;
    }
    return grown != NULL;
}

static void on_problem(void *arg, uint64_t id, const char *line)
{
    struct survey *survey = arg;
    if (survey->problems_n == DASSIE_PROBLEMS_MAX || survey->status != 0) {
        return;
    }
    char *copy = dassie__memdup(line, strlen(line) + 1);
    if (copy == NULL || !problems_grow(survey)) {
        dassie__free(copy);
        survey->status = UV_ENOMEM;
        return;
    }
    survey->problems[survey->problems_n].id = id;
    survey->problems[survey->problems_n].line = copy;
    survey->problems_n++;
}

/* What the database itself notices ends it, and is a problem, too. */
static void run_check(struct survey *survey)
{
    const struct kv_ops *ops = survey->kv->ops;
    struct errmsg e = {""};
    struct verify_what what = {.kv = survey->kv,
                               .snapshot = ops->snapshot(survey->kv),
                               .stop = survey->stop,
                               .cb = on_problem,
                               .arg = survey};
    int rc = dassie__verify(&what, &survey->report, &e);
    ops->snapshot_release(survey->kv, what.snapshot);
    if (rc == DASSIE_ECORRUPT) {
        survey->report.problems++;
        on_problem(survey, 0, e.text);
    }
    survey->status = survey->status != 0 ? survey->status : rc;
}

void dassie__survey_run(struct survey *survey)
{
    survey->status = atomic_load(survey->stop);
    if (survey->status != 0) {
        return;
    }
    if (survey->type == SURVEY_CHECK) {
        run_check(survey);
    } else {
        survey->status = dassie__backup(survey->kv, survey->path, survey->stop);
    }
}
