/* browser.*: what a person does with a browser, as tool calls: open, read, click,
 * type, wait, take a picture or a PDF. Table rows in table.c.
 *
 * A call is a list of actions on one page (browser.run), or one action. It gets a
 * page with a fresh profile, unless it names the session of an earlier call; with
 * `keep` the page stays open afterwards and outputs.session names it. */
#ifndef PHOTON_AGENT_TOOLS_BROWSER_H
#define PHOTON_AGENT_TOOLS_BROWSER_H

#include "agent/tools/tool.h"

#define BROWSER_KEPT_MAX     8      /* pages kept between calls */
#define BROWSER_KEPT_MS      600000 /* unused for so long: closed */
#define BROWSER_ACTIONS_MAX  200
#define BROWSER_TEXT_DEFAULT ((int64_t)256 << 10) /* characters of a page's text */
#define BROWSER_TEXT_MAX     ((int64_t)1 << 20)
#define BROWSER_INLINE_MAX   ((size_t)2 << 20) /* bytes of a picture or PDF within the outputs */
#define BROWSER_FILE_MAX     ((size_t)64 << 20)
#define BROWSER_TIMEOUT_MS   30000 /* of one action, if it does not say */

extern const char browser_run_input[], browser_run_output[];
extern const char browser_navigate_input[], browser_navigate_output[];
extern const char browser_text_input[], browser_text_output[];
extern const char browser_click_input[], browser_click_output[];
extern const char browser_type_input[], browser_type_output[];
extern const char browser_wait_input[], browser_wait_output[];
extern const char browser_screenshot_input[], browser_screenshot_output[];
extern const char browser_pdf_input[], browser_pdf_output[];

bool browser_available(void);
int browser_permit(const struct policy *p, const cJSON *input, struct err *e);
int browser_start(struct tool_call *c, const cJSON *input, struct err *e);
void browser_cancel(struct tool_call *c, int grace_ms);
void browser_free(struct tool_call *c);
/* Everything that is kept warm ends; no call is live. The loop runs on until it is gone. */
void browser_stop(void);

#endif
