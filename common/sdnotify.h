/* Tells systemd how a daemon fares (sd_notify(3)), without libsystemd: one
 * datagram to $NOTIFY_SOCKET. Does nothing when that is not set. Any thread. */
#ifndef PHOTON_SDNOTIFY_H
#define PHOTON_SDNOTIFY_H

/* "READY=1", "STOPPING=1", "STATUS=...", several joined by newlines. */
void sd_notify_send(const char *state);

#endif
