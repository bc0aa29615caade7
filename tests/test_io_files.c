/* test_io_files.c - files opened for reading and scratch files: what they are, what is left of them, and full disks. */
#define _GNU_SOURCE 1

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "executor/io.h"

#define BLOCK IO_ALIGN

static int entries_in(const char *directory)
{
    DIR *const d = opendir(directory);
    int n = 0;

    cr_assert_not_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2; /* "." and ".." */
}

/* ---- opening ---- */

static void open_fails(const char *path, const char *text)
{
    struct error err = {0};
    bool direct;
    int fd;

    cr_assert_eq(io_open_read(path, &fd, &direct, &err), STATUS_RUNTIME);
    cr_assert_str_eq(err.text, text);
}

Test(io, what_cannot_be_opened_is_named)
{
    char pipe_path[] = "./.test-io-pipe-XXXXXX";

    open_fails("./no/such/file", "./no/such/file: No such file or directory");
    open_fails(".", ".: expected a file, found a directory");
    close(mkstemp(pipe_path));
    unlink(pipe_path);
    cr_assert_eq(mkfifo(pipe_path, 0600), 0);
    struct error err = {0};
    bool direct;
    int fd;
    cr_assert_eq(io_open_read(pipe_path, &fd, &direct, &err), STATUS_RUNTIME); /* and does not hang */
    cr_assert_not_null(strstr(err.text, "expected a file, found a device, pipe or socket"), "%s", err.text);
    unlink(pipe_path);
}

Test(io, direct_means_the_flag_is_set)
{
    char path[32];
    struct error err = {0};
    bool direct;
    int fd;

    strcpy(path, "./.test-io-XXXXXX");
    close(mkstemp(path));
    cr_assert_eq(io_open_read(path, &fd, &direct, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(direct, (fcntl(fd, F_GETFL) & O_DIRECT) != 0);
    close(fd);
    unlink(path);
}

/* ---- scratch files ---- */

static void scratch_directory(char path[32])
{
    strcpy(path, "./.test-scratch-XXXXXX");
    cr_assert_not_null(mkdtemp(path));
}

Test(scratch, has_its_size_and_no_name)
{
    char directory[32];
    struct error err = {0};
    struct stat st;
    bool direct;
    int fd;

    scratch_directory(directory);
    cr_assert_eq(io_open_scratch(directory, 5 * BLOCK, &fd, &direct, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(entries_in(directory), 0);
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq(st.st_size, 5 * BLOCK);
    cr_assert_eq(st.st_nlink, 0);
    close(fd);
    cr_assert_eq(io_open_scratch(directory, 0, &fd, &direct, &err), STATUS_OK, "%s", err.text);
    close(fd);
    rmdir(directory);
}

Test(scratch, a_killed_run_leaves_nothing)
{
    char directory[32];
    int status;
    pid_t child;

    scratch_directory(directory);
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        bool direct;
        int fd;

        if (io_open_scratch(directory, 64 * BLOCK, &fd, &direct, NULL) == STATUS_OK)
            raise(SIGKILL);
        _exit(1);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    cr_assert_eq(entries_in(directory), 0);
    rmdir(directory);
}

/* 2^50 bytes are 1 PiB: more than any disk this runs on has free. */
Test(scratch, a_full_disk_says_what_was_asked_and_what_is_free)
{
    const int64_t bytes = INT64_C(1) << 50;
    struct error err = {0};
    char directory[32], path[32], expected[64];
    int64_t asked, free_bytes, missing;
    bool direct;
    int fd = -1;

    scratch_directory(directory);
    cr_assert_eq(io_open_scratch(directory, bytes, &fd, &direct, &err), STATUS_RUNTIME);
    snprintf(expected, sizeof expected, "scratch file in %s: ", directory);
    cr_assert_eq(strncmp(err.text, expected, strlen(expected)), 0, "%s", err.text);
    cr_assert_eq(sscanf(err.text,
                        "scratch file in %31[^:]: %" SCNd64 " bytes asked, %" SCNd64 " bytes free, %" SCNd64 " missing: No space",
                        path, &asked, &free_bytes, &missing),
                 4, "%s", err.text);
    cr_assert_eq(asked, bytes);
    cr_assert_eq(missing, bytes - free_bytes);
    cr_assert_eq(fd, -1);
    cr_assert_eq(entries_in(directory), 0);
    rmdir(directory);
}

Test(scratch, a_missing_directory_and_a_negative_size_are_named)
{
    struct error err = {0}, err2 = {0};
    bool direct;
    int fd;

    cr_assert_eq(io_open_scratch("./no/such/place", BLOCK, &fd, &direct, &err), STATUS_RUNTIME);
    cr_assert_str_eq(err.text, "scratch file in ./no/such/place: No such file or directory");
    cr_assert_eq(io_open_scratch(".", -1, &fd, &direct, &err2), STATUS_RUNTIME);
    cr_assert_str_eq(err2.text, "scratch file in .: expected 0 bytes or more, found -1");
}

Test(scratch, a_size_over_the_limit_fails_with_the_bytes)
{
    struct error err = {0};
    struct rlimit limit;
    bool direct;
    int fd;

    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = BLOCK;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(io_open_scratch(".", 2 * BLOCK, &fd, &direct, &err), STATUS_RUNTIME);
    cr_assert_not_null(strstr(err.text, "8192 bytes asked"), "%s", err.text);
    cr_assert_not_null(strstr(err.text, "File too large"), "%s", err.text);
}

/* ---- file systems that lack something: the call that asks for it is refused, as they refuse it ---- */

/* From here on the call fails when its argument has one of the bits of the mask set; the low 32 bits are looked at. */
static void refuse_call(int number, int argument, uint32_t mask, int errno_value)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offsetof(struct seccomp_data, args) + 8 * (size_t)argument)),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, mask, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)errno_value),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof code / sizeof *code, code};

    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        cr_skip_test("seccomp filters are refused here");
}

/* O_TMPFILE has O_DIRECTORY's bit too; the other one is its own. */
static void refuse_tmpfile(void)
{
    refuse_call(SYS_openat, 2, O_TMPFILE & ~O_DIRECTORY, EOPNOTSUPP);
}

Test(lacking, without_o_tmpfile_the_name_is_gone_at_once)
{
    char directory[32];
    struct error err = {0};
    struct stat st;
    bool direct;
    int fd;

    scratch_directory(directory);
    refuse_tmpfile();
    cr_assert_lt(open(directory, O_TMPFILE | O_RDWR, 0600), 0); /* the refusal works */
    cr_assert_eq(io_open_scratch(directory, 5 * BLOCK, &fd, &direct, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(entries_in(directory), 0);
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq(st.st_size, 5 * BLOCK);
    close(fd);
    cr_assert_eq(io_open_scratch(directory, INT64_C(1) << 50, &fd, &direct, &err), STATUS_RUNTIME);
    cr_assert_eq(entries_in(directory), 0);
    rmdir(directory);
}

Test(lacking, without_o_tmpfile_a_missing_directory_is_named)
{
    struct error err = {0};
    bool direct;
    int fd;

    refuse_tmpfile();
    cr_assert_eq(io_open_scratch("./no/such/place", BLOCK, &fd, &direct, &err), STATUS_RUNTIME);
    cr_assert_str_eq(err.text, "scratch file in ./no/such/place: No such file or directory");
}

Test(lacking, without_fallocate_the_file_still_has_its_size)
{
    struct error err = {0};
    struct stat st;
    bool direct;
    int fd;

    refuse_call(SYS_fallocate, 3, UINT32_MAX, EOPNOTSUPP);
    cr_assert_eq(io_open_scratch(".", 5 * BLOCK, &fd, &direct, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(fstat(fd, &st), 0);
    cr_assert_eq(st.st_size, 5 * BLOCK);
    cr_assert_eq(st.st_blocks, 0); /* nothing was reserved: the other way was taken */
    close(fd);
}

/* The flag is refused when it is set, as tmpfs did for long: the file is read through the page cache, at any alignment. */
Test(lacking, without_direct_reads_the_file_is_read_buffered)
{
    struct error err = {0};
    bool direct = true;
    char in[100];
    struct io *io;
    int fd;

    refuse_call(SYS_fcntl, 2, O_DIRECT, EINVAL);
    cr_assert_eq(io_open_scratch(".", BLOCK, &fd, &direct, &err), STATUS_OK, "%s", err.text);
    cr_assert_not(direct);
    cr_assert_eq(fcntl(fd, F_GETFL) & O_DIRECT, 0);
    cr_assert_eq(io_new(&io, NULL, &err), STATUS_OK);
    cr_assert_eq(io_run(io, &(struct io_extent){fd, false, 11, sizeof in, in}, 1, &err), STATUS_OK, "%s", err.text);
    io_free(io);
    close(fd);
}

/* Some file systems take the flag and refuse the read. */
Test(lacking, a_refused_direct_read_is_noticed_when_opening)
{
    struct error err = {0};
    bool direct = true;
    int fd;

    refuse_call(SYS_pread64, 2, UINT32_MAX, EINVAL);
    cr_assert_eq(io_open_scratch(".", BLOCK, &fd, &direct, &err), STATUS_OK, "%s", err.text);
    cr_assert_not(direct);
    cr_assert_eq(fcntl(fd, F_GETFL) & O_DIRECT, 0);
    close(fd);
}

/* ---- full disks ---- */

/* A file system of 1 MiB, in a mount name space of this test process alone. */
static void mount_small(const char *directory)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("test", directory, "tmpfs", 0, "size=1m") != 0) {
        rmdir(directory);
        cr_skip_test("mounting is refused here");
    }
}

/* 256 blocks are there. A scratch file of 200 fits; beside it 100 do not: 300 - 256 = 44 blocks = 180224 bytes are missing. */
Test(scratch, a_small_file_system_fills_up)
{
    char directory[32], expected[160];
    struct error err = {0};
    bool direct;
    int first, second;

    scratch_directory(directory);
    mount_small(directory);
    cr_assert_eq(io_open_scratch(directory, 200 * BLOCK, &first, &direct, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(io_open_scratch(directory, 100 * BLOCK, &second, &direct, &err), STATUS_RUNTIME);
    snprintf(expected, sizeof expected,
             "scratch file in %s: 409600 bytes asked, 229376 bytes free, 180224 missing: No space left on device", directory);
    cr_assert_str_eq(err.text, expected);
    close(first);
    cr_assert_eq(entries_in(directory), 0);
    umount(directory);
    rmdir(directory);
}

/* 300 blocks written to 256: whichever of the concurrent requests comes too late reports the full disk. */
static void fill_small_file_system(bool threads)
{
    static char out[300 * BLOCK];
    const struct io_options o = {.depth = 4, .request_bytes = 2 * BLOCK, .force_threads = threads};
    struct io_extent e = {-1, true, 0, sizeof out, out};
    char directory[32], path[48];
    struct error err = {0};
    struct io *io;

    scratch_directory(directory);
    mount_small(directory);
    snprintf(path, sizeof path, "%s/file", directory);
    e.fd = open(path, O_RDWR | O_CREAT, 0600);
    cr_assert_geq(e.fd, 0);
    cr_assert_eq(io_new(&io, &o, &err), STATUS_OK, "%s", err.text);
    cr_assert_eq(io_run(io, &e, 1, &err), STATUS_RUNTIME);
    cr_assert_eq(strncmp(err.text, "write of 8192 bytes at ", 23), 0, "%s", err.text);
    cr_assert_not_null(strstr(err.text, ": No space left on device"), "%s", err.text);
    io_free(io);
    close(e.fd);
    umount(directory);
    rmdir(directory);
}

Test(full, a_write_says_so)
{
    fill_small_file_system(false);
}

Test(full, a_write_by_threads_says_so)
{
    fill_small_file_system(true);
}
