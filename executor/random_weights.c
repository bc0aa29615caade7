/* random_weights.c - a model of any shape with random weights, written about as fast as the disk takes it.
 *
 * All there is to know about the files follows from shape and seed: a plan holds every header, so that an existing model is
 * recognised by comparing headers and sizes, and the data is a function of (seed, tensor, element). */
#define _GNU_SOURCE 1 /* O_DIRECT, fallocate, sync_file_range */
#include "executor/random_weights.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "executor/io.h"

#define BUFFER_BYTES ((int64_t)8 << 20)
#define N_BUFFERS    3
#define INDEX_NAME   "model.safetensors.index.json"

/* ---- the plan ----------------------------------------------------------------------------------------------------- */

struct shard {
    char name[64];
    int first, end; /* of plan.tensor */
    int64_t data_bytes;
    char *header; /* length and JSON, a multiple of IO_ALIGN so that all data begins at one */
    int64_t header_bytes;
};

struct plan {
    const struct arch *arch;
    const struct random_weights_options *options;
    int n_tensors, n_shards;
    const struct tensor **tensor; /* each stored one once, borrowed from the architecture */
    struct shard *shard;
    char *index, *config; /* file contents; index is NULL for a single shard */
    int64_t total_bytes;
    struct random_table table;
};

static int64_t stored_bytes(const struct plan *p, const struct tensor *t)
{
    return format_matrix_bytes(p->arch->weight_format, t->rows, t->cols);
}

static const char *stored_name(const struct tensor *t, char *buf, size_t n)
{
    snprintf(buf, n, "%s%s", strncmp(t->name, "lm_head.", 8) == 0 ? "" : "model.", t->name);
    return buf;
}

/* The parts of the head share one table; a tied one is the embedding's. */
static bool is_repeated(const struct arch *a, const struct layer *l, const struct tensor *t)
{
    return l->kind == LAYER_HEAD && t->role == ROLE_EMBED_TOKENS && (a->tied || l->block > 0);
}

static enum status list_tensors(struct plan *p, struct error *err)
{
    const struct arch *a = p->arch;
    p->tensor = calloc((size_t)a->n_layers * LAYER_TENSORS_MAX, sizeof *p->tensor);
    if (!p->tensor)
        return error_set(err, STATUS_RUNTIME, "out of memory for the tensors of %s", a->name);
    for (int i = 0; i < a->n_layers; i++)
        for (int j = 0; j < a->layer[i].n_tensors; j++)
            if (!is_repeated(a, &a->layer[i], &a->layer[i].tensor[j]))
                p->tensor[p->n_tensors++] = &a->layer[i].tensor[j];
    return STATUS_OK;
}

static enum status cut_shards(struct plan *p, struct error *err)
{
    p->shard = calloc((size_t)p->n_tensors, sizeof *p->shard);
    if (!p->shard)
        return error_set(err, STATUS_RUNTIME, "out of memory for the shards of %s", p->arch->name);
    for (int i = 0; i < p->n_tensors; i++) {
        const int64_t bytes = stored_bytes(p, p->tensor[i]);
        struct shard *s = p->n_shards ? &p->shard[p->n_shards - 1] : NULL;
        if (!s || s->data_bytes + bytes > p->options->shard_bytes) {
            s = &p->shard[p->n_shards++];
            s->first = i;
        }
        s->end = i + 1;
        s->data_bytes += bytes;
    }
    for (int i = 0; i < p->n_shards; i++) {
        if (p->n_shards == 1)
            snprintf(p->shard[i].name, sizeof p->shard[i].name, "model.safetensors");
        else
            snprintf(p->shard[i].name, sizeof p->shard[i].name, "model-%05d-of-%05d.safetensors", i + 1, p->n_shards);
    }
    return STATUS_OK;
}

static json_t *tensor_entry(const struct plan *p, const struct tensor *t, int64_t begin, bool vector)
{
    static const char *const dtype[] = {[FORMAT_F32] = "F32", [FORMAT_F16] = "F16", [FORMAT_BF16] = "BF16"};
    json_t *shape = vector ? json_pack("[I]", (json_int_t)t->cols) : json_pack("[I,I]", (json_int_t)t->rows, (json_int_t)t->cols);
    return json_pack("{s:s,s:o,s:[I,I]}", "dtype", dtype[p->arch->weight_format], "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)(begin + stored_bytes(p, t)));
}

static bool is_vector(const struct tensor *t)
{
    switch (t->role) {
    case ROLE_NORM_GAIN:
    case ROLE_NORM_BIAS:
    case ROLE_Q_BIAS:
    case ROLE_K_BIAS:
    case ROLE_V_BIAS:
    case ROLE_O_BIAS:
    case ROLE_FC1_BIAS:
    case ROLE_FC2_BIAS:
        return true;
    default:
        return false;
    }
}

static json_t *header_object(const struct plan *p, const struct shard *s)
{
    char seed[32], name[128];
    int64_t offset = 0;
    snprintf(seed, sizeof seed, "%" PRIu64, p->options->seed);
    json_t *root =
        json_pack("{s:{s:s,s:s,s:s}}", "__metadata__", "format", "pt", "ballast_random_weights", "1", "ballast_seed", seed);
    int failed = !root;
    for (int i = s->first; i < s->end && !failed; i++) {
        const struct tensor *t = p->tensor[i];
        failed = json_object_set_new(root, stored_name(t, name, sizeof name), tensor_entry(p, t, offset, is_vector(t)));
        offset += stored_bytes(p, t);
    }
    if (failed) {
        json_decref(root);
        return NULL;
    }
    return root;
}

static enum status make_header(const struct plan *p, struct shard *s, struct error *err)
{
    json_t *root = header_object(p, s);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    const int64_t used = text ? (int64_t)strlen(text) : 0;
    s->header_bytes = (8 + used + IO_ALIGN - 1) / IO_ALIGN * IO_ALIGN;
    s->header = text ? malloc((size_t)s->header_bytes) : NULL;
    if (s->header) {
        const uint64_t length = (uint64_t)s->header_bytes - 8;
        for (int i = 0; i < 8; i++)
            s->header[i] = (char)(length >> (8 * i) & 0xff);
        memset(s->header + 8, ' ', (size_t)length);
        memcpy(s->header + 8, text, (size_t)used);
    }
    free(text);
    json_decref(root);
    return s->header ? STATUS_OK : error_set(err, STATUS_RUNTIME, "out of memory for the header of %s", s->name);
}

static enum status make_index(struct plan *p, struct error *err)
{
    char name[128];
    int64_t data_bytes = 0;
    json_t *map = json_object();
    int failed = !map;
    for (int i = 0; i < p->n_shards; i++) {
        data_bytes += p->shard[i].data_bytes;
        for (int j = p->shard[i].first; j < p->shard[i].end; j++)
            failed =
                failed || json_object_set_new(map, stored_name(p->tensor[j], name, sizeof name), json_string(p->shard[i].name));
    }
    json_t *root = json_pack("{s:{s:I},s:O}", "metadata", "total_size", (json_int_t)data_bytes, "weight_map", map);
    p->index = root && !failed ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    json_decref(map);
    return p->index ? STATUS_OK : error_set(err, STATUS_RUNTIME, "out of memory for " INDEX_NAME);
}

static void plan_free(struct plan *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n_shards; i++)
        free(p->shard[i].header);
    free(p->shard);
    free(p->tensor);
    free(p->index);
    free(p->config);
    free(p);
}

static enum status plan_new(struct plan **out, const struct arch *a, const struct random_weights_options *o, struct error *err)
{
    enum status s;
    struct plan *p = calloc(1, sizeof *p);
    *out = p;
    if (!p)
        return error_set(err, STATUS_RUNTIME, "out of memory for the random weights of %s", a->name);
    p->arch = a;
    p->options = o;
    if ((s = list_tensors(p, err)) || (s = cut_shards(p, err)))
        return s;
    for (int i = 0; i < p->n_shards; i++) {
        if ((s = make_header(p, &p->shard[i], err)))
            return s;
        p->total_bytes += p->shard[i].header_bytes + p->shard[i].data_bytes;
    }
    if (p->n_shards > 1 && (s = make_index(p, err)))
        return s;
    p->config = arch_config_json(a);
    random_table_fill(&p->table, a->weight_format);
    return p->config ? STATUS_OK : error_set(err, STATUS_RUNTIME, "out of memory for config.json of %s", a->name);
}

/* ---- an existing model -------------------------------------------------------------------------------------------- */

/* Whether a file of `file_bytes` bytes begins with these. */
static bool file_begins_with(int directory_fd, const char *name, const char *bytes, int64_t n, int64_t file_bytes)
{
    struct stat st;
    bool same = false;
    int64_t done = 0;
    char piece[4096];
    int fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size != file_bytes)
        goto out;
    while (done < n) {
        const int64_t want = n - done < (int64_t)sizeof piece ? n - done : (int64_t)sizeof piece;
        const ssize_t got = pread(fd, piece, (size_t)want, done);
        if (got <= 0 || memcmp(piece, bytes + done, (size_t)got) != 0)
            goto out;
        done += got;
    }
    same = true;
out:
    close(fd);
    return same;
}

static bool is_this_text(int directory_fd, const char *name, const char *text)
{
    const int64_t n = (int64_t)strlen(text);
    return file_begins_with(directory_fd, name, text, n, n);
}

static bool is_complete(const struct plan *p, int directory_fd)
{
    if (!is_this_text(directory_fd, "config.json", p->config) || (p->index && !is_this_text(directory_fd, INDEX_NAME, p->index)))
        return false;
    for (int i = 0; i < p->n_shards; i++) {
        const struct shard *s = &p->shard[i];
        if (!file_begins_with(directory_fd, s->name, s->header, s->header_bytes, s->header_bytes + s->data_bytes))
            return false;
    }
    return true;
}

static bool is_empty(int directory_fd)
{
    int n = 0, fd = dup(directory_fd);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    while (readdir(d))
        n++;
    closedir(d);
    return n == 2; /* "." and ".." */
}

/* *kept: the model is there already. An error if something else is. */
static enum status look_for_existing(const struct plan *p, const char *directory, bool *kept, struct error *err)
{
    *kept = false;
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return STATUS_OK;
    if (fd < 0)
        return error_errno(err, errno, "%s: cannot open as a directory", directory);
    *kept = is_complete(p, fd);
    const bool empty = !*kept && is_empty(fd);
    close(fd);
    if (*kept || empty)
        return STATUS_OK;
    return error_set(err, STATUS_INVALID,
                     "%.400s: expected random weights of %s with seed %" PRIu64 ", an empty directory or none, found other files",
                     directory, p->arch->name, p->options->seed);
}

/* ---- writing one shard -------------------------------------------------------------------------------------------- */

/* Fills one buffer while the disk takes the others. */
struct stream {
    struct io *io;
    char *buffer[N_BUFFERS];
    int64_t job[N_BUFFERS], job_offset[N_BUFFERS];
    bool busy[N_BUFFERS];
    int current;
    int64_t used; /* of the current buffer */
    int fd;
    bool direct;
    int64_t offset; /* in the file, of the current buffer */
    const char *path;
    int64_t done_bytes; /* over all files */
    const struct plan *plan;
};

static void stream_free(struct stream *s)
{
    io_free(s->io); /* waits for what still reads the buffers */
    for (int i = 0; i < N_BUFFERS; i++)
        free(s->buffer[i]);
}

static enum status stream_new(struct stream *s, const struct plan *p, struct error *err)
{
    *s = (struct stream){.plan = p, .fd = -1};
    for (int i = 0; i < N_BUFFERS; i++) {
        s->buffer[i] = aligned_alloc(IO_ALIGN, (size_t)BUFFER_BYTES);
        if (!s->buffer[i])
            return error_set(err, STATUS_RUNTIME, "out of memory for buffers of %" PRId64 " bytes", BUFFER_BYTES);
    }
    return io_new(&s->io, NULL, err);
}

static enum status stream_fail(const struct stream *s, enum status status, const struct error *cause, struct error *err)
{
    return error_set(err, status, "%.400s: %.300s", s->path, cause->text);
}

static enum status stream_wait(struct stream *s, int i, struct error *err)
{
    struct error cause = {0};
    if (!s->busy[i])
        return STATUS_OK;
    s->busy[i] = false;
    enum status status = io_wait(s->io, s->job[i], &cause);
    if (status != STATUS_OK)
        return stream_fail(s, status, &cause, err);
    if (!s->direct) { /* do not leave the page cache full of a model */
        sync_file_range(s->fd, s->job_offset[i], BUFFER_BYTES,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
        posix_fadvise(s->fd, s->job_offset[i], BUFFER_BYTES, POSIX_FADV_DONTNEED);
    }
    return STATUS_OK;
}

/* Hands the current buffer to the disk and waits until the next one is free. */
static enum status stream_flush(struct stream *s, struct error *err)
{
    struct error cause = {0};
    const int i = s->current;
    const int64_t aligned = (s->used + IO_ALIGN - 1) / IO_ALIGN * IO_ALIGN; /* the surplus is cut off with the file's end */
    memset(s->buffer[i] + s->used, 0, (size_t)(aligned - s->used));
    const struct io_extent extent = {.fd = s->fd, .write = true, .offset = s->offset, .bytes = aligned, .buffer = s->buffer[i]};
    enum status status = io_submit(s->io, &extent, 1, &s->job[i], &cause);
    if (status != STATUS_OK)
        return stream_fail(s, status, &cause, err);
    s->busy[i] = true;
    s->job_offset[i] = s->offset;
    s->offset += s->used;
    s->done_bytes += s->used;
    s->used = 0;
    s->current = (i + 1) % N_BUFFERS;
    status = stream_wait(s, s->current, err);
    if (s->plan->options->progress && status == STATUS_OK)
        s->plan->options->progress(s->done_bytes, s->plan->total_bytes, s->plan->options->arg);
    return status;
}

static enum status stream_drain(struct stream *s, struct error *err)
{
    enum status status = s->used > 0 ? stream_flush(s, err) : STATUS_OK;
    for (int i = 0; i < N_BUFFERS; i++) {
        enum status one = stream_wait(s, i, err);
        if (status == STATUS_OK)
            status = one;
    }
    return status;
}

static void make_elements(const struct plan *p, int tensor, int64_t first, int64_t n, void *out)
{
    const struct tensor *t = p->tensor[tensor];
    if (is_vector(t))
        random_constant(p->arch->weight_format, t->role == ROLE_NORM_GAIN ? 1.0 : 0.0, n, out);
    else
        random_elements(&p->table, random_key(p->options->seed, tensor), first, n, out);
}

static enum status stream_tensor(struct stream *s, int tensor, struct error *err)
{
    const struct tensor *t = s->plan->tensor[tensor];
    const int64_t n = t->rows * t->cols, size = stored_bytes(s->plan, t) / n;
    for (int64_t i = 0; i < n;) {
        const int64_t room = (BUFFER_BYTES - s->used) / size; /* exact: everything before is a multiple of `size` */
        const int64_t piece = n - i < room ? n - i : room;
        make_elements(s->plan, tensor, i, piece, s->buffer[s->current] + s->used);
        i += piece;
        s->used += piece * size;
        enum status status = s->used == BUFFER_BYTES ? stream_flush(s, err) : STATUS_OK;
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status stream_header(struct stream *s, const struct shard *shard, struct error *err)
{
    for (int64_t i = 0; i < shard->header_bytes;) {
        const int64_t room = BUFFER_BYTES - s->used;
        const int64_t piece = shard->header_bytes - i < room ? shard->header_bytes - i : room;
        memcpy(s->buffer[s->current] + s->used, shard->header + i, (size_t)piece);
        i += piece;
        s->used += piece;
        enum status status = s->used == BUFFER_BYTES ? stream_flush(s, err) : STATUS_OK;
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static int64_t free_bytes(const char *path)
{
    struct statvfs v;
    if (statvfs(path, &v) != 0)
        return INT64_MAX; /* unknown: the write will tell */
    uint64_t bytes;
    if (__builtin_mul_overflow((uint64_t)v.f_bavail, (uint64_t)v.f_frsize, &bytes) || bytes > INT64_MAX)
        return INT64_MAX;
    return (int64_t)bytes;
}

static enum status disk_full(const char *path, int64_t wanted_bytes, struct error *err)
{
    const int64_t available_bytes = free_bytes(path);
    return error_set(err, STATUS_RUNTIME,
                     "%.400s: expected %" PRId64 " bytes of free disk space, found %" PRId64 ": %" PRId64 " bytes missing", path,
                     wanted_bytes, available_bytes, wanted_bytes - available_bytes);
}

/* Opens for direct writing if the file system allows it, and takes the space at once, so that a full disk is met here. */
static enum status open_shard(struct stream *s, const char *path, int64_t bytes, struct error *err)
{
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    s->path = path;
    s->offset = 0;
    s->direct = true;
    s->fd = open(path, flags | O_DIRECT, 0644);
    if (s->fd < 0 && errno == EINVAL) {
        unlink(path); /* created before the flag was refused */
        s->direct = false;
        s->fd = open(path, flags, 0644);
    }
    if (s->fd < 0)
        return error_errno(err, errno, "%s: cannot create", path);
    if (fallocate(s->fd, 0, 0, bytes) != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
        return errno == ENOSPC ? disk_full(path, bytes, err) : error_errno(err, errno, "%s: cannot reserve space", path);
    return STATUS_OK;
}

static enum status write_shard(struct stream *s, const struct shard *shard, const char *path, struct error *err)
{
    const int64_t bytes = shard->header_bytes + shard->data_bytes;
    enum status status = open_shard(s, path, bytes, err);
    if (status == STATUS_OK)
        status = stream_header(s, shard, err);
    for (int i = shard->first; i < shard->end && status == STATUS_OK; i++)
        status = stream_tensor(s, i, err);
    if (s->fd >= 0) {
        enum status drained = stream_drain(s, err); /* nothing may be in flight when the file is closed */
        if (status == STATUS_OK)
            status = drained;
        if (status == STATUS_OK && (ftruncate(s->fd, bytes) != 0 || fsync(s->fd) != 0))
            status = error_errno(err, errno, "%s: cannot write", path);
        close(s->fd);
        s->fd = -1;
    }
    return status;
}

/* ---- the directory ------------------------------------------------------------------------------------------------ */

static enum status write_text(const char *directory, const char *name, const char *text, struct error *err)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    enum status s = STATUS_OK;
    FILE *f = fopen(path, "wxe");
    if (!f)
        return error_errno(err, errno, "%s: cannot create", path);
    if (fputs(text, f) < 0 || fflush(f) != 0 || fsync(fileno(f)) != 0)
        s = error_errno(err, errno, "%s: cannot write", path);
    if (fclose(f) != 0 && s == STATUS_OK)
        s = error_errno(err, errno, "%s: cannot write", path);
    return s;
}

/* Removes what a run like this one left; other files stay, and then removing the directory fails. */
static void remove_partial(const char *partial, int partial_fd)
{
    static const char *const ours[] = {"config.json", INDEX_NAME, "model.safetensors", "model-*-of-*.safetensors"};
    DIR *d = opendir(partial);
    for (struct dirent *e; d && (e = readdir(d));)
        for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
            if (fnmatch(ours[i], e->d_name, 0) == 0)
                unlinkat(partial_fd, e->d_name, 0);
    if (d)
        closedir(d);
}

/* The working directory, locked and empty. A lock ends with its process, so a directory that is
 * not locked is left over. */
static enum status claim_partial(const char *partial, int *fd, struct error *err)
{
    struct stat at_path, at_fd;
    if (mkdir(partial, 0755) != 0 && errno != EEXIST)
        return error_errno(err, errno, "%s: cannot create the directory", partial);
    *fd = open(partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0)
        return error_errno(err, errno, "%s: cannot open the directory", partial);
    if (flock(*fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? error_set(err, STATUS_RUNTIME, "%.600s: another process is writing this model", partial)
                                    : error_errno(err, errno, "%s: cannot lock", partial);
    if (stat(partial, &at_path) != 0 || fstat(*fd, &at_fd) != 0 || at_path.st_ino != at_fd.st_ino ||
        at_path.st_dev != at_fd.st_dev)
        return error_set(err, STATUS_RUNTIME, "%.600s: another process has just finished this model; try again", partial);
    remove_partial(partial, *fd);
    return is_empty(*fd)
               ? STATUS_OK
               : error_set(err, STATUS_INVALID, "%.600s: expected no such directory, found one with other files", partial);
}

static enum status write_files(const struct plan *p, const char *partial, struct error *err)
{
    struct stream stream;
    char path[4200];
    enum status s = stream_new(&stream, p, err);
    for (int i = 0; i < p->n_shards && s == STATUS_OK; i++) {
        snprintf(path, sizeof path, "%s/%s", partial, p->shard[i].name);
        s = write_shard(&stream, &p->shard[i], path, err);
    }
    stream_free(&stream);
    if (s == STATUS_OK && p->index)
        s = write_text(partial, INDEX_NAME, p->index, err);
    if (s == STATUS_OK)
        s = write_text(partial, "config.json", p->config, err);
    return s;
}

static void sync_parent(const char *directory)
{
    char parent[4096];
    snprintf(parent, sizeof parent, "%s", directory);
    char *slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent] = '\0';
    int fd = open(slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd); /* the rename happened all the same if this fails */
        close(fd);
    }
}

static enum status write_directory(const struct plan *p, const char *directory, struct error *err)
{
    char partial[4096];
    int fd = -1;
    snprintf(partial, sizeof partial, "%s.partial", directory);
    enum status s = claim_partial(partial, &fd, err);
    if (s != STATUS_OK)
        goto out;
    if (free_bytes(partial) < p->total_bytes)
        s = disk_full(partial, p->total_bytes, err);
    if (s == STATUS_OK)
        s = write_files(p, partial, err);
    if (s == STATUS_OK && (fsync(fd) != 0 || rename(partial, directory) != 0))
        s = error_errno(err, errno, "%s: cannot rename to %s", partial, directory);
    if (s == STATUS_OK) {
        sync_parent(directory);
    } else {
        remove_partial(partial, fd);
        rmdir(partial);
    }
out:
    if (fd >= 0)
        close(fd);
    return s;
}

enum status random_weights_write(const struct arch *a, const struct random_weights_options *o, const char *directory,
                                 struct error *err)
{
    char path[3900]; /* without slashes at the end, and with room for names behind it */
    struct plan *p = NULL;
    bool kept = false;
    size_t n = strlen(directory);
    while (n > 1 && directory[n - 1] == '/')
        n--;
    if (n == 0 || n >= sizeof path)
        return error_set(err, STATUS_INVALID, "'%.100s': expected a directory name of 1 to %zu bytes, found %zu", directory,
                         sizeof path - 1, n);
    snprintf(path, sizeof path, "%.*s", (int)n, directory);
    if (a->weight_format != FORMAT_F32 && a->weight_format != FORMAT_F16 && a->weight_format != FORMAT_BF16)
        return error_set(err, STATUS_INVALID, "random weights of %s: expected format f32, f16 or bf16, found %s", a->name,
                         format_name(a->weight_format));
    enum status s = plan_new(&p, a, o, err);
    if (s == STATUS_OK)
        s = look_for_existing(p, path, &kept, err);
    if (s == STATUS_OK && !kept)
        s = write_directory(p, path, err);
    plan_free(p);
    return s;
}

enum status st_write_random(const struct arch *a, uint64_t seed, const char *directory,
                            void (*progress)(int64_t done, int64_t total, void *arg), void *arg, struct error *err)
{
    const struct random_weights_options o = {.seed = seed,
                                             .shard_bytes = RANDOM_WEIGHTS_SHARD_BYTES,
                                             .progress = progress,
                                             .arg = arg};
    return random_weights_write(a, &o, directory, err);
}
