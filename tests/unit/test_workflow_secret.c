/* What a step may say about secrets, and what it must not. */
#include <stdio.h>

#include "common/err.h"
#include "common/mem.h"
#include "hub/model/workflow.h"
#include "tests/lib/test.h"

static struct workflow *parse(const char *step, struct err *e)
{
        struct workflow *w = NULL;
        char text[2000];

        *e = (struct err){0};
        snprintf(text, sizeof text, "steps:\n  - {id: s, %s}\n", step);
        return workflow_parse(text, strlen(text), &w, e) ? NULL : w;
}

static void check_named(const char *step, const char *want)
{
        struct err e;
        struct workflow *w = parse(step, &e);
        char got[400] = "";

        if (!w)
                test_fail(__FILE__, __LINE__, "%s: %s", step, e.msg);
        for (size_t i = 0; i < w->steps[0].n_secrets; i++) {
                const struct step_secret *s = &w->steps[0].secrets[i];

                snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s>%s%s", i ? " " : "", s->name,
                         s->env ? s->env : "-", s->file ? "!" : "");
        }
        CHECK_STR(got, want);
        workflow_free(w);
}

TEST(workflow_secret, a_step_has_what_it_names)
{
        check_named("run: x, secrets: A", "A>A");
        check_named("run: x, secrets: [A, {name: b.c-d, as: B}, {name: A, as: F, file: true}]",
                    "A>A b.c-d>B A>F!");
        check_named("run: x, secrets: []", "");
        check_named("run: x", "");
        check_named("run: x, env: {T: '${{ secrets.A }}', U: 'x ${{secrets.A}} ${{ secrets[''b.c''] }}'}",
                    "A>- b.c>-");
        check_named("run: x, stdin: '${{ secrets.A }}'", "A>-");
        check_named("uses: http.request, with: {url: 'http://h/${{ secrets.A }}', headers: {X: '${{ "
                    "secrets.B }}'}, body: "
                    "'${{ secrets.C }}'}",
                    "A>- B>- C>-");
        check_named("uses: process.exec, with: {argv: [x], env: {A: '${{ secrets.A }}'}}", "A>-");
        check_named("uses: acme.deploy, with: {key: {deep: ['${{ secrets.A }}']}}, secrets: [B]", "A>- B>B");
        check_named("uses: claude-code.prompt, with: {prompt: hi}, secrets: [A]", "A>A");
}

TEST(workflow_secret, what_would_show_one_is_refused_with_what_to_do)
{
        static const struct {
                const char *step, *near;
        } bad[] = {
                {"run: 'echo ${{ secrets.A }}'", "as a variable"},
                {"uses: process.exec, with: {argv: ['${{ secrets.A }}']}", "as a variable"},
                {"uses: process.exec, with: {shell: 'echo ${{ secrets.A }}'}", "as a variable"},
                {"uses: process.exec, with: {argv: [x], cwd: '${{ secrets.A }}'}", "as a variable"},
                {"uses: claude-code.prompt, with: {prompt: '${{ secrets.A }}'}", "as a variable"},
                {"uses: file.read, with: {path: '${{ secrets.A }}'}", "as a variable"},
                {"run: x, if: \"${{ secrets.A == 'y' }}\"", "as a variable"},
                {"run: x, agent: '${{ secrets.A }}'", "as a variable"},
                {"run: x, runs-on: {a: '${{ secrets.A }}'}", "as a variable"},
                {"run: x, matrix: {a: ['${{ secrets.A }}']}", "as a variable"},
                {"run: x, concurrency: '${{ secrets.A }}'", "as a variable"},
                {"run: 'echo ${{ env.T }}', env: {T: '${{ secrets.A }}'}", "holds a secret"},
                {"run: x, env: {T: \"${{ format('{0}', secrets.A) }}\"}", "stand alone"},
                {"run: x, env: {T: \"${{ secrets.A || 'none' }}\"}", "stand alone"},
                {"run: x, env: {T: '${{ toJSON(secrets) }}'}", "as it stands"},
                {"run: x, env: {T: '${{ secrets.* }}'}", "as it stands"},
                {"run: x, secrets: ['${{ inputs.n }}']", "no expressions"},
                {"run: x, secrets: [a-b]", "as: MY_TOKEN"},
                {"run: x, secrets: ['-a']", "no name of a secret"},
                {"run: x, secrets: [{name: A, as: 1B}]", "no name of a variable"},
                {"run: x, secrets: [{name: A, as: PATH}]", "which programs run"},
                {"run: x, secrets: [LD_PRELOAD]", "which programs run"},
                {"run: x, secrets: [PHOTON_OUTPUT]", "which programs run"},
                {"run: x, secrets: [A, {name: B, as: A}]", "two secrets"},
                {"run: x, env: {A: y}, secrets: [A]", "keep one"},
                {"run: x, secrets: [{as: A}]", "\"name\" is missing"},
                {"run: x, secrets: [{name: A, fil: true}]", "file"},
                {"run: x, secrets: [7]", "expected a name"},
                {"uses: http.request, with: {url: 'http://h/'}, secrets: [A]", "\"headers\""},
                {"uses: file.read, with: {path: x}, secrets: [A]", "starts no program"},
                {"uses: llm.chat, with: {prompt: x}, secrets: [A]", "\"key\""},
                {"uses: llm.chat, with: {prompt: '${{ secrets.A }}'}", ""},
                {"uses: llm.chat, with: {prompt: x, key: '${{ secrets.A }}'}", "name the endpoint"},
                {"uses: cursor.open, with: {path: x}, secrets: [A]", "starts no program"},
                {"approval: {question: ok?}, secrets: [A]", "secrets"},
        };

        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                struct err e;
                struct workflow *w = parse(bad[i].step, &e);

                if (w || !strstr(e.msg, bad[i].near) || e.line != 2)
                        test_fail(__FILE__, __LINE__, "%s: line %d: %s", bad[i].step, e.line,
                                  w ? "accepted" : e.msg);
        }
}

TEST(workflow_secret, no_more_than_so_many)
{
        char list[1000] = "run: x, secrets: [A0";
        struct err e;
        struct workflow *w;

        for (int i = 1; i < STEP_SECRETS_MAX; i++)
                snprintf(list + strlen(list), sizeof list - strlen(list), ", A%d", i);
        strcat(list, "]");
        w = parse(list, &e);
        CHECK(w != NULL);
        CHECK_INT(w->steps[0].n_secrets, STEP_SECRETS_MAX);
        workflow_free(w);
        list[strlen(list) - 1] = '\0';
        strcat(list, ", B]");
        CHECK(parse(list, &e) == NULL);
        CHECK(strstr(e.msg, "more than 32") != NULL);
}

TEST(workflow_secret, secrets_of_the_whole_workflow_are_none)
{
        static const char text[] = "env: {T: '${{ secrets.A }}'}\nsteps: [{id: s, run: x}]\n";
        struct workflow *w = NULL;
        struct err e = {0};

        CHECK(workflow_parse(text, sizeof text - 1, &w, &e) != 0);
        CHECK(strstr(e.msg, "for steps") != NULL);
}
