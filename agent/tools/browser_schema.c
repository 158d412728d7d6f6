/* The schemas of browser.*: every tool takes the members of the call, and of its action. */
#include "agent/tools/browser.h"

#define CALL                                                                                                 \
        "\"session\":{\"type\":\"string\",\"maxLength\":80,\"description\":\"Goes on with the page that an " \
        "earlier call on this agent kept: ${{ steps.a.outputs.session }}\"},"                                \
        "\"keep\":{\"type\":\"boolean\",\"description\":\"keeps the page for a later call; outputs.session " \
        "names it. Default: false, with session true\"},"                                                    \
        "\"hosts\":{\"type\":\"array\",\"maxItems\":100,\"items\":{\"type\":\"string\",\"maxLength\":260},"  \
        "\"description\":\"only these (globs on host or host:port), within what the policy allows\"},"       \
        "\"viewport\":{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"width\","          \
        "\"height\"],\"properties\":{"                                                                       \
        "\"width\":{\"type\":\"integer\",\"minimum\":50,\"maximum\":8192},\"height\":{\"type\":\"integer\"," \
        "\"minimum\":50,\"maximum\":8192},"                                                                  \
        "\"scale\":{\"type\":\"number\",\"minimum\":0.1,\"maximum\":4}},\"description\":\"of the window; "   \
        "1280 x 720 if left out\"},"                                                                         \
        "\"dialogs\":{\"enum\":[\"accept\",\"dismiss\"],\"description\":\"what confirm() and prompt() get; " \
        "dismiss if left out\"}"
#define TIMEOUT "\"timeout\":{\"type\":\"string\",\"description\":\"of the action; 30s if left out\"}"
#define URL                                                                                                  \
        "\"url\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":16384,\"description\":\"opened first\"}"
#define SELECTOR                                                                                             \
        "\"selector\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":4096,\"description\":\"CSS "        \
        "selector\"}"
#define TEXT "\"text\":{\"type\":\"string\",\"maxLength\":1048576}"
#define UNTIL                                                                                                \
        "\"until\":{\"enum\":[\"commit\",\"dom\",\"load\",\"network-idle\"],\"description\":\"how far a "    \
        "document must be; load if left out\"}"
#define STATE                                                                                                \
        "\"state\":{\"enum\":[\"visible\",\"hidden\",\"attached\",\"absent\"],\"description\":\"of the "     \
        "element; visible if left out\"}"
#define CLICK                                                                                                \
        "\"button\":{\"enum\":[\"left\",\"middle\",\"right\"]},\"count\":{\"type\":\"integer\",\"minimum\":" \
        "1,\"maximum\":3}"
#define TYPE                                                                                                 \
        "\"clear\":{\"type\":\"boolean\"},\"submit\":{\"type\":\"boolean\",\"description\":\"presses Enter " \
        "afterwards\"}"
#define CHARS                                                                                                \
        "\"max_chars\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1048576,\"description\":\"262144 if " \
        "left out\"}"
#define PATH                                                                                                 \
        "\"path\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":4096,\"description\":\"file to write "  \
        "on the agent; without it the bytes are in the outputs (2 MiB at most)\"}"
#define SHOT                                                                                                 \
        "\"format\":{\"enum\":[\"png\",\"jpeg\",\"webp\"]},\"quality\":{\"type\":\"integer\",\"minimum\":1," \
        "\"maximum\":100},\"full_page\":{\"type\":\"boolean\"}"
#define PDF                                                                                                  \
        "\"landscape\":{\"type\":\"boolean\"},\"paper\":{\"enum\":[\"A4\",\"A3\",\"A5\",\"Letter\"]},"       \
        "\"pages\":{\"type\":\"string\",\"maxLength\":100,\"description\":\"such as 1-3, 5\"}"

#define ONE(required, members)                                                                               \
        "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[" required                        \
        "],\"properties\":{" CALL "," TIMEOUT "," members "}}"

#define RESULT                                                                                               \
        "\"url\":{\"type\":\"string\"},\"title\":{\"type\":\"string\"},"                                     \
        "\"status\":{\"type\":\"integer\",\"description\":\"HTTP status of the document; absent where it "   \
        "had none\"},"                                                                                       \
        "\"session\":{\"type\":\"string\",\"description\":\"of the page, where it was kept\"},"              \
        "\"denied\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"description\":\"hosts that the "   \
        "page wanted and did not get\"},"                                                                    \
        "\"duration_ms\":{\"type\":\"number\"}"
#define BYTES                                                                                                \
        ",\"path\":{\"type\":\"string\"},\"base64\":{\"type\":\"string\"},\"size\":{\"type\":\"integer\"},"  \
        "\"sha256\":{\"type\":\"string\"}"
#define TRUNCATED    ",\"truncated\":{\"type\":\"boolean\"}"
#define OUT(members) "{\"type\":\"object\",\"properties\":{" RESULT members "}}"

const char browser_run_input[] =
        "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"actions\"],\"properties\":{" CALL
        ","
        "\"actions\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":200,\"items\":{\"type\":\"object\","
        "\"additionalProperties\":false,"
        "\"required\":[\"action\"],\"properties\":{"
        "\"action\":{\"enum\":[\"navigate\",\"wait\",\"click\",\"type\",\"press\",\"select\",\"text\","
        "\"html\",\"evaluate\",\"screenshot\",\"pdf\"]}," TIMEOUT "," URL "," SELECTOR "," TEXT "," UNTIL
        "," STATE "," CLICK "," TYPE "," CHARS "," PATH "," SHOT "," PDF ","
        "\"key\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":60},\"value\":{\"type\":\"string\","
        "\"maxLength\":4096},"
        "\"expression\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":262144}}}}}}";
const char browser_run_output[] =
        OUT(",\"results\":{\"type\":\"array\",\"items\":{\"type\":\"object\"},\"description\":\"one for each "
            "action that was done: action, duration_ms, and what it gave\"}");

const char browser_navigate_input[] = ONE("\"url\"", URL "," UNTIL);
const char browser_navigate_output[] = OUT("");
const char browser_text_input[] = ONE("", URL "," SELECTOR "," CHARS);
const char browser_text_output[] = OUT(",\"text\":{\"type\":\"string\"}" TRUNCATED);
const char browser_click_input[] = ONE("", URL "," SELECTOR "," TEXT "," CLICK "," UNTIL);
const char browser_click_output[] = OUT("");
const char browser_type_input[] = ONE("\"selector\",\"text\"", URL "," SELECTOR "," TEXT "," TYPE "," UNTIL);
const char browser_type_output[] = OUT("");
const char browser_wait_input[] = ONE("", URL "," SELECTOR "," TEXT "," STATE "," UNTIL);
const char browser_wait_output[] = OUT("");
const char browser_screenshot_input[] = ONE("", URL "," SELECTOR "," PATH "," SHOT);
const char browser_screenshot_output[] = OUT(BYTES TRUNCATED);
const char browser_pdf_input[] = ONE("", URL "," PATH "," PDF);
const char browser_pdf_output[] = OUT(BYTES);
