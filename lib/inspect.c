/* inspect.c: an open queue is recounted or copied; see survey.h. */
#include "config.h"

#include "impl.h"

#include "alloc.h"

static int survey_post(dassie_t *q, enum survey_type type, void *req,
                       const char *path)
{
    struct survey *survey = dassie__survey_new(type, req, path);
    if (survey == NULL) {
        return UV_ENOMEM;
    }
    survey->op.type = OP_SURVEY;
    q->impl->lookups++;
    dassie__engine_post(q->impl, &survey->op);
    return 0;
}

int dassie_check(dassie_t *q, dassie_check_t *req, dassie_check_cb cb)
{
    int rc = dassie__lookup_take(q);
    if (rc == 0 && (req == NULL || cb == NULL)) {
        rc = UV_EINVAL;
    }
    if (rc == 0) {
        rc = survey_post(q, SURVEY_CHECK, req, NULL);
    }
    if (rc == 0) {
        req->q = q;
        req->cb = cb;
    }
    return rc;
}

int dassie_backup(dassie_t *q, dassie_backup_t *req, const char *path,
                  dassie_backup_cb cb)
{
    char *absolute = NULL;
    int rc = dassie__lookup_take(q);
    if (rc == 0 && (req == NULL || cb == NULL || path == NULL)) {
        rc = UV_EINVAL;
    }
    if (rc == 0) {
        rc = path[0] != '\0' ? dassie__path_copy(path, &absolute) : UV_ENOENT;
    }
    if (rc == 0) {
        rc = survey_post(q, SURVEY_BACKUP, req, absolute);
    }
    dassie__free(absolute);
    if (rc == 0) {
        req->q = q;
        req->cb = cb;
    }
    return rc;
}

static void deliver_check(struct survey *survey)
{
    dassie_check_t *req = survey->req;
    bool told = survey->status == 0 || survey->status == DASSIE_ECORRUPT;
    req->problems = told ? survey->problems : NULL;
    req->problems_n = told ? survey->problems_n : 0;
    req->cb(req, survey->status, told ? &survey->report : NULL);
}

void dassie__survey_deliver(struct dassie__impl *impl, struct survey *survey)
{
    impl->lookups--;
    if (survey->type == SURVEY_CHECK) {
        deliver_check(survey);
    } else {
        dassie_backup_t *req = survey->req;
        req->cb(req, survey->status);
    }
    dassie__survey_free(survey);
}
