#include "hub/model/workflow_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

static const char *const type_names[] = {
        [INPUT_STRING] = "string", [INPUT_NUMBER] = "number", [INPUT_BOOLEAN] = "boolean",
        [INPUT_OBJECT] = "object", [INPUT_ARRAY] = "array",   [INPUT_ANY] = "any",
};

#define N_TYPES (sizeof type_names / sizeof *type_names)

static const char *expected(enum input_type t)
{
        static const char *const texts[] = {"a string",  "a number", "true or false",
                                            "an object", "an array", "any value"};

        return texts[t];
}

static const char *kind_of(const cJSON *v)
{
        if (cJSON_IsString(v))
                return "a string";
        if (cJSON_IsNumber(v))
                return "a number";
        if (cJSON_IsBool(v))
                return "a boolean";
        if (cJSON_IsObject(v))
                return "an object";
        return cJSON_IsArray(v) ? "an array" : "null";
}

static bool has_type(enum input_type t, const cJSON *v)
{
        switch (t) {
        case INPUT_STRING:
                return cJSON_IsString(v);
        case INPUT_NUMBER:
                return cJSON_IsNumber(v) && isfinite(v->valuedouble);
        case INPUT_BOOLEAN:
                return cJSON_IsBool(v);
        case INPUT_OBJECT:
                return cJSON_IsObject(v);
        case INPUT_ARRAY:
                return cJSON_IsArray(v);
        case INPUT_ANY:
                return true;
        }
        return false;
}

static bool among(const cJSON *options, const cJSON *v)
{
        const cJSON *it;

        cJSON_ArrayForEach(it, options) if (cJSON_Compare(it, v, true)) return true;
        return false;
}

/* ---- the declarations ---- */

static enum input_type type_of_default(const struct doc *d)
{
        switch (d ? d->kind : DOC_STRING) {
        case DOC_BOOL:
                return INPUT_BOOLEAN;
        case DOC_NUMBER:
                return INPUT_NUMBER;
        case DOC_LIST:
                return INPUT_ARRAY;
        case DOC_MAP:
                return INPUT_OBJECT;
        default:
                return INPUT_STRING;
        }
}

/* What other languages call our types. */
static const char *other_name(const char *word)
{
        static const char *const names[][2] = {
                {"int", "number"},   {"integer", "number"}, {"float", "number"},
                {"bool", "boolean"}, {"str", "string"},     {"text", "string"},
                {"list", "array"},   {"map", "object"},     {"dict", "object"}};

        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
                if (strcmp(names[i][0], word) == 0)
                        return names[i][1];
        return NULL;
}

static int parse_type(struct wf_parser *p, const struct doc *d, const char *name, enum input_type *out)
{
        const char *near;

        for (size_t i = 0; d->kind == DOC_STRING && i < N_TYPES; i++) {
                if (strcmp(type_names[i], d->text) != 0)
                        continue;
                *out = (enum input_type)i;
                return 0;
        }
        if (d->kind == DOC_STRING && strcmp(d->text, "choice") == 0)
                return wf_fail(p, d,
                               "\"type\" of input \"%s\": for a choice write \"options: [a, b]\"; the type "
                               "is that of the options",
                               name);
        near = d->kind == DOC_STRING ? other_name(d->text) : NULL;
        if (!near && d->kind == DOC_STRING)
                near = str_nearest(d->text, type_names, N_TYPES);
        return wf_fail(
                p, d,
                "\"type\" of input \"%s\": expected string, number, boolean, object, array or any%s%s%s",
                name, near ? ": did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* Values as they stand: no expressions are evaluated in them. */
static int parse_values(struct wf_parser *p, struct input_def *in, const struct doc *def,
                        const struct doc *options)
{
        const cJSON *it;
        const struct doc *d;

        if (options) {
                if (options->kind != DOC_LIST || !options->count || options->count > WORKFLOW_NAMES_MAX)
                        return wf_fail(p, options,
                                       "\"options\" of input \"%s\": expected a list of 1 to %d values",
                                       in->name, WORKFLOW_NAMES_MAX);
                if (doc_to_json(options, &in->options))
                        return wf_nomem(p);
                d = options->child;
                cJSON_ArrayForEach(it, in->options)
                {
                        if (!has_type(in->type, it))
                                return wf_fail(p, d, "\"options\" of input \"%s\": expected %s, got %s",
                                               in->name, expected(in->type), kind_of(it));
                        d = d->next;
                }
        }
        if (!def || def->kind == DOC_NULL)
                return 0;
        if (doc_to_json(def, &in->def))
                return wf_nomem(p);
        if (!has_type(in->type, in->def))
                return wf_fail(p, def, "\"default\" of input \"%s\": expected %s, got %s", in->name,
                               expected(in->type), kind_of(in->def));
        if (in->options && !among(in->options, in->def))
                return wf_fail(p, def, "\"default\" of input \"%s\" is not among its \"options\"", in->name);
        return 0;
}

static int parse_input(struct wf_parser *p, const struct doc *d, struct input_def *in)
{
        enum { I_TYPE, I_REQUIRED, I_DEFAULT, I_OPTIONS, I_DESCRIPTION, I_SLOTS };
        static const struct wf_key keys[] = {{"type", I_TYPE},
                                             {"required", I_REQUIRED},
                                             {"default", I_DEFAULT},
                                             {"options", I_OPTIONS},
                                             {"description", I_DESCRIPTION}};
        const struct doc *slot[I_SLOTS] = {NULL};
        int rc;

        in->type = INPUT_STRING;
        in->name = mem_strdup(d->key);
        if (!in->name)
                return wf_nomem(p);
        if (!str_is_name(d->key, STEP_ID_MAX) || strchr(d->key, '.'))
                return err_at(p->e, E_INVAL, d->key_line, d->key_col,
                              "\"%.60s\" is no good name of an input: letters, digits, \"_\" and \"-\"",
                              d->key);
        if (d->kind == DOC_NULL)
                return 0;
        snprintf(p->where, sizeof p->where, "input \"%s\"", d->key);
        rc = wf_keys(p, d, p->where, keys, I_SLOTS, slot);
        if (!rc && slot[I_TYPE])
                rc = parse_type(p, slot[I_TYPE], in->name, &in->type);
        else if (!rc && (slot[I_DEFAULT] || !slot[I_OPTIONS]))
                in->type = type_of_default(slot[I_DEFAULT]);
        else if (!rc && slot[I_OPTIONS]->child)
                in->type = type_of_default(slot[I_OPTIONS]->child);
        if (!rc)
                rc = wf_bool(p, slot[I_REQUIRED], "required", &in->required);
        if (!rc)
                rc = wf_text(p, slot[I_DESCRIPTION], "description", WORKFLOW_TEXT_MAX, &in->description);
        return rc ? rc : parse_values(p, in, slot[I_DEFAULT], slot[I_OPTIONS]);
}

int wf_parse_inputs(struct wf_parser *p, const struct doc *d)
{
        int rc = 0;

        if (d->kind == DOC_NULL)
                return 0;
        if (d->kind != DOC_MAP)
                return wf_fail(p, d, "\"inputs\": expected a map such as {version: {type: string}}, got %s",
                               doc_kind_name(d->kind));
        if (d->count > WORKFLOW_INPUTS_MAX)
                return wf_fail(p, d, "the workflow has %zu inputs, at most %d are allowed", d->count,
                               WORKFLOW_INPUTS_MAX);
        p->w->inputs = mem_calloc(d->count + 1, sizeof *p->w->inputs);
        if (!p->w->inputs)
                return wf_nomem(p);
        for (const struct doc *c = d->child; c && !rc; c = c->next)
                rc = parse_input(p, c, &p->w->inputs[p->w->n_inputs++]);
        snprintf(p->where, sizeof p->where, "the workflow");
        return rc;
}

/* ---- the values of a run ---- */

static int nomem(struct err *e)
{
        return err_set(e, E_NOMEM, "no memory for the inputs");
}

/* What "-i name=text" means for each type; NULL with rc 0 cannot be. */
static int from_text_value(const struct input_def *in, const char *text, cJSON **out, struct err *e)
{
        cJSON *v = NULL;
        struct err why = {0};
        int rc;

        if (in->type == INPUT_STRING) {
                v = cJSON_CreateString(text);
        } else {
                rc = json_parse(text, strlen(text), &v, &why);
                if (rc == -E_NOMEM)
                        return nomem(e);
                if (rc && in->type == INPUT_ANY)
                        v = cJSON_CreateString(text);
                else if (rc || !has_type(in->type, v)) {
                        cJSON_Delete(v);
                        return err_set(e, E_INVAL, "input \"%s\": expected %s%s, got \"%.100s\"", in->name,
                                       expected(in->type),
                                       in->type == INPUT_OBJECT || in->type == INPUT_ARRAY ? " as JSON" : "",
                                       text);
                }
        }
        if (!v)
                return nomem(e);
        *out = v;
        return 0;
}

static int given_value(const struct input_def *in, const cJSON *given, bool from_text, cJSON **out,
                       struct err *e)
{
        cJSON *v = NULL;
        char *all;
        int rc = 0;

        if (from_text && cJSON_IsString(given)) {
                rc = from_text_value(in, given->valuestring, &v, e);
                if (rc)
                        return rc;
        } else if (!has_type(in->type, given)) {
                return err_set(e, E_INVAL, "input \"%s\": expected %s, got %s", in->name, expected(in->type),
                               kind_of(given));
        } else {
                v = cJSON_Duplicate(given, true);
                if (!v)
                        return nomem(e);
        }
        if (in->options && !among(in->options, v)) {
                all = json_text(in->options);
                rc = all ? err_set(e, E_INVAL, "input \"%s\": expected one of %.300s", in->name, all)
                         : nomem(e);
                mem_free(all);
                cJSON_Delete(v);
                return rc;
        }
        *out = v;
        return 0;
}

/* GitHub's: what an optional input without a default is. */
static cJSON *empty_value(enum input_type t)
{
        switch (t) {
        case INPUT_STRING:
                return cJSON_CreateString("");
        case INPUT_NUMBER:
                return cJSON_CreateNumber(0);
        case INPUT_BOOLEAN:
                return cJSON_CreateFalse();
        case INPUT_OBJECT:
                return cJSON_CreateObject();
        case INPUT_ARRAY:
                return cJSON_CreateArray();
        default:
                return cJSON_CreateNull();
        }
}

static int input_value(const struct input_def *in, const cJSON *given, bool from_text, cJSON **out,
                       struct err *e)
{
        const cJSON *g = cJSON_GetObjectItemCaseSensitive(given, in->name);

        /* null means "not given", but for an input that may be anything. */
        if (g && (!cJSON_IsNull(g) || (in->type == INPUT_ANY && !in->required)))
                return given_value(in, g, from_text, out, e);
        if (in->def)
                *out = cJSON_Duplicate(in->def, true);
        else if (in->required)
                return err_set(e, E_INVAL, "input \"%s\" is required: %s%s%.200s", in->name,
                               expected(in->type), in->description ? ", " : "",
                               in->description ? in->description : "");
        else
                *out = empty_value(in->type);
        return *out ? 0 : nomem(e);
}

static int check_names(const struct workflow *w, const cJSON *given, struct err *e)
{
        const char *names[WORKFLOW_INPUTS_MAX], *near;
        const cJSON *it;

        if (given && !cJSON_IsObject(given))
                return err_set(e, E_INVAL, "the inputs must be an object of names and values, not %s",
                               kind_of(given));
        for (size_t i = 0; i < w->n_inputs; i++)
                names[i] = w->inputs[i].name;
        cJSON_ArrayForEach(it, given)
        {
                size_t i = 0;

                while (i < w->n_inputs && strcmp(names[i], it->string) != 0)
                        i++;
                if (i < w->n_inputs)
                        continue;
                near = str_nearest(it->string, names, w->n_inputs);
                if (near || !w->n_inputs)
                        return err_set(e, E_INVAL, "unknown input \"%.60s\": %s%.130s%s", it->string,
                                       near ? "did you mean \"" : "the workflow takes no inputs",
                                       near ? near : "", near ? "\"?" : "");
                return err_set(e, E_INVAL, "unknown input \"%.60s\": the workflow takes \"%.60s\"%s",
                               it->string, names[0],
                               w->n_inputs > 1 ? " and others; see its \"inputs\"" : "");
        }
        return 0;
}

int workflow_inputs(const struct workflow *w, const cJSON *given, bool from_text, cJSON **out, struct err *e)
{
        cJSON *all, *v;
        int rc = check_names(w, given, e);

        if (rc)
                return rc;
        all = cJSON_CreateObject();
        if (!all)
                return nomem(e);
        for (size_t i = 0; i < w->n_inputs && !rc; i++) {
                v = NULL;
                rc = input_value(&w->inputs[i], given, from_text, &v, e);
                if (!rc && !cJSON_AddItemToObject(all, w->inputs[i].name, v)) {
                        cJSON_Delete(v);
                        rc = nomem(e);
                }
        }
        if (rc) {
                cJSON_Delete(all);
                return rc;
        }
        *out = all;
        return 0;
}
