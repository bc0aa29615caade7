/* plot_trace.c - see plot_trace.h. */
#include "plots/plot_trace.h"

#include <stdio.h>
#include <string.h>

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static const char *role_of(const struct trace *t)
{
    return t->origin == TRACE_SIMULATED ? "predicted" : trace_origin_name(t->origin);
}

enum status trace_pair_load(struct trace_pair *p, const char *csv_path, const char *second_csv, struct error *err)
{
    memset(p, 0, sizeof *p);
    enum status s = trace_read_csv(&p->trace[0], csv_path, err);
    p->n = 1;
    p->role[0] = role_of(&p->trace[0]);
    if (s == STATUS_OK && second_csv) {
        s = trace_read_csv(&p->trace[1], second_csv, err);
        p->n = 2;
        p->role[1] = role_of(&p->trace[1]);
    }
    if (s != STATUS_OK || p->n < 2)
        return s;
    if (p->trace[0].origin == p->trace[1].origin) {
        p->role[0] = base_name(csv_path);
        p->role[1] = base_name(second_csv);
    } else if (p->trace[1].origin == TRACE_SIMULATED) {
        const struct trace first = p->trace[0];
        p->trace[0] = p->trace[1];
        p->trace[1] = first;
        p->role[0] = role_of(&p->trace[0]);
        p->role[1] = role_of(&p->trace[1]);
    }
    return s;
}

void trace_pair_free(struct trace_pair *p)
{
    for (int i = 0; i < p->n; i++)
        trace_free(&p->trace[i]);
    p->n = 0;
}

int names_add(struct names *names, const char *name)
{
    for (int i = 0; i < names->n; i++)
        if (strcmp(names->name[i], name) == 0)
            return i;
    names->name[names->n] = name;
    return names->n++;
}

const char *trace_pair_title(const struct trace_pair *p, char buf[160])
{
    const struct trace *t = &p->trace[0];
    if (p->n == 2 && (!*t->model || !*t->machine))
        t = &p->trace[1];
    const char *model = *t->model ? t->model : "a model", *machine = *t->machine ? t->machine : "a machine";
    const int most = 44; /* of each: the title has to fit above the picture */
    snprintf(buf, 160, "%.*s%s on %.*s%s", most, model, strlen(model) > (size_t)most ? "..." : "", most, machine,
             strlen(machine) > (size_t)most ? "..." : "");
    return buf;
}
