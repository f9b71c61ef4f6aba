#include "config.h"

#include "error.h"

#include "dassie.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *dassie_strerror(int code)
{
    switch (code) {
#define XX(name, number, text) \
    case number:               \
        return text;
        DASSIE_ERRNO_MAP(XX)
#undef XX
        case 0:
            return "success";
#define XX(name, text) \
    case UV_##name:    \
        return text;
            UV_ERRNO_MAP(XX)
#undef XX
        default:
            return "unknown error";
    }
}

const char *dassie_err_name(int code)
{
    switch (code) {
#define XX(name, number, text) \
    case number:               \
        return "DASSIE_" #name;
        DASSIE_ERRNO_MAP(XX)
#undef XX
#define XX(name, text) \
    case UV_##name:    \
        return "UV_" #name;
        UV_ERRNO_MAP(XX)
#undef XX
        default:
            return "unknown error";
    }
}

const char *dassie_version(void)
{
    return DASSIE_VERSION_STRING;
}

int dassie__sys_code(int error)
{
    int code = error == EDQUOT ? UV_ENOSPC : uv_translate_sys_error(error);
    switch (code) {
#define XX(name, text) case UV_##name:
        UV_ERRNO_MAP(XX)
#undef XX
        return code;
        default:
            return UV_EIO;
    }
}

int dassie__errmsg_set(struct errmsg *e, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    return code;
}

int dassie__errmsg_wrap(struct errmsg *e, int code, const char *prefix)
{
    struct errmsg old = *e;
    size_t len = strnlen(prefix, sizeof e->text - 3);
    memcpy(e->text, prefix, len);
    memcpy(e->text + len, ": ", 3);
    strncat(e->text, old.text, sizeof e->text - len - 3);
    return code;
}
