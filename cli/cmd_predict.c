/* cmd_predict.c - ballast predict: time and bytes of a policy, from the cost table. */
#include "cli/commands.h"
#include "cli/setting.h"

static enum status print(const struct setting *s, const struct options *o, struct error *err)
{
    struct table t;
    table_init(&t);
    setting_columns(&t, s, o->format);
    setting_bar_columns(&t, s, "", o->format);
    setting_cells(&t, s, &s->prediction, o->format);
    setting_bar_cells(&t, s, o->format);
    enum status status = table_write_one(&t, o->format, stdout, err);
    table_free(&t);
    if (status == STATUS_OK && o->format == OUTPUT_MD) {
        printf("\nA prediction (%s profile)%s.\n", s->hardware.estimate,
               s->prediction.latency_high_s > 0 ? "; low to high is what 9 runs in 10 stay in as far as the rates vary" : "");
        setting_explain(s, &s->prediction, stdout);
    }
    return status;
}

int cmd_predict(int argc, char **argv)
{
    static const struct command_usage USAGE =
        {"predict", "-m MODEL -H FILE (--policy FILE | --percent \"wg wc cg cc hg hc\") [OPTIONS]",
         "Predicts throughput, busy time of each resource and peak bytes of each tier for a policy. Without a policy, for the\n"
         "one that \"ballast plan\" would choose.",
         OPTION_MODEL | OPTION_HARDWARE | OPTION_WORKLOAD | OPTION_POLICY | OPTION_FLEXGEN | OPTION_SEARCH | OPTION_FORMAT};
    struct options o;
    struct setting s = {0};
    struct error err = {0};
    int code;
    if (!options_parse(&o, &USAGE, argc, argv, &code)) {
        return code;
    }
    if (setting_open(&s, &o, &err) == STATUS_OK) {
        print(&s, &o, &err);
    }
    setting_close(&s);
    return err.status == STATUS_OK ? STATUS_OK : command_fail(USAGE.name, &err);
}
