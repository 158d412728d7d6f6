/* Ctrl-C as an event: commands that have something to wind up ask for it; in
 * all others the signal ends the process as usual. */
#ifndef PHOTON_CLI_INTERRUPT_H
#define PHOTON_CLI_INTERRUPT_H

/* From now on SIGINT, SIGTERM and SIGHUP only count. */
void interrupt_catch(void);
/* How often it was asked so far. */
int interrupt_count(void);
/* The last signal, for 128 + N. */
int interrupt_signal(void);
/* Readable when a signal came since the last interrupt_clear; -1 before interrupt_catch. */
int interrupt_fd(void);
void interrupt_clear(void);

#endif
