/* ballast.c - the program: finds the command and returns its exit code. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "model/error.h"

struct command {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
};

static const struct command COMMANDS[] = {
    {"devices", "tiers, compute units and libraries found here", cmd_devices},
    {"profile", "measure this machine into a hardware profile", cmd_profile},
    {"inspect", "a model's layers, parameters, FLOPs and state", cmd_inspect},
    {"plan", "the best policy, why, and the command line that runs it", cmd_plan},
    {"predict", "time and bytes of a policy, and what binds", cmd_predict},
    {"simulate", "the schedule on the cost model's clock", cmd_simulate},
    {"run", "carry a policy out on this machine", cmd_run},
    {"validate", "predicted against measured; exit 4 outside tolerance", cmd_validate},
    {"fit", "a profile's rates adjusted to measured traces", cmd_fit},
    {"sweep", "every combination of lists of options, a CSV row each", cmd_sweep},
    {"paper", "a paper's tables: published, predicted, error", cmd_paper},
    {"plot", "a picture of a trace or a table", cmd_plot},
};
enum { N_COMMANDS = sizeof COMMANDS / sizeof COMMANDS[0] };

static void print_help(FILE *out)
{
    fprintf(out,
            "ballast %s: plans, runs and explains language-model inference that does not fit in GPU memory\n\n"
            "usage: ballast COMMAND [OPTIONS]\n\n",
            ballast_version());
    for (int i = 0; i < N_COMMANDS; i++) {
        fprintf(out, "  %-10s %s\n", COMMANDS[i].name, COMMANDS[i].summary);
    }
    fprintf(out, "  %-10s %s\n\n", "version", "print the version");
    fprintf(out, "ballast COMMAND -h explains a command. Data goes to stdout, messages to stderr.\n"
                 "Exit status: 0 fine, 1 wrong usage or input, 2 does not fit, 3 run time or I/O, 4 outside tolerance.\n");
}

static const struct command *find_command(const char *name)
{
    for (int i = 0; i < N_COMMANDS; i++) {
        if (strcmp(name, COMMANDS[i].name) == 0) {
            return &COMMANDS[i];
        }
    }
    return NULL;
}

static const char *nearest_command(const char *name)
{
    const char *names[N_COMMANDS + 2];
    for (int i = 0; i < N_COMMANDS; i++) {
        names[i] = COMMANDS[i].name;
    }
    names[N_COMMANDS] = "version";
    names[N_COMMANDS + 1] = NULL;
    return nearest_name(name, names);
}

static int unknown_command(const char *name)
{
    const char *near = nearest_command(name);
    if (near) {
        fprintf(stderr, "ballast: unknown command \"%s\": did you mean \"%s\"?\n", name, near);
    } else {
        fprintf(stderr, "ballast: unknown command \"%s\": ballast -h lists the commands\n", name);
    }
    return STATUS_INVALID;
}

static bool is_one_of(const char *name, const char *a, const char *b, const char *c)
{
    return strcmp(name, a) == 0 || strcmp(name, b) == 0 || strcmp(name, c) == 0;
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "ballast: a command is missing: ballast -h lists the commands\n");
        return STATUS_INVALID;
    }
    if (is_one_of(argv[1], "-h", "--help", "help")) {
        if (argc == 2) {
            print_help(stdout);
            return STATUS_OK;
        }
        const struct command *asked = find_command(argv[2]);
        return asked ? asked->run(2, (char *[]){argv[2], "-h", NULL}) : unknown_command(argv[2]);
    }
    if (is_one_of(argv[1], "-V", "--version", "version")) {
        printf("ballast %s\n", ballast_version());
        return STATUS_OK;
    }
    const struct command *command = find_command(argv[1]);
    return command ? command->run(argc - 1, argv + 1) : unknown_command(argv[1]);
}

int main(int argc, char **argv)
{
    int code = dispatch(argc, argv);
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == STATUS_OK) {
        fprintf(stderr, "ballast: cannot write to standard output\n");
        code = STATUS_RUNTIME;
    }
    return code;
}
