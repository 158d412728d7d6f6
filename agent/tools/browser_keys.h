/* Keys by the names that pages know them by (UI Events KeyboardEvent key values). */
#ifndef PHOTON_AGENT_TOOLS_BROWSER_KEYS_H
#define PHOTON_AGENT_TOOLS_BROWSER_KEYS_H

#include "agent/tools/browser_tab.h"

/* "Enter", "a", "Control+Shift+ArrowLeft". */
bool browser_keys_known(const char *key);
/* Down and up. key is known. Loop thread. */
void browser_keys_press(struct tab *t, const char *key, int64_t timeout_ms, tab_done *done, void *arg);

#endif
