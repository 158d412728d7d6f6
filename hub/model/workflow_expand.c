#include "hub/model/workflow_internal.h"

#include <string.h>

#include "common/mem.h"

#define COMPARISONS_MAX 20000000 /* of combinations with include and exclude entries */

#define EXPAND_BYTES_MAX                                                                                     \
        (64u << 20) /* of all combinations: a large value must not be copied thousands of times */
#define NODE_BYTES sizeof(cJSON)

static int nomem(struct err *e)
{
        return err_set(e, E_NOMEM, "no memory to expand a step");
}

static size_t weight(const cJSON *v)
{
        size_t n = NODE_BYTES + (v->valuestring ? strlen(v->valuestring) : 0) +
                   (v->string ? strlen(v->string) : 0);
        const cJSON *it;

        cJSON_ArrayForEach(it, v) n += weight(it);
        return n;
}

/* Takes a copy of `v` off what may still be copied. */
static int spend(size_t *left, const cJSON *v, struct err *e)
{
        size_t n = weight(v);

        if (n > *left)
                return err_set(e, E_TOOBIG, "the combinations of the matrix take more than %u bytes",
                               EXPAND_BYTES_MAX);
        *left -= n;
        return 0;
}

static bool is_special(const cJSON *member)
{
        return strcmp(member->string, "include") == 0 || strcmp(member->string, "exclude") == 0;
}

static int put_copy(cJSON *o, const char *key, const cJSON *v, struct err *e)
{
        cJSON *copy = cJSON_Duplicate(v, true), *old = cJSON_GetObjectItemCaseSensitive(o, key);

        if (!copy)
                return nomem(e);
        if (old) {
                cJSON_free(copy->string); /* that of `v` */
                copy->string = NULL;
                wf_replace(o, old, copy);
                return 0;
        }
        if (cJSON_AddItemToObject(o, key, copy))
                return 0;
        cJSON_Delete(copy);
        return nomem(e);
}

/* ---- matrix ---- */

static const char *kind_of(const cJSON *v)
{
        struct val x = val_from_json(v);

        return val_kind_name(&x);
}

/* After the expressions: shapes are known only now. */
static int check_shapes(const struct step_def *s, const cJSON *m, size_t max, struct err *e)
{
        const cJSON *it, *entry;
        size_t product = 1;

        if (!cJSON_IsObject(m))
                return err_set(e, E_INVAL,
                               "the matrix of step \"%s\" must be an object of lists, it became %s", s->id,
                               kind_of(m));
        cJSON_ArrayForEach(it, m)
        {
                if (!cJSON_IsArray(it))
                        return err_set(e, E_INVAL,
                                       "\"%s\" in the matrix of step \"%s\" must be a list, it became %s",
                                       it->string, s->id, kind_of(it));
                if (is_special(it)) {
                        cJSON_ArrayForEach(entry, it) if (!cJSON_IsObject(entry)) return err_set(
                                e, E_INVAL, "\"%s\" in the matrix of step \"%s\" must list objects, not %s",
                                it->string, s->id, kind_of(entry));
                } else {
                        size_t n = (size_t)cJSON_GetArraySize(it);

                        if (n > max || (product *= n) > max)
                                return err_set(e, E_TOOBIG,
                                               "the matrix of step \"%s\" makes more than %zu steps", s->id,
                                               max);
                }
        }
        return 0;
}

/* One more vector: each combination so far times each of its values. */
static int multiply(cJSON **combos, const cJSON *vector, size_t *left, struct err *e)
{
        cJSON *grown = cJSON_CreateArray(), *copy;
        const cJSON *combo, *value;
        int rc = grown ? 0 : nomem(e);

        if (rc)
                return rc;
        cJSON_ArrayForEach(combo, *combos)
        {
                cJSON_ArrayForEach(value, vector)
                {
                        rc = spend(left, combo, e);
                        if (!rc)
                                rc = spend(left, value, e);
                        copy = rc ? NULL : cJSON_Duplicate(combo, true);
                        if (!rc)
                                rc = copy ? put_copy(copy, vector->string, value, e) : nomem(e);
                        if (!rc && !cJSON_AddItemToArray(grown, copy))
                                rc = nomem(e);
                        if (rc) {
                                cJSON_Delete(copy);
                                cJSON_Delete(grown);
                                return rc;
                        }
                }
        }
        cJSON_Delete(*combos);
        *combos = grown;
        return 0;
}

/* Does `combo` have every member of `entry`, with the same value? */
static bool covers(const cJSON *combo, const cJSON *entry)
{
        const cJSON *it, *have;

        cJSON_ArrayForEach(it, entry)
        {
                have = cJSON_GetObjectItemCaseSensitive(combo, it->string);
                if (!have || !cJSON_Compare(have, it, true))
                        return false;
        }
        return true;
}

static void remove_excluded(cJSON *combos, const cJSON *exclude)
{
        cJSON *combo = combos->child, *next;
        const cJSON *entry;

        for (; combo; combo = next) {
                next = combo->next;
                cJSON_ArrayForEach(entry, exclude)
                {
                        if (!entry->child || !covers(combo, entry))
                                continue;
                        cJSON_Delete(cJSON_DetachItemViaPointer(combos, combo));
                        break;
                }
        }
}

/* May `entry` be added to `combo` without changing a value that the matrix itself gave? */
static bool may_extend(const cJSON *combo, const cJSON *entry, const cJSON *m)
{
        const cJSON *it, *have;

        cJSON_ArrayForEach(it, entry)
        {
                if (!cJSON_GetObjectItemCaseSensitive(m, it->string) || is_special(it))
                        continue;
                have = cJSON_GetObjectItemCaseSensitive(combo, it->string);
                if (!have || !cJSON_Compare(have, it, true))
                        return false;
        }
        return true;
}

static int extend(cJSON *combo, const cJSON *entry, size_t *left, struct err *e)
{
        const cJSON *it;
        int rc = spend(left, entry, e);

        if (rc)
                return rc;
        cJSON_ArrayForEach(it, entry)
        {
                rc = put_copy(combo, it->string, it, e);
                if (rc)
                        return rc;
        }
        return 0;
}

/* GitHub's rule: an entry extends every original combination that it does not
 * contradict; if there is none it becomes a combination of its own, which later entries leave alone. */
static int add_included(cJSON *combos, const cJSON *include, const cJSON *m, size_t originals, size_t *left,
                        struct err *e)
{
        const cJSON *entry;
        cJSON *combo, *copy;
        int rc;

        cJSON_ArrayForEach(entry, include)
        {
                bool extended = false;
                size_t i = 0;

                for (combo = combos->child; combo && i < originals; combo = combo->next, i++) {
                        if (!may_extend(combo, entry, m))
                                continue;
                        extended = true;
                        rc = extend(combo, entry, left, e);
                        if (rc)
                                return rc;
                }
                if (extended)
                        continue;
                copy = cJSON_Duplicate(entry, true);
                if (!copy || !cJSON_AddItemToArray(combos, copy)) {
                        cJSON_Delete(copy);
                        return nomem(e);
                }
        }
        return 0;
}

static int combine(const struct step_def *s, const cJSON *m, size_t max, cJSON **out, struct err *e)
{
        const cJSON *include = cJSON_GetObjectItemCaseSensitive(m, "include");
        const cJSON *exclude = cJSON_GetObjectItemCaseSensitive(m, "exclude"), *it;
        size_t entries = (size_t)(cJSON_GetArraySize(include) + cJSON_GetArraySize(exclude)), originals,
               vectors = 0, left = EXPAND_BYTES_MAX;
        cJSON *combos = cJSON_CreateArray(), *empty = cJSON_CreateObject();
        int rc = 0;

        if (!combos || !empty || !cJSON_AddItemToArray(combos, empty)) {
                cJSON_Delete(empty);
                cJSON_Delete(combos);
                return nomem(e);
        }
        for (it = m->child; it && !rc; it = it->next) {
                if (is_special(it))
                        continue;
                vectors++;
                rc = multiply(&combos, it, &left, e);
        }
        originals = (size_t)cJSON_GetArraySize(combos);
        if (!rc && entries && originals > COMPARISONS_MAX / entries)
                rc = err_set(e, E_TOOBIG,
                             "the matrix of step \"%s\" has too many combinations for %zu entries of include "
                             "and exclude",
                             s->id, entries);
        if (!rc && !vectors) /* include alone: nothing to extend */
                cJSON_Delete(cJSON_DetachItemFromArray(combos, 0));
        if (!rc)
                remove_excluded(combos, exclude);
        originals = (size_t)cJSON_GetArraySize(combos);
        if (!rc)
                rc = add_included(combos, include, m, originals, &left, e);
        if (!rc && (size_t)cJSON_GetArraySize(combos) > max)
                rc = err_set(e, E_TOOBIG, "the matrix of step \"%s\" makes more than %zu steps", s->id, max);
        if (rc) {
                cJSON_Delete(combos);
                return rc;
        }
        *out = combos;
        return 0;
}

/* ---- for-each ---- */

static int each_item(const cJSON *item, size_t index, cJSON *list, struct err *e)
{
        cJSON *o = cJSON_CreateObject();
        int rc = o ? put_copy(o, "item", item, e) : nomem(e);

        if (!rc && (!cJSON_AddNumberToObject(o, "index", (double)index) || !cJSON_AddItemToArray(list, o)))
                rc = nomem(e);
        if (rc)
                cJSON_Delete(o);
        return rc;
}

static int list_items(const struct step_def *s, const cJSON *items, size_t max, cJSON **out, struct err *e)
{
        const cJSON *it;
        cJSON *list;
        size_t index = 0;
        int rc = 0;

        if (!cJSON_IsArray(items))
                return err_set(e, E_INVAL, "\"for-each\" of step \"%s\" must be a list, it became %s", s->id,
                               kind_of(items));
        if ((size_t)cJSON_GetArraySize(items) > max)
                return err_set(e, E_TOOBIG, "\"for-each\" of step \"%s\" makes more than %zu steps", s->id,
                               max);
        list = cJSON_CreateArray();
        if (!list)
                return nomem(e);
        for (it = items->child; it && !rc; it = it->next)
                rc = each_item(it, index++, list, e);
        if (rc) {
                cJSON_Delete(list);
                return rc;
        }
        *out = list;
        return 0;
}

int workflow_expand(const struct step_def *s, const struct expr_env *env, size_t max, cJSON **out,
                    struct err *e)
{
        const cJSON *source = s->matrix ? s->matrix : s->for_each;
        cJSON *v = NULL;
        int rc;

        if (!source)
                return err_set(e, E_INVAL, "step \"%s\" has no matrix and no for-each", s->id);
        rc = tmpl_eval_json(source, env, &v, e);
        if (rc)
                return rc;
        if (s->matrix) {
                rc = check_shapes(s, v, max, e);
                if (!rc)
                        rc = combine(s, v, max, out, e);
        } else {
                rc = list_items(s, v, max, out, e);
        }
        cJSON_Delete(v);
        return rc;
}
