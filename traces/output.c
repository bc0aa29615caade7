/* output.c - see output.h. */
#include "traces/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *output_temporary(const char *path)
{
    struct stat st;
    errno = 0;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return NULL; /* renaming over /dev/null would replace the device */
    errno = 0;
    const size_t room = strlen(path) + 32;
    char *name = malloc(room);
    if (name)
        snprintf(name, room, "%s.tmp.%ld", path, (long)getpid());
    else
        errno = ENOMEM;
    return name;
}

enum status output_open(struct output *o, const char *path, struct error *err)
{
    *o = (struct output){.path = path, .temporary = output_temporary(path)};
    if (!o->temporary && errno == ENOMEM)
        return error_errno(err, ENOMEM, "%s", path);
    o->file = fopen(o->temporary ? o->temporary : path, "we");
    if (o->file)
        return STATUS_OK;
    const int code = errno;
    free(o->temporary);
    o->temporary = NULL;
    return error_errno(err, code, "%s", path);
}

enum status output_close(struct output *o, enum status so_far, struct error *err)
{
    enum status s = so_far;
    errno = 0;
    const int bad = ferror(o->file);
    if ((fclose(o->file) != 0 || bad) && s == STATUS_OK)
        s = error_errno(err, errno ? errno : EIO, "%s: writing", o->path);
    if (o->temporary && s == STATUS_OK && rename(o->temporary, o->path) != 0)
        s = error_errno(err, errno, "%s: renaming into place", o->path);
    if (o->temporary && s != STATUS_OK)
        unlink(o->temporary);
    free(o->temporary);
    *o = (struct output){0};
    return s;
}
