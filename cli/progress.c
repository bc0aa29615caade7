#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "executor/now.h"
#include "model/units.h"

void progress_start(struct progress *p, const char *what, const char *unit)
{
    *p = (struct progress){.what = what, .unit = unit, .on = isatty(STDERR_FILENO), .start_s = now_s()};
}

void progress_show(struct progress *p, double done, double total)
{
    double now = now_s(), spent = now - p->start_s;
    char rate[48];
    if (!p->on || total <= 0 || (done < total && now - p->shown_s < 0.1)) {
        return;
    }
    p->shown_s = now;
    if (strcmp(p->unit, "B") == 0) {
        units_format(spent > 0 ? done / spent : 0, UNIT_BYTES_PER_S, rate, sizeof rate);
    } else {
        snprintf(rate, sizeof rate, "%.3g %s/s", spent > 0 ? done / spent : 0, p->unit);
    }
    fprintf(stderr, "\r%s: %3.0f %%, %s, %.0f s left   \033[K", p->what, 100 * done / total, rate,
            done > 0 ? spent * (total - done) / done : 0);
    if (done >= total) {
        fprintf(stderr, "\r%s: %s in %.1f s\033[K\n", p->what, rate, spent);
    }
    fflush(stderr);
}
