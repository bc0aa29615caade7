/* error.h - one way to fail, everywhere.
 *
 * Every function that can fail returns an enum status and takes an optional `struct error *` last. The first failure
 * wins: later ones on the same struct are ignored, so clean-up code cannot hide the cause. Only main() exits, with the
 * status as the exit code.
 */
#ifndef BALLAST_MODEL_ERROR_H
#define BALLAST_MODEL_ERROR_H

enum status {
    STATUS_OK = 0,
    STATUS_INVALID = 1,      /* usage, or a file whose content is wrong: exit 1 */
    STATUS_DOES_NOT_FIT = 2, /* no placement inside the budgets: exit 2 */
    STATUS_RUNTIME = 3,      /* a system call, an allocation or a device failed: exit 3 */
    STATUS_TOLERANCE = 4,    /* validation outside tolerance: exit 4 */
};

struct error {
    enum status status; /* STATUS_OK while nothing has failed */
    char text[768];     /* one line: what, where, expected, found */
};

/* Records the first failure (printf format, no newline) and returns `status`. `err` may be NULL. */
enum status error_set(struct error *err, enum status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As error_set, prefixed "path:line: "; a line of 0 is left out. */
enum status error_at(struct error *err, enum status status, const char *path, int line, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* STATUS_RUNTIME with "what: strerror(errno_value)"; `what` is a printf format. */
enum status error_errno(struct error *err, int errno_value, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
