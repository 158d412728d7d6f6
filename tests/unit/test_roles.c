/* Roles per project, without a hub. */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "hub/model/roles.h"
#include "tests/lib/test.h"

TEST(roles, nobody_has_any)
{
        struct roles r = {0};

        CHECK_INT(roles_in(&r, "default"), ROLE_NONE);
        CHECK_INT(roles_in(&r, PROJECT_ALL), ROLE_NONE);
        CHECK_INT(roles_in(&r, ""), ROLE_NONE);
        CHECK_INT(roles_best(&r), ROLE_NONE);
}

TEST(roles, one_project_says_nothing_of_another)
{
        struct roles r = {0};

        CHECK_INT(roles_give(&r, "web", ROLE_ADMIN), 0);
        CHECK_INT(roles_in(&r, "web"), ROLE_ADMIN);
        CHECK_INT(roles_in(&r, "we"), ROLE_NONE);
        CHECK_INT(roles_in(&r, "webs"), ROLE_NONE);
        CHECK_INT(roles_in(&r, PROJECT_ALL), ROLE_NONE); /* and nothing of the hub itself */
        CHECK_INT(roles_best(&r), ROLE_ADMIN);
}

TEST(roles, the_highest_stands)
{
        struct roles r = {0};

        roles_give(&r, "web", ROLE_OPERATOR);
        roles_give(&r, "web", ROLE_CLIENT);
        roles_give(&r, PROJECT_ALL, ROLE_CLIENT);
        CHECK_INT(r.n, 1);
        CHECK_INT(roles_in(&r, "web"), ROLE_OPERATOR);
        CHECK_INT(roles_in(&r, "other"), ROLE_CLIENT);
        roles_give(&r, PROJECT_ALL, ROLE_ADMIN);
        CHECK_INT(roles_in(&r, "web"), ROLE_ADMIN);
}

TEST(roles, there_is_an_end_to_projects)
{
        struct roles r = {0};
        char name[16];

        for (int i = 0; i < ROLES_MAX; i++) {
                snprintf(name, sizeof name, "p%d", i);
                CHECK_INT(roles_give(&r, name, ROLE_CLIENT), 0);
        }
        CHECK_INT(roles_give(&r, "one-more", ROLE_ADMIN), -E_FULL);
        CHECK_INT(roles_in(&r, "one-more"), ROLE_NONE);
        CHECK_INT(roles_give(&r, "p3", ROLE_ADMIN), 0);
        CHECK_INT(roles_give(&r, "a b", ROLE_ADMIN), -E_INVAL);
        CHECK_INT(roles_give(&r, "", ROLE_ADMIN), -E_INVAL);
}

TEST(roles, a_token_narrows_its_owner)
{
        struct roles r = {0};

        roles_give(&r, "web", ROLE_ADMIN);
        roles_give(&r, "ops", ROLE_CLIENT);
        roles_narrow(&r, PROJECT_ALL, ROLE_OPERATOR);
        CHECK_INT(roles_in(&r, "web"), ROLE_OPERATOR);
        CHECK_INT(roles_in(&r, "ops"), ROLE_CLIENT);
        roles_narrow(&r, "web", ROLE_ADMIN);
        CHECK_INT(roles_in(&r, "web"), ROLE_OPERATOR);
        CHECK_INT(roles_in(&r, "ops"), ROLE_NONE);
        roles_narrow(&r, "gone", ROLE_ADMIN);
        CHECK_INT(roles_best(&r), ROLE_NONE);
}

TEST(roles, a_token_for_one_project_is_no_key_to_the_hub)
{
        struct roles r = {0};

        roles_give(&r, PROJECT_ALL, ROLE_ADMIN);
        roles_narrow(&r, "web", ROLE_ADMIN);
        CHECK_INT(roles_in(&r, "web"), ROLE_ADMIN);
        CHECK_INT(roles_in(&r, PROJECT_ALL), ROLE_NONE);
        CHECK_INT(roles_in(&r, "default"), ROLE_NONE);
        roles_narrow(&r, "no name", ROLE_ADMIN);
        CHECK_INT(roles_best(&r), ROLE_NONE);
}
