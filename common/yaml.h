/* Documents with positions: YAML (libyaml) or JSON text becomes one tree of
 * nodes, each knowing its line and column, so that mistakes can be shown. */
#ifndef PHOTON_YAML_H
#define PHOTON_YAML_H

#include <cjson/cJSON.h>
#include <stddef.h>

struct err;

enum doc_kind { DOC_NULL, DOC_BOOL, DOC_NUMBER, DOC_STRING, DOC_LIST, DOC_MAP };

struct doc {
        enum doc_kind kind;
        int line, col; /* 1-based */
        char *text;    /* BOOL, NUMBER, STRING: the scalar's text */
        double number; /* NUMBER; BOOL: 0 or 1 */
        char *key;     /* when a member of a MAP */
        int key_line, key_col;
        struct doc *child, *next; /* LIST, MAP: children in order */
        size_t count;
};

#define DOC_DEPTH_MAX 64
#define DOC_NODES_MAX 2000000

/* Text that starts with '{' (after white space) is JSON, all else YAML.
 * Refuses: invalid UTF-8, duplicate keys, more than one YAML document,
 * anchors and aliases that expand past DOC_NODES_MAX, custom tags, depth over
 * DOC_DEPTH_MAX. Plain scalars are typed by the YAML 1.2 core schema, except
 * that YAML 1.1 "yes/no/on/off" stay strings. -E_INVAL with line and column. */
int doc_parse(const char *text, size_t len, struct doc **out, struct err *e);
void doc_free(struct doc *d);

struct doc *doc_get(const struct doc *map, const char *key); /* or NULL */
const char *doc_kind_name(enum doc_kind k);                  /* "a list" ... */
int doc_to_json(const struct doc *d, cJSON **out);           /* -E_NOMEM */

#endif
