#include "model/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Text may quote file contents: a message stays one printable line whatever they hold. */
static void make_one_line(char *text)
{
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

/* True if this failure is the first one and there is someone to tell. */
static int begin(struct error *err, enum status status)
{
    if (!err || err->status != STATUS_OK)
        return 0;
    err->status = status;
    err->text[0] = '\0';
    return 1;
}

static void append(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void append_list(struct error *err, const char *format, va_list args) __attribute__((format(printf, 2, 0)));

static void append_list(struct error *err, const char *format, va_list args)
{
    size_t used = strlen(err->text);
    vsnprintf(err->text + used, sizeof err->text - used, format, args);
    make_one_line(err->text);
}

static void append(struct error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    append_list(err, format, args);
    va_end(args);
}

enum status error_set(struct error *err, enum status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (begin(err, status))
        append_list(err, format, args);
    va_end(args);
    return status;
}

enum status error_at(struct error *err, enum status status, const char *path, int line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (begin(err, status)) {
        append(err, "%s:", path);
        if (line > 0)
            append(err, "%d:", line);
        append(err, " ");
        append_list(err, format, args);
    }
    va_end(args);
    return status;
}

enum status error_errno(struct error *err, int errno_value, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (begin(err, STATUS_RUNTIME)) {
        append_list(err, format, args);
        append(err, ": %s", strerror(errno_value)); /* thread-local since glibc 2.32 */
    }
    va_end(args);
    return STATUS_RUNTIME;
}
