/* A provider's keys and a token by whoever: lines of the input are the set of keys, then the token. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/jwt.h"
#include "hub/model/oidc.h"

/* The curve's own base point: its private half is 1, and still no fuzzer signs with it. */
static const char keys[] = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"a\","
                           "\"x\":\"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY\","
                           "\"y\":\"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU\"}]}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = (const char *)data, *nl = memchr(text, '\n', size);
        size_t first = nl ? (size_t)(nl - text) : size;
        struct jwks *ours = NULL, *theirs = NULL;
        struct oidc_expect x = {.issuer = "i", .client_id = "c", .now_s = 1};
        cJSON *claims = NULL;
        const char *code = NULL;
        struct oidc_rule rule;
        struct err e = {0};
        char line[256];

        if (jwks_parse(keys, sizeof keys - 1, &ours, &e) || jwks_count(ours) != 1)
                abort();
        if (nl && jwt_verify(nl + 1, size - first - 1, ours, &claims, &e) == JWT_OK)
                abort(); /* nobody has that key */
        if (jwks_parse(text, first, &theirs, &e) == 0 && nl &&
            jwt_verify(nl + 1, size - first - 1, theirs, &claims, &e) == JWT_OK) {
                (void)oidc_check(claims, &x, &code, &e);
                cJSON_Delete(claims);
        }
        if (first < sizeof line) {
                memcpy(line, text, first);
                line[first] = '\0';
                (void)oidc_rule_parse(line, &rule, &e);
        }
        jwks_free(ours);
        jwks_free(theirs);
        return 0;
}
