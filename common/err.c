#include "common/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
        const char *name;
        int grpc;
} codes[E_MAX_CODE] = {[E_OK] = {"ok", 0},
#define X(sym, name_, grpc_) [E_##sym] = {name_, grpc_},
                       ERR_LIST(X)
#undef X
};

static int code_index(int code)
{
        if (code < 0 && code > -E_MAX_CODE)
                code = -code;
        return code >= 0 && code < E_MAX_CODE ? code : E_INTERNAL;
}

const char *err_name(int code)
{
        return codes[code_index(code)].name;
}

int err_to_grpc(int code)
{
        return codes[code_index(code)].grpc;
}

int err_from_name(const char *name)
{
        for (int i = 1; name && i < E_MAX_CODE; i++)
                if (strcmp(codes[i].name, name) == 0)
                        return i;
        return E_INTERNAL;
}

int err_from_errno(int sys_errno)
{
        switch (sys_errno) {
        case 0:
                return E_OK;
        case ENOMEM:
                return E_NOMEM;
        case EINVAL:
        case EDOM:
        case ENAMETOOLONG:
        case ENOTDIR:
        case EISDIR:
        case ELOOP:
                return E_INVAL;
        case ENOENT:
        case ESRCH:
        case ENXIO:
        case ENODEV:
                return E_NOENT;
        case EEXIST:
        case ENOTEMPTY:
        case EADDRINUSE:
                return E_EXIST;
        case EACCES:
        case EPERM:
                return E_DENIED;
        case EMFILE:
        case ENFILE:
                return E_FULL;
        case EFBIG:
        case E2BIG:
        case EMSGSIZE:
        case EOVERFLOW:
        case ERANGE:
                return E_TOOBIG;
        case ETIMEDOUT:
                return E_TIMEOUT;
        case ECANCELED:
                return E_CANCELLED;
        case ENOSPC:
        case EDQUOT:
                return E_NOSPACE;
        case EROFS:
                return E_READONLY;
        case EPIPE:
        case EBADF:
        case ECONNRESET:
        case ECONNABORTED:
        case ENOTCONN:
        case ESHUTDOWN:
                return E_CLOSED;
        case EPROTO:
        case EBADMSG:
                return E_PROTO;
        case ECONNREFUSED:
        case EHOSTUNREACH:
        case ENETUNREACH:
        case ENETDOWN:
        case EADDRNOTAVAIL:
                return E_UNAVAIL;
        case EAGAIN:
        case EINTR:
        case EBUSY:
                return E_AGAIN;
        case ENOSYS:
        case EOPNOTSUPP:
        case EAFNOSUPPORT:
                return E_NOTSUP;
        default:
                return E_IO;
        }
}

/* Steps back over a UTF-8 sequence that truncation cut in the middle. */
static void trim_utf8(char *s)
{
        size_t n = strlen(s), back = 0;
        unsigned char lead;

        while (back < n && back < 3 && ((unsigned char)s[n - 1 - back] & 0xc0) == 0x80)
                back++;
        if (back == n)
                return;
        lead = (unsigned char)s[n - 1 - back];
        if ((lead >= 0xf0 && back < 3) || (lead >= 0xe0 && lead < 0xf0 && back < 2) ||
            (lead >= 0xc0 && lead < 0xe0 && back < 1))
                s[n - 1 - back] = '\0';
}

int err_setv(struct err *e, int code, const char *fmt, va_list ap)
{
        char msg[sizeof e->msg]; /* apart, since an argument may be e->msg itself */
        int n;

        if (code < 0)
                code = -code;
        if (!e)
                return -code;
        n = vsnprintf(msg, sizeof msg, fmt, ap);
        if (n < 0)
                snprintf(msg, sizeof msg, "%s", err_name(code));
        else if ((size_t)n >= sizeof msg)
                trim_utf8(msg);
        e->code = code;
        e->line = 0;
        e->col = 0;
        memcpy(e->msg, msg, strlen(msg) + 1);
        return -code;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
        va_list ap;
        int rc;

        va_start(ap, fmt);
        rc = err_setv(e, code, fmt, ap);
        va_end(ap);
        return rc;
}

int err_at(struct err *e, int code, int line, int col, const char *fmt, ...)
{
        va_list ap;
        int rc;

        va_start(ap, fmt);
        rc = err_setv(e, code, fmt, ap);
        va_end(ap);
        if (e) {
                e->line = line;
                e->col = col;
        }
        return rc;
}

const char *err_unplaced(const struct err *e)
{
        char place[64];
        size_t n = (size_t)snprintf(place, sizeof place, "line %d, column %d: ", e->line, e->col);

        return e->line > 0 && strncmp(e->msg, place, n) == 0 ? e->msg + n : e->msg;
}
