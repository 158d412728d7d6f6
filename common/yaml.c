#include "common/yaml.h"

#include "common/err.h"
#include "common/json.h"
#include "common/json_scan.h"
#include "common/map.h"
#include "common/mem.h"
#include "common/str.h"

#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define SMALL_MAP       8                  /* members compared pairwise; more go through a map */
#define ALIAS_TEXT_MAX  ((size_t)16 << 20) /* bytes of text that aliases may add */
#define ANCHORS_MAX     10000
#define YAML_TAG_PREFIX "tag:yaml.org,2002:"

/* Builds the tree from events of either parser. */
struct builder {
        struct doc *root;
        struct doc *open[DOC_DEPTH_MAX];  /* LIST and MAP not yet closed */
        struct doc **tail[DOC_DEPTH_MAX]; /* where each one's next child goes */
        int depth;
        size_t nodes;
        size_t alias_text;
        char *key; /* of the next member, ours until it is attached */
        int key_line, key_col;
        struct map *anchors; /* name -> struct doc, lent from the tree; NULL until the first */
        struct err *e;
};

__attribute__((format(printf, 4, 5))) static int bad(struct builder *b, int line, int col, const char *fmt,
                                                     ...)
{
        char why[384];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(why, sizeof why, fmt, ap);
        va_end(ap);
        return err_at(b->e, E_INVAL, line, col, "line %d, column %d: %s", line, col, why);
}

static int no_memory(struct builder *b)
{
        return err_set(b->e, E_NOMEM, "no memory to read the document");
}

void doc_free(struct doc *d)
{
        struct doc *next;

        for (; d; d = next) {
                next = d->next;
                doc_free(d->child);
                mem_free(d->text);
                mem_free(d->key);
                mem_free(d);
        }
}

/* Hangs a node into the tree. Takes `d`, on failure too. */
static int attach(struct builder *b, struct doc *d)
{
        struct doc *parent = b->depth ? b->open[b->depth - 1] : NULL;

        if (b->nodes >= DOC_NODES_MAX) {
                int line = d->line, col = d->col;

                doc_free(d);
                return bad(b, line, col, "the document has more than %d values", DOC_NODES_MAX);
        }
        b->nodes++;
        if (!parent) {
                b->root = d;
                return 0;
        }
        if (parent->kind == DOC_MAP) {
                d->key = b->key;
                d->key_line = b->key_line;
                d->key_col = b->key_col;
                b->key = NULL;
        }
        *b->tail[b->depth - 1] = d;
        b->tail[b->depth - 1] = &d->next;
        parent->count++;
        return 0;
}

static bool wants_key(const struct builder *b)
{
        return b->depth && b->open[b->depth - 1]->kind == DOC_MAP && !b->key;
}

/* text (NULL for LIST, MAP, NULL) is copied. */
static struct doc *new_node(enum doc_kind kind, const char *text, size_t n, int line, int col)
{
        struct doc *d = mem_calloc(1, sizeof *d);

        if (!d)
                return NULL;
        d->kind = kind;
        d->line = line;
        d->col = col;
        if (text) {
                d->text = mem_strndup(text, n);
                if (!d->text) {
                        mem_free(d);
                        return NULL;
                }
        }
        return d;
}

static int begin(struct builder *b, enum doc_kind kind, int line, int col, struct doc **out)
{
        struct doc *d;
        int rc;

        if (b->depth == DOC_DEPTH_MAX)
                return bad(b, line, col, "nested too deeply (the limit is %d levels)", DOC_DEPTH_MAX);
        d = new_node(kind, NULL, 0, line, col);
        if (!d)
                return no_memory(b);
        rc = attach(b, d);
        if (rc)
                return rc;
        b->open[b->depth] = d;
        b->tail[b->depth] = &d->child;
        b->depth++;
        *out = d;
        return 0;
}

static int twice(struct builder *b, const struct doc *m)
{
        return bad(b, m->key_line, m->key_col, "the key \"%.100s\" stands twice", m->key);
}

/* Closes the innermost container; a map is checked for keys that repeat. */
static int finish(struct builder *b)
{
        const struct doc *d = b->open[--b->depth], *m, *o;
        struct map *seen;
        void *old = NULL;
        int rc = 0;

        if (d->kind != DOC_MAP)
                return 0;
        if (d->count <= SMALL_MAP) {
                for (m = d->child; m; m = m->next)
                        for (o = d->child; o != m; o = o->next)
                                if (strcmp(o->key, m->key) == 0)
                                        return twice(b, m);
                return 0;
        }
        seen = map_create();
        if (!seen)
                return no_memory(b);
        for (m = d->child; m && !rc; m = m->next) {
                rc = map_put(seen, m->key, (void *)m, &old);
                if (rc)
                        no_memory(b);
                else if (old)
                        rc = twice(b, m);
        }
        map_free(seen);
        return rc;
}

/* --- JSON ---------------------------------------------------------------- */

static int json_scalar(struct builder *b, const struct json_token *t)
{
        enum doc_kind kind = t->kind == JSON_TOK_STR   ? DOC_STRING
                             : t->kind == JSON_TOK_NUM ? DOC_NUMBER
                                                       : DOC_BOOL;
        struct doc *d;

        if (t->kind == JSON_TOK_NULL)
                d = new_node(DOC_NULL, NULL, 0, t->line, t->col);
        else
                d = new_node(kind, t->text, t->len, t->line, t->col);
        if (!d)
                return no_memory(b);
        if (kind == DOC_STRING)
                json_unescape(t->text, t->len, d->text);
        else if (kind == DOC_NUMBER)
                d->number = strtod(d->text, NULL);
        else
                d->number = t->kind == JSON_TOK_TRUE;
        return attach(b, d);
}

static int on_json(void *ctx, const struct json_token *t)
{
        struct builder *b = ctx;
        struct doc *d;

        switch (t->kind) {
        case JSON_TOK_OBJ:
                return begin(b, DOC_MAP, t->line, t->col, &d);
        case JSON_TOK_ARR:
                return begin(b, DOC_LIST, t->line, t->col, &d);
        case JSON_TOK_OBJ_END:
        case JSON_TOK_ARR_END:
                return finish(b);
        case JSON_TOK_KEY:
                b->key = mem_alloc(t->len + 1);
                if (!b->key)
                        return no_memory(b);
                json_unescape(t->text, t->len, b->key);
                b->key_line = t->line;
                b->key_col = t->col;
                return 0;
        default:
                return json_scalar(b, t);
        }
}

/* --- YAML ---------------------------------------------------------------- */

static int mark_line(yaml_mark_t m)
{
        return m.line < INT_MAX ? (int)m.line + 1 : INT_MAX;
}

static int mark_col(yaml_mark_t m)
{
        return m.column < INT_MAX ? (int)m.column + 1 : INT_MAX;
}

static size_t span(const char *s, const char *of)
{
        return strspn(s, of);
}

/* The number forms of the YAML 1.2 core schema (section 10.3.2). */
static bool is_number(const char *s, double *out)
{
        static const char dec[] = "0123456789";
        const char *p = *s == '-' || *s == '+' ? s + 1 : s;
        size_t whole, fraction = 0;

        if (s[0] == '0' && (s[1] == 'x' || s[1] == 'o')) {
                const char *of = s[1] == 'x' ? "0123456789abcdefABCDEF" : "01234567";

                if (!s[2] || s[2 + span(s + 2, of)])
                        return false;
                *out = (double)strtoull(s + 2, NULL, s[1] == 'x' ? 16 : 8);
                return true;
        }
        whole = span(p, dec);
        p += whole;
        if (*p == '.') {
                fraction = span(p + 1, dec);
                p += 1 + fraction;
        }
        if (whole + fraction == 0)
                return false;
        if (*p == 'e' || *p == 'E') {
                p += p[1] == '-' || p[1] == '+' ? 2 : 1;
                if (!span(p, dec))
                        return false;
                p += span(p, dec);
        }
        if (*p)
                return false;
        *out = strtod(s, NULL);
        return true;
}

static bool is_one_of(const char *s, const char *const *words)
{
        for (; *words; words++)
                if (strcmp(s, *words) == 0)
                        return true;
        return false;
}

static enum doc_kind plain_kind(const char *s, double *number)
{
        static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
        static const char *const trues[] = {"true", "True", "TRUE", NULL};
        static const char *const falses[] = {"false", "False", "FALSE", NULL};
        static const char *const wild[] = {".inf",  ".Inf",  ".INF", "+.inf", "+.Inf", "+.INF", "-.inf",
                                           "-.Inf", "-.INF", ".nan", ".NaN",  ".NAN",  NULL};

        *number = 0;
        if (is_one_of(s, nulls))
                return DOC_NULL;
        if (is_one_of(s, falses))
                return DOC_BOOL;
        if (is_one_of(s, trues)) {
                *number = 1;
                return DOC_BOOL;
        }
        if (is_one_of(s, wild)) {
                *number = INFINITY; /* refused by the caller: JSON has no such number */
                return DOC_NUMBER;
        }
        return is_number(s, number) ? DOC_NUMBER : DOC_STRING;
}

/* Reads the tag of a value that resolved to `kind`; may turn it into text. */
static int check_tag(struct builder *b, const char *tag, enum doc_kind *kind, int line, int col)
{
        static const struct {
                const char *name;
                enum doc_kind kind;
        } tags[] = {{"null", DOC_NULL},    {"bool", DOC_BOOL}, {"int", DOC_NUMBER},
                    {"float", DOC_NUMBER}, {"seq", DOC_LIST},  {"map", DOC_MAP}};
        size_t n = strlen(YAML_TAG_PREFIX);
        bool scalar = *kind != DOC_LIST && *kind != DOC_MAP;

        if (!tag)
                return 0;
        if (scalar && (strcmp(tag, "!") == 0 || strcmp(tag, YAML_TAG_PREFIX "str") == 0)) {
                *kind = DOC_STRING;
                return 0;
        }
        for (size_t i = 0; strncmp(tag, YAML_TAG_PREFIX, n) == 0 && i < sizeof tags / sizeof tags[0]; i++) {
                if (strcmp(tag + n, tags[i].name) != 0)
                        continue;
                if (tags[i].kind == *kind)
                        return 0;
                return bad(b, line, col, "tagged as %s, but it is %s", doc_kind_name(tags[i].kind),
                           doc_kind_name(*kind));
        }
        return bad(b, line, col, "the tag %.100s is not supported", tag);
}

static int set_anchor(struct builder *b, const yaml_char_t *name, struct doc *d)
{
        if (!name)
                return 0;
        if (!b->anchors)
                b->anchors = map_create();
        if (!b->anchors)
                return no_memory(b);
        if (map_count(b->anchors) >= ANCHORS_MAX)
                return bad(b, d->line, d->col, "more than %d anchors", ANCHORS_MAX);
        return map_put(b->anchors, (const char *)name, d, NULL) ? no_memory(b) : 0;
}

static int yaml_key(struct builder *b, const yaml_event_t *ev, const char *text, size_t n)
{
        b->key = mem_strndup(text, n);
        if (!b->key)
                return no_memory(b);
        b->key_line = mark_line(ev->start_mark);
        b->key_col = mark_col(ev->start_mark);
        return 0;
}

static int yaml_scalar(struct builder *b, const yaml_event_t *ev)
{
        const char *text = (const char *)ev->data.scalar.value;
        const char *tag = (const char *)ev->data.scalar.tag;
        size_t n = ev->data.scalar.length;
        int line = mark_line(ev->start_mark), col = mark_col(ev->start_mark);
        enum doc_kind kind = DOC_STRING;
        double number = 0;
        struct doc *d;
        int rc;

        if (strlen(text) != n)
                return bad(b, line, col, "a NUL character is not allowed");
        if (ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
                kind = plain_kind(text, &number);
        rc = check_tag(b, tag, &kind, line, col);
        if (rc)
                return rc;
        if (wants_key(b)) {
                if (ev->data.scalar.anchor)
                        return bad(b, line, col, "an anchor on a key is not supported");
                return yaml_key(b, ev, text, n);
        }
        if (kind == DOC_NUMBER && !isfinite(number))
                return bad(b, line, col, "%.40s is no finite number; put it in quotes if it is text", text);
        d = new_node(kind, kind == DOC_NULL ? NULL : text, n, line, col);
        if (!d)
                return no_memory(b);
        if (kind != DOC_STRING)
                d->number = number;
        rc = attach(b, d);
        return rc ? rc : set_anchor(b, ev->data.scalar.anchor, d);
}

static int yaml_begin(struct builder *b, const yaml_event_t *ev)
{
        bool map = ev->type == YAML_MAPPING_START_EVENT;
        const yaml_char_t *tag = map ? ev->data.mapping_start.tag : ev->data.sequence_start.tag;
        const yaml_char_t *anchor = map ? ev->data.mapping_start.anchor : ev->data.sequence_start.anchor;
        int line = mark_line(ev->start_mark), col = mark_col(ev->start_mark);
        enum doc_kind kind = map ? DOC_MAP : DOC_LIST;
        struct doc *d;
        int rc;

        if (wants_key(b))
                return bad(b, line, col, "a key must be text, not %s", doc_kind_name(kind));
        rc = check_tag(b, (const char *)tag, &kind, line, col);
        if (!rc)
                rc = begin(b, kind, line, col, &d);
        return rc ? rc : set_anchor(b, anchor, d);
}

/* Copies what an alias stands for; positions are those of the original, where
 * a mistake would have to be mended. */
static int copy_into(struct builder *b, const struct doc *from, int line, int col)
{
        struct doc *d;
        int rc;

        b->alias_text += (from->text ? strlen(from->text) : 0) + (from->key ? strlen(from->key) : 0);
        if (b->alias_text > ALIAS_TEXT_MAX || b->nodes >= DOC_NODES_MAX)
                return bad(b, line, col, "aliases make the document too large");
        if (from->kind != DOC_LIST && from->kind != DOC_MAP) {
                d = new_node(from->kind, from->text, from->text ? strlen(from->text) : 0, from->line,
                             from->col);
                if (!d)
                        return no_memory(b);
                d->number = from->number;
                return attach(b, d);
        }
        rc = begin(b, from->kind, from->line, from->col, &d);
        for (const struct doc *c = from->child; c && !rc; c = c->next) {
                if (from->kind == DOC_MAP) {
                        b->key = mem_strdup(c->key);
                        if (!b->key)
                                return no_memory(b);
                        b->key_line = c->key_line;
                        b->key_col = c->key_col;
                }
                rc = copy_into(b, c, line, col);
        }
        return rc ? rc : finish(b);
}

static int yaml_alias(struct builder *b, const yaml_event_t *ev)
{
        const char *name = (const char *)ev->data.alias.anchor;
        int line = mark_line(ev->start_mark), col = mark_col(ev->start_mark);
        const struct doc *from = b->anchors ? map_get(b->anchors, name) : NULL;

        if (!from)
                return bad(b, line, col, "no anchor &%.100s stands before this alias", name);
        for (int i = 0; i < b->depth; i++)
                if (b->open[i] == from)
                        return bad(b, line, col, "the alias *%.100s would contain itself", name);
        if (!wants_key(b))
                return copy_into(b, from, line, col);
        if (from->kind == DOC_LIST || from->kind == DOC_MAP || from->kind == DOC_NULL)
                return bad(b, line, col, "a key must be text, not %s", doc_kind_name(from->kind));
        b->alias_text += strlen(from->text);
        if (b->alias_text > ALIAS_TEXT_MAX)
                return bad(b, line, col, "aliases make the document too large");
        return yaml_key(b, ev, from->text, strlen(from->text));
}

static int yaml_problem(struct builder *b, const yaml_parser_t *p)
{
        const char *context = p->context ? p->context : "";
        int line = mark_line(p->problem_mark), col = mark_col(p->problem_mark);

        if (p->error == YAML_MEMORY_ERROR)
                return no_memory(b);
        if (p->error == YAML_READER_ERROR) {
                /* The reader has no mark; it stopped just ahead of the scanner. */
                line = mark_line(p->mark);
                col = mark_col(p->mark);
        }
        return bad(b, line, col, "not valid YAML: %s%s%s", p->problem ? p->problem : "unreadable text",
                   *context ? " " : "", context);
}

static int on_yaml(struct builder *b, const yaml_event_t *ev, bool *had_document)
{
        int line = mark_line(ev->start_mark), col = mark_col(ev->start_mark);

        switch (ev->type) {
        case YAML_DOCUMENT_START_EVENT:
                if (*had_document)
                        return bad(b, line, col, "a second document starts here; only one is allowed");
                *had_document = true;
                return 0;
        case YAML_SCALAR_EVENT:
                return yaml_scalar(b, ev);
        case YAML_ALIAS_EVENT:
                return yaml_alias(b, ev);
        case YAML_SEQUENCE_START_EVENT:
        case YAML_MAPPING_START_EVENT:
                return yaml_begin(b, ev);
        case YAML_SEQUENCE_END_EVENT:
        case YAML_MAPPING_END_EVENT:
                return finish(b);
        default:
                return 0;
        }
}

static int parse_yaml(struct builder *b, const char *text, size_t len)
{
        yaml_parser_t parser;
        yaml_event_t ev;
        bool had_document = false, end = false;
        int rc = 0;

        if (!yaml_parser_initialize(&parser))
                return no_memory(b);
        yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
        while (!end && !rc) {
                if (!yaml_parser_parse(&parser, &ev)) {
                        rc = yaml_problem(b, &parser);
                        break;
                }
                end = ev.type == YAML_STREAM_END_EVENT;
                rc = on_yaml(b, &ev, &had_document);
                yaml_event_delete(&ev);
        }
        yaml_parser_delete(&parser);
        if (rc || b->root)
                return rc;
        b->root = new_node(DOC_NULL, NULL, 0, 1, 1);
        return b->root ? 0 : no_memory(b);
}

static int check_utf8(struct builder *b, const char *text, size_t len)
{
        int line = 1, col = 1;

        if (str_is_utf8(text, len))
                return 0;
        for (size_t i = 0, n; i < len && (n = str_utf8_len(text + i, len - i)) > 0; i += n) {
                col = text[i] == '\n' ? 1 : col + 1;
                line += text[i] == '\n';
        }
        return bad(b, line, col, "not valid UTF-8");
}

int doc_parse(const char *text, size_t len, struct doc **out, struct err *e)
{
        struct builder b = {.e = e};
        size_t start = 0;
        int rc = check_utf8(&b, text, len);

        while (start < len && strchr(" \t\r\n", text[start]) && text[start])
                start++;
        if (!rc)
                rc = start < len && text[start] == '{' ? json_scan(text, len, on_json, &b, e)
                                                       : parse_yaml(&b, text, len);
        map_free(b.anchors);
        mem_free(b.key);
        if (rc)
                doc_free(b.root);
        else
                *out = b.root;
        return rc;
}

/* --- reading ------------------------------------------------------------- */

struct doc *doc_get(const struct doc *map, const char *key)
{
        if (map->kind != DOC_MAP)
                return NULL;
        for (struct doc *m = map->child; m; m = m->next)
                if (strcmp(m->key, key) == 0)
                        return m;
        return NULL;
}

const char *doc_kind_name(enum doc_kind k)
{
        static const char *const names[] = {
                [DOC_NULL] = "nothing",  [DOC_BOOL] = "true or false", [DOC_NUMBER] = "a number",
                [DOC_STRING] = "a text", [DOC_LIST] = "a list",        [DOC_MAP] = "a map",
        };

        return names[k];
}

int doc_to_json(const struct doc *d, cJSON **out)
{
        cJSON *v = NULL, *c;
        int rc = 0;

        switch (d->kind) {
        case DOC_NULL:
                v = cJSON_CreateNull();
                break;
        case DOC_BOOL:
                v = cJSON_CreateBool(d->number != 0);
                break;
        case DOC_NUMBER:
                v = cJSON_CreateNumber(d->number);
                break;
        case DOC_STRING:
                v = cJSON_CreateString(d->text);
                break;
        case DOC_LIST:
                v = cJSON_CreateArray();
                break;
        case DOC_MAP:
                v = cJSON_CreateObject();
                break;
        }
        if (!v)
                return -E_NOMEM;
        for (const struct doc *m = d->child; m && !rc; m = m->next) {
                rc = doc_to_json(m, &c);
                if (rc)
                        break;
                if (!(d->kind == DOC_MAP ? cJSON_AddItemToObject(v, m->key, c)
                                         : cJSON_AddItemToArray(v, c))) {
                        cJSON_Delete(c);
                        rc = -E_NOMEM;
                }
        }
        if (rc)
                cJSON_Delete(v);
        else
                *out = v;
        return rc;
}
