#include "hub/http/problem.h"

#include <stdlib.h>

#include "common/buf.h"
#include "common/err.h"
#include "hub/http/jsonw.h"

static const short by_code[E_MAX_CODE] = {
        [E_OK] = 200,      [E_NOMEM] = 503,     [E_INVAL] = 400,    [E_NOENT] = 404,   [E_EXIST] = 409,
        [E_DENIED] = 403,  [E_UNAUTH] = 401,    [E_STATE] = 409,    [E_FULL] = 429,    [E_TOOBIG] = 413,
        [E_TIMEOUT] = 504, [E_CANCELLED] = 409, [E_IO] = 500,       [E_NOSPACE] = 503, [E_READONLY] = 503,
        [E_CLOSED] = 503,  [E_PROTO] = 400,     [E_UNAVAIL] = 503,  [E_CORRUPT] = 500, [E_AGAIN] = 409,
        [E_NOTSUP] = 501,  [E_VERSION] = 409,   [E_INTERNAL] = 500,
};

static const struct {
        int status;
        const char *title;
} titles[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
};

int problem_status(int code)
{
        int c = abs(code);

        return c < E_MAX_CODE && by_code[c] ? by_code[c] : 500;
}

const char *problem_title(int status)
{
        for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
                if (titles[i].status == status)
                        return titles[i].title;
        return "Error";
}

int problem_write(struct buf *b, int status, const char *code, const struct err *e, const char *path,
                  const char *extra)
{
        struct jsonw w;
        const char *c = code ? code : err_name(e->code);

        /* RFC 9457 section 4.2.1: about:blank says that the title is the
         * status's own and that `code` is what a program should look at. */
        jw_begin(&w, b);
        jw_open(&w, NULL, '{');
        jw_str(&w, "type", "about:blank");
        jw_str(&w, "title", problem_title(status));
        jw_i64(&w, "status", status);
        jw_str(&w, "detail", e->msg[0] ? e->msg : problem_title(status));
        jw_str(&w, "code", c);
        if (e->line > 0)
                jw_i64(&w, "line", e->line);
        if (e->col > 0)
                jw_i64(&w, "column", e->col);
        if (path)
                jw_str(&w, "path", path);
        if (extra && *extra)
                jw_raw(&w, NULL, extra, "");
        jw_close(&w, '}');
        return jw_end(&w);
}
