/* safetensors.c - headers of *.safetensors files: a little-endian 8-byte length, that many bytes of JSON, then the data. */
#include "executor/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/json.h"

#define PREFIX_BYTES     8
#define HEADER_MAX_BYTES 100000000 /* the format's own limit */
#define FILES_MAX        4096
#define TENSORS_MAX      (1 << 22)
#define SINGLE_NAME      "model.safetensors"
#define INDEX_NAME       "model.safetensors.index.json"

/* Names in messages are cut to this. */
#define SHOWN "%.100s"

static size_t capacity(size_t n)
{
    size_t c = 16;
    while (c < n)
        c *= 2;
    return c;
}

/* Room for `more` items behind `used`. The capacity follows from `used` alone, so that no field has to hold it. */
static enum status reserve(void **items, size_t used, size_t more, size_t item_bytes, struct error *err)
{
    size_t now = *items ? capacity(used) : 0, wanted = capacity(used + more);
    if (wanted <= now)
        return STATUS_OK;
    void *larger = json_allocate(wanted * item_bytes);
    if (!larger)
        return error_set(err, STATUS_RUNTIME, "out of memory for the tensors of a model");
    if (used)
        memcpy(larger, *items, used * item_bytes);
    json_deallocate(*items);
    *items = larger;
    return STATUS_OK;
}

/* ---- one tensor's entry ------------------------------------------------------------------------------------------- */

/* Known dtypes: the sizes of the unsupported ones are needed to check offsets. */
static const struct {
    const char *name;
    int bits;
    enum format format; /* FORMAT_COUNT: unsupported */
} dtypes[] = {
    {"F32", 32, FORMAT_F32},      {"F16", 16, FORMAT_F16},      {"BF16", 16, FORMAT_BF16},    {"F64", 64, FORMAT_COUNT},
    {"F8_E4M3", 8, FORMAT_COUNT}, {"F8_E5M2", 8, FORMAT_COUNT}, {"F8_E8M0", 8, FORMAT_COUNT}, {"F6_E2M3", 6, FORMAT_COUNT},
    {"F6_E3M2", 6, FORMAT_COUNT}, {"F4", 4, FORMAT_COUNT},      {"I64", 64, FORMAT_COUNT},    {"I32", 32, FORMAT_COUNT},
    {"I16", 16, FORMAT_COUNT},    {"I8", 8, FORMAT_COUNT},      {"U64", 64, FORMAT_COUNT},    {"U32", 32, FORMAT_COUNT},
    {"U16", 16, FORMAT_COUNT},    {"U8", 8, FORMAT_COUNT},      {"BOOL", 8, FORMAT_COUNT},    {"C64", 64, FORMAT_COUNT},
};

struct header {
    const char *path;
    int64_t data_begin, data_bytes; /* the data: where in the file, how much */
};

static enum status bad(const struct header *h, const char *name, struct error *err, const char *expected, const char *found)
{
    return error_at(err, STATUS_INVALID, h->path, 0, "tensor '" SHOWN "': expected %s, found %s", name, expected, found);
}

static enum status bad_json(const struct header *h, const char *name, const char *key, const json_t *value, struct error *err,
                            const char *expected)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    enum status s = error_at(err, STATUS_INVALID, h->path, 0, "tensor '" SHOWN "': %s: expected %s, found %.60s", name, key,
                             expected, text ? text : "none");
    json_deallocate(text);
    return s;
}

static enum status parse_dtype(const struct header *h, const json_t *entry, struct st_tensor *t, int *bits, struct error *err)
{
    const json_t *value = json_object_get(entry, "dtype");
    const char *name = json_string_value(value);
    for (size_t i = 0; name && i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            t->format = dtypes[i].format;
            *bits = dtypes[i].bits;
            return STATUS_OK;
        }
    }
    return bad_json(h, t->name, "dtype", value, err, "a safetensors dtype such as \"F16\"");
}

/* Also the bytes that shape and dtype ask for. */
static enum status parse_shape(const struct header *h, const json_t *entry, struct st_tensor *t, int bits, struct error *err)
{
    const json_t *list = json_object_get(entry, "shape");
    int64_t total_bits = bits;
    if (!json_is_array(list) || json_array_size(list) > 4)
        return bad_json(h, t->name, "shape", list, err, "a list of at most 4 sizes");
    t->n_dims = (int)json_array_size(list);
    for (int i = 0; i < t->n_dims; i++) {
        const json_t *size = json_array_get(list, (size_t)i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return bad_json(h, t->name, "shape", list, err, "whole numbers of at least 0");
        t->shape[i] = json_integer_value(size);
        if (__builtin_mul_overflow(total_bits, t->shape[i], &total_bits))
            return bad_json(h, t->name, "shape", list, err, "fewer than 2^63 bits in all");
    }
    if (total_bits % 8 != 0)
        return bad_json(h, t->name, "shape", list, err, "a whole number of bytes in all");
    t->bytes = total_bits / 8;
    return STATUS_OK;
}

static enum status parse_offsets(const struct header *h, const json_t *entry, struct st_tensor *t, struct error *err)
{
    char expected[96];
    const json_t *list = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(list, 0), *last = json_array_get(list, 1);
    int64_t begin = json_integer_value(first), end = json_integer_value(last);
    if (json_array_size(list) != 2 || !json_is_integer(first) || !json_is_integer(last) || begin < 0 || end < begin)
        return bad_json(h, t->name, "data_offsets", list, err, "[begin, end] with 0 <= begin <= end");
    if (end > h->data_bytes) {
        snprintf(expected, sizeof expected, "at most %" PRId64 " (the bytes behind the header; is the file truncated?)",
                 h->data_bytes);
        return bad_json(h, t->name, "data_offsets", list, err, expected);
    }
    if (end - begin != t->bytes) {
        snprintf(expected, sizeof expected, "%" PRId64 " bytes as dtype and shape say", t->bytes);
        return bad_json(h, t->name, "data_offsets", list, err, expected);
    }
    t->offset = h->data_begin + begin;
    return STATUS_OK;
}

static enum status parse_tensor(const struct header *h, const char *name, const json_t *entry, struct st_tensor *t,
                                struct error *err)
{
    int bits = 0;
    enum status s;
    if (strlen(name) >= sizeof t->name)
        return bad(h, name, err, "a name of at most 127 bytes", "a longer one");
    snprintf(t->name, sizeof t->name, "%s", name);
    if (!json_is_object(entry) || json_object_size(entry) != 3)
        return bad(h, name, err, "an object with dtype, shape and data_offsets", "something else");
    if ((s = parse_dtype(h, entry, t, &bits, err)) || (s = parse_shape(h, entry, t, bits, err)))
        return s;
    return parse_offsets(h, entry, t, err);
}

/* ---- one header --------------------------------------------------------------------------------------------------- */

static int by_offset(const void *x, const void *y)
{
    const struct st_tensor *a = x, *b = y;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return a->bytes < b->bytes ? -1 : a->bytes > b->bytes; /* empty tensors first */
}

static int by_name(const void *x, const void *y)
{
    return strcmp(((const struct st_tensor *)x)->name, ((const struct st_tensor *)y)->name);
}

/* The tensors fill the data exactly: no overlap, no hole, nothing left at the end. Sorts them by offset. */
static enum status check_layout(const struct header *h, struct st_tensor *t, size_t n, struct error *err)
{
    int64_t end = h->data_begin;
    if (n > 0)
        qsort(t, n, sizeof *t, by_offset);
    for (size_t i = 0; i < n; i++) {
        if (t[i].offset != end)
            return error_at(err, STATUS_INVALID, h->path, 0,
                            "tensor '" SHOWN "': expected to begin at byte %" PRId64 " of the data, where the one before ends, "
                            "found byte %" PRId64,
                            t[i].name, end - h->data_begin, t[i].offset - h->data_begin);
        end += t[i].bytes;
    }
    if (end - h->data_begin != h->data_bytes)
        return error_at(err, STATUS_INVALID, h->path, 0, "expected %" PRId64 " bytes of data as the header says, found %" PRId64,
                        end - h->data_begin, h->data_bytes);
    return STATUS_OK;
}

static enum status check_metadata(const struct header *h, const json_t *metadata, struct error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return error_at(err, STATUS_INVALID, h->path, 0, "__metadata__: expected an object, found something else");
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value))
            return error_at(err, STATUS_INVALID, h->path, 0, "__metadata__: expected a text at '" SHOWN "', found something else",
                            key);
    }
    return STATUS_OK;
}

/* Appends the tensors of a parsed header, unsorted. */
static enum status append_tensors(struct st_model *m, const struct header *h, json_t *root, int file, struct error *err)
{
    const char *name;
    json_t *entry;
    size_t used = (size_t)m->n_tensors, added = 0;
    if (used + json_object_size(root) > TENSORS_MAX)
        return error_at(err, STATUS_INVALID, h->path, 0, "expected at most %d tensors in a model, found more", TENSORS_MAX);
    enum status s = reserve((void **)&m->tensor, used, json_object_size(root), sizeof *m->tensor, err);
    if (s != STATUS_OK)
        return s;
    struct st_tensor *out = m->tensor + used;
    json_object_foreach(root, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0) {
            s = check_metadata(h, entry, err);
        } else {
            out[added] = (struct st_tensor){.file = file};
            s = parse_tensor(h, name, entry, &out[added++], err);
        }
        if (s != STATUS_OK)
            return s;
    }
    s = check_layout(h, out, added, err);
    if (s == STATUS_OK)
        m->n_tensors += (int)added;
    return s;
}

static enum status append_path(struct st_model *m, const char *path, struct error *err)
{
    if (strlen(path) >= sizeof m->path[0])
        return error_at(err, STATUS_INVALID, path, 0, "expected a path of at most %zu bytes, found %zu", sizeof m->path[0] - 1,
                        strlen(path));
    enum status s = reserve((void **)&m->path, (size_t)m->n_files, 1, sizeof *m->path, err);
    if (s == STATUS_OK)
        snprintf(m->path[m->n_files++], sizeof m->path[0], "%s", path);
    return s;
}

static enum status append_header(struct st_model *m, const char *path, const char *text, int64_t n, int64_t file_bytes,
                                 struct error *err)
{
    json_error_t why = {0};
    const struct header h = {path, PREFIX_BYTES + n, file_bytes - PREFIX_BYTES - n};
    if (n > HEADER_MAX_BYTES || h.data_bytes < 0)
        return error_at(err, STATUS_INVALID, path, 0, "header length: expected at most %" PRId64 ", found %" PRId64,
                        file_bytes - PREFIX_BYTES < HEADER_MAX_BYTES ? file_bytes - PREFIX_BYTES : HEADER_MAX_BYTES, n);
    enum status s = append_path(m, path, err);
    if (s != STATUS_OK)
        return s;
    json_t *root = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &why);
    if (!root && (json_error_code(&why) == json_error_out_of_memory || !why.text[0]))
        s = error_set(err, STATUS_RUNTIME, "%s: out of memory", path);
    else if (!root)
        s = error_at(err, STATUS_INVALID, path, 0, "header: expected JSON, found at its byte %d: %s", why.position, why.text);
    else if (!json_is_object(root))
        s = error_at(err, STATUS_INVALID, path, 0, "header: expected a JSON object, found another value");
    else
        s = append_tensors(m, &h, root, m->n_files - 1, err);
    json_decref(root);
    return s;
}

/* Sorts by name and refuses a name that is there twice. */
static enum status finish(struct st_model *m, struct error *err)
{
    if (m->n_tensors > 0)
        qsort(m->tensor, (size_t)m->n_tensors, sizeof *m->tensor, by_name);
    for (int i = 1; i < m->n_tensors; i++)
        if (strcmp(m->tensor[i - 1].name, m->tensor[i].name) == 0)
            return error_at(err, STATUS_INVALID, m->path[m->tensor[i].file], 0,
                            "tensor '" SHOWN "': expected in one file, found also in %.200s", m->tensor[i].name,
                            m->path[m->tensor[i - 1].file]);
    return STATUS_OK;
}

enum status st_parse_header(struct st_model *m, const char *path, const char *header, int64_t n, int64_t file_bytes,
                            struct error *err)
{
    enum status s = append_header(m, path, header, n, file_bytes, err);
    return s == STATUS_OK ? finish(m, err) : s;
}

/* ---- files -------------------------------------------------------------------------------------------------------- */

static enum status read_at(const char *path, int fd, void *out, int64_t n, int64_t offset, struct error *err)
{
    for (int64_t done = 0; done < n;) {
        ssize_t got = pread(fd, (char *)out + done, (size_t)(n - done), offset + done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_errno(err, errno, "%s: cannot read", path);
        if (got == 0)
            return error_at(err, STATUS_INVALID, path, 0, "expected %" PRId64 " bytes, found the end at %" PRId64, offset + n,
                            offset + done);
        done += got;
    }
    return STATUS_OK;
}

static enum status header_length(const char *path, int fd, int64_t file_bytes, int64_t *n, struct error *err)
{
    unsigned char prefix[PREFIX_BYTES];
    uint64_t length = 0;
    if (file_bytes < PREFIX_BYTES)
        return error_at(err, STATUS_INVALID, path, 0, "expected at least %d bytes, found %" PRId64, PREFIX_BYTES, file_bytes);
    enum status s = read_at(path, fd, prefix, PREFIX_BYTES, 0, err);
    if (s != STATUS_OK)
        return s;
    for (int i = PREFIX_BYTES - 1; i >= 0; i--)
        length = length << 8 | prefix[i];
    uint64_t most = file_bytes - PREFIX_BYTES < HEADER_MAX_BYTES ? (uint64_t)(file_bytes - PREFIX_BYTES) : HEADER_MAX_BYTES;
    if (length > most)
        return error_at(err, STATUS_INVALID, path, 0, "header length: expected at most %" PRIu64 "%s, found %" PRIu64, most,
                        most < HEADER_MAX_BYTES ? " (the rest of the file; is it truncated?)" : "", length);
    *n = (int64_t)length;
    return STATUS_OK;
}

static enum status open_file(struct st_model *m, const char *path, struct error *err)
{
    char *text = NULL;
    struct stat st;
    int64_t n = 0;
    enum status s;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block us */
    if (fd < 0)
        return error_errno(err, errno, "%s: cannot open", path);
    if (fstat(fd, &st) != 0) {
        s = error_errno(err, errno, "%s: cannot read", path);
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        s = error_at(err, STATUS_INVALID, path, 0, "expected a file, found something else");
        goto out;
    }
    if ((s = header_length(path, fd, st.st_size, &n, err)))
        goto out;
    text = json_allocate((size_t)n + 1);
    if (!text) {
        s = error_set(err, STATUS_RUNTIME, "%s: out of memory", path);
        goto out;
    }
    if ((s = read_at(path, fd, text, n, PREFIX_BYTES, err)) == STATUS_OK)
        s = append_header(m, path, text, n, st.st_size, err);
out:
    json_deallocate(text);
    close(fd);
    return s;
}

/* ---- the shard index ---------------------------------------------------------------------------------------------- */

static enum status join_path(char *out, size_t n, const char *directory, const char *name, struct error *err)
{
    if (snprintf(out, n, "%s/%s", directory, name) >= (int)n)
        return error_set(err, STATUS_INVALID, "%.200s...: expected a path of at most %zu bytes, found a longer one", directory,
                         n - 1);
    return STATUS_OK;
}

/* The shard names of a weight map, each once, as keys of `shards`. */
static enum status collect_shards(const struct json_object *map, json_t *shards, struct error *err)
{
    const char *tensor;
    json_t *value;
    json_object_foreach(map->value, tensor, value)
    {
        const char *shard = json_string_value(value);
        if (!shard || !*shard || *shard == '.' || strchr(shard, '/'))
            return json_complain(map, tensor, err, "expected the name of a file beside the index, found \"%.100s\"",
                                 shard ? shard : "no text");
        if (json_object_set_new(shards, shard, json_true()) != 0)
            return error_set(err, STATUS_RUNTIME, "%s: out of memory", map->file->path);
        if (json_object_size(shards) > FILES_MAX)
            return json_complain(map, tensor, err, "expected at most %d files, found more", FILES_MAX);
    }
    return STATUS_OK;
}

/* Index and shards must agree on which tensor is where. */
static enum status check_map(const struct st_model *m, const struct json_object *map, struct error *err)
{
    const char *tensor;
    json_t *value;
    for (int i = 0; i < m->n_tensors; i++) {
        const struct st_tensor *t = &m->tensor[i];
        const char *shard = json_string_value(json_object_get(map->value, t->name));
        const char *base = strrchr(m->path[t->file], '/') + 1;
        if (!shard || strcmp(shard, base) != 0)
            return json_complain(map, shard ? t->name : NULL, err,
                                 "tensor '" SHOWN "': expected \"%.100s\", which has it, found \"%.100s\"", t->name, base,
                                 shard ? shard : "nothing");
    }
    json_object_foreach(map->value, tensor, value)
    {
        if (!st_find(m, tensor))
            return json_complain(map, tensor, err, "expected this tensor in %.100s, found none", json_string_value(value));
    }
    return STATUS_OK;
}

static enum status open_shards(struct st_model *m, const char *directory, const json_t *shards, struct error *err)
{
    const char *shard;
    json_t *unused;
    json_object_foreach((json_t *)shards, shard, unused)
    {
        char path[sizeof m->path[0]];
        enum status s = join_path(path, sizeof path, directory, shard, err);
        if (s == STATUS_OK)
            s = open_file(m, path, err);
        if (s != STATUS_OK)
            return s;
    }
    return STATUS_OK;
}

static enum status open_index(struct st_model *m, const char *directory, const char *path, struct error *err)
{
    struct json_file file = {0};
    struct json_object root, map;
    json_t *shards = json_object();
    enum status s = shards ? STATUS_OK : error_set(err, STATUS_RUNTIME, "%s: out of memory", path);
    if (s != STATUS_OK || (s = json_file_load(&file, path, err)) || (s = json_root(&file, &root, err)) ||
        (s = json_child(&root, "weight_map", &map, err)) || (s = collect_shards(&map, shards, err)) ||
        (s = open_shards(m, directory, shards, err)) || (s = finish(m, err)))
        goto out;
    s = check_map(m, &map, err);
out:
    json_decref(shards);
    json_file_free(&file);
    return s;
}

enum status st_open(struct st_model *m, const char *directory, struct error *err)
{
    char single[sizeof m->path[0]], index[sizeof m->path[0]];
    enum status s;
    memset(m, 0, sizeof *m);
    if ((s = join_path(single, sizeof single, directory, SINGLE_NAME, err)) ||
        (s = join_path(index, sizeof index, directory, INDEX_NAME, err)))
        return s;
    if (access(single, F_OK) == 0)
        s = (s = open_file(m, single, err)) ? s : finish(m, err);
    else if (access(index, F_OK) == 0)
        s = open_index(m, directory, index, err);
    else
        s = error_set(err, STATUS_INVALID, "%.400s: expected " SINGLE_NAME " or " INDEX_NAME ", found neither", directory);
    if (s != STATUS_OK)
        st_free(m);
    return s;
}

void st_free(struct st_model *m)
{
    json_deallocate(m->path);
    json_deallocate(m->tensor);
    memset(m, 0, sizeof *m);
}

/* ---- looking up --------------------------------------------------------------------------------------------------- */

static int name_against(const void *name, const void *t)
{
    return strcmp(name, ((const struct st_tensor *)t)->name);
}

const struct st_tensor *st_find(const struct st_model *m, const char *name)
{
    return m->n_tensors > 0 ? bsearch(name, m->tensor, (size_t)m->n_tensors, sizeof *m->tensor, name_against) : NULL;
}

static bool shape_fits(const struct st_tensor *found, const struct tensor *t)
{
    if (found->n_dims == 1)
        return t->rows == 1 && found->shape[0] == t->cols;
    return found->n_dims == 2 && found->shape[0] == t->rows && found->shape[1] == t->cols;
}

static const char *write_shape(const struct st_tensor *t, char *buf, size_t n)
{
    size_t used = (size_t)snprintf(buf, n, "(");
    for (int i = 0; i < t->n_dims; i++)
        used += (size_t)snprintf(buf + used, n - used, "%s%" PRId64, i ? ", " : "", t->shape[i]);
    snprintf(buf + used, n - used, ")");
    return buf;
}

enum status st_resolve(const struct st_model *m, const struct tensor *t, const struct st_tensor **out, struct error *err)
{
    char name[sizeof t->name + 8], shape[128];
    snprintf(name, sizeof name, "model.%s", t->name);
    const struct st_tensor *found = st_find(m, name);
    if (!found)
        found = st_find(m, t->name);
    *out = NULL;
    if (!found)
        return error_at(err, STATUS_INVALID, m->n_files ? m->path[0] : "model", 0,
                        "expected tensor '%s' or '%s' in this file%s, found neither", name, t->name,
                        m->n_files > 1 ? " or its other shards" : "");
    if (!shape_fits(found, t))
        return error_at(err, STATUS_INVALID, m->path[found->file], 0,
                        "tensor '" SHOWN "': expected shape (%" PRId64 ", %" PRId64 ") as config.json says, found %s",
                        found->name, t->rows, t->cols, write_shape(found, shape, sizeof shape));
    if (found->format == FORMAT_COUNT)
        return error_at(err, STATUS_INVALID, m->path[found->file], 0,
                        "tensor '" SHOWN "': expected dtype F32, F16 or BF16, found another", found->name);
    *out = found;
    return STATUS_OK;
}
