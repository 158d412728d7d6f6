/* Lenient reading of what vendors write: what is absent, or of another type
 * than it was, is none. Nothing here fails; the next release of a vendor must
 * not end a call over a member that only decorates it. Pure. */
#ifndef PHOTON_AGENT_TOOLS_AI_JSON_H
#define PHOTON_AGENT_TOOLS_AI_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline const cJSON *ai_member(const cJSON *o, const char *key)
{
        return cJSON_GetObjectItemCaseSensitive(o, key);
}

/* NULL: none. */
static inline const char *ai_text_of(const cJSON *o, const char *key)
{
        const cJSON *v = ai_member(o, key);

        return cJSON_IsString(v) ? v->valuestring : NULL;
}

/* An array, or NULL: for cJSON_ArrayForEach. */
static inline const cJSON *ai_list_of(const cJSON *o, const char *key)
{
        const cJSON *v = ai_member(o, key);

        return cJSON_IsArray(v) ? v : NULL;
}

static inline bool ai_true(const cJSON *o, const char *key)
{
        return cJSON_IsTrue(ai_member(o, key));
}

/* Negative: none, or nothing that counts. */
static inline int64_t ai_count_of(const cJSON *o, const char *key)
{
        const cJSON *v = ai_member(o, key);

        return cJSON_IsNumber(v) && v->valuedouble >= 0 && v->valuedouble < 1e15 ? (int64_t)v->valuedouble
                                                                                 : -1;
}

static inline double ai_money_of(const cJSON *o, const char *key)
{
        const cJSON *v = ai_member(o, key);

        return cJSON_IsNumber(v) && v->valuedouble >= 0 && v->valuedouble < 1e9 ? v->valuedouble : -1;
}

/* Two texts that are both there, and the same. */
static inline bool ai_is(const char *a, const char *b)
{
        return a && b && strcmp(a, b) == 0;
}

/* A sum over numbers that may be unknown (negative). */
static inline void ai_add(int64_t *sum, int64_t n)
{
        if (n >= 0)
                *sum = (*sum < 0 ? 0 : *sum) + n;
}

#endif
