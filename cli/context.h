/* Where the hub is and who asks: flags over environment over the context that
 * `photon login` or `photon-hub init` left in $XDG_CONFIG_HOME/photon.
 * Strings are owned by the struct. One thread. */
#ifndef PHOTON_CLI_CONTEXT_H
#define PHOTON_CLI_CONTEXT_H

struct err;

struct context {
        char *hub;   /* https://host:port, without a slash at the end */
        char *token; /* wiped when freed */
        char *ca;    /* a PEM file; NULL: the machine's own authorities */
};

void context_fini(struct context *c);

/* "host", "host:port", "https://host:port/" -> "https://host:port". -E_INVAL says what is wrong. */
int context_url(const char *given, char **out, struct err *e);

/* Fills what flags and environment left open. A stored token goes only to the hub that it was stored
 * for: the same address, or one that proves itself by the authority stored with the token. hub, token,
 * ca: NULL where not given. -E_NOENT: no hub is known. */
int context_resolve(const char *hub, const char *token, const char *ca, struct context *out, struct err *e);

/* Stores as the context; ca_pem (may be NULL) is written beside it. */
int context_save(const char *hub, const char *token, const char *ca, const char *ca_pem, char **out_path,
                 struct err *e);
/* Removes it. -E_NOENT: there is none. */
int context_remove(char **out_path, struct err *e);

#endif
