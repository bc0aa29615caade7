/* onednn.c - compiled products, made once under a lock and then shared by all threads.
 *
 * A primitive with user scratch is immutable, so threads may run one at the same time with their own memory objects. The
 * library's OpenMP runtime is told, in every thread that calls it, to use that thread alone: the pool is the only one that
 * splits work.
 */
#define _GNU_SOURCE
#include "executor/cpu/onednn.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dnnl.h>

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t md_handle; /* a pointer to an opaque structure, owned */
typedef const_dnnl_memory_desc_t md_view;
#else
typedef dnnl_memory_desc_t md_handle; /* a plain structure */
typedef const dnnl_memory_desc_t *md_view;
#endif

struct product {
    enum math math;
    enum panel_layout layout;
    int64_t m, n, k;
    bool add;
    dnnl_primitive_t primitive;
    md_handle a, b, c, scratch;
    const struct product *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static dnnl_engine_t engine;            /* under lock until set, then constant */
static const struct product *made;      /* list, under lock */
static int chosen_layout[2] = {-1, -1}; /* by math, under lock */

static enum status library_failed(struct error *err, const char *what, dnnl_status_t rc)
{
    return error_set(err, STATUS_RUNTIME, "oneDNN: %s failed with status %d", what, (int)rc);
}

/* -- what differs between the two interfaces ------------------------------------------------------------------------- */
#if DNNL_VERSION_MAJOR >= 3
static md_view view(const md_handle *md)
{
    return *md;
}

static dnnl_status_t md_strided(md_handle *md, dnnl_data_type_t type, const dnnl_dims_t dims, const dnnl_dims_t strides)
{
    return dnnl_memory_desc_create_with_strides(md, 2, dims, type, strides);
}

static dnnl_status_t md_tagged(md_handle *md, dnnl_data_type_t type, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(md, 2, dims, type, tag);
}

static dnnl_status_t md_copy(md_handle *md, md_view from)
{
    return dnnl_memory_desc_clone(md, from);
}

static void md_destroy(md_handle *md)
{
    if (*md)
        dnnl_memory_desc_destroy(*md);
}

static dnnl_status_t describe_product(dnnl_primitive_desc_t *pd, const struct product *p, dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(pd, engine, p->a, p->b, NULL, p->c, attr);
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}
#else
static md_view view(const md_handle *md)
{
    return md;
}

static dnnl_status_t md_strided(md_handle *md, dnnl_data_type_t type, const dnnl_dims_t dims, const dnnl_dims_t strides)
{
    return dnnl_memory_desc_init_by_strides(md, 2, dims, type, strides);
}

static dnnl_status_t md_tagged(md_handle *md, dnnl_data_type_t type, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(md, 2, dims, type, tag);
}

static dnnl_status_t md_copy(md_handle *md, md_view from)
{
    *md = *from;
    return dnnl_success;
}

static void md_destroy(md_handle *md)
{
    (void)md;
}

static dnnl_status_t describe_product(dnnl_primitive_desc_t *pd, const struct product *p, dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t d;
    const dnnl_status_t rc = dnnl_matmul_desc_init(&d, &p->a, &p->b, NULL, &p->c);

    return rc != dnnl_success ? rc : dnnl_primitive_desc_create(pd, &d, attr, engine, NULL);
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1.0f);
}
#endif

/* -- making ---------------------------------------------------------------------------------------------------------- */
static dnnl_status_t describe_memory(struct product *p)
{
    const dnnl_data_type_t type = p->math == MATH_BF16 ? dnnl_bf16 : dnnl_f32;
    const dnnl_dims_t a_dims = {p->m, p->k}, a_strides = {p->k, 1};
    const dnnl_dims_t b_dims = {p->k, p->n}, b_strides = {1, p->k};
    const dnnl_dims_t c_dims = {p->m, p->n}, c_strides = {p->n, 1};
    dnnl_status_t rc = md_strided(&p->a, type, a_dims, a_strides);

    if (rc == dnnl_success && p->layout == PANEL_ROWS)
        rc = md_strided(&p->b, type, b_dims, b_strides);
    else if (rc == dnnl_success)
        rc = md_tagged(&p->b, type, b_dims, p->math == MATH_BF16 ? dnnl_BA16a64b2a : dnnl_BA16a64b);
    if (rc == dnnl_success)
        rc = md_strided(&p->c, dnnl_f32, c_dims, c_strides);
    return rc;
}

static dnnl_status_t make_attributes(dnnl_primitive_attr_t *attr, dnnl_post_ops_t *ops, bool add)
{
    dnnl_status_t rc = dnnl_primitive_attr_create(attr);

    if (rc == dnnl_success)
        rc = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (rc != dnnl_success || !add)
        return rc;
    rc = dnnl_post_ops_create(ops);
    if (rc == dnnl_success)
        rc = append_sum(*ops);
    return rc == dnnl_success ? dnnl_primitive_attr_set_post_ops(*attr, *ops) : rc;
}

static dnnl_status_t start_engine(void)
{
    return engine ? dnnl_success : dnnl_engine_create(&engine, dnnl_cpu, 0);
}

static void use_one_thread(void)
{
    typedef void (*set_fn)(int);
    typedef int (*get_fn)(void);
    static _Thread_local bool done;

    if (done)
        return;
    done = true;
    /* Looked up by name: the library may be built with another threading runtime, and then there is none to tell. */
    const set_fn set = (set_fn)dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    const get_fn get = (get_fn)dlsym(RTLD_DEFAULT, "omp_get_max_threads");
    if (set && get && get() != 1)
        set(1);
}

static void product_destroy(struct product *p)
{
    if (!p)
        return;
    if (p->primitive)
        dnnl_primitive_destroy(p->primitive);
    md_destroy(&p->a);
    md_destroy(&p->b);
    md_destroy(&p->c);
    md_destroy(&p->scratch);
    free(p);
}

static bool implementation_is_reference(const_dnnl_primitive_desc_t pd)
{
    const char *name = "";

    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name);
    return strncmp(name, "ref", 3) == 0;
}

/* Fills in a product from its first five fields. `reference`, if given, says whether it would be the library's slow fallback. */
static enum status compile(struct product *p, bool *reference, struct error *err)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_primitive_desc_t pd = NULL;
    enum status status = STATUS_OK;
    dnnl_status_t rc = start_engine();

    use_one_thread(); /* the choice of blocking depends on the number of threads */
    if (rc == dnnl_success)
        rc = describe_memory(p);
    if (rc == dnnl_success)
        rc = make_attributes(&attr, &ops, p->add);
    if (rc == dnnl_success)
        rc = describe_product(&pd, p, attr);
    if (rc == dnnl_success)
        rc = md_copy(&p->scratch, dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0));
    if (rc == dnnl_success && reference)
        *reference = implementation_is_reference(pd);
    if (rc == dnnl_success)
        rc = dnnl_primitive_create(&p->primitive, pd);
    if (rc != dnnl_success)
        status = library_failed(err, p->math == MATH_BF16 ? "making a bf16 product" : "making an f32 product", rc);
    else if (dnnl_memory_desc_get_size(view(&p->scratch)) > PRODUCT_SCRATCH_BYTES)
        status = error_set(err, STATUS_RUNTIME,
                           "oneDNN: a product (m %lld, n %lld, k %lld) wants %zu bytes of scratch, expected at most %d",
                           (long long)p->m, (long long)p->n, (long long)p->k, dnnl_memory_desc_get_size(view(&p->scratch)),
                           PRODUCT_SCRATCH_BYTES);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (ops)
        dnnl_post_ops_destroy(ops);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return status;
}

static struct product *product_alloc(enum math math, enum panel_layout layout, int64_t m, int64_t n, int64_t k, bool add)
{
    struct product *p = calloc(1, sizeof *p);

    if (p) {
        p->math = math;
        p->layout = layout;
        p->m = m;
        p->n = n;
        p->k = k;
        p->add = add;
    }
    return p;
}

static bool layout_is_fast(enum math math, enum panel_layout layout, int64_t m, int64_t n, int64_t k)
{
    struct product *p = product_alloc(math, layout, m, n, k, false);
    bool reference = true;
    const bool works = p && compile(p, &reference, NULL) == STATUS_OK;

    product_destroy(p);
    return works && !reference;
}

enum panel_layout onednn_panel_layout(enum math math)
{
    pthread_mutex_lock(&lock);
    if (chosen_layout[math] < 0) {
        /* A large and a small shape stand for the others. */
        if (layout_is_fast(math, PANEL_BLOCKED, 256, PRODUCT_PANELS * PRODUCT_N, PRODUCT_K) &&
            layout_is_fast(math, PANEL_BLOCKED, 16, PRODUCT_N, 32))
            chosen_layout[math] = PANEL_BLOCKED;
        else
            chosen_layout[math] = PANEL_ROWS;
    }
    const enum panel_layout layout = (enum panel_layout)chosen_layout[math];
    pthread_mutex_unlock(&lock);
    return layout;
}

static const struct product *find(enum math math, enum panel_layout layout, int64_t m, int64_t n, int64_t k, bool add)
{
    const struct product *p = made;

    while (p && !(p->math == math && p->layout == layout && p->m == m && p->n == n && p->k == k && p->add == add))
        p = p->next;
    return p;
}

enum status onednn_product(const struct product **out, enum math math, enum panel_layout layout, int64_t m, int64_t n, int64_t k,
                           bool add, struct error *err)
{
    enum status status = STATUS_OK;
    struct product *fresh = NULL;

    pthread_mutex_lock(&lock);
    *out = find(math, layout, m, n, k, add);
    if (*out)
        goto done;
    fresh = product_alloc(math, layout, m, n, k, add);
    if (!fresh) {
        status = error_set(err, STATUS_RUNTIME, "oneDNN: out of memory for a product");
        goto done;
    }
    status = compile(fresh, NULL, err);
    if (status != STATUS_OK) {
        product_destroy(fresh);
        goto done;
    }
    fresh->next = made;
    made = *out = fresh;
done:
    pthread_mutex_unlock(&lock);
    return status;
}

/* -- running --------------------------------------------------------------------------------------------------------- */
int onednn_run(const struct product *p, const void *a, const void *b, float *c, void *scratch)
{
    enum { A, B, C, SCRATCH, COUNT };
    const int role[COUNT] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD};
    const md_handle *const md[COUNT] = {&p->a, &p->b, &p->c, &p->scratch};
    void *const data[COUNT] = {(void *)(uintptr_t)a, (void *)(uintptr_t)b, c, scratch};
    dnnl_exec_arg_t arg[COUNT];
    dnnl_stream_t stream = NULL;
    int n = 0;
    dnnl_status_t rc;

    use_one_thread();
    rc = dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
    for (; rc == dnnl_success && n < COUNT; n++) {
        arg[n] = (dnnl_exec_arg_t){.arg = role[n], .memory = NULL};
        rc = dnnl_memory_create(&arg[n].memory, view(md[n]), engine, data[n]);
        if (rc != dnnl_success)
            break;
    }
    if (rc == dnnl_success)
        rc = dnnl_primitive_execute(p->primitive, stream, COUNT, arg);
    if (rc == dnnl_success)
        rc = dnnl_stream_wait(stream);
    while (n > 0)
        dnnl_memory_destroy(arg[--n].memory);
    if (stream)
        dnnl_stream_destroy(stream);
    return (int)rc;
}

void onednn_version(char *buf, size_t n)
{
    const dnnl_version_t *v = dnnl_version();

    snprintf(buf, n, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
}
