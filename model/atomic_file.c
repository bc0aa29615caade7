#include "model/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int write_all(int fd, const char *text, size_t n)
{
    while (n > 0) {
        ssize_t put = write(fd, text, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        text += put;
        n -= (size_t)put;
    }
    return 0;
}

/* Some file systems cannot sync and say EINVAL: then there is nothing more to do. */
static int sync_all(int fd)
{
    return fsync(fd) && errno != EINVAL ? -1 : 0;
}

static enum status write_in_place(const char *path, const char *text, size_t n, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "%s: cannot write", path);
    int failed = write_all(fd, text, n) ? errno : 0;
    if (close(fd) && !failed)
        failed = errno;
    return failed ? error_errno(err, failed, "%s: cannot write", path) : STATUS_OK;
}

/* Opens a new file beside `target` and leaves its name in `temp`; a leftover of a killed run is passed over. */
static int open_temp(const char *target, char *temp, size_t n)
{
    for (int i = 0; i < 100; i++) {
        snprintf(temp, n, "%s.tmp.%ld.%d", target, (long)getpid(), i);
        int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

/* Makes the rename itself durable; where a directory cannot be synced the file is still whole. */
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

static enum status replace(char *target, const struct stat *old, const char *text, size_t n, struct error *err)
{
    enum status status = STATUS_OK;
    size_t size = strlen(target) + 48;
    int fd = -1, failed = 0;
    char *temp = malloc(size);
    if (!temp)
        return error_set(err, STATUS_RUNTIME, "%s: out of memory", target);
    fd = open_temp(target, temp, size);
    if (fd < 0) {
        status = error_errno(err, errno, "%s: cannot create", temp);
        goto out;
    }
    if (write_all(fd, text, n) || (old && fchmod(fd, old->st_mode & 07777)) || sync_all(fd))
        failed = errno;
    if (close(fd) && !failed)
        failed = errno;
    if (!failed && rename(temp, target))
        failed = errno;
    if (failed) {
        unlink(temp);
        status = error_errno(err, failed, "%s: cannot write, any old file is kept", target);
        goto out;
    }
    sync_directory(target);
out:
    free(temp);
    return status;
}

enum status atomic_file_write(const char *path, const char *text, size_t n, struct error *err)
{
    struct stat st;
    int exists = stat(path, &st) == 0;
    if (exists && !S_ISREG(st.st_mode))
        return write_in_place(path, text, n, err);
    char *target = exists ? realpath(path, NULL) : strdup(path);
    if (!target)
        return error_errno(err, errno, "%s: cannot write", path);
    enum status status = replace(target, exists ? &st : NULL, text, n, err);
    free(target);
    return status;
}
