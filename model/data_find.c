#include "model/data.h"

#include <stdio.h>
#include <string.h>

/* One line of the table in the generated data.S; it ends with a kind of NULL. */
struct data_entry {
    const char *kind;
    const char *name;
    const char *begin;
    const char *end;
};
extern const struct data_entry ballast_data_table[] __attribute__((visibility("hidden")));

const char *data_find(const char *kind, const char *name, size_t *n)
{
    for (const struct data_entry *e = ballast_data_table; e->kind; e++)
        if (strcmp(e->kind, kind) == 0 && strcmp(e->name, name) == 0) {
            *n = (size_t)(e->end - e->begin);
            return e->begin;
        }
    return NULL;
}

const char *data_name(const char *kind, int i)
{
    for (const struct data_entry *e = ballast_data_table; e->kind; e++)
        if (strcmp(e->kind, kind) == 0 && i-- == 0)
            return e->name;
    return NULL;
}

char *data_names(const char *kind, char *buf, size_t n)
{
    const char *name;
    size_t used = 0;
    if (n > 0)
        buf[0] = '\0';
    for (int i = 0; used < n && (name = data_name(kind, i)); i++)
        used += (size_t)snprintf(buf + used, n - used, "%s%s", i ? ", " : "", name);
    return buf;
}
