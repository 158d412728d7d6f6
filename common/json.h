/* Strict JSON on top of cJSON: bounded parsing and typed reading.
 * Trees are plain cJSON, freed with cJSON_Delete. */
#ifndef PHOTON_JSON_H
#define PHOTON_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct buf;

#define JSON_DEPTH_MAX 64

/* Parses exactly one document: valid UTF-8, no trailing bytes, no duplicate
 * keys in an object, no NUL (\u0000 either), depth at most JSON_DEPTH_MAX.
 * -E_INVAL with line and column, -E_NOMEM. */
int json_parse(const char *text, size_t len, cJSON **out, struct err *e);

/* Replaces in place the escapes that JSON can write but no text can hold, \u0000 and half a surrogate pair,
 * by \ufffd: other programs write them (a text cut in two, a binary file read), and json_parse refuses them.
 */
void json_mend(char *text, size_t len);

/* Compact text; mem_free it. NULL: no memory. */
char *json_text(const cJSON *v);
int json_append(struct buf *b, const cJSON *v);
/* Appends "..." with escapes. */
int json_append_str(struct buf *b, const char *s, size_t n);

/* Typed members. `*_opt` leave *out alone and return 0 if the member is
 * absent or null; a wrong type is -E_INVAL, naming the key and what was expected. */
int json_str(const cJSON *o, const char *key, const char **out, struct err *e);
int json_str_opt(const cJSON *o, const char *key, const char **out, struct err *e);
int json_i64(const cJSON *o, const char *key, int64_t min, int64_t max, int64_t *out, struct err *e);
int json_i64_opt(const cJSON *o, const char *key, int64_t min, int64_t max, int64_t *out, struct err *e);
int json_bool_opt(const cJSON *o, const char *key, bool *out, struct err *e);
int json_obj_opt(const cJSON *o, const char *key, const cJSON **out, struct err *e);
int json_arr_opt(const cJSON *o, const char *key, const cJSON **out, struct err *e);

/* -E_INVAL naming the first member of `o` that is not in `keys` (NULL-ended)
 * and the nearest key that is. */
int json_only(const cJSON *o, const char *const *keys, struct err *e);

/* Checks `v` against a JSON Schema subset (type, properties, required,
 * additionalProperties: false or schema, items, enum, const, minimum, maximum, minLength,
 * maxLength, minItems, maxItems, pattern-free, anyOf, description ignored). -E_INVAL
 * names the path, e.g. "argv[1]: expected a string, got a number". */
int json_check(const cJSON *schema, const cJSON *v, struct err *e);
/* Is the schema one that json_check can go by? Keywords that it does not know are none of its business.
 * -E_INVAL names the place, e.g. "properties.size.type". */
int json_check_schema(const cJSON *schema, struct err *e);

#endif
