/* What each action does. An action is a few steps, each one question to the tab; its last step calls
 * browser_action_done. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/policy.h"
#include "agent/tools/browser_js.h"
#include "agent/tools/browser_keys.h"
#include "agent/tools/browser_run.h"
#include "agent/tools/event.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

#define SHOT_PIXELS_MAX 16384 /* a side of a picture: what Chromium can draw at once */
#define STREAM_PIECE    (1 << 20)

/* ---- small things ---- */

static const char *text_of(const struct browser_run *r, const char *key)
{
        return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(r->action, key));
}

static bool is_true(const struct browser_run *r, const char *key)
{
        return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(r->action, key));
}

static const char *str(const cJSON *o, const char *key)
{
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));

        return s ? s : "";
}

static double num(const cJSON *o, const char *key)
{
        const cJSON *n = cJSON_GetObjectItemCaseSensitive(o, key);

        return cJSON_IsNumber(n) ? n->valuedouble : 0;
}

static void well(struct browser_run *r)
{
        browser_action_done(r, NULL, NULL);
}

static void bad(struct browser_run *r, const char *code, int rc, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
static void bad(struct browser_run *r, const char *code, int rc, const char *fmt, ...)
{
        struct err e = {0};
        va_list ap;

        va_start(ap, fmt);
        err_setv(&e, rc, fmt, ap);
        va_end(ap);
        browser_action_done(r, code, &e);
}

static void no_memory(struct browser_run *r)
{
        bad(r, "out_of_memory", E_NOMEM, "the agent is out of memory");
}

/* What an element is called in messages. */
static void element_text(const struct browser_run *r, char out[300])
{
        const char *s = text_of(r, "selector"),
                   *t = strcmp(str(r->action, "action"), "type") == 0 ? NULL : text_of(r, "text");

        if (s && t)
                snprintf(out, 300, "\"%.120s\" with the text \"%.120s\"", s, t);
        else
                snprintf(out, 300, s ? "\"%.200s\"" : "an element with the text \"%.200s\"",
                         s   ? s
                         : t ? t
                             : "");
}

static void no_element(struct browser_run *r, const char *why)
{
        char what[300];

        element_text(r, what);
        if (strcmp(why, "absent") == 0)
                bad(r, "element_not_found", E_NOENT, "the page has no element %s", what);
        else
                bad(r, "element_not_usable", E_STATE, "the element %s is there, but %s", what,
                    strcmp(why, "hidden") == 0       ? "not visible"
                    : strcmp(why, "covered") == 0    ? "covered by another one"
                    : strcmp(why, "disabled") == 0   ? "disabled"
                    : strcmp(why, "uneditable") == 0 ? "of a kind that does not take this"
                    : strcmp(why, "visible") == 0    ? "still visible"
                                                     : why);
}

/* ["selector" or null, "text" or null] */
static cJSON *element_args(const struct browser_run *r, const char *selector, const char *text)
{
        cJSON *a = cJSON_CreateArray();
        const char *all[] = {selector, text};

        (void)r;
        for (int i = 0; i < 2 && a; i++) {
                cJSON *x = all[i] ? cJSON_CreateString(all[i]) : cJSON_CreateNull();

                if (!x || !cJSON_AddItemToArray(a, x)) {
                        cJSON_Delete(x);
                        cJSON_Delete(a);
                        a = NULL;
                }
        }
        return a;
}

static bool add(cJSON *array, cJSON *item)
{
        if (array && item && cJSON_AddItemToArray(array, item))
                return true;
        cJSON_Delete(item);
        return false;
}

static double page_ms(const struct browser_run *r)
{
        return (double)r->timeout_ms;
}

static void ask(struct browser_run *r, const char *function, cJSON *args, tab_done *done)
{
        tab_call(r->tab, function, args, r->timeout_ms, "page_timeout", done, r);
}

static enum tab_until until_of(const struct browser_run *r, enum tab_until otherwise)
{
        const char *u = text_of(r, "until");

        return !u                               ? otherwise
               : strcmp(u, "commit") == 0       ? TAB_COMMIT
               : strcmp(u, "dom") == 0          ? TAB_DOM
               : strcmp(u, "network-idle") == 0 ? TAB_IDLE
                                                : TAB_LOAD;
}

/* The usual last step. */
static void on_last(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        (void)value;
        browser_action_done(arg, code, e);
}

/* ---- navigate, wait ---- */

static void navigate(struct browser_run *r)
{
        const char *url = text_of(r, "url");
        struct err e = {0};
        int rc = tab_permit_url(r->tab, url, &e);

        if (rc)
                browser_action_done(r, rc == -E_DENIED ? "url_denied" : "bad_url", &e);
        else
                tab_goto(r->tab, url, until_of(r, TAB_LOAD), r->timeout_ms, on_last, r);
}

static void on_waited(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;

        if (code)
                browser_action_done(r, code, e);
        else if (cJSON_IsString(value) && strcmp(value->valuestring, "ok") == 0)
                well(r);
        else
                no_element(r, cJSON_IsString(value) ? value->valuestring : "absent");
}

static void wait_for(struct browser_run *r)
{
        const char *state = text_of(r, "state");
        cJSON *args;

        if (!text_of(r, "selector") && !text_of(r, "text")) {
                tab_wait(r->tab, until_of(r, TAB_LOAD), r->timeout_ms, on_last, r);
                return;
        }
        args = element_args(r, text_of(r, "selector"), text_of(r, "text"));
        if (!add(args, cJSON_CreateString(state ? state : "visible")) ||
            !add(args, cJSON_CreateNumber(page_ms(r)))) {
                cJSON_Delete(args);
                no_memory(r);
                return;
        }
        ask(r, js_wait, args, on_waited);
}

/* ---- after something that may have led elsewhere ---- */

static void on_arrived(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;

        (void)value;
        if (code || (unsigned)r->step == tab_documents(r->tab))
                browser_action_done(r, code, e);
        else
                tab_wait(r->tab, until_of(r, TAB_LOAD), r->timeout_ms, on_last, r);
}

static void on_calm(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;

        (void)value;
        if (code)
                browser_action_done(r, code, e);
        else
                tab_wait(r->tab, TAB_COMMIT, r->timeout_ms, on_arrived, r);
}

/* The page's handlers have run, and if they opened another document it is loaded. step: documents before. */
static void follow(struct browser_run *r)
{
        ask(r, "()=>new Promise(r=>setTimeout(()=>r(1),0))", cJSON_CreateArray(), on_calm);
}

/* ---- click ---- */

static void mouse(struct browser_run *r, const char *type, int buttons, tab_done *done)
{
        const char *button = text_of(r, "button");
        const cJSON *count = cJSON_GetObjectItemCaseSensitive(r->action, "count");
        cJSON *o = cJSON_CreateObject();

        if (o && cJSON_AddStringToObject(o, "type", type) && cJSON_AddNumberToObject(o, "x", r->x) &&
            cJSON_AddNumberToObject(o, "y", r->y) &&
            cJSON_AddStringToObject(o, "button",
                                    buttons < 0 ? "none"
                                    : button    ? button
                                                : "left") &&
            cJSON_AddNumberToObject(o, "buttons", buttons > 0 ? 1 : 0) &&
            cJSON_AddNumberToObject(o, "clickCount",
                                    buttons < 0 ? 0
                                    : count     ? count->valueint
                                                : 1)) {
                tab_command(r->tab, "Input.dispatchMouseEvent", o, r->timeout_ms, done, r);
        } else {
                cJSON_Delete(o);
                no_memory(r);
        }
}

static void on_released(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        (void)value;
        if (code)
                browser_action_done(arg, code, e);
        else
                follow(arg);
}

static void on_pressed(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        (void)value;
        if (code)
                browser_action_done(arg, code, e);
        else
                mouse(arg, "mouseReleased", 0, on_released);
}

static void on_moved(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        (void)value;
        if (code)
                browser_action_done(arg, code, e);
        else
                mouse(arg, "mousePressed", 1, on_pressed);
}

static void on_located(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;

        if (code) {
                browser_action_done(r, code, e);
        } else if (cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(value, "x"))) {
                r->x = num(value, "x");
                r->y = num(value, "y");
                r->step = (int)tab_documents(r->tab);
                mouse(r, "mouseMoved", -1, on_moved);
        } else {
                no_element(r, *str(value, "why") ? str(value, "why") : "absent");
        }
}

static void click(struct browser_run *r)
{
        cJSON *args = element_args(r, text_of(r, "selector"), text_of(r, "text"));

        if (add(args, cJSON_CreateNumber(page_ms(r)))) {
                ask(r, js_locate, args, on_located);
        } else {
                cJSON_Delete(args);
                no_memory(r);
        }
}

/* ---- type, press, select ---- */

static void on_typed(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;

        (void)value;
        if (!code && is_true(r, "submit"))
                browser_keys_press(r->tab, "Enter", r->timeout_ms, on_released, r);
        else
                browser_action_done(r, code, e);
}

static void on_focus(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;
        const char *text = text_of(r, "text");
        cJSON *o;

        if (code) {
                browser_action_done(r, code, e);
        } else if (!cJSON_IsString(value) || strcmp(value->valuestring, "ok") != 0) {
                no_element(r, cJSON_IsString(value) ? value->valuestring : "absent");
        } else if (!*text && is_true(r, "clear")) {
                browser_keys_press(r->tab, "Delete", r->timeout_ms, on_typed, r);
        } else {
                r->step = (int)tab_documents(r->tab);
                o = cJSON_CreateObject();
                if (o && cJSON_AddStringToObject(o, "text", text)) {
                        tab_command(r->tab, "Input.insertText", o, r->timeout_ms, on_typed, r);
                } else {
                        cJSON_Delete(o);
                        no_memory(r);
                }
        }
}

static void type(struct browser_run *r)
{
        cJSON *args = element_args(r, text_of(r, "selector"), NULL);

        if (add(args, cJSON_CreateBool(is_true(r, "clear"))) && add(args, cJSON_CreateNumber(page_ms(r)))) {
                ask(r, js_focus, args, on_focus);
        } else {
                cJSON_Delete(args);
                no_memory(r);
        }
}

static void press(struct browser_run *r)
{
        r->step = (int)tab_documents(r->tab);
        browser_keys_press(r->tab, text_of(r, "key"), r->timeout_ms, on_released, r);
}

static void on_selected(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;

        if (code)
                browser_action_done(r, code, e);
        else if (cJSON_GetObjectItemCaseSensitive(value, "chosen"))
                follow(r);
        else
                no_element(r, *str(value, "why") ? str(value, "why") : "absent");
}

static void choose(struct browser_run *r)
{
        cJSON *args = cJSON_CreateArray(), *values = cJSON_CreateArray();

        r->step = (int)tab_documents(r->tab);
        if (add(args, cJSON_CreateString(text_of(r, "selector"))) &&
            add(values, cJSON_CreateString(text_of(r, "value")))) {
                cJSON_AddItemToArray(args, values);
                if (add(args, cJSON_CreateNumber(page_ms(r)))) {
                        ask(r, js_select, args, on_selected);
                        return;
                }
                values = NULL;
        }
        cJSON_Delete(args);
        cJSON_Delete(values);
        no_memory(r);
}

/* ---- text, html, evaluate ---- */

static void on_read(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;
        const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(value, "text"));
        const char *key = str(r->action, "action");

        if (code) {
                browser_action_done(r, code, e);
                return;
        }
        if (!text) {
                no_element(r, *str(value, "why") ? str(value, "why") : "absent");
                return;
        }
        if (!cJSON_AddStringToObject(r->result, key, text) ||
            (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(value, "cut")) &&
             !cJSON_AddTrueToObject(r->result, "truncated"))) {
                no_memory(r);
                return;
        }
        if (strcmp(key, "text") == 0) {
                (void)event_text(r->c, text, strlen(text)); /* bounded; the job keeps it */
                if (*text && text[strlen(text) - 1] != '\n')
                        (void)event_text(r->c, "\n", 1);
        }
        well(r);
}

static void read_page(struct browser_run *r)
{
        cJSON *args = cJSON_CreateArray();
        const char *selector = text_of(r, "selector");
        int64_t max = BROWSER_TEXT_DEFAULT;

        (void)json_i64_opt(r->action, "max_chars", 1, BROWSER_TEXT_MAX, &max, NULL); /* the schema has it */
        if (add(args, selector ? cJSON_CreateString(selector) : cJSON_CreateNull()) &&
            add(args, cJSON_CreateNumber((double)max)) &&
            add(args, cJSON_CreateString(str(r->action, "action"))) &&
            add(args, cJSON_CreateNumber(page_ms(r)))) {
                ask(r, js_read, args, on_read);
        } else {
                cJSON_Delete(args);
                no_memory(r);
        }
}

static void on_evaluated(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;
        const cJSON *wrong = cJSON_GetObjectItemCaseSensitive(value, "exceptionDetails");
        cJSON *v;

        if (code) {
                browser_action_done(r, code, e);
        } else if (wrong) {
                bad(r, "script_failed", E_INVAL, "%.400s",
                    *str(cJSON_GetObjectItemCaseSensitive(wrong, "exception"), "description")
                            ? str(cJSON_GetObjectItemCaseSensitive(wrong, "exception"), "description")
                            : str(wrong, "text"));
        } else {
                v = cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(
                                            cJSON_GetObjectItemCaseSensitive(value, "result"), "value"),
                                    true);
                if (!v)
                        v = cJSON_CreateNull(); /* undefined */
                if (v && cJSON_AddItemToObject(r->result, "value", v)) {
                        well(r);
                } else {
                        cJSON_Delete(v);
                        no_memory(r);
                }
        }
}

static void evaluate(struct browser_run *r)
{
        cJSON *o = cJSON_CreateObject();

        if (o && cJSON_AddStringToObject(o, "expression", text_of(r, "expression")) &&
            cJSON_AddTrueToObject(o, "returnByValue") && cJSON_AddTrueToObject(o, "awaitPromise")) {
                tab_command(r->tab, "Runtime.evaluate", o, r->timeout_ms, on_evaluated, r);
        } else {
                cJSON_Delete(o);
                no_memory(r);
        }
}

/* ---- screenshot ---- */

static void on_shot(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;
        const char *b64 = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(value, "data"));
        uint8_t *bytes = NULL;
        size_t n = 0;

        if (code)
                browser_action_done(r, code, e);
        else if (!b64 || str_unb64(b64, strlen(b64), &bytes, &n))
                bad(r, "browser_failed", E_PROTO, "the browser gave no picture");
        else
                browser_put_file(r, bytes, n);
}

static void shoot(struct browser_run *r, const cJSON *box)
{
        const char *format = text_of(r, "format");
        cJSON *o = cJSON_CreateObject(), *clip = NULL;
        const cJSON *quality = cJSON_GetObjectItemCaseSensitive(r->action, "quality");
        bool ok = o && cJSON_AddStringToObject(o, "format", format ? format : "png") &&
                  cJSON_AddTrueToObject(o, "optimizeForSpeed");

        if (ok && quality && format && strcmp(format, "png") != 0)
                ok = cJSON_AddNumberToObject(o, "quality", quality->valuedouble);
        if (ok && box) {
                ok = cJSON_AddTrueToObject(o, "captureBeyondViewport") &&
                     (clip = cJSON_AddObjectToObject(o, "clip")) &&
                     cJSON_AddNumberToObject(clip, "x", num(box, "x")) &&
                     cJSON_AddNumberToObject(clip, "y", num(box, "y")) &&
                     cJSON_AddNumberToObject(clip, "width", fmin(ceil(num(box, "width")), SHOT_PIXELS_MAX)) &&
                     cJSON_AddNumberToObject(clip, "height",
                                             fmin(ceil(num(box, "height")), SHOT_PIXELS_MAX)) &&
                     cJSON_AddNumberToObject(clip, "scale", 1);
                if (ok && (num(box, "height") > SHOT_PIXELS_MAX || num(box, "width") > SHOT_PIXELS_MAX))
                        ok = cJSON_AddTrueToObject(r->result, "truncated");
        }
        if (ok) {
                tab_command(r->tab, "Page.captureScreenshot", o, r->timeout_ms, on_shot, r);
        } else {
                cJSON_Delete(o);
                no_memory(r);
        }
}

static void on_metrics(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        const cJSON *size = cJSON_GetObjectItemCaseSensitive(value, "cssContentSize");

        if (code)
                browser_action_done(arg, code, e);
        else if (num(size, "width") < 1 || num(size, "height") < 1)
                shoot(arg, NULL); /* nothing in it: the window as it is */
        else
                shoot(arg, size);
}

static void on_box(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;

        if (code)
                browser_action_done(r, code, e);
        else if (num(value, "width") > 0)
                shoot(r, value);
        else
                no_element(r, *str(value, "why") ? str(value, "why") : "absent");
}

static void screenshot(struct browser_run *r)
{
        const char *selector = text_of(r, "selector");
        cJSON *args;

        if (selector) {
                args = cJSON_CreateArray();
                if (add(args, cJSON_CreateString(selector)) && add(args, cJSON_CreateNumber(page_ms(r)))) {
                        ask(r, js_box, args, on_box);
                } else {
                        cJSON_Delete(args);
                        no_memory(r);
                }
        } else if (is_true(r, "full_page")) {
                tab_command(r->tab, "Page.getLayoutMetrics", NULL, r->timeout_ms, on_metrics, r);
        } else {
                shoot(r, NULL);
        }
}

/* ---- pdf: comes in pieces ---- */

static void read_stream(struct browser_run *r, tab_done *done)
{
        cJSON *o = cJSON_CreateObject();

        if (o && cJSON_AddStringToObject(o, "handle", r->stream) &&
            cJSON_AddNumberToObject(o, "size", STREAM_PIECE)) {
                tab_command(r->tab, "IO.read", o, r->timeout_ms, done, r);
        } else {
                cJSON_Delete(o);
                no_memory(r);
        }
}

static void on_closed(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;
        uint8_t *bytes = r->bytes.data;
        size_t n = r->bytes.len;

        (void)value;
        if (code) {
                browser_action_done(r, code, e);
                return;
        }
        r->bytes = (struct buf){0};
        browser_put_file(r, bytes, n);
}

static void on_piece(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;
        const char *data = str(value, "data");
        bool b64 = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(value, "base64Encoded"));
        uint8_t *bytes = NULL;
        size_t n = strlen(data);
        cJSON *o;

        if (code) {
                browser_action_done(r, code, e);
                return;
        }
        if (b64 && str_unb64(data, n, &bytes, &n)) {
                bad(r, "browser_failed", E_PROTO, "the browser gave no PDF");
                return;
        }
        if (r->bytes.len + n > BROWSER_FILE_MAX || buf_put(&r->bytes, b64 ? (char *)bytes : data, n)) {
                mem_free(bytes);
                bad(r, "too_large", E_TOOBIG, "the PDF is over 64 MiB; print fewer pages (`pages`)");
                return;
        }
        mem_free(bytes);
        if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(value, "eof"))) {
                read_stream(r, on_piece);
                return;
        }
        o = cJSON_CreateObject();
        if (o && cJSON_AddStringToObject(o, "handle", r->stream)) {
                tab_command(r->tab, "IO.close", o, r->timeout_ms, on_closed, r);
        } else {
                cJSON_Delete(o);
                no_memory(r);
        }
}

static void on_printed(void *arg, const char *code, const struct err *e, const cJSON *value)
{
        struct browser_run *r = arg;

        if (code) {
                browser_action_done(r, code, e);
                return;
        }
        snprintf(r->stream, sizeof r->stream, "%s", str(value, "stream"));
        buf_fini(&r->bytes);
        buf_init(&r->bytes, BROWSER_FILE_MAX);
        read_stream(r, on_piece);
}

static void pdf(struct browser_run *r)
{
        static const struct {
                const char *name;
                double width, height; /* inches */
        } papers[] = {{"A4", 8.27, 11.69}, {"A3", 11.69, 16.54}, {"A5", 5.83, 8.27}, {"Letter", 8.5, 11}};
        const char *paper = text_of(r, "paper"), *pages = text_of(r, "pages");
        cJSON *o = cJSON_CreateObject();
        size_t i = 0;
        bool ok;

        while (paper && i + 1 < sizeof papers / sizeof *papers && strcmp(papers[i].name, paper) != 0)
                i++;
        ok = o && cJSON_AddStringToObject(o, "transferMode", "ReturnAsStream") &&
             cJSON_AddTrueToObject(o, "printBackground") &&
             cJSON_AddBoolToObject(o, "landscape", is_true(r, "landscape")) &&
             cJSON_AddNumberToObject(o, "paperWidth", papers[i].width) &&
             cJSON_AddNumberToObject(o, "paperHeight", papers[i].height) &&
             (!pages || cJSON_AddStringToObject(o, "pageRanges", pages));
        if (ok) {
                tab_command(r->tab, "Page.printToPDF", o, r->timeout_ms, on_printed, r);
        } else {
                cJSON_Delete(o);
                no_memory(r);
        }
}

/* ---- the table ---- */

#define KEYS(...) ((const char *const[]){"action", "timeout", __VA_ARGS__, NULL})

static const struct action {
        const char *name, *kind; /* kind of the event */
        void (*begin)(struct browser_run *r);
        const char *const *keys;
        const char *needs, *or_needs; /* members without which it says nothing */
        const char *shows;            /* the member that its title shows */
} table[] = {
        {"navigate", "fetch", navigate, KEYS("url", "until"), "url", NULL, "url"},
        {"wait", "think", wait_for, KEYS("selector", "text", "state", "until"), NULL, NULL, "selector"},
        {"click", "execute", click, KEYS("selector", "text", "button", "count", "until"), "selector", "text",
         "selector"},
        {"type", "edit", type, KEYS("selector", "text", "clear", "submit", "until"), "selector", NULL,
         "selector"},
        {"press", "execute", press, KEYS("key", "until"), "key", NULL, "key"},
        {"select", "edit", choose, KEYS("selector", "value", "until"), "selector", NULL, "selector"},
        {"text", "read", read_page, KEYS("selector", "max_chars"), NULL, NULL, "selector"},
        {"html", "read", read_page, KEYS("selector", "max_chars"), NULL, NULL, "selector"},
        {"evaluate", "execute", evaluate, KEYS("expression"), "expression", NULL, "expression"},
        {"screenshot", "read", screenshot, KEYS("path", "format", "quality", "full_page", "selector"), NULL,
         NULL, "path"},
        {"pdf", "read", pdf, KEYS("path", "landscape", "paper", "pages"), NULL, NULL, "path"},
};

static const struct action *find(const char *name)
{
        for (size_t i = 0; i < sizeof table / sizeof *table; i++)
                if (strcmp(table[i].name, name) == 0)
                        return &table[i];
        return NULL;
}

static bool has(const cJSON *a, const char *key)
{
        return key && cJSON_GetObjectItemCaseSensitive(a, key);
}

static int check_one(const struct policy *p, const cJSON *a, int i, struct err *e)
{
        const struct action *t = find(str(a, "action"));
        const char *timeout = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(a, "timeout"));
        struct err why = {0};
        int64_t ms = 1;

        if (!t)
                return err_set(e, E_INVAL, "actions[%d]: there is no action \"%.40s\"", i, str(a, "action"));
        if (json_only(a, t->keys, &why))
                return err_set(e, E_INVAL, "actions[%d] (%s): %s", i, t->name, why.msg);
        if (t->needs && !has(a, t->needs) && !has(a, t->or_needs))
                return err_set(e, E_INVAL, "actions[%d] (%s): needs `%s`%s%s%s", i, t->name, t->needs,
                               t->or_needs ? " or `" : "", t->or_needs ? t->or_needs : "",
                               t->or_needs ? "`" : "");
        if (t->begin == type && !has(a, "text"))
                return err_set(e, E_INVAL, "actions[%d] (type): needs `text`", i);
        if (t->begin == choose && !has(a, "value"))
                return err_set(e, E_INVAL, "actions[%d] (select): needs `value`", i);
        if (t->begin == press && !browser_keys_known(str(a, "key")))
                return err_set(e, E_INVAL,
                               "actions[%d] (press): there is no key \"%.40s\"; keys are one character, or "
                               "Enter, Tab, "
                               "Escape, Backspace, Delete, ArrowUp ..., with Control+, Shift+, Alt+ or Meta+ "
                               "before it",
                               i, str(a, "key"));
        if (t->begin == evaluate && !policy_browser(p)->evaluate)
                return err_set(e, E_DENIED,
                               "actions[%d]: scripts in pages are not allowed here; the owner of the machine "
                               "may set "
                               "browser.evaluate to true in the agent's policy",
                               i);
        if (timeout && (str_parse_duration(timeout, &ms) || ms < 1))
                return err_set(e, E_INVAL, "actions[%d] (%s): timeout: \"%.40s\" is no duration such as 10s",
                               i, t->name, timeout);
        return 0;
}

int browser_actions_check(const struct policy *p, const cJSON *actions, struct err *e)
{
        const cJSON *a;
        int i = 0, rc = 0;

        cJSON_ArrayForEach(a, actions)
        {
                rc = check_one(p, a, i++, e);
                if (rc)
                        return rc;
        }
        return 0;
}

void browser_action_event(struct browser_run *r, const char *status)
{
        const struct action *t = find(str(r->action, "action"));
        const char *shown = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(r->action, t->shows));
        char id[16], title[300];
        struct event_tool ev = {.id = id, .status = status};

        snprintf(id, sizeof id, "%d", r->at + 1);
        if (strcmp(status, "running") == 0) {
                snprintf(title, sizeof title, "%s%s%.250s", t->name, shown ? " " : "", shown ? shown : "");
                ev.kind = t->kind;
                ev.name = t->name;
                ev.title = title;
        }
        (void)event_tool(r->c, &ev); /* small and few: the job keeps them */
}

void browser_action_begin(struct browser_run *r)
{
        const struct action *t = find(str(r->action, "action"));
        const char *timeout = text_of(r, "timeout");

        r->timeout_ms = BROWSER_TIMEOUT_MS;
        if (timeout)
                (void)str_parse_duration(timeout, &r->timeout_ms); /* was checked */
        r->step = 0;
        browser_action_event(r, "running");
        t->begin(r);
}
