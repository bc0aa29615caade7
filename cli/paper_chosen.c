#include "cli/paper_chosen.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/paper_fit.h"
#include "cli/setting.h"
#include "model/interval.h"

/* The policies that FlexGen's search, or its authors, chose: tables 14 to 16. */
static bool was_chosen(const struct published_row *row)
{
    const char *t = row->table;
    return strncmp(row->system, "FlexGen", 7) == 0 && (strcmp(t, "14") == 0 || strcmp(t, "15") == 0 || strcmp(t, "16") == 0);
}

/* FlexGen alone has 16 bits; for FlexGen(c) both widths are searched. */
static enum status plan_for(const struct published_row *row, const char *hardware, struct setting *s, struct error *err)
{
    static const struct command_usage USAGE = {"paper", "", "",
                                               OPTION_MODEL | OPTION_HARDWARE | OPTION_WORKLOAD | OPTION_FLEXGEN | OPTION_SEARCH};
    char *argv[] = {(char *)"paper",
                    (char *)"-m",
                    (char *)row->model,
                    (char *)"-H",
                    (char *)hardware,
                    (char *)"-p",
                    (char *)row->prompt_tokens,
                    (char *)"-n",
                    (char *)row->gen_tokens,
                    (char *)"--no-compress-weight",
                    (char *)"--no-compress-cache"};
    struct options o;
    int code = 0, argc = (int)(sizeof argv / sizeof *argv) - (strcmp(row->system, "FlexGen") == 0 ? 0 : 2);
    return options_parse(&o, &USAGE, argc, argv, &code) ? setting_open(s, &o, err)
                                                        : error_set(err, STATUS_INVALID, "the workload of a row");
}

static void add_row(struct table *t, const struct published_row *row, const struct setting *paper, const struct setting *own)
{
    const double before = paper->prediction.throughput_tok_s, after = own->prediction.throughput_tok_s;
    double low = NAN, high = NAN;
    char flags[512];
    cost_gain_interval(&paper->cost, paper->placement.realised, &own->cost, own->placement.realised, &own->hardware, &low, &high);
    table_text(t, row->model);
    table_text(t, row->prompt_tokens);
    table_text(t, row->system);
    table_number(t, row->value);
    table_number(t, before);
    table_number(t, after);
    table_number(t, 100 * (after / before - 1));
    table_number(t, 100 * (low - 1));
    table_number(t, 100 * (high - 1));
    table_text(t, policy_flags(&own->policy, &own->hardware, flags, sizeof flags));
}

enum status paper_chosen(const struct published *p, const char *hardware, enum output_format format, struct error *err)
{
    struct setting paper = {0};
    struct table t;
    enum status status = STATUS_OK;
    table_init(&t);
    table_column(&t, "model", COLUMN_TEXT);
    table_column(&t, "prompt", COLUMN_TEXT);
    table_column(&t, "system", COLUMN_TEXT);
    table_column(&t, "published", COLUMN_NUMBER);
    table_column(&t, "paper's policy", COLUMN_NUMBER);
    table_column(&t, "ballast's policy", COLUMN_NUMBER);
    table_column(&t, "gain_percent", COLUMN_NUMBER);
    table_column(&t, "low_percent", COLUMN_NUMBER);
    table_column(&t, "high_percent", COLUMN_NUMBER);
    table_column(&t, "policy", COLUMN_TEXT);
    for (int i = 0; i < p->n && status == STATUS_OK; i++) {
        struct setting own = {0};
        bool fits;
        if (!was_chosen(&p->row[i]))
            continue;
        status = published_open(&p->row[i], hardware, &paper, &fits, err);
        if (status == STATUS_OK)
            status = plan_for(&p->row[i], hardware, &own, err);
        if (status == STATUS_OK)
            add_row(&t, &p->row[i], &paper, &own);
        setting_close(&own);
    }
    if (status == STATUS_OK)
        status = table_write(&t, format, stdout, err);
    table_free(&t);
    setting_close(&paper);
    return status;
}
