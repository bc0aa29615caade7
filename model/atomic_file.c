#include "model/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Some file systems cannot sync and say EINVAL: then there is nothing more to do. */
static int sync_all(int fd)
{
    return fsync(fd) && errno != EINVAL ? -1 : 0;
}

/* Makes the rename itself durable; where a directory cannot be synced the file is still whole. Ends `target` at its directory. */
static void sync_directory(char *target)
{
    char *slash = strrchr(target, '/');
    if (slash)
        slash[slash == target] = '\0';
    int fd = open(slash ? target : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)!fsync(fd);
    close(fd);
}

/* A new file beside the target, its name in f->name; a leftover of a killed run is passed over. -1 with errno. */
static int open_beside(struct atomic_file *f)
{
    size_t size = strlen(f->target) + 48;
    f->name = malloc(size);
    for (int i = 0; f->name && i < 100; i++) {
        snprintf(f->name, size, "%s.tmp.%ld.%d", f->target, (long)getpid(), i);
        int fd = open(f->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

static void forget(struct atomic_file *f)
{
    free(f->name);
    free(f->target);
    *f = (struct atomic_file){0};
}

enum status atomic_file_open(struct atomic_file *f, const char *path, struct error *err)
{
    struct stat st;
    bool exists = stat(path, &st) == 0, regular = !exists || S_ISREG(st.st_mode);
    int fd = -1, failed = 0;
    *f = (struct atomic_file){.path = path};
    if (!regular) {
        f->name = strdup(path);
        fd = f->name ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    } else {
        f->target = exists ? realpath(path, NULL) : strdup(path);
        fd = f->target ? open_beside(f) : -1;
    }
    failed = fd < 0 ? errno : 0;
    if (fd >= 0 && regular && exists && fchmod(fd, st.st_mode & 07777))
        failed = errno;
    if (!failed && !(f->file = fdopen(fd, "w")))
        failed = errno;
    if (!failed)
        return STATUS_OK;
    if (fd >= 0) {
        close(fd);
        if (regular)
            unlink(f->name);
    }
    forget(f);
    return error_errno(err, failed, "%s: cannot write", path);
}

/* Why the stream failed. Its flush may have failed long ago and the reason be forgotten: then the same again says it. */
static int reason(FILE *file)
{
    if (!errno)
        (void)!write(fileno(file), "\n", 1); /* what is in the file does not matter any more */
    return errno ? errno : EIO;
}

enum status atomic_file_close(struct atomic_file *f, enum status so_far, struct error *err)
{
    enum status s = so_far;
    int failed = 0;
    errno = 0;
    if (fflush(f->file) || ferror(f->file) || (f->target && s == STATUS_OK && sync_all(fileno(f->file))))
        failed = reason(f->file);
    if (fclose(f->file) && !failed)
        failed = errno;
    if (f->target && s == STATUS_OK && !failed && rename(f->name, f->target))
        failed = errno;
    if (s == STATUS_OK && failed)
        s = error_errno(err, failed, "%s: cannot write%s", f->path, f->target ? ", any old file is kept" : "");
    if (f->target && s != STATUS_OK)
        unlink(f->name);
    if (f->target && s == STATUS_OK)
        sync_directory(f->target);
    forget(f);
    return s;
}

enum status atomic_file_try(const char *path, struct error *err)
{
    struct stat st;
    struct atomic_file f;
    if (!path)
        return STATUS_OK;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) { /* not opened: closing a pipe ends its reader */
        int failed = S_ISDIR(st.st_mode) ? EISDIR : access(path, W_OK) ? errno : 0;
        return failed ? error_errno(err, failed, "%s: cannot write", path) : STATUS_OK;
    }
    enum status s = atomic_file_open(&f, path, err);
    if (s == STATUS_OK)
        atomic_file_close(&f, STATUS_RUNTIME, NULL); /* drops it */
    return s;
}
